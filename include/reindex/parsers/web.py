"""A web page's bytes in, its main text out: without the menus, banners and footers that surround it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from reindex.parsers import Context
from reindex.parsers.encodings import as_text
from reindex.parsers.furniture import Furniture
from reindex.records import Block, ParsedDocument, Shape

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser, LexborNode

_DECLARED = re.compile(rb"<meta[^>]+charset\s*=\s*[\"']?([\w-]+)", re.IGNORECASE)
_NESTING = (
    *("address", "article", "aside", "blockquote", "center", "details", "div", "dl", "fieldset", "figure", "footer"),
    *("form", "header", "main", "menu", "nav", "ol", "section", "table", "ul"),
)
_NESTING_TAG = re.compile(rf"<(/?)(?:{'|'.join(_NESTING)})\b[^>]*>", re.IGNORECASE)
_NESTING_TAGS = re.compile(rf"(?:</?(?:{'|'.join(_NESTING)}|t[rdh]|tbody|li)\b[^>]*>\s*)+", re.IGNORECASE)
# The parser walks up from every tag: what lies deeper than any page does would take it hours.
_DEEPEST = 1_000
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = {
    *_NESTING,
    *_HEADINGS,
    *("p", "li", "dd", "dt", "table", "caption", "tr", "td", "th", "figcaption", "hr", "summary", "body", "legend"),
}
_LINES = {"li", "tr", "caption"}
# What makes a table one of layout: its cells hold more than a cell does.
_NO_CELL = "table, h1, h2, h3, h4, h5, h6, ul, ol, dl, pre, blockquote, form, p + p, div + div"


def read_html(data: bytes, context: Context) -> Iterator[ParsedDocument]:  # noqa: ARG001 - as all parsers are called
    """Yield the page."""
    page = _parsed(_decoded(data))
    root = page.root
    language = (root.attributes.get("lang") or root.attributes.get("xml:lang") or "") if root is not None else ""
    blocks = _main_blocks(page)
    yield ParsedDocument(title=_title(page, blocks), blocks=blocks, language=language)


def blocks_of_html(text: str) -> tuple[Block, ...]:
    """Return the blocks of a piece of HTML that is all text, such as a message."""
    page = _parsed(text)
    return tuple(_Walk(Furniture(page, is_kept=True)).blocks(page.body)) if page.body is not None else ()


def _decoded(data: bytes) -> str:
    declared = _DECLARED.search(data[:4_096])
    text = as_text(data)
    if declared and text is not None and not _is_unicode(data):
        try:
            return data.decode(declared[1].decode(), "replace")
        except LookupError:
            return text
    return text or ""


def _is_unicode(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return data.startswith((b"\xff\xfe", b"\xfe\xff"))
    return True


def _parsed(text: str) -> LexborHTMLParser:
    from selectolax.lexbor import LexborHTMLParser

    depth = deepest = 0
    for tag in _NESTING_TAG.finditer(text):
        depth = max(0, depth - 1) if tag[1] else depth + 1
        deepest = max(deepest, depth)
    return LexborHTMLParser(_NESTING_TAGS.sub("<hr>", text) if deepest > _DEEPEST else text)


def _main_blocks(page: LexborHTMLParser) -> tuple[Block, ...]:
    if page.body is None:
        return ()
    furniture = Furniture(page)
    found = tuple(_Walk(furniture).blocks(furniture.root or page.body))
    # A page of nothing but menus is about what they say.
    return found or tuple(_Walk(Furniture(page, is_kept=True)).blocks(page.body))


def _title(page: LexborHTMLParser, blocks: tuple[Block, ...]) -> str:
    title = page.css_first("head > title")
    heading = next((block.text for block in blocks if block.level == 1), "")
    return (title.text(deep=True).strip() if title is not None else "") or heading


class _Walk:
    """Goes over the nodes below one, in reading order, without recursion: a page may be nested at will."""

    def __init__(self, furniture: Furniture) -> None:
        self._furniture = furniture
        self._inline: list[str] = []
        self._shapes: list[tuple[Shape, int]] = [(Shape.PARAGRAPH, 0)]

    def blocks(self, root: LexborNode) -> Iterator[Block]:
        pending: list[tuple[LexborNode, bool]] = [(root, True)]
        while pending:
            node, is_entered = pending.pop()
            if not is_entered:
                yield from self._left(node)
            elif node.is_text_node:
                self._inline.append(node.text_content or "")
            elif node.is_element_node and not self._furniture.covers(node):
                if node.tag == "pre":
                    yield from self._flushed()
                    yield from _code(_text(node, self._furniture, between=""))
                elif node.tag == "tr" and node.css_first(_NO_CELL) is None:
                    yield from self._flushed()
                    yield from self._row(node)
                else:
                    yield from self._entered(node)
                    pending.append((node, False))
                    pending += ((child, True) for child in reversed(_children(node)))

    def _entered(self, node: LexborNode) -> Iterator[Block]:
        tag = node.tag or ""
        if tag == "br":
            self._inline.append("\x00")
        elif tag in _BLOCKS:
            yield from self._flushed()
            shape = Shape.LINE if tag in _LINES else Shape.PARAGRAPH
            self._shapes.append((shape, _HEADINGS.get(tag, 0)))

    def _left(self, node: LexborNode) -> Iterator[Block]:
        if node.tag in _BLOCKS:
            yield from self._flushed()
            self._shapes.pop()

    def _flushed(self) -> Iterator[Block]:
        """Yield the text that has come together; two line breaks in it are a paragraph's end."""
        text, self._inline = "".join(self._inline), []
        shape, level = self._shapes[-1]
        lines = "\n".join(" ".join(line.split()) for line in text.split("\x00"))
        for found in re.split(r"\n\s*\n", lines):
            if found.strip():
                yield Block(text=found.strip(), shape=shape, level=level)

    def _row(self, row: LexborNode) -> Iterator[Block]:
        cells = [child for child in _children(row) if child.tag in {"td", "th"} and not self._furniture.covers(child)]
        texts = [" ".join(_text(cell, self._furniture, between=" ").split()) for cell in cells]
        if any(texts):
            yield Block(text=" | ".join(texts), shape=Shape.LINE if len(texts) > 1 else Shape.PARAGRAPH)


def _children(node: LexborNode) -> list[LexborNode]:
    found = []
    child = node.child
    while child is not None:
        found.append(child)
        child = child.next
    return found


def _text(node: LexborNode, furniture: Furniture, *, between: str) -> str:
    """Return all text below a node; `between` stands between its paragraphs."""
    pieces: list[str] = []
    pending = [node]
    while pending:
        inner = pending.pop()
        if inner.is_text_node:
            pieces.append(inner.text_content or "")
        elif inner.is_element_node and not furniture.covers(inner):
            pieces.append("\n" if inner.tag == "br" else between * (inner.tag in _BLOCKS))
            pending += reversed(_children(inner))
    return "".join(pieces)


def _code(text: str) -> Iterator[Block]:
    if text.strip():
        yield Block(text="{}\n".format(text.strip("\n")), shape=Shape.CODE)
