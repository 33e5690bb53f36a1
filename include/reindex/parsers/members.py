"""What an object's documents are called where it holds several: names that stay, and that no two of them share."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping

# A member's name is a column of every chunk: an id that is longer is rather a text.
_LONGEST_ID = 200


class Names:
    """The names that are taken in one object."""

    def __init__(self, taken: set[str] | None = None) -> None:
        self._taken = taken or set()

    def free(self, name: str) -> str:
        """Take a name, with a number behind it if it is taken already."""
        # What no UTF-8 can hold would stop the release later on.
        name = name.encode(errors="replace").decode()
        numbered = (f"{name} ({number})" for number in itertools.count(2))
        free = next(candidate for candidate in itertools.chain([name], numbered) if candidate not in self._taken)
        self._taken.add(free)
        return free


def named_by_id(ids: Mapping[int, str]) -> list[str]:
    """Name every document by its id where it alone has it and it is not too long, else by its place, which is given."""
    counts = Counter(ids.values())
    kept = {name for name, count in counts.items() if count == 1 and _is_sane(name)}
    names = Names(set(kept))
    return [name if name in kept else names.free(str(place)) for place, name in ids.items()]


def _is_sane(name: str) -> bool:
    return name.isprintable() and 0 < len(name.encode()) <= _LONGEST_ID
