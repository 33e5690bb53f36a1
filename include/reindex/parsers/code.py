"""Source code in, the same code out in pieces: cut where its functions and classes begin, each under its name."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, cast

from reindex.parsers import Context
from reindex.parsers.text import decoded
from reindex.records import Block, ParsedDocument, Shape

if TYPE_CHECKING:
    from tree_sitter import Node
    from tree_sitter_language_pack import SupportedLanguage

# What grammars call the definitions that a reader looks for: `function_definition`, `impl_item`; Ruby's have one word.
_DEFINITION = re.compile(
    r"(?:async_|internal_)?(?:function|method|class|struct|interface|enum|trait|impl|mod|module|namespace|constructor"
    r"|destructor|record|object|protocol|extension|union|macro|type|contract|subroutine)"
    r"_(?:definition|declaration|item|specifier|statement|declaration_statement)"
    r"|internal_module|module|class|method|singleton_method"
)
_VARIABLES = frozenset({"lexical_declaration", "variable_declaration"})
_FUNCTION_VALUES = frozenset({"arrow_function", "function_expression"})
_WRAPPERS = frozenset({"decorated_definition", "export_statement", "template_declaration", "expression_statement"})
# Where code goes on behind a definition that stands in none. Not the file's name: copies share their chunks.
_TOP_LEVEL = "(top level)"
# What stands above a definition, or before its name, and belongs to it.
_BESIDE = re.compile(r".*(?:comment|attribute|decorator|annotation|modifier).*")
_ENDS_ONLY = re.compile(r"[\s})\];,]*(?:end[\s;]*)*")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_LONGEST_LABEL = 120
_DEEPEST = 3


def read_code(data: bytes, context: Context) -> Iterator[ParsedDocument]:
    """Yield the code as it is written; in a language without a grammar it is one piece."""
    source = decoded(data)
    path = PurePosixPath(context.name)
    language = LANGUAGES.get(path.suffix.lower())
    definitions = _definitions(source, language) if language else []
    yield ParsedDocument(title="", blocks=tuple(_pieces(source, definitions)))


@dataclass(frozen=True, slots=True)
class _Definition:
    """A definition by its lines, from 0, with what stands above it; `after` is the first line that is not in it."""

    first: int
    after: int
    label: str
    outer: _Definition | None

    @property
    def level(self) -> int:
        return self.outer.level + 1 if self.outer else 1


def _pieces(source: str, definitions: list[_Definition]) -> Iterator[Block]:
    lines = _LINE.findall(source)
    cuts = {definition.first: (definition.level, definition.label) for definition in reversed(definitions)}
    for start, outer in _resumed(definitions, lines):
        cuts.setdefault(start, (outer.level, outer.label) if outer else (1, _TOP_LEVEL))
    starts = sorted({0, *cuts})
    for start, end in pairwise([*starts, len(lines)]):
        level, label = cuts.get(start, (0, ""))
        yield Block(text="".join(lines[start:end]), shape=Shape.CODE, level=level, label=label)


def _resumed(definitions: list[_Definition], lines: list[str]) -> Iterator[tuple[int, _Definition | None]]:
    """Yield the lines where the code around a definition goes on behind it, if it is more than brackets."""
    firsts = sorted(definition.first for definition in definitions)
    for definition in definitions:
        outer = definition.outer
        following = bisect.bisect_left(firsts, definition.after)
        stop = firsts[following] if following < len(firsts) else len(lines)
        stop = min(stop, outer.after) if outer else stop
        if not _ENDS_ONLY.fullmatch("".join(lines[definition.after : stop])):
            yield definition.after, outer


def _definitions(source: str, language: str) -> list[_Definition]:
    """Return the definitions of more than one line, each before those inside it."""
    from tree_sitter_language_pack import get_parser

    root = get_parser(cast("SupportedLanguage", language)).parse(source.encode()).root_node
    found: list[_Definition] = []
    pending: list[tuple[Node, int, _Definition | None]] = [
        (node, line, None) for node, line in _with_what_is_above(root)
    ]
    pending.reverse()
    while pending:
        node, first, outer = pending.pop()
        if _is_definition(node):
            outer = _Definition(first, _last_line(node) + 1, _label(node), outer)
            found.append(outer)
        if outer is None or outer.level < _DEEPEST:
            is_wrapped = node.type in _WRAPPERS
            inside = [(child, first if is_wrapped else line, outer) for child, line in _with_what_is_above(node)]
            pending += reversed(inside)
    return found


def _with_what_is_above(node: Node) -> Iterator[tuple[Node, int]]:
    """Yield the children of several lines, each with the line at which it begins, comments right above it included."""
    above: int | None = None
    last = -1
    for child in node.named_children:
        line = child.start_point.row
        if above is None or line > last + 1:
            above = line
        if not _BESIDE.fullmatch(child.type):
            if _last_line(child) > line:
                yield child, above
            above = None
        # A comment behind code belongs to that.
        elif line == last:
            above = None
        last = _last_line(child)


def _last_line(node: Node) -> int:
    return node.end_point.row - (node.end_point.column == 0)


def _is_definition(node: Node) -> bool:
    if node.type in _VARIABLES:
        values = (child.child_by_field_name("value") for child in node.named_children[:1])
        return any(value and value.type in _FUNCTION_VALUES for value in values)
    return bool(_DEFINITION.fullmatch(node.type))


def _label(node: Node) -> str:
    """Return how a definition names itself: `class Foo`, `async def bar`, `impl Display for Foo`."""
    own = [child for child in node.children if not _BESIDE.fullmatch(child.type)]
    is_value = node.type in _VARIABLES
    named = (node.named_children[0] if is_value else node).child_by_field_name("name")
    begin = (own[0] if own else node).start_byte - node.start_byte
    end = named.end_byte - node.start_byte if named else None
    line = (node.text or b"")[begin:end].decode(errors="replace").partition("\n")[0]
    return " ".join(line.rstrip(" {:").split())[:_LONGEST_LABEL]


LANGUAGES = {
    ".bash": "bash",
    ".c": "c",
    ".cc": "cpp",
    ".cjs": "javascript",
    ".cpp": "cpp",
    ".cs": "csharp",
    ".cxx": "cpp",
    ".go": "go",
    ".h": "cpp",
    ".hh": "cpp",
    ".hpp": "cpp",
    ".java": "java",
    ".js": "javascript",
    ".jsx": "javascript",
    ".kt": "kotlin",
    ".kts": "kotlin",
    ".lua": "lua",
    ".mjs": "javascript",
    ".php": "php",
    ".pl": "perl",
    ".pm": "perl",
    ".py": "python",
    ".pyi": "python",
    ".rb": "ruby",
    ".rs": "rust",
    ".scala": "scala",
    ".sh": "bash",
    ".swift": "swift",
    ".ts": "typescript",
    ".tsx": "tsx",
}
