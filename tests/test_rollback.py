from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from reindex.errors import (
    AlreadyLive,
    NothingToGoBackTo,
    NotLoaded,
    NotVerified,
    RecallTooLow,
    ReindexError,
    ReleaseDropped,
    SchemaMismatch,
    UnknownRelease,
)
from reindex.exact import nearest_rows
from reindex.naming import collection_name
from reindex.records import CollectionInfo, LoadState, chunk_schema
from reindex.releases import QUERIES_FILE, ReleaseFiles
from reindex.rollback import (
    ReloadBarrier,
    begin_reload,
    begin_rollback,
    check_again,
    finish_rollback,
    roll_back,
)
from reindex.settings import Index
from reindex.store import ExactStore
from reindex.verify import QUERIES_SCHEMA
from tests.fakes import STATE_BUCKET, MemoryObjectStore, a_corpus, chunk_rows, exact_store, release_files
from tests.test_promote import copy_of, live_pointer, promote, verified


def releases(*promoted: bool) -> tuple[list[ReleaseFiles], ExactStore]:
    """Return verified releases in order of time, promoted one after the other where asked."""
    bucket = MemoryObjectStore()
    made = [release_files(f"2026010{day}T020000Z_abcd1234", bucket) for day in range(1, len(promoted) + 1)]
    store = exact_store(made[0])
    for number, (files, is_promoted) in enumerate(zip(made, promoted, strict=True)):
        verified(files, store)
        if is_promoted:
            promote(files, store)
            files.write_report("promote", number, {})
    return made, store


def go_back(files: ReleaseFiles, store: ExactStore) -> dict[str, Any]:
    @contextmanager
    def connect() -> Iterator[ExactStore]:
        yield store

    return roll_back(connect, files, by="on call")


def chosen(files: ReleaseFiles, store: ExactStore, asked: str | None = None, *, name: str = "r") -> str:
    return begin_rollback(store, files, name, asked=asked, by="on call")


# Which


def test_the_release_before_is_gone_back_to_and_going_back_twice_is_where_one_was() -> None:
    (_, second, third), store = releases(True, True, True)
    assert chosen(third, store) == second.release
    go_back(second, store)
    assert chosen(third, store, name="again") == third.release


def test_a_rollback_that_is_repeated_does_not_go_back_again() -> None:
    (_, second, third), store = releases(True, True, True)
    for _ in range(2):
        assert chosen(third, store) == second.release
        facts = go_back(second, store)
        finish_rollback(second, "r", facts)
    assert store.resolve_alias("docs") == collection_name("docs", second.release)
    record = second.store.read_json(STATE_BUCKET, "reindex/docs/rollbacks/r.json")
    assert record is not None
    assert (record["release"], record["instead_of"], record["by"]) == (second.release, third.release, "on call")


def test_where_the_one_before_is_gone_the_newest_from_before_the_live_one_takes_its_place() -> None:
    (first, second, third, green), store = releases(True, True, True, False)
    store.drop_collection(collection_name("docs", second.release))
    assert chosen(green, store) == first.release
    store.drop_collection(collection_name("docs", first.release))
    with pytest.raises(NothingToGoBackTo, match="docs has no release to go back to"):
        chosen(green, store, name="again")
    assert store.resolve_alias("docs") == collection_name("docs", third.release)


def test_a_release_that_was_live_later_than_the_live_one_is_no_way_back() -> None:
    (first, second, third), store = releases(True, True, True)
    go_back(second, store)
    store.drop_collection(collection_name("docs", third.release))
    assert chosen(first, store) == first.release


def test_a_crash_between_alias_and_live_json_does_not_mislead_the_choice() -> None:
    (first, second, third), store = releases(True, True, True)
    store.point_alias("docs", collection_name("docs", first.release))
    assert chosen(second, store) == third.release
    assert (live_pointer(first).release, live_pointer(first).replaced) == (first.release, third.release)


