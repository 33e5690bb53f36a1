from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from reindex.naming import collection_name, space_prefix
from reindex.releases import LivePointer, ReleaseFiles, read_live, write_live
from reindex.retire import Fate, Standing, decide, leaving_rows, make_room, retire_releases
from reindex.settings import Index, Retention
from reindex.store import ExactStore
from tests.fakes import STATE_BUCKET, MemoryObjectStore, exact_store, release_files
from tests.test_sweep import TABLE

NOW = datetime(2026, 3, 10, 3, 0, tzinfo=UTC)
KEEP_2 = Retention(releases=2, grace_minutes=30)


def standing(
    name: str, *, promoted: timedelta | None, last_sign: timedelta = timedelta(hours=1), **is_so: bool
) -> Standing:
    return Standing(
        release=name,
        last_sign=NOW - last_sign,
        went_live=None if promoted is None else NOW - promoted,
        is_live=is_so.pop("live", False),
        **is_so,
    )


def fates(
    standings: list[Standing], *, replaced: str = "", since: timedelta = timedelta(0), own: str = ""
) -> dict[str, Fate]:
    live = LivePointer(release="x", collection="x", since=(NOW - since).isoformat(), by="me", replaced=replaced)
    return {verdict.release: verdict.fate for verdict in decide(standings, KEEP_2, live, own=own, now=NOW)}


THREE = [
    standing("3", promoted=timedelta(hours=1), live=True),
    standing("2", promoted=timedelta(days=1)),
    standing("1", promoted=timedelta(days=2)),
]


def test_the_live_release_and_the_latest_before_it_are_kept_and_older_ones_dropped() -> None:
    assert fates(THREE) == {"3": Fate.KEEP, "2": Fate.UNLOAD, "1": Fate.DROP}


@pytest.mark.parametrize(("minutes", "fate"), [(5, Fate.KEEP), (31, Fate.UNLOAD)])
def test_a_replaced_release_stays_in_memory_for_the_grace_period(minutes: int, fate: Fate) -> None:
    assert fates(THREE, replaced="2", since=timedelta(minutes=minutes))["2"] is fate


def test_after_a_rollback_the_way_forward_stays_in_memory_for_the_grace_period_too() -> None:
    back = [
        standing("3", promoted=timedelta(hours=1)),
        standing("2", promoted=timedelta(days=1), live=True),
        standing("1", promoted=timedelta(days=2)),
    ]
    assert fates(back, replaced="3") == {"3": Fate.KEEP, "2": Fate.KEEP, "1": Fate.DROP}
    assert fates(back, replaced="3", since=timedelta(hours=1))["3"] is Fate.UNLOAD


def test_what_an_alias_names_is_kept_however_old() -> None:
    standings = [standing(str(day), promoted=timedelta(days=day), live=day == 5) for day in range(1, 6)]
    given = fates(standings)
    assert given["5"] is Fate.KEEP
    assert [name for name, fate in given.items() if fate is Fate.DROP] == ["2", "3", "4"]


@pytest.mark.parametrize(("hours", "fate"), [(1, Fate.KEEP), (25, Fate.DROP)])
def test_a_release_that_was_never_promoted_goes_a_day_after_it_left_its_last_sign(hours: int, fate: Fate) -> None:
    assert fates([standing("1", promoted=None, last_sign=timedelta(hours=hours))]) == {"1": fate}


def test_a_run_keeps_its_own_release_but_leaves_none_in_memory_that_nobody_reads() -> None:
    long_ago = timedelta(days=9)
    assert fates([standing("1", promoted=None, last_sign=long_ago)], own="1") == {"1": Fate.KEEP}
    assert fates([standing("1", promoted=None, is_verified=True)], own="1") == {"1": Fate.UNLOAD}
    assert fates([standing("1", promoted=None, is_verified=True)], own="2") == {"1": Fate.KEEP}
    assert fates([*THREE, standing("0", promoted=long_ago)], own="0")["0"] is Fate.KEEP


def test_a_release_whose_run_has_failed_gives_its_memory_back() -> None:
    assert fates([standing("1", promoted=None, has_failed=True)], own="2") == {"1": Fate.UNLOAD}


def test_what_goes_live_while_it_is_unloaded_is_loaded_again() -> None:
    (_, kept, live), store = three_releases()

    class Rolling(ExactStore):
        """The alias moves right before the memory is given back."""

        def release(self, collection: str) -> None:
            self.point_alias("docs", collection)
            super().release(collection)

    rolling = Rolling(read_file=store.read_file, held=store.held, names=store.names)
    make_room(rolling, live, KEEP_2)
    assert collection_name("docs", kept.release) in loaded(store)


