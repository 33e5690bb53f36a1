from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from reindex.naming import collection_name
from reindex.records import chunk_schema
from reindex.retire import Fate, Standing, decide, retire_releases
from reindex.settings import Index, Retention
from tests.fakes import MemoryObjectStore, chunk_rows, exact_store, release_files

NOW = datetime(2026, 3, 10, 3, 0, tzinfo=UTC)
KEEP_2 = Retention(releases=2, grace_minutes=30)


def standing(
    name: str, *, promoted: timedelta | None, begun: timedelta = timedelta(hours=1), live: bool = False
) -> Standing:
    return Standing(
        release=name, begun=NOW - begun, promoted=None if promoted is None else NOW - promoted, is_live=live
    )


def test_the_live_release_and_the_latest_before_it_are_kept_and_older_ones_dropped() -> None:
    standings = [
        standing("3", promoted=timedelta(hours=1), live=True),
        standing("2", promoted=timedelta(days=1)),
        standing("1", promoted=timedelta(days=2)),
    ]
    assert decide(standings, KEEP_2, now=NOW) == {"3": Fate.KEEP, "2": Fate.UNLOAD, "1": Fate.DROP}


def test_a_replaced_release_stays_in_memory_for_the_grace_period() -> None:
    standings = [
        standing("3", promoted=timedelta(minutes=5), live=True),
        standing("2", promoted=timedelta(days=1)),
        standing("1", promoted=timedelta(days=2)),
    ]
    assert decide(standings, KEEP_2, now=NOW) == {"3": Fate.KEEP, "2": Fate.KEEP, "1": Fate.DROP}


def test_what_an_alias_names_is_kept_however_old() -> None:
    standings = [standing(str(day), promoted=timedelta(days=day), live=day == 5) for day in range(1, 6)]
    fates = decide(standings, KEEP_2, now=NOW)
    assert fates["5"] is Fate.KEEP
    assert [name for name, fate in fates.items() if fate is Fate.DROP] == ["2", "3", "4"]


@pytest.mark.parametrize(("hours", "fate"), [(1, Fate.KEEP), (25, Fate.DROP)])
def test_a_release_that_was_never_promoted_goes_after_a_day(hours: int, fate: Fate) -> None:
    assert decide([standing("1", promoted=None, begun=timedelta(hours=hours))], KEEP_2, now=NOW) == {"1": fate}


def test_dropping_takes_the_collection_and_the_import_files_and_nothing_of_anybody_else() -> None:
    bucket = MemoryObjectStore()
    releases = [release_files(f"2026010{day}T020000Z_abcd1234", bucket) for day in (1, 2, 3)]
    store = exact_store(releases[0])
    for days_ago, files in zip((3, 2, 1), releases, strict=True):
        store.create_collection(collection_name("docs", files.release), dimension=4, index=Index())
        files.write_report("promote", datetime.now(UTC).timestamp() - days_ago * 86_400, {})
        files.write_table("import/part-00001.parquet", chunk_schema(), chunk_rows(["x"]).to_batches())
    store.create_collection("docs__somebody_elses", dimension=4, index=Index())
    store.point_alias("docs", collection_name("docs", releases[2].release))
    report = retire_releases(store, releases[2], KEEP_2)
    assert report["drop"] == [releases[0].release]
    assert sorted(store.collections()) == ["docs__" + r.release for r in releases[1:]] + ["docs__somebody_elses"]
    assert releases[0].read_column("import/part-00001.parquet", "id") == []
    assert releases[1].read_column("import/part-00001.parquet", "id") != []
    assert releases[0].report("promote") is not None


def test_a_run_that_goes_on_after_days_keeps_its_own_files() -> None:
    files = release_files()
    files.write_report("snapshot", 0, {})
    files.write_table("import/part-00001.parquet", chunk_schema(), chunk_rows(["x"]).to_batches())
    report = retire_releases(exact_store(files), files, KEEP_2)
    assert report["keep"] == [files.release]
    assert files.read_column("import/part-00001.parquet", "id") != []


def test_the_import_files_of_a_run_that_never_reached_milvus_go_after_a_day() -> None:
    bucket = MemoryObjectStore()
    old, new = (release_files(f"2026010{day}T020000Z_abcd1234", bucket) for day in (1, 2))
    old.write_report("snapshot", 0, {})
    old.write_table("import/part-00001.parquet", chunk_schema(), chunk_rows(["x"]).to_batches())
    assert retire_releases(exact_store(new), new, KEEP_2)["drop"] == [old.release]
    assert old.read_column("import/part-00001.parquet", "id") == []
