"""The embedding store: parts and their catalog. A part without a row in the catalog does not exist."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from reindex.naming import space_prefix
from reindex.records import CATALOG_SCHEMA, part_schema
from reindex.storage import ObjectStore
from reindex.tables import Tables

# Of several rows for the same object, one with a part before one that remembers a reject, the newest part first. Of
# what was rejected within other limits, in whole or in part, nothing is known.
_KNOWN = """
    select * from {catalog} where limits = '{limits}' or (part <> '' and len(members) = 0)
    qualify row_number() over (partition by key, etag order by part desc) = 1
"""


class EmbeddingStore:
    """The parts of one embedding space of one corpus. Append-only: two runs may write at once.

    `limits` is the fingerprint of those within which documents are read now.
    """

    def __init__(self, store: ObjectStore, bucket: str, corpus: str, space: str, *, limits: str = "") -> None:
        self._store, self._bucket, self._prefix = store, bucket, space_prefix(corpus, space)
        self._limits = limits

    def describe(self, facts: dict[str, str]) -> None:
        """Record what makes this space: the facts that its fingerprint covers."""
        key = f"{self._prefix}/space.json"
        if self._store.read_json(self._bucket, key) is None:
            self._store.write_json(self._bucket, key, dict(facts))

    def facts(self) -> dict[str, Any]:
        return self._store.read_json(self._bucket, f"{self._prefix}/space.json") or {}

    def write_part(self, name: str, passages: pa.Table, rows: list[dict[str, Any]]) -> int:
        """Write the passages of complete documents, then the record that they are there; return the part's bytes."""
        written = self._store.write_batches(self._bucket, self.part_key(name), part_schema(), passages.to_batches())
        self.record(name, pa.Table.from_pylist(rows, schema=CATALOG_SCHEMA).to_batches())
        return written.bytes

    def record(self, name: str, rows: Iterable[pa.RecordBatch]) -> None:
        """Write rows of the catalog: what was found out about some objects."""
        self._store.write_batches(self._bucket, self.catalog_key(name), CATALOG_SCHEMA, rows)

    def add_catalog(self, tables: Tables, name: str, *, release: str = "") -> str:
        """Make `name` a table of what the catalog knows, one row for each key and ETag; of one release alone if asked.

        Return the name of a view of all its rows, what other limits have rejected in part included.
        A release's tables are merged when it is done: what is gone since it was listed is to be found in another.
        """
        listed = 0
        while True:
            listed += 1
            view = f"{name}_listed_{listed}"
            keys = list(self._store.keys(self._bucket, self.catalog_key(release).removesuffix(".parquet")))
            if not tables.add_what_is_there(view, self._store, self._bucket, keys, CATALOG_SCHEMA):
                break
        tables.define(name, _KNOWN.format(catalog=view, limits=self._limits))
        return view

    def merge_catalog(self, release: str) -> None:
        """Make one table of a release's many: there is one for each part until then, and a night should leave one."""
        keys = list(self._store.keys(self._bucket, self.catalog_key(f"{release}-").removesuffix(".parquet")))
        if not keys:
            return
        with Tables() as tables:
            tables.add_what_is_there(
                "mine", self._store, self._bucket, [*keys, self.catalog_key(release)], CATALOG_SCHEMA
            )
            columns = ", ".join(CATALOG_SCHEMA.names)
            merged = tables.batches(f"select distinct {columns} from mine", CATALOG_SCHEMA)
            self._store.write_batches(self._bucket, self.catalog_key(release), CATALOG_SCHEMA, merged)
        for key in keys:
            self._store.delete(self._bucket, key)

    def read_part(self, name: str) -> Iterator[pa.RecordBatch]:
        return self._store.read_batches(self._bucket, self.part_key(name))

    def part_key(self, name: str) -> str:
        return f"{self._prefix}/parts/{name}.parquet"

    def catalog_key(self, name: str) -> str:
        return f"{self._prefix}/catalog/{name}.parquet"
