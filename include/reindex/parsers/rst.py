"""reStructuredText in, blocks out: a short reader of what documents are made of, without running any directive."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reindex.parsers import Context
from reindex.parsers.rows import joined
from reindex.parsers.text import decoded
from reindex.records import Block, ParsedDocument, Shape

_UNDERLINE = re.compile(r"([=\-~^\"'`#*+.:_<>!$%&(),/;?@\[\]\\{|}])\1{2,}\s*")
_DIRECTIVE = re.compile(r"\.\. (?:\|[^|]+\| )?([\w:.+-]+)::[ \t]*(.*)")
_COMMENT = re.compile(r"\.\.(\s|$)")
_FIELD = re.compile(r":[\w -]+:")
_FOOTNOTE = re.compile(r"\.\. \[[^\]]+\][ \t]+")
_ITEM = re.compile(r"\s*(?:[-*+•]|\(?(?:\d+|#|[a-zA-Z])[.)])[ \t]+")
_TABLE_RULE = re.compile(r"\s*(=+( +=+)+|\+[-=+]+\+)\s*")
# What shows code, what shows nothing; all others show what is indented below them.
_CODE = {"code", "code-block", "sourcecode", "literalinclude", "parsed-literal", "doctest", "math", "productionlist"}
_NOTHING = {
    *(
        "image",
        "include",
        "raw",
        "toctree",
        "contents",
        "index",
        "meta",
        "sectnum",
        "default-role",
        "role",
        "highlight",
    ),
    *("currentmodule", "py:currentmodule", "target-notes", "tags"),
}
_UNTITLED = {"figure", "only", "class", "rst-class", "container", "cssclass"}
_INLINE = [
    (re.compile(r"\|([^|\s][^|]*)\|_{0,2}"), r"\1"),
    (re.compile(r"``(.+?)``"), r"\1"),
    (re.compile(r":[\w:+.-]+:`!?~?([^`<]+?)(?:\s*<[^>`]+>)?`"), r"\1"),
    (re.compile(r"`([^`<]+?)(?:\s*<[^>`]+>)?`_{0,2}"), r"\1"),
    (re.compile(r"\*\*(\S(?:.*?\S)?)\*\*"), r"\1"),
    (re.compile(r"(?<![\w*])\*(\S(?:.*?\S)?)\*(?![\w*])"), r"\1"),
    (re.compile(r"\b(\w+)__?(?=[\s.,;:)]|$)"), r"\1"),
    (re.compile(r"\s*\[(#?\w+|\*)\]_"), ""),
    (re.compile(r"\A:([\w ]+):(?=\s)"), r"\1:"),
    (re.compile(r"\\(\S)"), r"\1"),
]


def read_rst(data: bytes, context: Context) -> Iterator[ParsedDocument]:  # noqa: ARG001 - as all parsers are called
    """Yield the text; its title is its first heading."""
    blocks = tuple(_Reader(decoded(data).expandtabs(8).split("\n")).blocks())
    yield ParsedDocument(title=next((block.text for block in blocks if block.level), ""), blocks=blocks)


class _Reader:
    """Reads line by line; the first kind of underline is the highest heading."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = [line.rstrip() for line in lines]
        self._place = 0
        self._marks: list[str] = []

    def blocks(self) -> Iterator[Block]:
        while self._place < len(self._lines):
            line = self._lines[self._place]
            if not line.strip():
                self._place += 1
            elif heading := self._heading():
                yield heading
            elif found := _DIRECTIVE.match(line.strip()):
                yield from self._directive(found[1], found[2])
            elif _COMMENT.match(line.strip()) and not _FOOTNOTE.match(line.strip()):
                self._skip(_indent(line))
            elif _TABLE_RULE.fullmatch(line):
                yield from self._table()
            elif line.strip().startswith(">>> "):
                yield from self._code(_indent(line) - 1, ends_at_blank=True)
            else:
                yield from self._paragraph()

    def _heading(self) -> Block | None:
        window = self._lines[self._place : self._place + 3]
        has_overline = len(window) == 3 and _is_rule(window[0]) and _is_rule(window[2]) and window[1].strip()  # noqa: PLR2004
        title = window[1 if has_overline else 0] if len(window) > 1 else ""
        is_underlined = len(window) > 1 and _is_rule(window[1]) and len(window[1]) >= min(4, len(title.rstrip()))
        if not title.strip() or _is_rule(title) or (not has_overline and not is_underlined):
            return None
        mark = ("=" if has_overline else "") + window[1 if not has_overline else 0][0]
        if mark not in self._marks:
            self._marks.append(mark)
        self._place += 3 if has_overline else 2
        return Block(text=_plain(title.strip()), level=self._marks.index(mark) + 1)

    def _directive(self, name: str, argument: str) -> Iterator[Block]:
        indent = _indent(self._lines[self._place])
        self._place += 1
        while self._place < len(self._lines) and _FIELD.match(self._lines[self._place].strip()):
            self._place += 1
        if name in _CODE:
            yield from self._code(indent)
        elif name in _NOTHING:
            list(self._indented(indent))
        elif argument and name not in _UNTITLED:
            # What is described, or the title of a note; what is indented below follows as any text does.
            yield Block(text=_plain(argument))

    def _code(self, indent: int, *, ends_at_blank: bool = False) -> Iterator[Block]:
        lines = list(self._indented(indent, ends_at_blank=ends_at_blank))
        margin = min((_indent(line) for line in lines if line), default=0)
        text = "\n".join(line[margin:] for line in lines).strip("\n")
        if text:
            yield Block(text=f"{text}\n", shape=Shape.CODE)

    def _skip(self, indent: int) -> None:
        self._place += 1
        list(self._indented(indent))

    def _indented(self, indent: int, *, ends_at_blank: bool = False) -> Iterator[str]:
        """Take the lines that are indented deeper, and the blank ones between them."""
        while self._place < len(self._lines):
            line = self._lines[self._place]
            if (not line and ends_at_blank) or (line and _indent(line) <= indent):
                return
            self._place += 1
            yield line

    def _table(self) -> Iterator[Block]:
        """Yield the rows of a table, whose columns stand between bars or wide gaps."""
        while self._place < len(self._lines) and self._lines[self._place].strip():
            line = self._lines[self._place].strip()
            self._place += 1
            cells = line.strip("|").split("|") if line.startswith("|") else re.split(r"\s{2,}", line)
            if not _TABLE_RULE.fullmatch(line) and (row := joined([_plain(cell) for cell in cells])):
                yield Block(text=row, shape=Shape.LINE)

    def _paragraph(self) -> Iterator[Block]:
        """Yield the lines up to a blank one: items and rows each alone, others as one paragraph."""
        indent, lines = _indent(self._lines[self._place]), list[str]()
        is_item = bool(_ITEM.match(self._lines[self._place]))
        while self._place < len(self._lines) and self._lines[self._place].strip():
            line = self._lines[self._place]
            if lines and (_ITEM.match(line) or self._heading_follows()):
                break
            self._place += 1
            if not _is_rule(line):
                lines.append(line.strip())
        text = _plain(" ".join(lines))
        introduces_code = text.endswith("::")
        text = text[:-2].rstrip() + (":" if len(text) > 2 else "") if introduces_code else text  # noqa: PLR2004
        if is_item:
            text = _ITEM.sub("", text, count=1)
        if text:
            yield Block(text=text, shape=Shape.LINE if is_item else Shape.PARAGRAPH)
        if introduces_code:
            yield from self._code(indent)

    def _heading_follows(self) -> bool:
        return self._place + 1 < len(self._lines) and _is_rule(self._lines[self._place + 1])


def _is_rule(line: str) -> bool:
    return bool(_UNDERLINE.fullmatch(line))


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _plain(text: str) -> str:
    for pattern, kept in _INLINE:
        text = pattern.sub(kept, _FOOTNOTE.sub("", text))
    return text