def test_where_the_alias_is_gone_what_was_live_last_comes_back() -> None:
    (first, second), store = releases(True, True)
    store.remove_alias("docs")
    assert chosen(first, store) == second.release
    go_back(second, store)
    assert (live_pointer(first).release, live_pointer(first).replaced) == (second.release, first.release)


def test_what_cannot_be_gone_back_to_is_refused_with_the_reason() -> None:
    (first, second, unmeasured), store = releases(True, True, True)
    unmeasured.store.delete(STATE_BUCKET, unmeasured.key("verify.json"))
    go_back(second, store)
    store.drop_collection(collection_name("docs", first.release))
    refusals: dict[str, tuple[type[ReindexError], str]] = {
        "nothing": (UnknownRelease, "docs has no release nothing"),
        first.release: (ReleaseDropped, "has no collection any more"),
        second.release: (AlreadyLive, "is what docs serves already"),
        unmeasured.release: (NotVerified, "nobody has measured it"),
    }
    for asked, (kind, said) in refusals.items():
        with pytest.raises(kind, match=said):
            chosen(first, store, asked)


def test_a_green_release_goes_live_when_it_is_named_and_has_been_live_from_then_on() -> None:
    (first, green), store = releases(True, False)
    with pytest.raises(NothingToGoBackTo):
        chosen(first, store)
    assert chosen(first, store, green.release) == green.release
    go_back(green, store)
    assert (live_pointer(first).release, live_pointer(first).by) == (green.release, "on call")
    report = green.report("promote")
    assert report is not None
    assert (report["by"], report["replaced"]) == ("on call", first.release)


# Into memory


def test_a_collection_that_was_unloaded_is_loaded_and_waited_for() -> None:
    (first, _), store = releases(True, True)
    collection = collection_name("docs", first.release)
    store.release(collection)
    barrier = ReloadBarrier(store, first)
    assert not barrier.poll().done
    begin_reload(store, first)
    assert barrier.poll().done


def test_deleted_rows_that_segments_still_hold_do_not_keep_the_barrier_shut() -> None:
    (first, _), store = releases(True, True)

    class WithDeletions(ExactStore):
        def load_state(self, collection: str) -> LoadState:
            return LoadState(loaded=True, persistent_segments=2, loaded_segments=3, loaded_rows=99)

    assert ReloadBarrier(copy_of(store, WithDeletions), first).poll().done


def test_a_count_that_stays_wrong_opens_the_barrier_for_the_check_to_refuse() -> None:
    (first, _), store = releases(True, True)
    store.held[collection_name("docs", first.release)].rows = chunk_rows(["only this"])
    barrier = ReloadBarrier(store, first)
    polls = [barrier.poll().done for _ in range(30)]
    assert polls == [False] * 29 + [True]
    with pytest.raises(NotVerified, match="has 1 rows, 2 were measured"):
        go_back(first, store)


def test_a_collection_that_vanished_is_said_to_be_gone() -> None:
    (first, _), store = releases(True, True)
    store.drop_collection(collection_name("docs", first.release))
    with pytest.raises(NotVerified, match="is gone"):
        begin_reload(store, first)
    with pytest.raises(NotVerified, match="is gone"):
        ReloadBarrier(store, first).poll()


# Checked and switched


@pytest.mark.parametrize("fault", ["rebuilt", "unloaded", "another dimension"])
def test_what_is_not_as_it_was_measured_or_would_break_readers_does_not_go_live(fault: str) -> None:
    (first, second), store = releases(True, True)
    collection = collection_name("docs", first.release)
    number = store.held[collection].info.id
    if fault == "rebuilt":
        store.held[collection].info = CollectionInfo(name=collection, id=999, dimension=4, metric="IP")
    elif fault == "unloaded":
        store.release(collection)
    else:
        store.held[collection].info = CollectionInfo(name=collection, id=number, dimension=5, metric="IP")
    before = live_pointer(first)
    with pytest.raises((NotVerified, NotLoaded, SchemaMismatch)):
        go_back(first, store)
    assert (store.resolve_alias("docs"), live_pointer(first)) == (collection_name("docs", second.release), before)


