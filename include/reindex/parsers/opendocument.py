"""An OpenDocument file's bytes in (text, spreadsheet, presentation), its text out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from xml.etree import ElementTree as ET

from reindex.parsers import Context
from reindex.parsers.ooxml import attribute, local, read_xml
from reindex.parsers.rows import sheet_blocks, table_blocks
from reindex.parsers.zips import open_package
from reindex.records import Block, ParsedDocument, Shape

# What was struck out, what is said about the text, and what repeats it.
_LEFT_OUT = {"tracked-changes", "annotation", "table-of-content", "alphabetical-index", "note-citation", "ruby-text"}
_LEFT_OUT |= {"forms", "sequence-decls", "variable-decls", "footer-decl", "header-decl", "date-time-decl", "desc"}
_SPACES = {"s": " ", "tab": " ", "line-break": "\n", "p": " ", "h": " "}
# What hangs on a paragraph and has paragraphs of its own.
_APART = {"note", "text-box"}
_MOST_REPEATED = 1_000


def read_open_document(data: bytes, context: Context) -> Iterator[ParsedDocument]:
    """Yield the document: a sheet is a section, and so is a slide."""
    with open_package(data, context.limits) as package:
        root = read_xml(package, "content.xml")
        meta = read_xml(package, "meta.xml")
    declared = (
        next((found.text or "" for found in meta.iter() if local(found) == "title"), "") if meta is not None else ""
    )
    body = next((found for found in root.iter() if local(found) == "body"), None) if root is not None else None
    blocks = tuple(_parts(body)) if body is not None else ()
    heading = next((block.text for block in blocks if block.level and not block.page), "")
    yield ParsedDocument(title=declared or heading, blocks=blocks)


def _parts(body: ET.Element) -> Iterator[Block]:
    """Yield the blocks of a text, or of each sheet, or of each slide."""
    number = 0
    for part in body:
        if local(part) == "spreadsheet":
            for number, sheet in enumerate((found for found in part if local(found) == "table"), start=1):
                yield from sheet_blocks(attribute(sheet, "name"), _rows(sheet), page=number)
        elif local(part) == "presentation":
            for number, slide in enumerate((found for found in part if local(found) == "page"), start=1):
                yield from _slide(slide, number)
        else:
            yield from _blocks(part)


def _slide(slide: ET.Element, number: int) -> Iterator[Block]:
    titles = (found for found in slide.iter() if local(found) == "frame" and attribute(found, "class") == "title")
    title = next((text for found in titles if (text := " ".join(_text(found).split()))), "")
    blocks = [block for block in _blocks(slide) if block.text != title]
    if title:
        blocks.insert(0, Block(text=title))
    label = title or (blocks[0].text if blocks else "")
    for place, block in enumerate(blocks):
        yield replace(block, page=number, level=0 if place else 1, label="" if place else label)


def _blocks(root: ET.Element) -> Iterator[Block]:
    """Yield the blocks below an element; what hangs on a paragraph comes after it."""
    pending: list[tuple[ET.Element, Shape]] = [(root, Shape.PARAGRAPH)]
    while pending:
        element, shape = pending.pop()
        name = local(element)
        if name in {"p", "h"}:
            level = attribute(element, "outline-level") if name == "h" else ""
            text = "\n".join(" ".join(line.split()) for line in _text(element).strip().split("\n"))
            yield Block(text=text, shape=shape, level=int(level) if level.isdecimal() else 0)
            pending += [(found, Shape.PARAGRAPH) for found in reversed(list(_apart(element)))]
        elif name == "table":
            yield from table_blocks(_rows(element))
        elif name not in _LEFT_OUT:
            shape = Shape.LINE if name == "list-item" else shape
            pending += [(found, shape) for found in reversed(element)]


def _apart(paragraph: ET.Element) -> Iterator[ET.Element]:
    pending = list(reversed(paragraph))
    while pending:
        found = pending.pop()
        if local(found) in _APART:
            yield from found
        elif local(found) not in _LEFT_OUT:
            pending += reversed(found)


def _rows(table: ET.Element) -> Iterator[list[str]]:
    """Yield the rows of a table; one that is repeated a million times is yielded once."""
    pending = list(reversed(table))
    while pending:
        found = pending.pop()
        if local(found) == "table-row":
            yield _row(found)
        elif local(found) in {"table-header-rows", "table-rows", "table-row-group"}:
            pending += reversed(found)


def _row(row: ET.Element) -> list[str]:
    cells: list[str] = []
    waiting = 0
    for cell in row:
        if local(cell) in {"table-cell", "covered-table-cell"}:
            repeated = attribute(cell, "number-columns-repeated")
            times = min(int(repeated), _MOST_REPEATED) if repeated.isdecimal() else 1
            text = " ".join(_text(cell, apart=frozenset()).split())
            # Empty cells count only before others.
            cells += [""] * waiting + [text] * times if text else []
            waiting = 0 if text else min(waiting + times, _MOST_REPEATED)
    return cells


def _text(element: ET.Element, *, apart: frozenset[str] | set[str] = _APART) -> str:
    """Return the text below an element in order, which lies in elements and after them."""
    pieces = [element.text or ""]
    pending: list[ET.Element | str] = []
    pending += [part for child in reversed(element) for part in (child.tail or "", child)]
    while pending:
        found = pending.pop()
        if isinstance(found, str):
            pieces.append(found)
        elif (name := local(found)) not in _LEFT_OUT and name not in apart:
            pieces += [_SPACES.get(name, ""), found.text or ""]
            pending += [part for child in reversed(found) for part in (child.tail or "", child)]
    return "".join(pieces)
