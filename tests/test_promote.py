from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from reindex.errors import NotLoaded, NotVerified, OlderThanLive, PromotedMeanwhile, SchemaMismatch
from reindex.naming import collection_name
from reindex.promote import promote_release, wants_promotion
from reindex.records import CollectionInfo
from reindex.releases import LivePointer, ReleaseFiles, read_live, write_live
from reindex.settings import Index
from reindex.store import ExactStore
from reindex.switch import reconcile_live
from tests.fakes import STATE_BUCKET, MemoryObjectStore, chunk_rows, exact_store, release_files


def verified(files: ReleaseFiles, store: ExactStore, *, dimension: int = 4) -> str:
    """Fill and load the release's collection, and record that it was measured."""
    collection = collection_name("docs", files.release)
    store.create_collection(collection, dimension=dimension, index=Index())
    store.held[collection].rows = chunk_rows(["to be", "or not"], dimension=dimension)
    store.load(collection)
    files.write_report("verify", 0, {"collection_id": store.held[collection].info.id, "rows": 2})
    return collection


def promote(files: ReleaseFiles, store: ExactStore, *, by: str = "a test") -> dict[str, object]:
    @contextmanager
    def connect() -> Iterator[ExactStore]:
        yield store

    return promote_release(connect, files, by=by)


def live_pointer(files: ReleaseFiles) -> LivePointer:
    live, _ = read_live(files.store, STATE_BUCKET, "docs")
    assert live is not None
    return live


def copy_of(store: ExactStore, kind: type[ExactStore]) -> ExactStore:
    """Return another kind of store over the same collections and aliases."""
    return kind(read_file=store.read_file, held=store.held, names=store.names)


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


def test_a_server_that_remembers_the_old_collection_after_a_move_serves_the_new_one_in_the_end() -> None:
    first, second, store = two_releases()
    verified(first, store)
    promote(first, store)
    served = {"docs": collection_name("docs", first.release)}

    class Remembering(ExactStore):
        """Forgets what an alias names before it moves it, and a search in between has it remember the old one."""

        def point_alias(self, alias: str, collection: str) -> None:
            served[alias] = self.names[alias]
            super().point_alias(alias, collection)

    verified(second, store)
    promote(second, copy_of(store, Remembering))
    assert served["docs"] == collection_name("docs", second.release)


def test_promoting_again_after_a_crash_changes_nothing() -> None:
    first, second, store = two_releases()
    for files in (first, second):
        verified(files, store)
        promote(files, store)
    before = read_live(first.store, STATE_BUCKET, "docs")
    promote(second, store)
    assert read_live(first.store, STATE_BUCKET, "docs") == before


@pytest.mark.parametrize(
    ("as_of", "listed_at", "is_older"),
    [
        (("2026-01-01T02:00:00+00:00", "2026-01-02T02:00:00+00:00"), (200, 100), True),  # a backfill runs late
        (("2026-01-02T02:00:00+00:00", "2026-01-01T02:00:00+00:00"), (100, 200), False),
        (("2026-01-02T02:00:00Z", "2026-01-02T02:00:00+00:00"), (100, 200), True),  # the same moment
        (("2026-01-02T02:00:00Z", "2026-01-02T02:00:00+00:00"), (200, 100), False),
        ((None, None), (100, 200), True),  # from before snapshots could read the past
        ((None, None), (200, 100), False),
    ],
)
def test_promotion_goes_forward_by_the_moment_that_a_snapshot_shows(
    as_of: tuple[str | None, str | None], listed_at: tuple[int, int], is_older: bool
) -> None:
    first, second, store = two_releases()
    for files, moment, seconds in zip((first, second), as_of, listed_at, strict=True):
        verified(files, store)
        files.write_report("snapshot", seconds, {"as_of": moment} if moment else {})
    promote(second, store)
    if is_older:
        with pytest.raises(OlderThanLive, match=f"promotion goes forward only.*rollback CORPUS --to {first.release}"):
            promote(first, store)
    else:
        promote(first, store)
    stays = second if is_older else first
    assert store.resolve_alias("docs") == collection_name("docs", stays.release)
    assert live_pointer(first).release == stays.release


