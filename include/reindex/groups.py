"""Names of groups, of which permissions are made, and the filter that shows a reader what its groups may find."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from reindex.errors import InvalidQuery

# Stands in a chunk's `acl` in place of groups: so no group is called so.
EVERYONE = "*"
MAX_GROUPS = 64
MAX_GROUP_BYTES = 256
_STRINGS = re.compile(r'"(?:[^"\\\r\n]|\\.)*"|\'(?:[^\'\\\r\n]|\\.)*\'')
_CLOSING = {")": "(", "]": "[", "}": "{"}


def check_group(name: str) -> str:
    """Return the name if a group may be called so; raise ValueError. Metadata sets commas between several."""
    if name in {"", EVERYONE} or name != name.strip() or "," in name or not name.isprintable():
        raise ValueError(f"{name!r} is no name of a group: one line without commas, no spaces around it, and not '*'")
    if len(name.encode()) > MAX_GROUP_BYTES:
        raise ValueError(f"{name!r} is longer than {MAX_GROUP_BYTES} bytes")
    return name


def may_find(acl: Iterable[str], groups: Iterable[str]) -> bool:
    """Return whether a reader in these groups may find what has this `acl`: what `readers_filter` asks of Milvus."""
    return not {EVERYONE, *groups}.isdisjoint(acl)


def readers_filter(groups: Sequence[str], expression: str = "") -> str:
    """Return the Milvus filter for a reader in these groups, narrowed by an expression of its own, which cannot widen.

    Raises InvalidQuery for an expression that would end outside the parentheses set around it.
    """
    readable = f"array_contains_any(acl, {json.dumps([EVERYONE, *groups], ensure_ascii=False)})"
    if not expression.strip():
        return readable
    if not _stays_inside(expression):
        raise InvalidQuery("a bracket or a quote of the filter has no other half")
    return f"{readable} and ({expression})"


def _stays_inside(expression: str) -> bool:
    """Return whether every bracket and quote of the expression has its other half in it."""
    opened: list[str] = []
    for mark in re.findall(r"""[]()[{}"'\\]""", _STRINGS.sub("", expression)):
        if mark in _CLOSING:
            if not opened or opened.pop() != _CLOSING[mark]:
                return False
        elif mark in _CLOSING.values():
            opened.append(mark)
        else:
            return False
    return not opened
