"""Planned objects in, parts of the embedding store out. A row is a document until it is written, never a piece of one.

Two steps, which `jobs.py` joins into one Ray Data chain: `prepare_documents` (fetch, parse, chunk) and `PartWriter`
(embed, write). Both take and return Arrow tables.
"""

from __future__ import annotations

import os
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa

from reindex.chunk import Chunker
from reindex.embedders import Model, load_embedder
from reindex.errors import AccessRefused, NoDocumentIndexed, ServiceUnavailable
from reindex.naming import content_hash
from reindex.parse import Rejected, parse_document
from reindex.parts import EmbeddingStore
from reindex.records import REJECT_SCHEMA, VECTOR_COLUMN, RejectReason, chunk_schema
from reindex.releases import ReleaseFiles
from reindex.settings import Chunks, Corpus, S3Connection
from reindex.storage import ObjectStore

REJECTS_FILE = "rejects.parquet"
# Documents in a part: what a crash costs at most, for each worker.
PART_DOCUMENTS = 64
# Fetching waits for the store, not for the processor.
_FETCH_THREADS = 8
_FETCH_ATTEMPTS = 3
# Search on the same host comes first.
_NICENESS = 10

_PASSAGE = pa.struct([f for f in chunk_schema() if f.name not in {"document", VECTOR_COLUMN}])
_PREPARED = pa.schema(
    [
        ("key", pa.string()),
        ("version", pa.string()),
        ("etag", pa.string()),
        ("bytes", pa.int64()),
        ("content", pa.string()),
        ("tokens", pa.int64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("passages", pa.list_(_PASSAGE)),
    ]
)
OUTCOME_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("version", pa.string()),
        ("bytes", pa.int64()),
        ("chunks", pa.int64()),
        ("tokens", pa.int64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("seconds", pa.float64()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedTask:
    """What every worker of one embedding job needs to know; it travels to them."""

    corpus: Corpus
    model: Model
    source: S3Connection
    state_bucket: str
    release: str
    space: str
    threads: int


def prepare_documents(documents: pa.Table, task: EmbedTask) -> pa.Table:
    """Fetch, parse and chunk some planned objects; a document that cannot be becomes a row with its reason."""
    chunker = _chunker(task.corpus.chunks, task.model)
    store = ObjectStore(task.source)
    with ThreadPoolExecutor(_FETCH_THREADS) as pool:
        rows = documents.to_pylist()
        contents = pool.map(lambda row: _fetch(store, task.corpus.source.bucket, row), rows)
        prepared = [_prepare(row, data, chunker) for row, data in zip(rows, contents, strict=True)]
    return pa.Table.from_pylist(prepared, schema=_PREPARED)


class PartWriter:
    """Embeds prepared documents and writes each batch as one part. Loads the model once; runs behind other programs."""

    def __init__(self, task: EmbedTask) -> None:
        os.nice(_NICENESS)
        self._task = task
        self._embedder = load_embedder(task.corpus.embedding, task.model, threads=task.threads)
        self._parts = EmbeddingStore(ObjectStore(task.source), task.state_bucket, task.corpus.name, task.space)

    def __call__(self, documents: pa.Table) -> pa.Table:
        started = time.monotonic()
        rows = documents.to_pylist()
        embedded = [row for row in rows if not row["reason"]]
        if embedded:
            name = f"{self._task.release}-{uuid.uuid4().hex[:12]}"
            self._parts.write_part(name, self._chunks(embedded), [_catalog_row(row) for row in embedded])
        seconds = (time.monotonic() - started) / len(rows)
        return pa.Table.from_pylist([_outcome(row, seconds) for row in rows], schema=OUTCOME_SCHEMA)

    def _chunks(self, documents: list[dict[str, Any]]) -> pa.Table:
        passages = [{**passage, "document": row["key"]} for row in documents for passage in row["passages"]]
        prompt = self._task.corpus.embedding.passage_prompt
        vectors = self._embedder.embed([prompt + passage["text"] for passage in passages])
        table = pa.Table.from_pylist(
            passages, schema=chunk_schema().remove(chunk_schema().get_field_index(VECTOR_COLUMN))
        )
        return table.append_column(chunk_schema().field(VECTOR_COLUMN), _vector_column(vectors)).select(
            chunk_schema().names
        )


def finish_embedding(
    files: ReleaseFiles, task: EmbedTask, outcomes: list[dict[str, Any]], *, seconds: float
) -> dict[str, Any]:
    """Write the rejects and return what the release's parts hold, those of earlier attempts too.

    Raises NoDocumentIndexed if there is nothing to go on with.
    """
    rejects = [{**row, "stage": "embed"} for row in outcomes if row["reason"]]
    table = pa.Table.from_pylist([{k: row[k] for k in REJECT_SCHEMA.names} for row in rejects], schema=REJECT_SCHEMA)
    files.write_table(REJECTS_FILE, REJECT_SCHEMA, table.to_batches())
    documents = EmbeddingStore(files.store, files.bucket, files.corpus_name, task.space).documents(files.release)
    if not documents:
        raise NoDocumentIndexed(len(rejects), f"{rejects[0]['key']}: {rejects[0]['reason']} ({rejects[0]['detail']})")
    tokens = sum(row["tokens"] for row in outcomes if not row["reason"])
    return {
        "space": task.space,
        "documents": len(documents),
        "rejected": len(rejects),
        "rejected_by_reason": _count([row["reason"] for row in rejects]),
        "chunks": _sum(documents, "chunks"),
        "tokens": _sum(documents, "tokens"),
        "documents_embedded_now": len(outcomes) - len(rejects),
        "tokens_a_second": round(tokens / seconds, 1) if seconds else 0,
        "embedding_seconds": round(sum(row["seconds"] for row in outcomes), 3),
    }


def _fetch(store: ObjectStore, bucket: str, row: dict[str, Any]) -> bytes | Rejected:
    """Return an object's bytes, or why it has none for us: neither a lock nor a deletion stops the others."""
    try:
        data = _read_patiently(store, bucket, row)
    except AccessRefused as error:
        return Rejected(RejectReason.LOCKED, error.detail)
    return Rejected(RejectReason.GONE, "deleted or replaced since the snapshot") if data is None else data


def _read_patiently(store: ObjectStore, bucket: str, row: dict[str, Any]) -> bytes | None:
    # boto3 repeats a request that was refused, not an answer that broke off.
    for _ in range(_FETCH_ATTEMPTS - 1):
        with suppress(ServiceUnavailable):
            return store.read(bucket, row["key"], version=row["version"], etag=row["etag"])
    return store.read(bucket, row["key"], version=row["version"], etag=row["etag"])


def _prepare(row: dict[str, Any], data: bytes | Rejected, chunker: Chunker) -> dict[str, Any]:
    facts = {name: row[name] for name in ("key", "version", "etag", "bytes")}
    try:
        if isinstance(data, Rejected):
            raise data
        passages = chunker.chunk_document(row["key"], parse_document(row["key"], data))
    except Rejected as rejected:
        nothing = {"content": "", "tokens": 0, "passages": []}
        return {**facts, **nothing, "reason": rejected.reason, "detail": rejected.detail}
    tokens = chunker.count_tokens([passage.text for passage in passages])
    return {
        **facts,
        "content": content_hash(data),
        "tokens": tokens,
        "reason": "",
        "detail": "",
        "passages": [asdict(passage) for passage in passages],
    }


@lru_cache(maxsize=2)
def _chunker(policy: Chunks, model: Model) -> Chunker:
    return Chunker(policy, model.tokenizer_file)


def _catalog_row(row: dict[str, Any]) -> dict[str, Any]:
    return {
        **{name: row[name] for name in ("key", "version", "etag", "content", "tokens")},
        "chunks": len(row["passages"]),
    }


def _outcome(row: dict[str, Any], seconds: float) -> dict[str, Any]:
    kept = {name: row[name] for name in ("key", "version", "bytes", "tokens", "reason", "detail")}
    return {**kept, "chunks": len(row["passages"]), "seconds": seconds}


def _vector_column(vectors: Any) -> pa.Array:
    count, dimension = vectors.shape
    offsets = pa.array(range(0, (count + 1) * dimension, dimension), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(vectors.ravel(), pa.float32()))


def _count(values: list[str]) -> dict[str, int]:
    return {value: values.count(value) for value in sorted(set(values))}


def _sum(documents: dict[str, dict[str, Any]], column: str) -> int:
    return sum(int(row[column]) for row in documents.values())
