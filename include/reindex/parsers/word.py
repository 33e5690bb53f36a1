"""A Word document's bytes in, its text out: as it reads with all changes accepted, without headers and comments."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from xml.etree import ElementTree as ET

from reindex.parsers import Context
from reindex.parsers.ooxml import attribute, local, main_part, read_xml, related, title_of
from reindex.parsers.rows import table_blocks
from reindex.parsers.zips import open_package
from reindex.records import Block, ParsedDocument, Shape

_HEADING = re.compile(r"heading (\d)")
_CONTENTS = re.compile(r"(toc \d|toc heading|table of figures)")
# What was struck out, what stands for older programs, how signs are pronounced, and what is no text.
_LEFT_OUT = {"del", "moveFrom", "Fallback", "rt", "pPr", "rPr", "tblPr", "trPr", "tcPr", "sdtPr", "sectPr", "instrText"}
_SPACES = {"tab": " ", "ptab": " ", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "p": " "}
_NOTES = {"footnotes", "endnotes"}
_DEEPEST_LEVEL = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class _Style:
    level: int = 0
    is_item: bool = False
    is_contents: bool = False


Styles = Callable[[str], _Style]


def read_docx(data: bytes, context: Context) -> Iterator[ParsedDocument]:
    """Yield the document, its notes at its end."""
    with open_package(data, context.limits) as package:
        part = main_part(package, "word/document.xml")
        parts = related(package, part)
        styles = _styles(package, next((name for kind, name in parts.values() if kind == "styles"), ""))
        root = read_xml(package, part)
        blocks = list(_blocks(root, styles)) if root is not None else []
        for name in [name for kind, name in parts.values() if kind in _NOTES]:
            blocks += _notes(package, name, styles)
        title = title_of(package)
    heading = next((block.text for block in blocks if block.level), "")
    yield ParsedDocument(title=title.strip() or heading, blocks=tuple(blocks))


def _styles(package: zipfile.ZipFile, part: str) -> Styles:
    """Return what tells a paragraph's style by its id; one is based on another, and few of many are used."""
    root = read_xml(package, part) if part else None
    found = {attribute(style, "styleId"): style for style in (root if root is not None else [])}
    return cache(lambda key: _style(_lineage(found[key], found)) if key in found else _Style())


def _lineage(style: ET.Element, styles: dict[str, ET.Element]) -> list[ET.Element]:
    line = [style]
    while (base := styles.get(_value(line[-1], "basedOn"))) is not None and base not in line:
        line.append(base)
    return line


def _style(line: list[ET.Element]) -> _Style:
    names = [_value(style, "name").lower() for style in line]
    heading = next((int(found[1]) for name in names if (found := _HEADING.fullmatch(name))), 0)
    return _Style(
        level=heading or (1 if "title" in names else 0) or next(filter(None, map(_outline, line)), 0),
        is_item=any(_is_numbered(style) for style in line),
        is_contents=any(map(_CONTENTS.fullmatch, names)),
    )


def _value(element: ET.Element, name: str) -> str:
    """Return the value of the first element of a name below one."""
    return next((attribute(found, "val") for found in element.iter() if local(found) == name), "")


def _outline(element: ET.Element) -> int:
    level = _value(element, "outlineLvl")
    return int(level) + 1 if level.isdecimal() and int(level) < _DEEPEST_LEVEL else 0


def _is_numbered(element: ET.Element) -> bool:
    return _value(element, "numId") not in {"", "0"}


def _notes(package: zipfile.ZipFile, part: str, styles: Styles) -> Iterator[Block]:
    root = read_xml(package, part)
    for note in root if root is not None else []:
        if attribute(note, "type") in {"", "normal"}:
            yield from (Block(text=block.text) for block in _blocks(note, styles))


def _blocks(root: ET.Element, styles: Styles) -> Iterator[Block]:
    """Yield the blocks below an element, in order; a text box comes after the paragraph that it hangs on."""
    pending, breaks = [root], _counter(root, "lastRenderedPageBreak")
    while pending:
        element = pending.pop()
        name = local(element)
        if name == "p":
            page = breaks(element)
            pending += reversed(list(_below(element, "txbxContent")))
            yield from _paragraph(element, styles, page)
        elif name == "tbl":
            rows = [[_plain(cell) for cell in _below(row, "tc")] for row in _below(element, "tr")]
            if max(map(len, rows), default=0) > 1:
                yield from table_blocks(rows, page=breaks(element))
            else:
                pending += reversed(list(element))
        elif name not in _LEFT_OUT:
            pending += reversed(list(element))


def _counter(root: ET.Element, name: str) -> Callable[[ET.Element], int]:
    """Return a function that says on which page an element begins, by the breaks that Word noted; 0 if it did not."""
    pages: dict[ET.Element, int] = {}
    page = 1
    for element in root.iter():
        pages[element] = page
        page += local(element) == name
    return (lambda element: pages[element]) if page > 1 else (lambda _: 0)


def _paragraph(paragraph: ET.Element, styles: Styles, page: int) -> Iterator[Block]:
    properties = next((found for found in paragraph if local(found) == "pPr"), ET.Element("pPr"))
    style = styles(_value(properties, "pStyle"))
    text = _text(paragraph)
    if text and not style.is_contents:
        level = style.level or _outline(properties)
        is_item = not level and (_is_numbered(properties) or style.is_item)
        yield Block(text=text, shape=Shape.LINE if is_item else Shape.PARAGRAPH, level=level, page=page)


def _text(paragraph: ET.Element) -> str:
    """Return the text of a paragraph: its lines as they were broken, each with single spaces."""
    text = "".join(map(_piece, _shown(paragraph, until="txbxContent"))).strip()
    return "\n".join(" ".join(line.split()) for line in text.split("\n"))


def _plain(cell: ET.Element) -> str:
    return " ".join("".join(map(_piece, _shown(cell))).split())


def _piece(element: ET.Element) -> str:
    name = local(element)
    if name == "t":
        return element.text or ""
    return "" if attribute(element, "type") == "page" else _SPACES.get(name, "")


def _below(element: ET.Element, name: str) -> Iterator[ET.Element]:
    """Yield the first elements of a name below one, not those within them: a cell may hold a table."""
    return (found for found in _shown(element, until=name) if local(found) == name)


def _shown(element: ET.Element, *, until: str = "") -> Iterator[ET.Element]:
    """Yield what is below an element and shown, in order, down to elements of a name."""
    pending = list(reversed(element))
    while pending:
        found = pending.pop()
        name = local(found)
        if name not in _LEFT_OUT and not _is_hidden(found):
            yield found
            pending += reversed(found) if name != until else ()


def _is_hidden(element: ET.Element) -> bool:
    return local(element) == "r" and any(
        local(found) == "vanish" and attribute(found, "val") not in {"0", "false"}
        for properties in element
        if local(properties) == "rPr"
        for found in properties
    )
