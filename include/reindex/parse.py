"""A document's bytes in, its text out: one row of PARSERS for each format. To add a format, add a row."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from reindex.errors import ReindexError
from reindex.records import Block, ParsedDocument, Reading, RejectReason
from reindex.settings import Limits, Parsing

# In the fingerprint of the embedding space: raise it when the same bytes come out as other text.
PARSER_VERSION = "kreuzberg-4.10.4/1"

_DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
# kreuzberg puts the page's metadata before the text of an HTML file; the last line of it reads as a heading.
_HTML_METADATA = re.compile(r"\A---\n+(?:[^\n]+: [^\n]*\n+)*?## [\w:.-]+: [^\n]*\n+")
_HEADING = re.compile(r"^#+\s+(.+?)\s*#*$", re.MULTILINE)


class Rejected(ReindexError):
    """A document that cannot be indexed: it costs only itself, and is named with its reason."""

    def __init__(self, reason: RejectReason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


def read_object(key: str, data: bytes, parsing: Parsing, limits: Limits) -> Reading:  # noqa: ARG001
    """Return the documents of an object; raise Rejected if none can be read."""
    return Reading(documents=(parse_document(key, data),))


def parse_document(key: str, data: bytes) -> ParsedDocument:
    """Return the document's text, and its title if it has one; raise Rejected with the reason if it has no text."""
    suffix = suffix_of(key)
    parser = PARSERS.get(suffix)
    if parser is None:
        raise Rejected(RejectReason.UNSUPPORTED, f"no parser for {suffix or 'a name without a suffix'}")
    try:
        document = parser(data)
    except (Rejected, MemoryError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the Rust core is no Exception
        raise Rejected(RejectReason.BROKEN, f"{type(error).__name__}: {' '.join(str(error).split())}") from error
    if not any(block.text.strip() for block in document.blocks):
        raise Rejected(RejectReason.EMPTY, "the document holds no text")
    return document


def suffix_of(key: str) -> str:
    """Return what decides the parser of a document; with its bytes, it decides its text."""
    return PurePosixPath(key).suffix.lower()


def _text(data: bytes) -> ParsedDocument:
    result = _extract(data, "text/plain", output_format="plain")
    return _whole(result.content, title="", is_markdown=False)


def _markdown(data: bytes) -> ParsedDocument:
    result = _extract(data, "text/markdown", output_format="markdown")
    return _whole(result.content, title=_title(result), is_markdown=True)


def _html(data: bytes) -> ParsedDocument:
    result = _extract(data, "text/html", output_format="markdown")
    return _whole(_HTML_METADATA.sub("", result.content), title=_title(result), is_markdown=True)


def _docx(data: bytes) -> ParsedDocument:
    result = _extract(data, _DOCX, output_format="markdown")
    return _whole(result.content, title=_title(result), is_markdown=True)


def _pdf(data: bytes) -> ParsedDocument:
    from kreuzberg import PageConfig

    result = _extract(data, "application/pdf", output_format="plain", pages=PageConfig(extract_pages=True))
    pages = tuple(Block(text=page["content"], page=page["page_number"]) for page in result.pages or [])
    return ParsedDocument(title=_title(result), blocks=pages)


def _extract(data: bytes, mime_type: str, **options: Any) -> Any:
    from kreuzberg import ExtractionConfig, KreuzbergError, extract_bytes_sync

    try:
        # Its cache would write beside the worker, and its Tesseract has no language data.
        config = ExtractionConfig(use_cache=False, disable_ocr=True, **options)
        return extract_bytes_sync(data, mime_type, config=config)
    except KreuzbergError as error:
        raise Rejected(RejectReason.BROKEN, " ".join(str(error).split())) from error


def _whole(text: str, *, title: str, is_markdown: bool) -> ParsedDocument:
    heading = _HEADING.search(text) if is_markdown else None
    title = title or (heading[1] if heading else "")
    paragraphs = (found for found in re.split(r"\n\s*\n", text) if found.strip())
    return ParsedDocument(title=title, blocks=tuple(_block(found, is_markdown=is_markdown) for found in paragraphs))


def _block(text: str, *, is_markdown: bool) -> Block:
    level = len(text) - len(text.lstrip("#")) if is_markdown and _HEADING.match(text) else 0
    return Block(text=text, level=level, label=text.strip("# ") if level else "")


def _title(result: Any) -> str:
    return str(result.metadata.get("title") or "").strip()


PARSERS: dict[str, Callable[[bytes], ParsedDocument]] = {
    ".txt": _text,
    ".md": _markdown,
    ".markdown": _markdown,
    ".html": _html,
    ".htm": _html,
    ".pdf": _pdf,
    ".docx": _docx,
}
