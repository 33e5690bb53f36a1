from __future__ import annotations

import pytest

from reindex.bulk_load import begin_load, call_off_load, finish_load, poll_load
from reindex.errors import CollectionIsLive, ImportFailed
from reindex.importers import GrpcImport
from reindex.naming import collection_name
from reindex.records import ImportState, chunk_schema
from reindex.releases import ReleaseFiles
from reindex.store import ExactStore, drop_green
from tests.fakes import a_corpus, chunk_rows, exact_store, release_files


def assembled() -> tuple[ReleaseFiles, ExactStore, str]:
    """Return a release with two import files of two and one rows, and the server that will take them."""
    files = release_files()
    files.write_report("plan", 0, {"dimension": 4})
    written = []
    for number, texts in enumerate((["to be", "or not"], ["that is"]), start=1):
        name = f"import/part-{number:05d}.parquet"
        rows = files.write_table(name, chunk_schema(), chunk_rows(texts).to_batches()).rows
        written.append({"file": files.key(name), "rows": rows})
    files.write_report("assemble", 0, {"files": written})
    return files, exact_store(files), collection_name("docs", files.release)


def load(files: ReleaseFiles, store: ExactStore) -> None:
    begin_load(store, GrpcImport(store), files, a_corpus())


def test_every_file_is_imported_into_a_new_collection() -> None:
    files, store, collection = assembled()
    load(files, store)
    progress = poll_load(GrpcImport(store), files)
    assert (progress.done, progress.counts) == (True, {"files": 2, "rows": 3})
    report = finish_load(store, files)
    assert report["rows"] == store.count_rows(collection) == 3
    assert [file["imported"] for file in report["files"]] == [2, 1]


def test_a_load_killed_anywhere_and_repeated_never_doubles_rows() -> None:
    files, store, collection = assembled()
    for _ in range(3):
        load(files, store)
    assert store.count_rows(collection) == store.count_distinct_ids(collection) == 3


def test_calling_off_one_attempt_leaves_the_next_one_alone() -> None:
    files, store, collection = assembled()
    first = begin_load(store, GrpcImport(store), files, a_corpus())
    second = begin_load(store, GrpcImport(store), files, a_corpus())
    call_off_load(store, files, first)
    assert store.count_rows(collection) == 3
    call_off_load(store, files, second)
    assert store.collections() == []


def test_the_intent_is_recorded_before_the_first_import() -> None:
    files, store, collection = assembled()

    class Dies(GrpcImport):
        def submit(self, collection: str, file: str, rows: int) -> None:  # type: ignore[override]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begin_load(store, Dies(store), files, a_corpus())
    recorded = files.read_json("load_jobs.json")
    assert recorded is not None
    assert (recorded["collection"], recorded["jobs"]) == (collection, [])


def test_an_import_that_the_server_gives_up_names_its_file() -> None:
    files, store, _ = assembled()
    load(files, store)
    store.jobs["2"] = ImportState(state="Failed", rows=0, reason="disk full")
    with pytest.raises(ImportFailed, match=r"part-00002\.parquet.*disk full"):
        poll_load(GrpcImport(store), files)


def test_an_unfinished_import_is_waited_for() -> None:
    files, store, _ = assembled()
    load(files, store)
    store.jobs["1"] = ImportState(state="Persisted", rows=2, reason="")
    progress = poll_load(GrpcImport(store), files)
    assert (progress.done, progress.message) == (False, "1 of 2 files imported")


def test_a_collection_that_an_alias_names_is_never_dropped() -> None:
    files, store, collection = assembled()
    load(files, store)
    store.point_alias("docs", collection)
    with pytest.raises(CollectionIsLive, match="is what docs names"):
        drop_green(store, collection)
    assert store.count_rows("docs") == 3
