"""The embedding store: parts and their catalog. A part without its catalog table does not exist."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from reindex.naming import space_prefix
from reindex.records import CATALOG_SCHEMA, chunk_schema
from reindex.storage import ObjectStore


class EmbeddingStore:
    """The parts of one embedding space of one corpus. Append-only: two runs may write at once."""

    def __init__(self, store: ObjectStore, bucket: str, corpus: str, space: str) -> None:
        self._store, self._bucket, self._prefix = store, bucket, space_prefix(corpus, space)

    def write_part(self, name: str, chunks: pa.Table, documents: list[dict[str, object]]) -> None:
        """Write the chunks of complete documents, then the record that they are there."""
        self._store.write_batches(self._bucket, self._key("parts", name), chunk_schema(), chunks.to_batches())
        catalog = pa.Table.from_pylist([{**row, "part": name} for row in documents], schema=CATALOG_SCHEMA)
        self._store.write_batches(self._bucket, self._key("catalog", name), CATALOG_SCHEMA, catalog.to_batches())

    def documents(self, release: str) -> dict[str, dict[str, object]]:
        """Return the catalog rows of the documents that a release embedded, by key."""
        found: dict[str, dict[str, object]] = {}
        for key in self._store.keys(self._bucket, f"{self._prefix}/catalog/{release}-"):
            for batch in self._store.read_batches(self._bucket, key):
                found |= {row["key"]: row for row in batch.to_pylist()}
        return found

    def read_part(self, name: str) -> Iterator[pa.RecordBatch]:
        return self._store.read_batches(self._bucket, self._key("parts", name))

    def _key(self, kind: str, name: str) -> str:
        return f"{self._prefix}/{kind}/{name}.parquet"