def test_a_proof_that_fails_puts_alias_and_live_json_back() -> None:
    (first, second), store = releases(True, True)
    before = live_pointer(first)
    old = store.describe("docs")

    class Stale(ExactStore):
        def describe(self, name: str) -> CollectionInfo | None:
            return old if name == "docs" else super().describe(name)

    with pytest.raises(NotVerified, match="still answers from"):
        go_back(first, copy_of(store, Stale))
    assert (store.resolve_alias("docs"), live_pointer(first)) == (collection_name("docs", second.release), before)


def with_queries(metric: str, *, poor: int, verified_queries: int = 1000) -> tuple[ReleaseFiles, ExactStore]:
    """Return a release of 60 random rows and its 40 kept queries, of which `poor` are now answered badly."""
    random = np.random.default_rng(1)
    vectors = random.normal(size=(60, 4)).astype("float32")
    queries = random.normal(size=(40, 4)).astype("float32")
    files = release_files()
    files.freeze_corpus(a_corpus(index={"metric": metric}, gate={"k": 5}))
    store = exact_store(files)
    collection = collection_name("docs", files.release)
    store.create_collection(collection, dimension=4, index=Index(metric=metric))
    row = chunk_rows(["x"]).to_pylist()[0]
    rows = [{**row, "id": str(i), "vector": vector.tolist()} for i, vector in enumerate(vectors)]
    store.held[collection].rows = pa.Table.from_pylist(rows, schema=chunk_schema())
    store.load(collection)
    floors = nearest_rows(vectors, queries, k=5, metric=metric)[1][:, -1]
    floors[:poor] += 100
    rows_kept = [
        {"vector": query, "floor": float(floor), "own": ""}
        for query, floor in zip(queries.tolist(), floors, strict=True)
    ]
    table = pa.Table.from_pylist(rows_kept, schema=QUERIES_SCHEMA)
    files.write_table(QUERIES_FILE, QUERIES_SCHEMA, table.to_batches())
    files.write_report(
        "verify",
        0,
        {"collection_id": store.held[collection].info.id, "rows": 60, "recall": {"queries": verified_queries}},
    )
    return files, store


@pytest.mark.parametrize("metric", ["IP", "COSINE", "L2"])
def test_recall_is_measured_again_with_the_queries_that_were_kept(metric: str) -> None:
    files, store = with_queries(metric, poor=0)
    recall = check_again(store, files)["recall"]
    assert (recall["mean"], recall["queries"]) == (1.0, 40)
    assert recall["bound"] > 0.99
    assert go_back(files, store)["recall"] == recall


@pytest.mark.parametrize("metric", ["IP", "COSINE", "L2"])
def test_an_index_that_does_worse_than_when_it_was_measured_does_not_go_live(metric: str) -> None:
    files, store = with_queries(metric, poor=5)
    with pytest.raises(RecallTooLow, match=r"recall@5 is 0\.8750"):
        go_back(files, store)
    assert store.resolve_alias("docs") is None


def test_a_release_that_kept_no_queries_goes_live_and_says_that_its_recall_was_not_checked() -> None:
    (first, _), store = releases(True, True)
    report = go_back(first, store)
    assert report["recall"] is None
    assert "recall not checked" in report["note"]


def test_going_back_to_other_permissions_says_so() -> None:
    (first, second, third), store = releases(True, True, True)
    for files in (second, third):
        files.freeze_corpus(a_corpus(permissions={"metadata": "groups"}))
    assert "other permissions" not in go_back(second, store)["note"]
    assert (
        "recall not checked: the release has kept no queries; the corpus had other permissions then"
        in (go_back(first, store)["note"])
    )
    store.point_alias("docs", copied(store, "docs__unknown"))
    assert "other permissions" not in go_back(first, store)["note"]


def copied(store: ExactStore, collection: str) -> str:
    """Make a collection of a release that nobody knows."""
    store.held[collection] = next(iter(store.held.values()))
    return collection
