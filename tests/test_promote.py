from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from reindex.errors import NotLoaded, NotVerified, OlderThanLive, SchemaMismatch
from reindex.naming import collection_name
from reindex.promote import promote_release
from reindex.records import CollectionInfo
from reindex.releases import ReleaseFiles, read_live
from reindex.settings import Index
from reindex.store import ExactStore
from tests.fakes import STATE_BUCKET, MemoryObjectStore, chunk_rows, exact_store, release_files


def verified(files: ReleaseFiles, store: ExactStore, *, dimension: int = 4) -> str:
    """Fill and load the release's collection, and record that it was measured."""
    collection = collection_name("docs", files.release)
    store.create_collection(collection, dimension=dimension, index=Index())
    store.held[collection].rows = chunk_rows(["to be", "or not"], dimension=dimension)
    store.load(collection)
    files.write_report("verify", 0, {"collection_id": store.held[collection].info.id, "rows": 2})
    return collection


def promote(files: ReleaseFiles, store: ExactStore) -> dict[str, object]:
    @contextmanager
    def connect() -> Iterator[ExactStore]:
        yield store

    return promote_release(connect, files, by="a test")


def two_releases() -> tuple[ReleaseFiles, ReleaseFiles, ExactStore]:
    bucket = MemoryObjectStore()
    first, second = (release_files(f"2026010{day}T020000Z_abcd1234", bucket) for day in (1, 2))
    return first, second, exact_store(first)


def test_the_alias_moves_and_the_pointer_says_what_it_replaced() -> None:
    first, second, store = two_releases()
    for files in (first, second):
        verified(files, store)
        promote(files, store)
    assert store.resolve_alias("docs") == collection_name("docs", second.release)
    live, _ = read_live(first.store, STATE_BUCKET, "docs")
    assert live is not None
    assert (live.release, live.replaced, live.by) == (second.release, first.release, "a test")


def test_promoting_again_after_a_crash_changes_nothing() -> None:
    first, second, store = two_releases()
    for files in (first, second):
        verified(files, store)
        promote(files, store)
    before = read_live(first.store, STATE_BUCKET, "docs")
    promote(second, store)
    assert read_live(first.store, STATE_BUCKET, "docs") == before


def test_a_release_that_was_listed_before_the_live_one_is_not_promoted() -> None:
    first, second, store = two_releases()
    for files in (first, second):
        verified(files, store)
    second.write_report("snapshot", 100, {})
    promote(second, store)
    with pytest.raises(OlderThanLive, match="promotion goes forward only"):
        promote(first, store)
    assert store.resolve_alias("docs") == collection_name("docs", second.release)


def test_a_first_promotion_that_cannot_be_recorded_leaves_no_alias() -> None:
    first, _, store = two_releases()
    verified(first, store)
    first.store.write_if_unchanged = lambda *_, **__: False  # type: ignore[method-assign]
    with pytest.raises(NotVerified, match=r"somebody changed live\.json meanwhile"):
        promote(first, store)
    assert store.resolve_alias("docs") is None


@pytest.mark.parametrize("fault", ["rebuilt", "gone", "grown"])
def test_a_collection_that_is_not_the_one_measured_is_not_promoted(fault: str) -> None:
    first, second, store = two_releases()
    verified(first, store)
    promote(first, store)
    collection = verified(second, store)
    if fault == "rebuilt":
        store.held[collection].info = CollectionInfo(name=collection, id=999, dimension=4, metric="IP")
    elif fault == "gone":
        store.drop_collection(collection)
    else:
        store.held[collection].rows = chunk_rows(["to be", "or not", "that"])
    with pytest.raises(NotVerified):
        promote(second, store)
    assert store.resolve_alias("docs") == collection_name("docs", first.release)


def test_a_collection_that_a_restart_has_unloaded_is_loaded_and_tried_again() -> None:
    first, _, store = two_releases()
    collection = verified(first, store)
    store.release(collection)
    with pytest.raises(NotLoaded, match="is not in memory"):
        promote(first, store)
    promote(first, store)
    assert store.resolve_alias("docs") == collection


def test_readers_are_never_given_another_dimension() -> None:
    first, second, store = two_releases()
    verified(first, store)
    promote(first, store)
    verified(second, store, dimension=5)
    with pytest.raises(SchemaMismatch, match="has dimension 4, the corpus makes 5"):
        promote(second, store)
    assert store.resolve_alias("docs") == collection_name("docs", first.release)


def test_an_alias_that_goes_on_answering_from_the_old_collection_is_put_back() -> None:
    first, second, store = two_releases()
    verified(first, store)
    promote(first, store)
    verified(second, store)
    old = store.describe("docs")

    class Stale(ExactStore):
        def describe(self, name: str) -> CollectionInfo | None:
            return old if name == "docs" else super().describe(name)

    stale = Stale(read_file=store.read_file, held=store.held, names=store.names)
    with pytest.raises(NotVerified, match="still answers from"):
        promote(second, stale)
    assert store.resolve_alias("docs") == collection_name("docs", first.release)


def test_a_release_that_nobody_measured_is_not_promoted() -> None:
    first, _, store = two_releases()
    with pytest.raises(Exception, match="with a finished stage verify"):
        promote(first, store)
    assert store.resolve_alias("docs") is None
