"""XML in, the text of its elements out in their order; attributes say little to a reader and are left out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from reindex.parsers import Context, Rejected
from reindex.parsers.web import blocks_of_html
from reindex.records import Block, ParsedDocument, RejectReason, Shape

if TYPE_CHECKING:
    from lxml.etree import _Element

_TITLES = frozenset({"title", "head", "heading"})
# Feeds hold whole pages of HTML as the text of one element.
_HTML = re.compile(r"</?[a-zA-Z][^>]*>")
# A value of this length is prose, which the name of its element does not make clearer.
_PROSE = 80
_STOPS = (".", "!", "?", "。")


def read_xml(data: bytes, context: Context) -> Iterator[ParsedDocument]:  # noqa: ARG001 - as all parsers are called
    """Yield the document; entities that lie outside it, or grow without end, are refused."""
    from lxml import etree

    parser = etree.XMLParser(
        resolve_entities="internal", no_network=True, huge_tree=False, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise Rejected(RejectReason.BROKEN, f"XML: {error}") from error
    titles = (_text(element) for element in root.iter(*(f"{{*}}{name}" for name in _TITLES)))
    yield ParsedDocument(title=next(filter(None, titles), ""), blocks=tuple(_blocks(root, 1)))


def _blocks(element: _Element, level: int) -> Iterator[Block]:
    """Yield what the elements inside say; one whose text runs on around others is a paragraph."""
    children = list(element)
    if not children or any(text and text.strip() for text in [element.text, *(child.tail for child in children)]):
        yield from _prose(_text(element))
        return
    names = Counter(map(_name, children))
    inner = level + any(name in _TITLES for name in names)
    blocks = (
        block for child in children for block in (_blocks(child, inner) if len(child) else _leaf(child, level, names))
    )
    first = next(blocks, None)
    if first:
        # So that what belongs together stands together.
        yield replace(first, shape=Shape.PARAGRAPH)
        yield from blocks


def _leaf(element: _Element, level: int, siblings: Counter[str]) -> Iterator[Block]:
    text, name = _text(element), _name(element)
    if name in _TITLES and text:
        yield Block(text=text, level=level)
    elif len(text) > _PROSE or text.endswith(_STOPS) or _HTML.search(text):
        yield from _prose(text)
    elif text:
        # A name that is there once is a field's; one that comes again is that of a list's items or of paragraphs.
        is_field = len(siblings) > 1 and siblings[name] == 1
        yield Block(text=f"{name}: {text}" if is_field else text, shape=Shape.LINE)


def _prose(text: str) -> Iterator[Block]:
    if _HTML.search(text):
        yield from blocks_of_html(text)
    elif text:
        yield Block(text=text)


def _text(element: _Element) -> str:
    text = "".join(map(str, element.itertext())) if len(element) else element.text or ""
    return " ".join(text.split())


def _name(element: _Element) -> str:
    return str(element.tag).rpartition("}")[2]
