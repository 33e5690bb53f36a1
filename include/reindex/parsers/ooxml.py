"""What the parsers of Office files share: the parts of a package, what they refer to, and their XML."""

from __future__ import annotations

import posixpath
import zipfile
from xml.etree import ElementTree as ET

from reindex.parsers import Rejected
from reindex.parsers.zips import read_part
from reindex.records import RejectReason


def local(element: ET.Element) -> str:
    """Return an element's name without its namespace: strict and transitional files differ in nothing else."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def attribute(element: ET.Element, name: str) -> str:
    """Return an attribute of that name in whatever namespace."""
    return next((value for key, value in element.items() if key.rpartition("}")[2] == name), "")


def read_xml(package: zipfile.ZipFile, name: str) -> ET.Element | None:
    """Return the root of a part, or None where there is none; raise Rejected if it is no XML."""
    content = read_part(package, name)
    if not content:
        return None
    # Office writes no document types; entities are what makes small XML large.
    if b"<!DOCTYPE" in content[:1_024]:
        raise Rejected(RejectReason.BROKEN, f"{name} in it declares a document type")
    try:
        return ET.fromstring(content)  # noqa: S314 - without a document type there are no entities
    except ET.ParseError as error:
        raise Rejected(RejectReason.BROKEN, f"{name} in it is no XML: {error}") from error


def related(package: zipfile.ZipFile, part: str) -> dict[str, tuple[str, str]]:
    """Return what a part refers to within its package, by id: the kind and the part's name."""
    folder, name = posixpath.split(part)
    root = read_xml(package, f"{folder}/_rels/{name}.rels".lstrip("/"))
    found = {}
    for relation in root if root is not None else []:
        if relation.get("TargetMode") != "External":
            kind = relation.get("Type", "").rpartition("/")[2]
            target = posixpath.normpath(posixpath.join("/", folder, relation.get("Target", ""))).lstrip("/")
            found[relation.get("Id", "")] = (kind, target)
    return found


def main_part(package: zipfile.ZipFile, usual: str) -> str:
    """Return the name of the part that is the document itself."""
    parts = related(package, "")
    return next((target for kind, target in parts.values() if kind == "officeDocument"), usual)


def title_of(package: zipfile.ZipFile) -> str:
    root = read_xml(package, "docProps/core.xml")
    return next((element.text or "" for element in root if local(element) == "title"), "") if root is not None else ""