def test_what_was_gone_back_to_counts_as_the_latest() -> None:
    (old, kept, live), store = three_releases()
    old.record_going_live(datetime.now(UTC).isoformat(), "a rollback")
    report = make_room(store, live, KEEP_2)
    assert (report["unload"], report["drop"]) == ([old.release], [kept.release])


def test_a_run_in_which_nothing_had_changed_leaves_nothing_to_keep() -> None:
    unchanged = standing("1", promoted=None, is_unchanged=True)
    assert fates([unchanged]) == {"1": Fate.DROP}
    assert fates([unchanged], own="1") == {"1": Fate.KEEP}


# Carried out

TABLES = ["snapshot.parquet", "documents.parquet", "import/part-00001.parquet", "queries.parquet"]


def a_row(part: str) -> pa.Table:
    return pa.Table.from_pylist([{"key": "k", "part": part, "reason": ""}], schema=TABLE)


def three_releases() -> tuple[list[ReleaseFiles], ExactStore]:
    """Return releases that were promoted three, two and one day ago, and hold tables and loaded collections."""
    bucket = MemoryObjectStore()
    releases = [release_files(f"2026010{day}T020000Z_abcd1234", bucket) for day in (1, 2, 3)]
    store = exact_store(releases[0])
    for days_ago, files in zip((3, 2, 1), releases, strict=True):
        promoted_at = datetime.now(UTC) - timedelta(days=days_ago)
        collection = collection_name("docs", files.release)
        store.create_collection(collection, dimension=4, index=Index())
        store.load(collection)
        files.write_report("plan", 0, {"space": "space", "outcome": "build"})
        files.write_report("verify", 0, {})
        files.write_report("promote", promoted_at.timestamp(), {})
        for name in TABLES:
            files.write_table(name, TABLE, a_row(f"part-{days_ago}").to_batches())
    live = releases[-1].release
    pointer = LivePointer(
        release=live,
        collection=collection_name("docs", live),
        since=promoted_at.isoformat(),
        by="me",
        replaced=releases[1].release,
    )
    assert write_live(bucket, STATE_BUCKET, "docs", pointer, etag=None)
    store.point_alias("docs", pointer.collection)
    return releases, store


def tables_of(files: ReleaseFiles) -> list[str]:
    keys = files.store.keys(files.bucket, files.key(""))
    return sorted(key.removeprefix(files.key("")) for key in keys if key.endswith(".parquet"))


def loaded(store: ExactStore) -> list[str]:
    return sorted(name for name, held in store.held.items() if held.loaded)


def without_parts(report: dict[str, Any]) -> dict[str, Any]:
    return {name: report[name] for name in ("keep", "unload", "drop", "why")}


def test_dropping_takes_the_collection_and_all_tables_and_nothing_of_anybody_else() -> None:
    (old, kept, live), store = three_releases()
    store.create_collection("docs__somebody_elses", dimension=4, index=Index())
    report = make_room(store, live, KEEP_2)
    assert (report["drop"], report["unload"], report["keep"]) == ([old.release], [kept.release], [live.release])
    assert report["why"][old.release] == "older than the 2 that are kept"
    collections = [collection_name("docs", files.release) for files in (kept, live)]
    assert sorted(store.collections()) == [*collections, "docs__somebody_elses"]
    assert loaded(store) == [collection_name("docs", live.release)]
    assert (tables_of(old), tables_of(kept)) == ([], sorted(TABLES))
    assert old.report("promote") is not None
    assert old.release not in make_room(store, live, KEEP_2)["why"]


def test_what_would_give_way_is_counted_by_its_rows() -> None:
    (old, kept, live), store = three_releases()
    for files, rows in ((old, 30), (kept, 5), (live, 7)):
        files.write_report("load", 0, {"rows": rows})
    assert leaving_rows(store, live, KEEP_2) == 35
    make_room(store, live, KEEP_2)
    assert leaving_rows(store, live, KEEP_2) == 0


def test_a_dry_run_says_the_same_and_changes_nothing() -> None:
    (_, _, live), store = three_releases()
    bucket = live.store
    assert isinstance(bucket, MemoryObjectStore)
    before, names, in_memory = dict(bucket.objects), store.collections(), loaded(store)
    would = retire_releases(store, live, KEEP_2, dry_run=True)
    assert (bucket.objects, store.collections(), loaded(store)) == (before, names, in_memory)
    assert without_parts(retire_releases(store, live, KEEP_2)) == without_parts(would)
    assert store.collections() != names


