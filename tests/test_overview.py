from __future__ import annotations

import pyarrow as pa
import pytest

from reindex.display import print_rejects
from reindex.errors import NothingRead
from reindex.overview import rejects_of
from reindex.records import REJECT_SCHEMA
from reindex.releases import REJECTS_FILE
from tests.fakes import STATE_BUCKET, MemoryObjectStore, release_files

OLDER, NEWER = "20260101T020000Z_abcd1234", "20260102T020000Z_abcd1234"


def rejected(store: MemoryObjectStore, release: str, *names: tuple[str, str]) -> None:
    facts = {"version": "", "stage": "embed", "reason": "no-text", "detail": "empty", "seconds": 0.1, "bytes": 1}
    rows = [{"key": key, "member": member, **facts} for key, member in names]
    table = pa.Table.from_pylist(rows, schema=REJECT_SCHEMA)
    release_files(release, store).write_table(REJECTS_FILE, REJECT_SCHEMA, table.to_batches())


def test_the_rejects_are_those_of_the_newest_release_that_has_read_its_documents() -> None:
    store = MemoryObjectStore()
    rejected(store, OLDER, ("docs/b", ""), ("docs/a", "2"), ("docs/a", ""))
    release_files(NEWER, store).write_report("snapshot", 0, {"documents": 1})
    name, rows = rejects_of(store, STATE_BUCKET, "docs", None)
    assert name == OLDER
    assert [(row["key"], row["member"]) for row in rows] == [("docs/a", ""), ("docs/a", "2"), ("docs/b", "")]
    rejected(store, NEWER)
    assert rejects_of(store, STATE_BUCKET, "docs", None) == (NEWER, [])
    assert len(rejects_of(store, STATE_BUCKET, "docs", OLDER)[1]) == 3


@pytest.mark.parametrize("release", [None, OLDER])
def test_where_nothing_has_been_read_that_is_said(release: str | None) -> None:
    with pytest.raises(NothingRead, match=r"nothing is known of rejects; `reindex releases docs`"):
        rejects_of(MemoryObjectStore(), STATE_BUCKET, "docs", release)


def test_a_reject_takes_one_line_whatever_its_name_holds(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"key": "docs/a\nb", "member": "mail.eml", "reason": "no-text", "detail": "[bold]empty[/]"}
    print_rejects(NEWER, [row])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{NEWER}: 1 rejected", "'docs/a\\nb#mail.eml'  no-text: [bold]empty[/]"]
