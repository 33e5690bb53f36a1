from __future__ import annotations

from dataclasses import replace

import pytest

from reindex.errors import LedgerMismatch
from reindex.ledger import Ledger, _problems, check_ledger

GOOD = Ledger(
    listed=4,
    reused=1,
    embedded=2,
    rejected=1,
    duplicates=0,
    withheld=1,
    unaccounted=(),
    unlisted=(),
    doubled=(),
    misfits=(),
    part_rows=10,
    file_rows=10,
    imported_rows=10,
    collection_rows=10,
    distinct_ids=10,
    short_files=(),
)


def test_a_ledger_that_adds_up_passes() -> None:
    check_ledger(GOOD)
    assert _problems(GOOD) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"embedded": 1, "unaccounted": ("b.md",)}, "neither indexed nor rejected: b.md"),
        ({"doubled": ("b.md",)}, "both indexed and rejected: b.md"),
        ({"misfits": ("b.md",)}, "other rows in the import files than in the parts: b.md"),
        ({"unlisted": ("z.md",), "embedded": 3}, "never listed: z.md"),
        ({"listed": 5}, "5 documents listed, 1 reused \\+ 2 embedded \\+ 1 rejected"),
        ({"imported_rows": 9, "short_files": ("part-1",)}, "rows lost or doubled on import: part-1"),
        ({"part_rows": 11}, "11 rows in parts, 10 in import files"),
        ({"file_rows": 9}, "9 in import files"),
        ({"collection_rows": 20}, "20 counted in Milvus"),
        ({"distinct_ids": 9}, "9 distinct ids"),
    ],
)
def test_any_difference_stops_the_release_by_name(change: dict[str, object], said: str) -> None:
    with pytest.raises(LedgerMismatch, match=said):
        check_ledger(replace(GOOD, **change))