def test_a_crash_between_alias_and_live_json_is_mended_before_anything_goes() -> None:
    (_, second, third), store = three_releases()
    store.point_alias("docs", collection_name("docs", second.release))
    report = retire_releases(store, ReleaseFiles(third.store, STATE_BUCKET, "docs", ""), KEEP_2)
    live, _ = read_live(third.store, STATE_BUCKET, "docs")
    assert live is not None
    assert (live.release, live.replaced) == (second.release, third.release)
    assert report["keep"] == [second.release, third.release]
    assert report["why"][third.release] == "replaced less than 30 minutes ago"


def test_what_any_alias_names_stays_in_memory_and_in_the_bucket() -> None:
    (old, _, live), store = three_releases()
    store.point_alias("somebody_s_bookmark", collection_name("docs", old.release))
    assert old.release in retire_releases(store, live, KEEP_2)["keep"]
    assert tables_of(old) == sorted(TABLES)
    assert collection_name("docs", old.release) in loaded(store)


def test_what_goes_live_after_the_decision_is_left_alone() -> None:
    (old, kept, live), store = three_releases()
    asked: list[str] = []

    class Rolling(ExactStore):
        """Each collection is made live right after it was found not to be."""

        def aliases_of(self, collection: str) -> list[str]:
            asked.append(collection)
            return ["docs"] if asked.count(collection) > 1 else super().aliases_of(collection)

    rolling = Rolling(read_file=store.read_file, held=store.held, names=store.names)
    make_room(rolling, live, KEEP_2)
    assert len(loaded(store)) == 3
    assert (tables_of(old), tables_of(kept)) == (sorted(TABLES), sorted(TABLES))


def test_a_run_that_goes_on_after_days_keeps_its_own_files() -> None:
    files = release_files()
    files.write_table("import/part-00001.parquet", TABLE, a_row("p").to_batches())
    forget(files)
    assert make_room(exact_store(files), files, KEEP_2)["keep"] == [files.release]
    assert tables_of(files) == ["import/part-00001.parquet"]


def test_the_tables_of_a_run_that_never_reached_milvus_go_after_a_day() -> None:
    bucket = MemoryObjectStore()
    old, new = (release_files(f"2026010{day}T020000Z_abcd1234", bucket) for day in (1, 2))
    for files in (old, new):
        files.write_table("plan.parquet", TABLE, a_row("p").to_batches())
    forget(old)
    assert make_room(exact_store(new), new, KEEP_2)["drop"] == [old.release]
    assert (tables_of(old), tables_of(new)) == ([], ["plan.parquet"])


def test_the_tables_of_an_unchanged_run_go_the_next_time() -> None:
    bucket = MemoryObjectStore()
    unchanged, new = (release_files(f"2026010{day}T020000Z_abcd1234", bucket) for day in (1, 2))
    unchanged.write_report("plan", 0, {"outcome": "unchanged"})
    unchanged.write_table("snapshot.parquet", TABLE, a_row("p").to_batches())
    assert make_room(exact_store(new), new, KEEP_2)["drop"] == [unchanged.release]
    assert tables_of(unchanged) == []
    assert unchanged.report("plan") is not None


def test_the_parts_that_only_a_dropped_release_needed_go_with_it_when_they_are_old() -> None:
    (_, _, live), store = three_releases()
    bucket = live.store
    assert isinstance(bucket, MemoryObjectStore)
    prefix = f"{space_prefix('docs', 'space')}/parts"
    for days_ago in (1, 2, 3):
        bucket.write(STATE_BUCKET, f"{prefix}/part-{days_ago}.parquet", b"12345")
    left = [f"{prefix}/part-{days_ago}.parquet" for days_ago in (1, 2)]
    # Before a load nobody has time for them.
    make_room(store, live, KEEP_2)
    assert len(list(bucket.keys(STATE_BUCKET, prefix))) == 3
    assert retire_releases(store, live, KEEP_2)["parts"] == 0
    report = retire_releases(store, live, Retention(releases=2, embeddings_days=0))
    assert (report["parts"], report["part_bytes"]) == (1, 5)
    assert list(bucket.keys(STATE_BUCKET, prefix)) == left


def test_a_release_that_has_only_begun_keeps_all_parts_until_it_has_planned() -> None:
    (_, _, live), store = three_releases()
    begun = release_files("20260104T020000Z_abcd1234", live.store)
    assert retire_releases(store, live, KEEP_2)["waits_for"] == begun.release
    forget(begun)
    assert retire_releases(store, live, KEEP_2)["waits_for"] == ""


def forget(files: ReleaseFiles) -> None:
    """Make everything that a release has left two days old."""
    bucket = files.store
    assert isinstance(bucket, MemoryObjectStore)
    for held in bucket.modified:
        if held[1].startswith(files.key("")):
            bucket.modified[held] = datetime.now(UTC) - timedelta(days=2)
