"""Joins of Parquet objects larger than memory, by DuckDB, which is imported here and nowhere else."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from reindex.errors import FileMissing
from reindex.storage import ObjectStore

# What joins may hold in memory; what does not fit goes to disk.
MEMORY_LIMIT = "1GB"
_BATCH_ROWS = 10_000
_DOWNLOAD_THREADS = 8
# DuckDB holds some 50 kB for each file that it reads: of more files than these, so many at a time become one.
_FILES_AT_ONCE = 1000


class Tables:
    """A workbench on local disk: Parquet objects in as named views, the answers of queries out.

    Use as a context manager: what was downloaded is gone at the end.
    """

    def __init__(self) -> None:
        import duckdb

        self._folder = tempfile.TemporaryDirectory(prefix="reindex-tables-")
        # On disk, so that tables computed here need no memory.
        self._database = duckdb.connect(
            f"{self._folder.name}/tables.duckdb",
            config={
                "memory_limit": MEMORY_LIMIT,
                "threads": len(os.sched_getaffinity(0)),
                "temp_directory": self._folder.name,
                "preserve_insertion_order": False,
                # No query may wait for a download of DuckDB's own.
                "autoinstall_known_extensions": False,
                # Nor may a name in a query mean a Python variable.
                "python_enable_replacements": False,
            },
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()
        self._folder.cleanup()

    def add(self, name: str, store: ObjectStore, bucket: str, keys: Iterable[str], schema: pa.Schema) -> None:
        """Make a view of some Parquet objects of this schema, or of none; raise FileMissing if one is gone."""
        if gone := self.add_what_is_there(name, store, bucket, keys, schema):
            raise FileMissing(bucket, gone[0])

    def add_what_is_there(
        self, name: str, store: ObjectStore, bucket: str, keys: Iterable[str], schema: pa.Schema
    ) -> list[str]:
        """Make a view of those objects that are there, and return the keys of those that are gone."""
        folder = Path(self._folder.name) / name
        wanted = list(keys)
        groups = [wanted[first : first + _FILES_AT_ONCE] for first in range(0, max(len(wanted), 1), _FILES_AT_ONCE)]
        gone: list[str] = []
        for number, group in enumerate(groups):
            place = folder / str(number)
            place.mkdir(parents=True)
            pq.write_table(schema.empty_table(), place / "none.parquet")
            gone += _download_all(store, bucket, group, place)
            if len(groups) > 1:
                self._database.execute(f"copy (from {_rows_of(place / '*.parquet')}) to '{place}.parquet'")
                shutil.rmtree(place)
        self._view(name, folder / "**" / "*.parquet")
        return gone

    def add_rows(self, name: str, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> str:
        """Make a view of rows that are produced here, or add them to it; return a name for these rows alone."""
        folder = Path(self._folder.name) / name
        folder.mkdir(exist_ok=True)
        added = f"{name}_{len(list(folder.iterdir()))}"
        with pq.ParquetWriter(folder / f"{added}.parquet", schema) as writer:
            for table in gathered(batches, _BATCH_ROWS):
                writer.write_table(table)
        self._view(added, folder / f"{added}.parquet")
        self._view(name, folder / "*.parquet")
        return added

    def define(self, name: str, query: str) -> None:
        """Name a query's answer, computed once."""
        self._database.execute(f"create table {name} as {query}")

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Return a small answer as dictionaries."""
        rows: list[dict[str, Any]] = self._database.sql(query).to_arrow_table().to_pylist()
        return rows

    def row(self, query: str) -> dict[str, Any]:
        """Return the one row of an answer, with 0 for the sum of nothing."""
        return {name: 0 if value is None else value for name, value in self.rows(query)[0].items()}

    def batches(self, query: str, schema: pa.Schema, *, rows: int = _BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Yield a large answer in batches of this schema; the query names its columns in the schema's order."""
        reader = self._database.sql(query).to_arrow_reader(rows)
        for batch in reader:
            yield batch.cast(schema)

    def _view(self, name: str, files: Path) -> None:
        self._database.execute(f"create or replace view {name} as from {_rows_of(files)}")


def _rows_of(files: Path) -> str:
    # By name: files of an earlier version may lack a column.
    return f"read_parquet('{files}', union_by_name = true)"


def gathered(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """Join small batches into tables of at least so many rows, but for the last: each row group costs memory."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(one.num_rows for one in held) >= rows:
            yield pa.Table.from_batches(held)
            held = []
    if held:
        yield pa.Table.from_batches(held)


def kept_on_disk(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """Return rows as a table that lies in a file without a name: memory holds what is being looked at."""
    with tempfile.NamedTemporaryFile() as file:
        with pa.ipc.new_file(file, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        file.flush()
        return pa.ipc.open_file(pa.memory_map(file.name)).read_all()


def _download_all(store: ObjectStore, bucket: str, keys: list[str], folder: Path) -> list[str]:
    """Fetch objects into a folder, and return the keys of those that are gone."""
    files = [folder / f"{place}.parquet" for place in range(len(keys))]
    with ThreadPoolExecutor(_DOWNLOAD_THREADS) as pool:
        found = pool.map(partial(_download, store, bucket), keys, files)
        return [key for key, was_there in zip(keys, found, strict=True) if not was_there]


def _download(store: ObjectStore, bucket: str, key: str, path: Path) -> bool:
    """Fetch an object into a file; return whether it was there."""
    with path.open("wb") as file:
        was_there = store.download(bucket, key, file)
    if not was_there:
        path.unlink()
    return was_there
