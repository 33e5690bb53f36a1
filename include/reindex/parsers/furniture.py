"""What of a web page is not its text: the menus, banners, side bars and footers that stand around it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser, LexborNode

_NO_TEXT = {
    *("script", "style", "noscript", "template", "svg", "iframe", "object", "embed", "canvas", "audio", "video", "map"),
    *("select", "button", "input", "textarea", "datalist", "head", "title"),
}
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_MENU_ROLES = {"navigation", "search", "menu", "menubar", "toolbar", "tablist", "dialog", "alertdialog"}
_EDGES = {"header", "footer", "aside"}
_EDGE_ROLES = {"banner", "contentinfo", "complementary"}
# Names of classes that stand for what is never the text.
_NEVER = re.compile(
    r"(.*[-_])?(cookies?|gdpr|breadcrumbs?|pagination|newsletter)([-_].*)?|skip[-_]?(link|to|nav).*|pager|related[-_].*|"
    r"(social|share|sharing)([-_]?(buttons?|bar|links?|icons?|media|tools))?|(header|anchor|perma)[-_]?link|adverts?|ads|"
    r"linenos?|line-?numbers?|gutter|sr-only|screen-reader-text|visually-?hidden|prev-next.*|edit-this-page",
    re.IGNORECASE,
)
# Of ids only these: the ids of sections are their titles, and may be any word.
_BANNERS = re.compile(
    r"(cookie|consent|gdpr|onetrust|cookiebot|usercentrics)[-_]?\w*([-_].*)?|skip-?(link|nav)", re.IGNORECASE
)
# Names that a text may have as well: they count outside of what the page calls its main part.
_OUTSIDE = re.compile(
    r"nav|navbar|navi(gation)?|menu|top-?bar|side-?(bar|nav|menu)|sphinxsidebar|footer|header|masthead|banner|toc|"
    r"widget|promo|login|search|(main|top|left|right|sub|site|global|page|foot|head)[-_]?(nav|navi|menu|bar|links)",
    re.IGNORECASE,
)
_CONTAINERS = {"div", "ul", "ol", "table", "tbody", "tr", "td", "section", "p", "center", "dl", "form", "span", "font"}
_SKIPPING = re.compile(r"\s*(skip|jump) (to|over)\b.*|\W?", re.IGNORECASE | re.DOTALL)
# Links side by side are a menu: so many, such a share of the text, so short, and with so little between them.
_FEWEST_LINKS, _LINK_SHARE, _LONGEST_LINK, _LONGEST_BETWEEN = 3, 0.6, 40, 60
# What a page calls its main part holds at least this share of its words; what holds so many is no furniture.
_MAIN_SHARE, _LARGEST_SHARE = 0.25, 0.5
_MAIN_PARTS = ("main, [role=main]", "article", "[itemprop=articleBody]")


@dataclass(slots=True)
class _Words:
    """The text below a node, in characters: of links, beside them, and of its longest piece beside them."""

    linked: int = 0
    links: int = 0
    beside: int = 0
    longest: int = 0

    def add(self, inner: _Words) -> None:
        self.linked += inner.linked
        self.links += inner.links
        self.beside += inner.beside
        self.longest = max(self.longest, inner.longest)


class Furniture:
    """Says of each node of one page whether it is furniture; with `is_kept`, only what is never shown is."""

    def __init__(self, page: LexborHTMLParser, *, is_kept: bool = False) -> None:
        self._is_kept = is_kept
        self._words: dict[int, _Words] = {}
        self._has_main = False
        self.root = page.body
        if page.body is not None and not is_kept:
            self._measure(page.body)
            self.root = self._main_part(page, page.body)
            self._most = self._of(self.root).beside * _LARGEST_SHARE
            headings = page.css("h1")
            self._title = headings[0].mem_id if len(headings) == 1 else 0

    def covers(self, node: LexborNode) -> bool:
        """Return whether a node is furniture, and all that is in it."""
        attributes = node.attributes  # made anew each time it is asked for
        if node.tag in _NO_TEXT or "hidden" in attributes or attributes.get("aria-hidden") == "true":
            return True
        if _HIDDEN.search(attributes.get("style") or ""):
            return True
        if self._is_kept or self._of(node).beside > self._most:
            return False
        return any(
            sign(node, attributes) for sign in (self._is_named_so, self._is_link_elsewhere, self._stands_outside)
        )

    def _is_named_so(self, node: LexborNode, attributes: dict[str, str | None]) -> bool:
        if node.tag == "nav" or attributes.get("role") in _MENU_ROLES:
            return True
        classes = (attributes.get("class") or "").split()
        if node.tag == "section" or "section" in classes:
            return False
        return any(map(_NEVER.fullmatch, classes)) or bool(_BANNERS.fullmatch(attributes.get("id") or ""))

    def _is_link_elsewhere(self, node: LexborNode, attributes: dict[str, str | None]) -> bool:
        """Return whether a node is a link for moving on the page: over the menus, or to where one is already."""
        target = attributes.get("href") or ""
        return node.tag == "a" and target.startswith("#") and bool(_SKIPPING.fullmatch(node.text(deep=True)))

    def _stands_outside(self, node: LexborNode, attributes: dict[str, str | None]) -> bool:
        """Return whether a node looks like an edge of the page, or a menu that nothing calls one."""
        names = [*(attributes.get("class") or "").split(), attributes.get("id") or ""]
        is_edge = node.tag in _EDGES or attributes.get("role") in _EDGE_ROLES or any(map(_OUTSIDE.fullmatch, names))
        if self._has_main:
            return is_edge and self._is_menu(node)
        if is_edge and not self._holds_title(node) and not _is_within(node, "article"):
            return True
        return node.tag in _CONTAINERS and self._is_menu(node)

    def _is_menu(self, node: LexborNode) -> bool:
        words = self._of(node)
        return (
            words.links >= _FEWEST_LINKS
            and words.linked >= _LINK_SHARE * (words.linked + words.beside)
            and words.linked <= words.links * _LONGEST_LINK
            and words.longest <= _LONGEST_BETWEEN
        )

    def _holds_title(self, node: LexborNode) -> bool:
        return bool(self._title) and any(found.mem_id == self._title for found in node.css("h1"))

    def _main_part(self, page: LexborHTMLParser, body: LexborNode) -> LexborNode:
        for selector in _MAIN_PARTS:
            found = page.css(selector)
            if len(found) == 1 and self._of(found[0]).beside >= self._of(body).beside * _MAIN_SHARE:
                self._has_main = True
                return found[0]
        return body

    def _of(self, node: LexborNode) -> _Words:
        return self._words.get(node.mem_id, _Words())

    def _measure(self, body: LexborNode) -> None:
        """Count the words below every node, from the leaves up."""
        for node in reversed(list(_shown(body))):
            words = self._words.setdefault(node.mem_id, _Words())
            if node.is_text_node:
                length = len((node.text_content or "").strip())
                words.beside = words.longest = length
            elif node.tag == "a":
                words.linked, words.links = words.linked + words.beside, 1
                words.beside = words.longest = 0
            if node.parent is not None and node.mem_id != body.mem_id:
                self._words.setdefault(node.parent.mem_id, _Words()).add(words)


def _shown(body: LexborNode) -> Iterator[LexborNode]:
    pending = [body]
    while pending:
        node = pending.pop()
        yield node
        child = node.child
        while child is not None:
            if child.tag not in _NO_TEXT:
                pending.append(child)
            child = child.next


def _is_within(node: LexborNode, tag: str) -> bool:
    parent = node.parent
    while parent is not None and parent.tag != tag:
        parent = parent.parent
    return parent is not None
