from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from reindex.naming import space_prefix
from reindex.releases import ReleaseFiles
from reindex.sweep import sweep_parts
from tests.fakes import STATE_BUCKET, MemoryObjectStore, release_files

NOW = datetime(2026, 3, 10, 3, 0, tzinfo=UTC)
TABLE = pa.schema([("key", pa.string()), ("part", pa.string()), ("reason", pa.string())])


class Space:
    """One embedding space in memory: parts and catalog tables of a chosen age."""

    def __init__(self, bucket: MemoryObjectStore, name: str = "space", *, days_old: float = 40) -> None:
        self.bucket, self.name, self.prefix = bucket, name, space_prefix("docs", name)
        self._write("space.json", b"{}", days_old)

    def _write(self, name: str, data: bytes, days_old: float) -> None:
        self.bucket.write(STATE_BUCKET, f"{self.prefix}/{name}", data)
        self._age(name, days_old)

    def _age(self, name: str, days_old: float) -> None:
        self.bucket.modified[STATE_BUCKET, f"{self.prefix}/{name}"] = NOW - timedelta(days=days_old)

    def add_part(self, name: str, *, days_old: float = 40) -> None:
        self._write(f"parts/{name}.parquet", b"12345", days_old)

    def add_catalog(self, name: str, *parts: str, days_old: float = 40) -> None:
        rows = [
            {"key": f"{part or 'rejected'}.txt", "part": part, "reason": "" if part else "no-text"} for part in parts
        ]
        key = f"{self.prefix}/catalog/{name}.parquet"
        self.bucket.write_batches(STATE_BUCKET, key, TABLE, pa.Table.from_pylist(rows, schema=TABLE).to_batches())
        self._age(f"catalog/{name}.parquet", days_old)

    def files(self) -> list[str]:
        return [key.removeprefix(f"{self.prefix}/") for key in self.bucket.keys(STATE_BUCKET, self.prefix)]

    def catalog(self, name: str) -> list[str]:
        table = self.bucket.read_table(STATE_BUCKET, f"{self.prefix}/catalog/{name}.parquet")
        assert table is not None
        parts: list[str] = table.column("part").to_pylist()
        return parts


def release(bucket: MemoryObjectStore, day: int, *parts: str, space: str = "space", embedded: bool = True) -> str:
    """Return a release that has planned, and embedded, these parts' documents."""
    files = release_files(f"2026030{day}T020000Z_abcd1234", bucket)
    files.write_report("plan", 0, {"space": space, "outcome": "build"})
    if embedded:
        table = pa.Table.from_pylist([{"key": "k", "part": part, "reason": ""} for part in parts], schema=TABLE)
        files.write_table("documents.parquet", TABLE, table.to_batches())
    return files.release


def sweep(bucket: MemoryObjectStore, *kept: str, days: int = 30, dry_run: bool = False) -> dict[str, Any]:
    files = ReleaseFiles(bucket, STATE_BUCKET, "docs", "")
    begun = {key.split("/")[3] for key in bucket.keys(STATE_BUCKET, "reindex/docs/releases/")}
    return sweep_parts(files, kept, begun, days=days, now=NOW, dry_run=dry_run)


def test_a_part_that_no_kept_release_needs_goes_with_its_rows_when_it_is_old() -> None:
    space = Space(bucket := MemoryObjectStore())
    for part, days in {"needed": 40, "old": 40, "young": 5}.items():
        space.add_part(part, days_old=days)
    space.add_catalog("a", "needed", "old", "young", "")
    space.add_catalog("b", "old")
    before = dict(bucket.objects)
    would = sweep(bucket, release(bucket, 1, "needed", ""), dry_run=True)
    assert space.files() == sorted(key.removeprefix(f"{space.prefix}/") for _, key in before)
    assert sweep(bucket, "20260301T020000Z_abcd1234") == would
    assert (would["parts"], would["part_bytes"], would["rejects_forgotten"], would["spaces"]) == (1, 5, 0, [])
    assert space.files() == ["catalog/a.parquet", "parts/needed.parquet", "parts/young.parquet", "space.json"]
    assert space.catalog("a") == ["needed", "young", ""]


def test_a_second_sweep_finds_nothing_and_rewrites_nothing() -> None:
    space = Space(bucket := MemoryObjectStore())
    space.add_part("old")
    space.add_part("needed")
    space.add_catalog("a", "needed", "old")
    kept = release(bucket, 1, "needed")
    sweep(bucket, kept)
    written = dict(bucket.modified)
    assert sweep(bucket, kept)["parts"] == 0
    assert bucket.modified == written


