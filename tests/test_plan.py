from __future__ import annotations

import pytest

from reindex.plan import decide_deletions
from reindex.settings import Gate

TENTH = Gate(max_deleted_share=0.1)


@pytest.mark.parametrize(
    ("deleted", "live", "max_deleted", "withheld"),
    [
        (0, 0, None, False),
        (10, 10, None, False),  # ten are never withheld, even if they are all there is
        (11, 100, None, True),
        (11, 110, None, False),  # exactly the share
        (12, 110, None, True),
        (1_000, 100_000, None, False),
        (50, 100, 50, False),
        (51, 100, 50, True),
        (5, 100, 4, True),  # a number that a person gave is a ceiling, not only a permission
        (0, 100, 0, False),
    ],
)
def test_deletions_over_the_ceiling_are_withheld(
    deleted: int, live: int, max_deleted: int | None, withheld: bool
) -> None:
    assert decide_deletions(deleted, live, TENTH, max_deleted) is withheld