@pytest.mark.parametrize(
    ("asked", "corpus_says", "is_backfill", "promotes"),
    [
        (None, "auto", False, True),
        (None, "never", False, False),
        (None, "auto", True, False),
        ("auto", "never", False, True),
        ("auto", "auto", True, True),
        ("never", "auto", False, False),
    ],
)
def test_a_backfill_promotes_only_when_it_is_asked_to(
    asked: str | None, corpus_says: str, is_backfill: bool, promotes: bool
) -> None:
    assert wants_promotion(asked, corpus_says, is_backfill=is_backfill) is promotes


def test_a_first_promotion_that_cannot_be_recorded_leaves_no_alias() -> None:
    first, _, store = two_releases()
    verified(first, store)
    first.store.write_if_unchanged = lambda *_, **__: False  # type: ignore[method-assign]
    with pytest.raises(PromotedMeanwhile, match="somebody made another release live"):
        promote(first, store)
    assert store.resolve_alias("docs") is None


# live.json follows the alias


def test_a_crash_after_the_alias_moved_is_mended_by_the_next_attempt() -> None:
    first, second, store = two_releases()
    for files in (first, second):
        verified(files, store)
    promote(first, store)
    store.point_alias("docs", collection_name("docs", second.release))
    promote(second, store)
    assert store.resolve_alias("docs") == live_pointer(second).collection
    assert (live_pointer(second).release, live_pointer(second).replaced) == (second.release, first.release)


def test_a_live_json_that_ran_ahead_of_the_alias_is_taken_back() -> None:
    first, second, store = two_releases()
    for files in (first, second):
        verified(files, store)
    promote(first, store)
    _, etag = read_live(first.store, STATE_BUCKET, "docs")
    ahead = LivePointer(
        release=second.release,
        collection=collection_name("docs", second.release),
        since="2026-01-02T00:00:00+00:00",
        by="x",
        replaced=first.release,
    )
    assert write_live(first.store, STATE_BUCKET, "docs", ahead, etag=etag)
    live = reconcile_live(store, second, by="a test")
    assert live.pointer == live_pointer(first)
    assert (live.release, live_pointer(first).replaced) == (first.release, second.release)
    assert live_pointer(first).by == "reconciled to the alias by a test"


def test_where_alias_and_live_json_agree_or_say_nothing_of_a_release_nothing_is_written() -> None:
    first, _, store = two_releases()
    assert reconcile_live(store, first, by="a test").pointer is None
    verified(first, store)
    promote(first, store)
    before = live_pointer(first)
    assert reconcile_live(store, first, by="a test").pointer == before
    store.create_collection("by_hand", dimension=4, index=Index())
    store.point_alias("docs", "by_hand")
    assert reconcile_live(store, first, by="a test").release is None
    assert live_pointer(first) == before


def test_an_alias_that_is_gone_leaves_live_json_as_what_was_known_last_and_promotion_goes_on() -> None:
    first, second, store = two_releases()
    for files in (first, second):
        verified(files, store)
    promote(first, store)
    store.remove_alias("docs")
    live = reconcile_live(store, second, by="a test")
    assert (live.collection, live.pointer) == (None, live_pointer(first))
    promote(second, store)
    assert store.resolve_alias("docs") == live_pointer(first).collection
    assert (live_pointer(first).release, live_pointer(first).replaced) == (second.release, first.release)


# Two at once


