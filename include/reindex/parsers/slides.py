"""A presentation's bytes in, its slides out: each a section with its number, its notes at its end."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import replace
from xml.etree import ElementTree as ET

from reindex.parsers import Context
from reindex.parsers.ooxml import local, main_part, read_xml, related, title_of
from reindex.parsers.rows import table_blocks
from reindex.parsers.zips import open_package
from reindex.records import Block, ParsedDocument, Shape

_TITLES = {"title", "ctrTitle"}
# What stands on every slide: date, footer, number.
_RUNNING = {"dt", "ftr", "hdr", "sldNum", "sldImg"}


def read_pptx(data: bytes, context: Context) -> Iterator[ParsedDocument]:
    """Yield the presentation."""
    with open_package(data, context.limits) as package:
        blocks = [
            block for number, part in enumerate(_slides(package), start=1) for block in _slide(package, part, number)
        ]
        title = title_of(package)
    first = next((block.label for block in blocks if block.level), "")
    yield ParsedDocument(
        title=first if title.strip() in {"", "PowerPoint Presentation"} else title, blocks=tuple(blocks)
    )


def _slides(package: zipfile.ZipFile) -> Iterator[str]:
    part = main_part(package, "ppt/presentation.xml")
    root, parts = read_xml(package, part), related(package, part)
    for found in root.iter() if root is not None else []:
        if local(found) == "sldId":
            yield parts.get(_relation(found), ("", ""))[1]


def _relation(element: ET.Element) -> str:
    """Return the id of what an element refers to; it may have an `id` of its own beside it."""
    return next((value for key, value in element.items() if key.endswith("}id")), "")


def _slide(package: zipfile.ZipFile, part: str, number: int) -> Iterator[Block]:
    root = read_xml(package, part) if part else None
    if root is None:
        return
    shapes = list(_shapes(root))
    title = next((text for kind, shape in shapes if kind in _TITLES and (text := " ".join(_lines(shape)))), "")
    blocks = [Block(text=title)] if title else []
    for kind, shape in shapes:
        if kind not in _RUNNING | _TITLES:
            blocks += _content(shape)
    for kind, target in related(package, part).values():
        blocks += _attached(package, kind, target)
    label = title or (blocks[0].text.split("\n")[0] if blocks else "")
    for place, block in enumerate(blocks):
        yield replace(block, page=number, level=0 if place else 1, label="" if place else label)


def _shapes(root: ET.Element) -> Iterator[tuple[str, ET.Element]]:
    """Yield the shapes of a slide in their order, those in groups too, each with what it is a placeholder of."""
    pending = [root]
    while pending:
        element = pending.pop()
        name = local(element)
        if name in {"sp", "graphicFrame"}:
            holder = next((found for found in element.iter() if local(found) == "ph"), None)
            yield ("" if holder is None else holder.get("type", "body")), element
        # Beside what is meant stands what older programs show instead.
        elif name != "Fallback":
            pending += reversed(element)


def _content(shape: ET.Element) -> Iterator[Block]:
    table = next((found for found in shape.iter() if local(found) == "tbl"), None)
    if table is not None:
        rows = ([" ".join(_lines(cell)) for cell in row if local(cell) == "tc"] for row in table if local(row) == "tr")
        yield from table_blocks(rows)
        return
    for number, line in enumerate(_lines(shape)):
        yield Block(text=line, shape=Shape.LINE if number else Shape.PARAGRAPH)


def _attached(package: zipfile.ZipFile, kind: str, part: str) -> Iterator[Block]:
    """Yield what belongs to a slide and lies beside it: its notes, its diagrams, the words of its charts."""
    if kind not in {"notesSlide", "diagramData", "chart"}:
        return
    root = read_xml(package, part)
    if root is None:
        return
    if kind == "notesSlide":
        lines = [line for holder, shape in _shapes(root) if holder == "body" for line in _lines(shape)]
    elif kind == "diagramData":
        lines = list(_lines(root))
    else:
        lines = list(dict.fromkeys([*_lines(root), *_values(root)]))
    for number, line in enumerate(lines):
        yield Block(text=line, shape=Shape.LINE if number else Shape.PARAGRAPH)


def _values(chart: ET.Element) -> Iterator[str]:
    """Yield the names of a chart's series and categories."""
    for cache in chart.iter():
        if local(cache) == "strCache":
            yield from (found.text for found in cache.iter() if local(found) == "v" and found.text)


def _lines(element: ET.Element) -> Iterator[str]:
    """Yield the paragraphs of a shape that have text."""
    for paragraph in element.iter():
        if local(paragraph) == "p":
            line = " ".join("".join(_runs(paragraph)).split())
            if line:
                yield line


def _runs(paragraph: ET.Element) -> Iterator[str]:
    for part in paragraph.iter():
        if local(part) == "t":
            yield part.text or ""
        elif local(part) == "br":
            yield " "