def test_the_catalog_forgets_a_part_before_it_goes() -> None:
    space = Space(bucket := MemoryObjectStore())
    space.add_part("old")
    space.add_catalog("a", "old", "needed")
    kept = release(bucket, 1, "needed")

    def crash(_: str, key: str) -> None:
        raise RuntimeError(key)

    bucket.delete = crash  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match=r"parts/old\.parquet"):
        sweep(bucket, kept)
    assert space.catalog("a") == ["needed"]
    del bucket.delete  # type: ignore[method-assign]
    assert sweep(bucket, kept)["parts"] == 1
    assert "parts/old.parquet" not in space.files()


def test_the_space_that_a_release_is_still_embedding_into_is_left_alone() -> None:
    bucket = MemoryObjectStore()
    busy, other = Space(bucket, "busy"), Space(bucket, "other")
    for space in (busy, other):
        space.add_part("old")
        space.add_catalog("a", "old")
    embedding = release(bucket, 1, space="busy", embedded=False)
    assert sweep(bucket, embedding, days=0)["spaces"] == ["other"]
    assert (busy.files(), other.files()) == (["catalog/a.parquet", "parts/old.parquet", "space.json"], [])


def test_nothing_goes_while_a_release_has_not_planned_yet() -> None:
    space = Space(bucket := MemoryObjectStore())
    space.add_part("old")
    planning = release_files("20260301T020000Z_abcd1234", bucket).release
    assert sweep(bucket, planning)["waits_for"] == planning
    assert "parts/old.parquet" in space.files()


def test_an_unchanged_release_needs_nothing_and_hinders_nothing() -> None:
    space = Space(bucket := MemoryObjectStore())
    space.add_part("old")
    unchanged = release_files("20260301T020000Z_abcd1234", bucket)
    unchanged.write_report("plan", 0, {"space": "space", "outcome": "unchanged"})
    assert sweep(bucket, unchanged.release)["parts"] == 1


def test_parts_wait_for_the_next_time_if_a_release_has_begun_meanwhile() -> None:
    space = Space(bucket := MemoryObjectStore())
    space.add_part("old")
    space.add_catalog("a", "old", "needed")
    kept = release(bucket, 1, "needed")
    replace = bucket.replace_batches

    def begin_another(*arguments: Any, **options: Any) -> bool:
        release(bucket, 2, "old")
        return replace(*arguments, **options)

    bucket.replace_batches = begin_another  # type: ignore[method-assign]
    assert sweep(bucket, kept)["parts"] == 0
    assert "parts/old.parquet" in space.files()
    assert sweep(bucket, kept, "20260302T020000Z_abcd1234")["parts"] == 0
    assert "parts/old.parquet" in space.files()


def test_parts_wait_for_the_next_time_if_a_table_was_written_anew_meanwhile() -> None:
    space = Space(bucket := MemoryObjectStore())
    space.add_part("old")
    space.add_catalog("a", "old", "needed")
    bucket.write_if_unchanged = lambda *_, **__: False  # type: ignore[method-assign]
    assert sweep(bucket, release(bucket, 1, "needed"))["parts"] == 0
    assert "parts/old.parquet" in space.files()


def test_rejects_are_forgotten_when_they_are_old_in_a_space_that_nobody_uses_and_an_empty_space_goes() -> None:
    bucket = MemoryObjectStore()
    used, unused, young = Space(bucket, "used"), Space(bucket, "unused"), Space(bucket, "young")
    used.add_catalog("a", "")
    unused.add_catalog("a", "", "")
    young.add_catalog("a", "", days_old=5)
    report = sweep(bucket, release(bucket, 1, space="used"))
    assert (report["rejects_forgotten"], report["spaces"]) == (2, ["unused"])
    assert (used.files(), unused.files()) == (["catalog/a.parquet", "space.json"], [])
    assert young.files() == ["catalog/a.parquet", "space.json"]


def test_a_space_that_has_just_begun_is_not_taken_for_an_empty_one() -> None:
    bucket = MemoryObjectStore()
    space = Space(bucket, days_old=0.001)
    assert sweep(bucket, release(bucket, 1, space="other"))["spaces"] == []
    assert space.files() == ["space.json"]