@pytest.mark.parametrize("moment", ["moved", "proved"])
def test_of_two_that_promote_at_once_one_wins_and_the_other_says_who(moment: str) -> None:
    searches: list[str] = []
    bucket = MemoryObjectStore()
    old, winner, loser = (release_files(f"2026010{day}T020000Z_abcd1234", bucket) for day in (1, 2, 3))
    store = exact_store(old)
    for files in (old, winner, loser):
        verified(files, store)
    promote(old, store)

    class Interleaved(ExactStore):
        """Lets the other promote after this one has moved the alias: before it is proved, or after."""

        def point_alias(self, alias: str, collection: str) -> None:
            super().point_alias(alias, collection)
            if moment == "moved" and collection == collection_name("docs", loser.release):
                promote(winner, store, by="the other run")

        def sample_vectors(self, name: str, count: int) -> list[list[float]]:
            vectors = super().sample_vectors(name, count)
            searches.append(name)
            if moment == "proved" and len(searches) == 3:
                store.names["docs"] = collection_name("docs", old.release)
                promote(winner, store, by="the other run")
                store.names["docs"] = collection_name("docs", loser.release)
            return vectors

    with pytest.raises(PromotedMeanwhile, match=f"the other run made {winner.release} live"):
        promote(loser, copy_of(store, Interleaved))
    assert store.resolve_alias("docs") == live_pointer(old).collection == collection_name("docs", winner.release)


def test_a_winner_whose_alias_was_moved_meanwhile_moves_it_back() -> None:
    first, second, store = two_releases()
    for files in (first, second):
        verified(files, store)
    promote(first, store)

    def loses_at_once(bucket: str, key: str, data: bytes, *, etag: str | None) -> bool:
        store.point_alias("docs", collection_name("docs", first.release))
        return MemoryObjectStore.write_if_unchanged(first.store, bucket, key, data, etag=etag)  # type: ignore[arg-type]

    second.store.write_if_unchanged = loses_at_once  # type: ignore[method-assign, assignment]
    promote(second, store)
    assert store.resolve_alias("docs") == live_pointer(first).collection == collection_name("docs", second.release)


def test_a_move_that_somebody_else_wrote_down_first_is_still_this_run_s() -> None:
    first, second, store = two_releases()
    for files in (first, second):
        verified(files, store)
    promote(first, store)

    class Seen(ExactStore):
        def point_alias(self, alias: str, collection: str) -> None:
            super().point_alias(alias, collection)
            reconcile_live(store, first, by="a retire")

    promote(second, copy_of(store, Seen), by="this run")
    assert (live_pointer(first).release, live_pointer(first).by) == (second.release, "this run")
    assert live_pointer(first).replaced == first.release


def test_a_write_whose_answer_was_lost_is_a_success() -> None:
    first, _, store = two_releases()
    verified(first, store)

    def answer_lost(bucket: str, key: str, data: bytes, *, etag: str | None) -> bool:
        first.store.write(bucket, key, data)
        return False

    first.store.write_if_unchanged = answer_lost  # type: ignore[method-assign, assignment]
    promote(first, store)
    assert store.resolve_alias("docs") == live_pointer(first).collection


def test_a_proof_that_fails_because_another_moved_the_alias_on_does_not_move_it_back() -> None:
    bucket = MemoryObjectStore()
    old, other, mine = (release_files(f"2026010{day}T020000Z_abcd1234", bucket) for day in (1, 2, 3))
    store = exact_store(old)
    for files in (old, other, mine):
        verified(files, store)
    promote(old, store)

    class MovedOn(ExactStore):
        """Another run has moved the alias, and has not written it down yet."""

        def point_alias(self, alias: str, collection: str) -> None:
            super().point_alias(alias, collection_name("docs", other.release))

    with pytest.raises(NotVerified, match="still answers from"):
        promote(mine, copy_of(store, MovedOn))
    assert store.resolve_alias("docs") == live_pointer(old).collection == collection_name("docs", other.release)


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

    with pytest.raises(NotVerified, match="still answers from"):
        promote(second, copy_of(store, Stale))
    assert store.resolve_alias("docs") == live_pointer(first).collection == collection_name("docs", first.release)


def test_a_release_that_nobody_measured_is_not_promoted() -> None:
    first, _, store = two_releases()
    with pytest.raises(Exception, match="with a finished stage verify"):
        promote(first, store)
    assert store.resolve_alias("docs") is None
