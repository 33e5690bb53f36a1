"""Joins of Parquet objects larger than memory, by DuckDB, which is imported here and nowhere else."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
        folder.mkdir()
        pq.write_table(schema.empty_table(), folder / "none.parquet")
        wanted = list(enumerate(keys))
        with ThreadPoolExecutor(_DOWNLOAD_THREADS) as pool:
            found = pool.map(lambda one: _download(store, bucket, one[1], folder / f"{one[0]}.parquet"), wanted)
            gone = [key for (_, key), was_there in zip(wanted, found, strict=True) if not was_there]
        self._view(name, folder)
        return gone

    def add_rows(self, name: str, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> None:
        """Make a view of rows that are produced here."""
        folder = Path(self._folder.name) / name
        folder.mkdir()
        with pq.ParquetWriter(folder / "0.parquet", schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        self._view(name, folder)

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

    def _view(self, name: str, folder: Path) -> None:
        # By name: files of an earlier version may lack a column.
        files = f"read_parquet('{folder}/*.parquet', union_by_name = true)"
        self._database.execute(f"create view {name} as select * from {files}")


def _download(store: ObjectStore, bucket: str, key: str, path: Path) -> bool:
    """Fetch an object into a file; return whether it was there."""
    with path.open("wb") as file:
        was_there = store.download(bucket, key, file)
    if not was_there:
        path.unlink()
    return was_there
