"""Planned objects in, their passages out: fetched, parsed and chunked, each in a sandbox.

The first step of the chain: `prepare_documents` takes and returns Arrow tables. A row is a document.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from reindex.embedders import Model, Precision
from reindex.errors import AccessRefused, ServiceUnavailable
from reindex.naming import content_hash
from reindex.parse import suffix_of
from reindex.parsers import Rejected
from reindex.parts import EmbeddingStore
from reindex.reading import Reader
from reindex.records import MEMBERS, RejectReason, part_schema, passage_columns
from reindex.releases import ReleaseFiles
from reindex.sandbox import MEGABYTE, Sandbox
from reindex.settings import Chunks, Corpus, Limits, Parsing
from reindex.storage import ObjectStore

if TYPE_CHECKING:
    import numpy as np

# Objects that one task fetches, parses and chunks at once.
PREPARE_DOCUMENTS = 8
# Fetching waits for the store, not for the processor.
_FETCH_THREADS = 8
_FETCH_ATTEMPTS = 3
# What a task holds of objects that are fetched and not yet read, unless one alone is larger.
_FETCH_BYTES = 64 * MEGABYTE

_PASSAGE = pa.struct([field for field in part_schema() if field.name in passage_columns()])
PENDING_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("version", pa.string()),
        ("etag", pa.string()),
        ("bytes", pa.int64()),
        # The part that holds an earlier version of the document, and the content by which to find it there.
        ("earlier_part", pa.string()),
        ("earlier_content", pa.string()),
    ]
)
PREPARED_SCHEMA = pa.schema(
    [
        *PENDING_SCHEMA,
        ("content", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("is_held", pa.bool_()),
        ("passages", pa.list_(_PASSAGE)),
        # The ids that the model is given for each passage.
        ("tokens", pa.list_(pa.list_(pa.int32()))),
        ("members", MEMBERS),
        ("seconds", pa.float64()),
        # For which the task waited for the object's bytes: those of others come meanwhile.
        ("waited", pa.float64()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedTask:
    """What every worker of one embedding job needs to know; it travels to them."""

    corpus: Corpus
    model: Model
    precision: Precision
    store: ObjectStore
    state_bucket: str
    release: str
    space: str
    threads: int

    @property
    def files(self) -> ReleaseFiles:
        return ReleaseFiles(self.store, self.state_bucket, self.corpus.name, self.release)

    @property
    def parts(self) -> EmbeddingStore:
        limits = self.corpus.limits.fingerprint()
        return EmbeddingStore(self.store, self.state_bucket, self.corpus.name, self.space, limits=limits)


def prepare_documents(documents: pa.Table, task: EmbedTask, held: np.ndarray) -> pa.Table:
    """Fetch some planned objects; parse and chunk those whose content is not held.

    A document that cannot be becomes a row with its reason.
    """
    prepared = []
    with ThreadPoolExecutor(_FETCH_THREADS) as pool:
        for rows in _fetched_at_once(documents.to_pylist()):
            contents = pool.map(partial(_fetch, task), rows)
            for row in rows:
                asked = time.monotonic()
                data = next(contents)
                waited = time.monotonic() - asked
                prepared.append({**_prepare(task, row, data, held), "waited": waited})
    return pa.Table.from_pylist(prepared, schema=PREPARED_SCHEMA)


def _fetched_at_once(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows in order, as many at a time as a task's memory is meant to hold."""
    group: list[dict[str, Any]] = []
    for row in rows:
        if group and sum(held["bytes"] for held in [*group, row]) > _FETCH_BYTES:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def content_beginnings(contents: list[str]) -> np.ndarray:
    import numpy as np

    return np.array([int(content[:16], 16) for content in contents], "uint64")


def _is_in(content: str, held: np.ndarray) -> bool:
    import numpy as np

    beginning = content_beginnings([content])[0]
    place = int(np.searchsorted(held, beginning))
    return bool(place < len(held) and held[place] == beginning)


def _fetch(task: EmbedTask, row: dict[str, Any]) -> bytes | Rejected:
    """Return an object's bytes, or why it has none for us: neither a lock nor a deletion stops the others."""
    allowed = task.corpus.limits.megabytes
    if row["bytes"] > allowed * MEGABYTE:
        detail = f"{row['bytes'] / MEGABYTE:,.1f} MB; limits.megabytes allows {allowed:,}"
        return Rejected(RejectReason.TOO_LARGE, detail)
    try:
        data = _read_patiently(task.store, task.corpus.source.bucket, row)
    except AccessRefused as error:
        return Rejected(RejectReason.LOCKED, error.detail)
    return Rejected(RejectReason.GONE, "deleted or replaced since the snapshot") if data is None else data


def _read_patiently(store: ObjectStore, bucket: str, row: dict[str, Any]) -> bytes | None:
    # boto3 repeats a request that was refused, not an answer that broke off.
    for _ in range(_FETCH_ATTEMPTS - 1):
        with suppress(ServiceUnavailable):
            return store.read(bucket, row["key"], version=row["version"], etag=row["etag"])
    return store.read(bucket, row["key"], version=row["version"], etag=row["etag"])


def _prepare(task: EmbedTask, row: dict[str, Any], data: bytes | Rejected, held: np.ndarray) -> dict[str, Any]:
    nothing = {
        "content": "",
        "reason": "",
        "detail": "",
        "is_held": False,
        "passages": [],
        "tokens": [],
        "members": [],
    }
    started = time.monotonic()
    try:
        facts = _read(task.corpus, task.model, row["key"], data, held)
    except Rejected as rejected:
        facts = {"reason": rejected.reason, "detail": rejected.detail}
    return {**row, **nothing, "seconds": time.monotonic() - started, **facts}


def _read(corpus: Corpus, model: Model, key: str, data: bytes | Rejected, held: np.ndarray) -> dict[str, Any]:
    if isinstance(data, Rejected):
        raise data
    content = content_hash(data, suffix_of(key))
    if _is_in(content, held):
        return {"content": content, "is_held": True}
    prompt = corpus.embedding.passage_prompt
    sandbox = _sandbox(corpus.chunks, model.tokenizer_file, prompt, corpus.parsing, corpus.limits)
    return {"content": content, **sandbox.run(key, data)}


@lru_cache(maxsize=2)
def _sandbox(policy: Chunks, tokenizer_file: Path, prompt: str, parsing: Parsing, limits: Limits) -> Sandbox:
    return Sandbox(partial(Reader, policy, tokenizer_file, prompt, parsing, limits), limits)
