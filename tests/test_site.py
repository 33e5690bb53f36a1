"""What the pages in Airflow say, of files in memory; `test_pages.py` asks Airflow itself for them."""

from __future__ import annotations

import time
from typing import Any

import pyarrow as pa
import pytest

from reindex.errors import RecallTooLow
from reindex.overview import release_row
from reindex.records import REJECT_SCHEMA
from reindex.releases import LivePointer, ReleaseFiles, read_summaries, release_names, release_report, write_live
from reindex.site import REJECTS_ON_PAGE, render_corpora, render_corpus, render_rejects, render_release
from reindex.standing import RELEASES_ON_PAGE, Rights, Waiting, read_standing_of, releases_page, what_it_wants
from tests.fakes import MemoryObjectStore, release_files

ROOT = "/reindex"
NIGHT = "202601{:02}T020000Z_abcd1234"


def verified(store: MemoryObjectStore, night: int, *, bound: float = 0.97) -> ReleaseFiles:
    files = release_files(NIGHT.format(night), store)
    now = time.time()
    files.write_report("snapshot", now - 60, {"documents": 12})
    plan = {"outcome": "build", "warning": "", "live": None, "withheld_keys": ["secret.txt"], "forecast": None}
    files.write_report("plan", now - 50, plan)
    files.write_report("verify", now - 9, {"recall": {"k": 10, "mean": 0.99, "bound": bound}, "search_params": {}})
    return files


def go_live(files: ReleaseFiles) -> None:
    pointer = LivePointer(release=files.release, collection="c", since="2026-01-02T02:00:00+00:00", by="x", replaced="")
    write_live(files.store, files.bucket, files.corpus_name, pointer, etag=None)


def rejects(count: int) -> pa.Table:
    row: dict[str, Any] = dict.fromkeys(REJECT_SCHEMA.names)
    rows = [
        {**row, "key": f"docs/{number:06}.pdf", "member": "", "reason": "no-text", "detail": f"page {number}"}
        for number in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=REJECT_SCHEMA)


def test_a_summary_is_what_the_release_says_without_names_of_documents() -> None:
    files = verified(MemoryObjectStore(), 1)
    assert files.summary() == {**release_report(files), "withheld_keys": []}
    assert release_report(files)["withheld_keys"] == ["secret.txt"]
    files.record_failure("promote", RecallTooLow(10, 0.5, 0.95, 0.6, 0.1))
    assert files.summary()["failed"]["stage"] == "promote"
    files.forget_failure()
    assert files.summary()["failed"] is None


def test_a_release_of_before_there_were_summaries_is_read_all_the_same() -> None:
    store = MemoryObjectStore()
    files = verified(store, 1)
    store.delete(files.bucket, files.key("summary.json"))
    assert read_summaries(store, files.bucket, "docs", [files.release]) == [release_report(files)]


def test_releases_come_a_page_at_a_time_the_newest_first() -> None:
    store = MemoryObjectStore()
    for night in range(RELEASES_ON_PAGE + 5):
        release_files(f"2026{1 + night // 28:02}{1 + night % 28:02}T020000Z_abcd1234", store).write_report(
            "snapshot", 0, {}
        )
    names = sorted(release_names(store, "reindex", "docs"), reverse=True)
    first, pages = releases_page(store, "reindex", "docs", 1)
    last, _ = releases_page(store, "reindex", "docs", 99)
    assert pages == 2
    assert [report["release"] for report in [*first, *last]] == names


def test_what_wants_somebody_is_named() -> None:
    failed = {
        "release": "r",
        "failed": {"stage": "verify", "reason": "too low"},
        "withheld": 3,
        "warning": "3 of 9 gone",
    }
    assert what_it_wants(failed, ["recall is 0.5"]) == [
        "drifted: recall is 0.5",
        "r failed in verify: too low",
        "3 deletions are withheld: 3 of 9 gone",
    ]
    assert what_it_wants({"failed": None, "withheld": 0}, []) == []
    assert what_it_wants(None, []) == []


def test_the_page_of_all_corpora_has_what_is_live_and_what_is_wrong() -> None:
    store = MemoryObjectStore()
    go_live(verified(store, 1))
    newest = verified(store, 2)
    newest.record_failure("promote", RecallTooLow(10, 0.5, 0.95, 0.6, 0.1))
    page = render_corpora([read_standing_of(store, "reindex", "docs")], {"docs": "2026-01-03 02:00 UTC"}, {}, root=ROOT)
    assert f'href="/reindex/corpora/docs/releases/{NIGHT.format(1)}"' in page
    assert "0.9700" in page
    assert "2026-01-03 02:00 UTC" in page
    assert f"{NIGHT.format(2)} failed in promote: recall@10" in page
    assert "There is no corpus" in render_corpora([], {}, {}, root=ROOT)


