"""A corpus's permissions and an object's key and metadata in, who may find the document out.

The answer is the column `acl`: groups, `["*"]` for everyone, or nothing, which nobody's filter matches, where it is
unknown. What is in doubt is unknown: only a rule without groups, the metadata value `*`, or a corpus without
permissions opens a document to everyone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from reindex.errors import PermissionsNotLive
from reindex.groups import EVERYONE, MAX_GROUPS, check_group
from reindex.settings import Permissions, Source

OPEN = [EVERYONE]
UNKNOWN: list[str] = []


def acl_of(key: str, metadata: str | None, permissions: Permissions | None, source: Source) -> list[str]:
    """Return the groups that may find an object's documents, sorted.

    `metadata` is what a snapshot keeps of the object's own, a JSON object; None if it could not be asked.
    """
    if permissions is None:
        return OPEN
    if permissions.metadata:
        if metadata is None:
            return UNKNOWN
        value = json.loads(metadata).get(permissions.metadata)
        if value is not None:
            return _listed(value)
    return _ruled(source.name_of(key), permissions)


def narrowed(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """Return who is named by both: what everyone may find, those may find whom the other names."""
    if EVERYONE in before or EVERYONE in now:
        return sorted(now if EVERYONE in before else before)
    return sorted(set(before) & set(now))


def reader_groups(
    now: Permissions | None, live: Permissions | None, asked: Sequence[str], release: str
) -> Sequence[str] | None:
    """Return the groups that a search of the live release is made for, None where everyone may find everything.

    `now` is what the corpus file says. Raises PermissionsNotLive if the release was made before it said so.
    """
    if now and live is None:
        raise PermissionsNotLive(release)
    return asked if now or live else None


def _listed(value: str) -> list[str]:
    """Return the groups of a metadata value; a value that names nobody, or what is no group, leaves them unknown."""
    names = sorted({name for part in value.split(",") if (name := part.strip())})
    if names == OPEN:
        return OPEN
    try:
        groups = [check_group(name) for name in names]
    except ValueError:
        return UNKNOWN
    return groups if len(groups) <= MAX_GROUPS else UNKNOWN


def _ruled(name: str, permissions: Permissions) -> list[str]:
    rule = next((rule for rule in permissions.rules if name.startswith(rule.prefix)), None)
    if rule is None:
        return UNKNOWN
    return sorted(set(rule.groups)) or OPEN
