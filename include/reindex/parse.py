"""An object's bytes in, its documents out: one row of FORMATS for each format. To add a format, add a row."""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import cast

from reindex.parsers import Context, Inner, Parser, Rejected
from reindex.records import Block, ParsedDocument, Reading, RejectedMember, RejectReason, Shape, text_bytes
from reindex.settings import Limits, Parsing

# In the fingerprint of the embedding space: raise it when the same bytes come out as other text.
PARSER_VERSION = "kreuzberg-4.10.4/2"

_MEGABYTE = 2**20
# Members of no name that can be written, and what could not be read of an object after some of it was.
_NAMELESS, _THE_REST = "?", "(the rest)"
# What no UTF-8 holds, and what no text means.
_UNWRITABLE = re.compile("[\x00-\x08\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How one format is read: by `module.function` of the parsers. Suffixes count only where the content is text."""

    name: str
    parser: str
    suffixes: tuple[str, ...] = ()

    def load(self) -> Parser:
        module, _, function = self.parser.partition(".")
        return cast("Parser", getattr(importlib.import_module(f"reindex.parsers.{module}"), function))


def read_object(key: str, data: bytes, parsing: Parsing, limits: Limits) -> Reading:
    """Return the object's documents; raise Rejected with the reason if there is none that could be read."""
    context = Context(name=key, parsing=parsing, limits=limits)
    documents: list[ParsedDocument] = []
    rejected: list[RejectedMember] = []
    characters = 0
    for found in _read(data, context, member="", depth=0):
        if isinstance(found, RejectedMember):
            rejected.append(found)
            continue
        characters += sum(len(block.text) for block in found.blocks)
        if documents and characters > limits.characters:
            detail = f"more than {limits.characters:,} characters in all; limits.characters"
            rejected.append(RejectedMember(member="", reason=RejectReason.TOO_LONG, detail=detail))
            break
        documents.append(found)
    if not documents:
        raise _of_all(rejected)
    # Without a name a reject would be the whole object's.
    named = tuple(replace(found, member=found.member or _THE_REST) for found in rejected)
    return Reading(documents=tuple(documents), rejected=named)


def recognise(name: str, data: bytes) -> Format:
    """Return the format of a file by what it holds; the suffix decides only between kinds of text.

    Raise Rejected for what is no document, saying what it looks like.
    """
    from reindex.parsers.signatures import name_of

    return FORMATS[name_of(name, data, _TEXT_SUFFIXES)]


def suffix_of(key: str) -> str:
    """Return what may decide the parser of a document, of a packed one too; with its bytes, it decides its text."""
    path = PurePosixPath(key.lower())
    packed = ""
    while path.suffix == ".gz":
        packed, path = path.suffix + packed, path.with_suffix("")
    return path.suffix + packed


def _read(data: bytes, context: Context, *, member: str, depth: int) -> Iterator[ParsedDocument | RejectedMember]:
    """Yield what a file holds, and what the files in it hold; a failure costs only what it happens to."""
    try:
        for found in _found(data, context, depth):
            inner = _joined(member, found.member)
            if isinstance(found, Inner):
                yield from _read(found.data, replace(context, name=found.name), member=inner, depth=depth + 1)
            elif isinstance(found, RejectedMember):
                yield replace(found, member=inner)
            else:
                yield _finished(found, inner, context.limits)
    except Rejected as rejected:
        yield RejectedMember(member=member, reason=rejected.reason, detail=rejected.detail)


def _found(data: bytes, context: Context, depth: int) -> Iterator[ParsedDocument | Inner | RejectedMember]:
    limits = context.limits
    if depth > limits.nesting:
        raise Rejected(RejectReason.TOO_DEEP, f"{depth} deep; limits.nesting allows {limits.nesting}")
    if len(data) > limits.megabytes * _MEGABYTE:
        size = f"{len(data) / _MEGABYTE:,.1f} MB"
        raise Rejected(RejectReason.TOO_LARGE, f"{size}; limits.megabytes allows {limits.megabytes:,}")
    if not data:
        raise Rejected(RejectReason.EMPTY, "the file is empty")
    yield from _guarded(data, context)


def _guarded(data: bytes, context: Context) -> Iterator[ParsedDocument | Inner | RejectedMember]:
    """Yield what the parser of a file yields; whatever goes wrong in it, raise Rejected."""
    try:
        yield from recognise(context.name, data).load()(data, context)
    except (Rejected, MemoryError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a panic of the Rust core is no Exception
        raise Rejected(RejectReason.BROKEN, f"{type(error).__name__}: {' '.join(str(error).split())}") from error


def _finished(document: ParsedDocument, member: str, limits: Limits) -> ParsedDocument | RejectedMember:
    from reindex.parsers.languages import language_of

    cleaned = map(_clean, document.blocks)
    blocks = tuple(block for block in cleaned if block.text.strip() or block.shape is Shape.CODE)
    length = sum(len(block.text) for block in blocks)
    if length > limits.characters:
        detail = f"{length:,} characters; limits.characters allows {limits.characters:,}"
        return RejectedMember(member=member, reason=RejectReason.TOO_LONG, detail=detail)
    if not any(block.text.strip() for block in blocks):
        return RejectedMember(member=member, reason=RejectReason.EMPTY, detail="the document holds no text")
    title = " ".join(_UNWRITABLE.sub("", document.title).split())
    return replace(document, title=title, blocks=blocks, language=language_of(document), member=member)


def _clean(block: Block) -> Block:
    if not _UNWRITABLE.search(block.text) and not _UNWRITABLE.search(block.label):
        return block
    return replace(block, text=_UNWRITABLE.sub("", block.text), label=_UNWRITABLE.sub("", block.label))


def _joined(*members: str) -> str:
    """Return the name of a document within a document within an object, no longer than its column."""
    name = "/".join(_UNWRITABLE.sub("", member) or _NAMELESS for member in members if member)
    if len(name.encode()) <= text_bytes("member"):
        return name
    digest = f"~{hashlib.blake2b(name.encode(), digest_size=8).hexdigest()}"
    return name.encode()[: text_bytes("member") - len(digest)].decode(errors="ignore") + digest


def _of_all(rejected: list[RejectedMember]) -> Rejected:
    """Return why an object has no document: the reason of its first."""
    if not rejected:
        return Rejected(RejectReason.EMPTY, "no document in it")
    first, others = rejected[0], f" (and {len(rejected) - 1:,} more)" if len(rejected) > 1 else ""
    return Rejected(first.reason, f"{first.member}: {first.detail}{others}" if first.member else first.detail)


_CODE = (
    "py js mjs cjs ts tsx jsx java kt kts scala groovy c h cc cpp cxx hh hpp cs fs vb go rs swift m mm rb php pl pm "
    "lua r jl dart ex exs erl hs clj ml sh bash zsh ps1 bat cmd sql css scss less vue svelte proto graphql tf cmake mk "
    "gradle yaml yml toml ini cfg conf properties env"
)
FORMATS: dict[str, Format] = {
    "pdf": Format(name="PDF", parser="pdf.read_pdf"),
    "docx": Format(name="Word", parser="word.read_docx"),
    "pptx": Format(name="PowerPoint", parser="slides.read_pptx"),
    "xlsx": Format(name="Excel", parser="sheets.read_xlsx"),
    "xlsb": Format(name="Excel, binary", parser="documents.read_xlsb"),
    "doc": Format(name="Word until 2003", parser="documents.read_doc"),
    "ppt": Format(name="PowerPoint until 2003", parser="documents.read_ppt"),
    "xls": Format(name="Excel until 2003", parser="documents.read_xls"),
    "odt": Format(name="OpenDocument text", parser="opendocument.read_open_document"),
    "ods": Format(name="OpenDocument spreadsheet", parser="opendocument.read_open_document"),
    "odp": Format(name="OpenDocument presentation", parser="opendocument.read_open_document"),
    "rtf": Format(name="RTF", parser="documents.read_rtf"),
    "epub": Format(name="EPUB", parser="documents.read_epub"),
    "html": Format(name="HTML", parser="web.read_html", suffixes=(".html", ".htm", ".xhtml")),
    "text": Format(name="plain text", parser="text.read_text", suffixes=(".txt", ".text", ".log")),
    "markdown": Format(name="Markdown", parser="text.read_markdown", suffixes=(".md", ".markdown", ".mdx")),
    "rst": Format(name="reStructuredText", parser="rst.read_rst", suffixes=(".rst", ".rest")),
    "eml": Format(name="message", parser="mail.read_message", suffixes=(".eml",)),
    "msg": Format(name="Outlook message", parser="outlook.read_outlook"),
    "mbox": Format(name="mailbox", parser="mail.read_mailbox", suffixes=(".mbox",)),
    "json": Format(name="JSON", parser="records.read_json", suffixes=(".json", ".geojson")),
    "jsonl": Format(name="JSON Lines", parser="records.read_json_lines", suffixes=(".jsonl", ".ndjson")),
    "xml": Format(name="XML", parser="xml.read_xml", suffixes=(".xml",)),
    "csv": Format(name="CSV", parser="tables.read_csv", suffixes=(".csv", ".tsv", ".tab")),
    "vtt": Format(name="WebVTT", parser="transcripts.read_transcript", suffixes=(".vtt",)),
    "srt": Format(name="SubRip", parser="transcripts.read_transcript", suffixes=(".srt",)),
    "sbv": Format(name="YouTube captions", parser="transcripts.read_transcript", suffixes=(".sbv",)),
    "code": Format(name="source code", parser="code.read_code", suffixes=tuple(f".{s}" for s in _CODE.split())),
    "gzip": Format(name="gzip", parser="archives.read_gzip"),
    "archive": Format(name="archive", parser="archives.read_archive"),
    "picture": Format(name="picture", parser="pictures.read_picture"),
}
_TEXT_SUFFIXES = {suffix: name for name, row in FORMATS.items() for suffix in row.suffixes}