CHOICES = {"enum": [None, "never"], "values_display": {"None": "as the file says"}}
FORM: list[dict[str, Any]] = [
    {"name": "promote", "schema": CHOICES, "value": None, "description": "d"},
    {"name": "rebuild", "schema": {"type": "boolean"}, "value": False, "description": "d"},
    {"name": "max_deleted", "schema": {"type": ["null", "integer"]}, "value": None, "description": "d"},
    {"name": "as_of", "schema": {"type": ["null", "string"], "pattern": "^T$"}, "value": None, "description": "d"},
]
ASKED = Waiting(run="manual__1", question="Promote r1 of docs?")


@pytest.mark.parametrize(
    ("rights", "shown"),
    [
        (Rights(run=False, answer=False, roll_back=False), set()),
        (Rights(run=True, answer=False, roll_back=False), {"Run now", "acts.js"}),
        (Rights(run=False, answer=True, roll_back=False), {"Approve", "acts.js"}),
        (Rights(run=False, answer=False, roll_back=True), {"Roll back", "acts.js"}),
    ],
)
def test_only_who_may_act_finds_what_to_act_with(rights: Rights, shown: set[str]) -> None:
    store = MemoryObjectStore()
    files = verified(store, 1)
    rows = [release_row(files.summary(), set(), None)]
    standing = read_standing_of(store, "reindex", "docs")
    page = render_corpus(standing, rows, [ASKED], rights, FORM, page=1, pages=1, root=ROOT)
    assert {text for text in ("Run now", "Approve", "Roll back", "acts.js") if text in page} == shown
    assert ASKED.question in page
    assert "<polyline" in page


def test_a_run_is_asked_for_with_the_parameters_of_its_dag() -> None:
    standing = read_standing_of(MemoryObjectStore(), "reindex", "docs")
    rights = Rights(run=True, answer=False, roll_back=False)
    page = render_corpus(standing, [], [], rights, FORM, page=1, pages=1, root=ROOT)
    assert '<option value="" selected>as the file says</option><option value="never">never</option>' in page
    assert '<input type="checkbox" name="rebuild">' in page
    assert '<input type="number" name="max_deleted"' in page
    assert '<input name="as_of" value="" pattern="^T$"' in page


def test_the_list_says_who_waits_for_a_person() -> None:
    standing = read_standing_of(MemoryObjectStore(), "reindex", "docs")
    assert ASKED.question in render_corpora([standing], {}, {"docs": [ASKED]}, root=ROOT)


def test_a_release_s_page_has_all_that_was_measured() -> None:
    files = verified(MemoryObjectStore(), 1)
    report = {**release_report(files), "gates": [{"gate": "recall", "passed": True, "why": "enough"}]}
    page = render_release(report, {}, {"gates": report["gates"], "ledger": {"listed": 12}}, root=ROOT)
    assert all(f'<h2 id="{part}">' in page for part in ("gates", "recall", "slices", "live-search", "ledger"))
    assert "/reindex/releases/docs/" in page


def test_a_release_s_page_has_its_stages_and_why_it_failed() -> None:
    files = verified(MemoryObjectStore(), 1)
    files.record_failure("promote", RecallTooLow(10, 0.5, 0.95, 0.6, 0.1))
    page = render_release(release_report(files), {}, files.read_json("recall.json") or {}, root=ROOT)
    assert "Failed in promote:" in page
    assert page.count("<rect") == 3


def test_rejects_are_searched_and_come_a_page_at_a_time() -> None:
    table = rejects(100_000)
    facts = {"corpus": "docs", "release": NIGHT.format(1), "root": ROOT}
    page = render_rejects(table, find="", page=2, **facts)
    assert page.count("<bdi>docs/") == REJECTS_ON_PAGE
    assert f"docs/{REJECTS_ON_PAGE:06}.pdf" in page
    found = render_rejects(table, find="099999", page=7, **facts)
    assert found.count("<bdi>docs/") == 1
    assert "1 of 100,000" in found
    assert "none" in render_rejects(table, find="<script>", page=1, **facts)
    assert "<script>" not in render_rejects(table, find="<script>", page=1, **facts)
