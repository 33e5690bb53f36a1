"""Plain text, Markdown and reStructuredText in, blocks out: with none of the marks that make it up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from itertools import takewhile
from typing import TYPE_CHECKING

from reindex.parsers import Context, Rejected
from reindex.parsers.encodings import as_text
from reindex.parsers.rows import joined
from reindex.records import Block, ParsedDocument, RejectReason, Shape

if TYPE_CHECKING:
    from markdown_it.token import Token

_BLANK = re.compile(r"\n[ \t\r\f\v]*\n")
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n(---|\.\.\.)[ \t]*(\n|\Z)", re.DOTALL)
_FRONT_TITLE = re.compile(r"^title:[ \t]*[\"']?(.*?)[\"']?[ \t]*$", re.MULTILINE)
_TAG = re.compile(r"<!--.*?-->|</?[A-Za-z][^>]*>", re.DOTALL)


def read_text(data: bytes, context: Context) -> Iterator[ParsedDocument]:  # noqa: ARG001 - as all parsers are called
    """Yield the text: a paragraph ends at a blank line."""
    yield ParsedDocument(title="", blocks=tuple(paragraphs(decoded(data))))


def read_markdown(data: bytes, context: Context) -> Iterator[ParsedDocument]:  # noqa: ARG001 - as above
    """Yield the text that Markdown stands for."""
    from markdown_it import MarkdownIt

    text = decoded(data)
    front = _FRONT_MATTER.match(text)
    declared = _FRONT_TITLE.search(front[1]) if front else None
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    blocks = tuple(_markdown_blocks(parser.parse(text[front.end() :] if front else text)))
    heading = next((block.text for block in blocks if block.level), "")
    yield ParsedDocument(title=declared[1] if declared else heading, blocks=blocks)


def decoded(data: bytes) -> str:
    """Return the text of a file, its lines ended by a line feed; raise Rejected if it is none."""
    text = as_text(data)
    if text is None:
        raise Rejected(RejectReason.UNSUPPORTED, "binary data of no format that is known")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def paragraphs(text: str) -> Iterator[Block]:
    for found in _BLANK.split(text):
        if found.strip():
            yield Block(text=found.strip("\n\f").rstrip())


def _markdown_blocks(tokens: list[Token]) -> Iterator[Block]:
    level, shape = 0, Shape.PARAGRAPH
    stream = iter(tokens)
    for token in stream:
        if token.type == "heading_open":
            level = int(token.tag[1])
        elif token.type == "list_item_open":
            shape = Shape.LINE
        elif token.type == "tr_open":
            row = takewhile(lambda inner: inner.type != "tr_close", stream)
            yield Block(text=joined([_inline(cell) for cell in row if cell.type == "inline"]), shape=Shape.LINE)
        elif token.type in {"fence", "code_block"}:
            yield Block(text=f"{token.content.rstrip()}\n", shape=Shape.CODE)
        elif token.type in {"inline", "html_block"}:
            yield Block(text=_inline(token), shape=shape, level=level)
            level, shape = 0, Shape.PARAGRAPH


def _inline(token: Token) -> str:
    """Return the text of a line: of a link what it says, of a picture and of tags nothing."""
    if token.type == "html_block":
        return unescape(_TAG.sub("", token.content)).strip()
    pieces = []
    for child in token.children or []:
        if child.type in {"text", "code_inline"}:
            pieces.append(child.content)
        elif child.type in {"softbreak", "hardbreak"}:
            pieces.append("\n" if child.type == "hardbreak" else " ")
        elif child.type == "html_inline" and child.content.lower().startswith("<br"):
            pieces.append("\n")
    return "".join(pieces).strip()
