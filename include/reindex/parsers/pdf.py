"""A PDF's bytes in, its paragraphs out, page by page: without what runs along the edge of every page."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from reindex.parsers import Context, Rejected
from reindex.parsers.documents import extract, rejection, title_of
from reindex.records import Block, ParsedDocument, RejectReason

# Lines at the top and the bottom of a page that may run along all of them, and how many pages make them run.
_EDGE_LINES, _FEWEST_PAGES, _RUNNING_SHARE = 3, 3, 0.4
_FARTHEST_NUMBER = 50
_NUMBER = re.compile(r"\d+")
# A line of this share of the page's width, within reason, goes on in the next; one that is shorter ends where it ends.
_FULL_LINE, _NARROWEST, _WIDEST = 0.75, 30, 70
_SENTENCE_END = tuple(".!?:;。！？")  # noqa: RUF001 - as Chinese and Japanese end theirs
_ITEM = re.compile(r"([-•▪‣◦*–]|\(?\d{1,3}[.)]|\(?[a-z][.)]|§)\s")  # noqa: RUF001 - bullets as they stand in documents
_LONGEST_HEADING, _MOST_HEADING_LINES, _FEWEST_LETTERS = 150, 3, 0.5
_NO_TITLES = re.compile(
    r"untitled|unbenannt|(microsoft \w+ - )?.*\.(docx?|xlsx?|pptx?|indd|dvi|tex|qxd|pdf)|slide 1", re.IGNORECASE
)
_OCR_DOTS_PER_INCH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    number: int
    lines: tuple[str, ...]
    headings: dict[str, int]


def read_pdf(data: bytes, context: Context) -> Iterator[ParsedDocument]:
    """Yield the document; pages without text are read as pictures if the corpus asks for it."""
    from kreuzberg import PageConfig

    with _file_of(data) as path:
        count = _count_pages(path)
        if count > context.limits.pages:
            detail = f"{count:,} pages; limits.pages allows {context.limits.pages:,}"
            raise Rejected(RejectReason.TOO_MANY_PAGES, detail)
        result = extract(
            data,
            "application/pdf",
            output_format="markdown",
            include_document_structure=True,
            pages=PageConfig(extract_pages=True),
        )
        pages = _without_running_lines(list(_pages(result, path if context.parsing.ocr else "")))
    if not any(page.lines for page in pages):
        detail = f"no text on its {max(count, len(pages)):,} pages; parsing.ocr reads pictures"
        raise Rejected(RejectReason.EMPTY, detail)
    blocks = tuple(block for page in pages for block in _blocks(page))
    yield ParsedDocument(title=_title(title_of(result), blocks), blocks=blocks)


@contextmanager
def _file_of(data: bytes) -> Iterator[str]:
    """Give the bytes a path without putting them on a disk: pages are counted and drawn by path alone."""
    handle = os.memfd_create("document")
    try:
        with os.fdopen(os.dup(handle), "wb") as file:
            file.write(data)
        yield f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)


def _count_pages(path: str) -> int:
    from kreuzberg import KreuzbergError, PdfPageIterator

    try:
        with PdfPageIterator(path) as pages:
            return len(pages)
    except (KreuzbergError, RuntimeError, ValueError, OSError) as error:
        raise rejection(error) from error


def _pages(result: Any, path: str) -> Iterator[_Page]:
    headings: dict[int, dict[str, int]] = {}
    for node in (result.document or {}).get("nodes", []):
        content = node["content"]
        if content["node_type"] == "heading" and _is_heading(content["text"]):
            headings.setdefault(node.get("page") or 0, {})[_plain(content["text"])] = content["level"]
    for page in result.pages or []:
        number, text = page["page_number"], page["content"]
        if path and not text.strip():
            text = _drawn_text(path, number)
        lines = tuple(line for line in map(str.rstrip, re.split(r"\r?\n", text)) if line.strip())
        yield _Page(number=number, lines=lines, headings=headings.get(number, {}))


def _drawn_text(path: str, number: int) -> str:
    from kreuzberg import render_pdf_page

    from reindex.parsers.pictures import recognise_page

    return str(recognise_page(render_pdf_page(path, number - 1, dpi=_OCR_DOTS_PER_INCH)))


def _is_heading(text: str) -> bool:
    """Return whether what is set larger than its surroundings reads as a heading, not as a line of a form."""
    letters = sum(character.isalpha() or character.isspace() for character in text)
    return (
        len(text) <= _LONGEST_HEADING
        and letters > len(text) * _FEWEST_LETTERS
        and text.count("\n") < _MOST_HEADING_LINES
        and not text.rstrip().endswith((".", ",", ";"))
    )


def _without_running_lines(pages: list[_Page]) -> list[_Page]:
    """Return the pages without the lines that run along the edges of many; the first of each stays."""
    edges = [_edge_lines(page) for page in pages]
    counts = Counter(key for lines in edges for key in {key for keys in lines.values() for key in keys})
    fewest = max(_FEWEST_PAGES, len(pages) * _RUNNING_SHARE)
    seen: set[str] = set()
    kept = []
    for page, lines in zip(pages, edges, strict=True):
        running = {place: keys & seen for place, keys in lines.items() if any(counts[key] >= fewest for key in keys)}
        left = tuple(line for place, line in enumerate(page.lines) if not running.get(place))
        # A page of nothing else says what it says.
        kept.append(replace(page, lines=left or page.lines))
        seen |= {key for place in running for key in lines[place]}
    return kept


def _edge_lines(page: _Page) -> dict[int, set[str]]:
    """Return, for each line at an edge, what it has in common with its like on other pages: all but a page number."""
    last = len(page.lines)
    places = {*range(min(_EDGE_LINES, last)), *range(max(0, last - _EDGE_LINES), last)}
    return {place: set(_keys(_plain(page.lines[place]), page.number)) for place in places}


def _keys(line: str, page: int) -> Iterator[str]:
    yield line
    for found in _NUMBER.finditer(line):
        offset = int(found[0][:9]) - page
        if abs(offset) <= _FARTHEST_NUMBER:
            yield f"{line[: found.start()]}<{offset}>{line[found.end() :]}"


def _blocks(page: _Page) -> Iterator[Block]:
    full = _full_line(page)
    paragraph: list[str] = []
    place = 0
    while place < len(page.lines):
        size = _heading_lines(page, place)
        line = page.lines[place].strip()
        if paragraph and (size or _ends(paragraph[-1], line, full)):
            yield Block(text=_joined(paragraph, full), page=page.number)
            paragraph = []
        if size:
            text = _plain(" ".join(page.lines[place : place + size]))
            yield Block(text=text, level=page.headings[text], page=page.number)
        else:
            paragraph.append(line)
        place += size or 1
    if paragraph:
        yield Block(text=_joined(paragraph, full), page=page.number)


def _full_line(page: _Page) -> int:
    lengths = sorted(map(len, page.lines)) or [0]
    return min(_WIDEST, max(_NARROWEST, int(lengths[len(lengths) * 9 // 10] * _FULL_LINE)))


def _heading_lines(page: _Page, place: int) -> int:
    """Return how many lines from here are a heading."""
    if not page.headings:
        return 0
    joined = (_plain(" ".join(page.lines[place : place + size])) for size in range(1, _MOST_HEADING_LINES + 1))
    return next((size for size, text in enumerate(joined, start=1) if text in page.headings), 0)


def _ends(before: str, line: str, full: int) -> bool:
    """Return whether a paragraph ends between two lines, which a PDF does not say."""
    is_short = len(before) < full
    return (is_short and before.endswith(_SENTENCE_END)) or (bool(_ITEM.match(line)) and before.endswith(_SENTENCE_END))


def _joined(lines: list[str], full: int) -> str:
    """Return a paragraph as it was before it was broken into lines; short lines stay lines."""
    pieces = lines[:1]
    for before, line in pairwise(lines):
        pieces += [" " if len(before) >= full else "\n", line]
    return "".join(pieces)


def _plain(text: str) -> str:
    return " ".join(text.split())


def _title(title: str, blocks: tuple[Block, ...]) -> str:
    """Return the title that the document was given, or its first heading: programs put file names there."""
    if title and not _NO_TITLES.fullmatch(title):
        return title
    return next((block.text for block in blocks if block.level and block.page == 1), "")
