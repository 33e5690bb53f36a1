"""The document formats that kreuzberg reads: its tree of nodes in, blocks out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import groupby
from typing import Any

from reindex.parsers import Context, Parser, Rejected
from reindex.parsers.rows import sheet_blocks, table_blocks
from reindex.parsers.zips import check_package
from reindex.records import Block, ParsedDocument, RejectReason, Shape

_WORDS_OF_ENCRYPTION = re.compile(r"password|encrypt", re.IGNORECASE)
_FOOTNOTE_MARK = re.compile(r"\[\^\w+\]")


def extract(data: bytes, mime_type: str, **options: Any) -> Any:
    """Return what kreuzberg makes of a document; raise Rejected for what it cannot read."""
    from kreuzberg import ExtractionConfig, KreuzbergError, extract_bytes_sync

    try:
        # Its cache would write beside the worker, and its Tesseract has no language data.
        config = ExtractionConfig(use_cache=False, disable_ocr=True, **options)
        return extract_bytes_sync(data, mime_type, config=config)
    except KreuzbergError as error:
        raise rejection(error) from error


def rejection(error: Exception) -> Rejected:
    """Return what an error of kreuzberg means to the document."""
    if _WORDS_OF_ENCRYPTION.search(str(error)):
        return Rejected(RejectReason.ENCRYPTED, "the document is protected by a password")
    return Rejected(RejectReason.BROKEN, " ".join(str(error).split()))


def _read_text(data: bytes, context: Context, *, mime_type: str, is_package: bool = False) -> Iterator[ParsedDocument]:
    """Yield a document that is a text with headings, lists and tables."""
    if is_package:
        check_package(data, context.limits)
    result = extract(data, mime_type, include_document_structure=True)
    blocks = tuple(_blocks((result.document or {}).get("nodes", [])))
    yield ParsedDocument(title=title_of(result), blocks=blocks, language=str(result.metadata.get("language") or ""))


def _read_sheets(
    data: bytes, context: Context, *, mime_type: str, is_package: bool = False
) -> Iterator[ParsedDocument]:
    """Yield a workbook: every sheet is a section."""
    if is_package:
        check_package(data, context.limits)
    result = extract(data, mime_type)
    names = list(result.metadata.get("sheet_names") or [])
    blocks: list[Block] = []
    for table in result.tables:
        name = names[table.page_number - 1] if 0 < table.page_number <= len(names) else ""
        blocks += sheet_blocks(name, table.cells, page=table.page_number)
    yield ParsedDocument(title=title_of(result), blocks=tuple(blocks))


def title_of(result: Any) -> str:
    return str(result.metadata.get("title") or "").strip()


def _blocks(nodes: Iterable[dict[str, Any]]) -> Iterator[Block]:
    """Yield the blocks of a document's body; what stands at the edge of every page is none of it."""
    page = 0
    for node in nodes:
        content, page = node["content"], node.get("page") or page
        kind, text = content["node_type"], _FOOTNOTE_MARK.sub("", content.get("text") or "").strip()
        if node.get("content_layer") in {"header", "footer"}:
            continue
        if kind in {"heading", "title"} and text:
            yield Block(text=text, level=int(content.get("level") or 1), page=page)
        elif kind == "slide":
            page = int(content.get("number") or page + 1)
        elif kind == "table":
            yield from table_blocks(_rows(content["grid"]), page=page)
        elif kind == "code":
            yield Block(text=f"{content.get('text') or ''}\n", shape=Shape.CODE, page=page)
        elif kind != "group" and text:
            yield Block(text=text, shape=Shape.LINE if kind == "list_item" else Shape.PARAGRAPH, page=page)


def _rows(grid: dict[str, Any]) -> Iterator[list[str]]:
    for _, cells in groupby(grid["cells"], key=lambda cell: int(cell["row"])):
        yield [str(cell["content"]) for cell in cells]


read_epub: Parser = partial(_read_text, mime_type="application/epub+zip", is_package=True)
read_doc: Parser = partial(_read_text, mime_type="application/msword")
read_ppt: Parser = partial(_read_text, mime_type="application/vnd.ms-powerpoint")
read_rtf: Parser = partial(_read_text, mime_type="application/rtf")
read_xls: Parser = partial(_read_sheets, mime_type="application/vnd.ms-excel")
read_xlsb: Parser = partial(
    _read_sheets, mime_type="application/vnd.ms-excel.sheet.binary.macroEnabled.12", is_package=True
)
