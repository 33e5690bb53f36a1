from __future__ import annotations

import pytest

from reindex.errors import ImportFailed, RecallTooLow, UnknownRelease
from reindex.releases import (
    LivePointer,
    ReleaseFiles,
    read_live,
    release_names,
    release_report,
    run_stage,
    write_live,
)
from tests.fakes import STATE_BUCKET, MemoryObjectStore, release_files

POINTER = LivePointer(release="r", collection="c", since="now", by="me", replaced="")


def test_a_stage_that_is_done_is_not_done_again() -> None:
    files, calls = release_files(), []

    def work() -> dict[str, int]:
        calls.append(1)
        return {"rows": len(calls)}

    assert run_stage(files, "load", work)["rows"] == run_stage(files, "load", work)["rows"] == 1


def test_a_failure_is_recorded_and_forgotten_when_the_stage_succeeds() -> None:
    files = release_files()

    def fail() -> dict[str, int]:
        raise ImportFailed("c", "f", "disk full")

    with pytest.raises(ImportFailed):
        run_stage(files, "load", fail)
    failure = files.failure()
    assert failure is not None
    assert (failure["stage"], failure["error"]) == ("load", "ImportFailed")
    run_stage(files, "load", lambda: {"rows": 1})
    assert files.failure() is None


def test_a_release_keeps_the_settings_it_was_begun_with() -> None:
    files = release_files()
    assert files.corpus().gate.k == 10
    with pytest.raises(UnknownRelease, match="docs has no release other"):
        ReleaseFiles(files.store, STATE_BUCKET, "docs", "other").corpus()


def test_only_one_of_two_writers_replaces_the_pointer() -> None:
    store = MemoryObjectStore()
    assert write_live(store, STATE_BUCKET, "docs", POINTER, etag=None)
    assert not write_live(store, STATE_BUCKET, "docs", POINTER, etag=None)
    live, etag = read_live(store, STATE_BUCKET, "docs")
    assert live == POINTER
    assert write_live(store, STATE_BUCKET, "docs", LivePointer(**{**vars_of(POINTER), "release": "s"}), etag=etag)
    assert not write_live(store, STATE_BUCKET, "docs", POINTER, etag=etag)


def vars_of(pointer: LivePointer) -> dict[str, str]:
    return {name: getattr(pointer, name) for name in pointer.__slots__}


def test_releases_are_found_by_what_they_hold() -> None:
    store = MemoryObjectStore()
    first, second = (release_files(f"2026010{day}T020000Z_abcd1234", store) for day in (1, 2))
    store.write(STATE_BUCKET, first.key("import/part-00001.parquet"), b"")
    assert release_names(store, STATE_BUCKET, "docs") == {first.release, second.release}
    assert release_names(store, STATE_BUCKET, "docs", holding="/import/") == {first.release}


def test_the_report_says_what_failed() -> None:
    files = release_files()
    files.record_failure("verify", RecallTooLow(10, 0.9, 0.95, 0.92, 0.01))
    report = release_report(files)
    assert report["listed"] == 1
    assert report["failed"]["stage"] == "verify"
    assert "against a floor of 0.95" in report["failed"]["reason"]
