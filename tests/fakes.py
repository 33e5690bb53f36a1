"""Fakes that implement the project's own protocols, small enough to be read."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reindex.forecast import PlannedWork
from reindex.naming import chunk_id
from reindex.records import StoredObject, chunk_schema, part_schema
from reindex.releases import ReleaseFiles
from reindex.settings import Corpus
from reindex.storage import ObjectStore
from reindex.store import ExactStore

STATE_BUCKET = "reindex"

# What a corpus of ten documents of a kilobyte asks of its first run.
FIRST_NIGHT = PlannedWork(
    embed_documents=10,
    embed_bytes=10_000,
    known_documents=0,
    known_chunks=0,
    known_tokens=0,
    live_rows=0,
    leaving_rows=0,
)


class MemoryObjectStore(ObjectStore):
    """A bucket server in a dictionary: keys to bytes; the ETag is the content's MD5."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], bytes] = {}
        self.modified: dict[tuple[str, str], datetime] = {}

    def entries(self, bucket: str, prefix: str) -> Iterator[StoredObject]:
        for key in sorted(key for held, key in list(self.objects) if held == bucket and key.startswith(prefix)):
            yield StoredObject(
                key=key,
                version="",
                etag=self.etag(bucket, key) or "",
                bytes=len(self.objects[bucket, key]),
                modified=self.modified[bucket, key],
            )

    def folders(self, bucket: str, prefix: str) -> Iterator[str]:
        below = (found.key.removeprefix(prefix) for found in self.entries(bucket, prefix))
        yield from dict.fromkeys(name.split("/", 1)[0] for name in below if "/" in name)

    def read(self, bucket: str, key: str, *, version: str = "", etag: str = "") -> bytes | None:
        data = self.objects.get((bucket, key))
        return None if data is None or (etag and etag != self.etag(bucket, key)) else data

    def read_tagged(self, bucket: str, key: str) -> tuple[bytes, str] | None:
        data, etag = self.objects.get((bucket, key)), self.etag(bucket, key)
        return None if data is None or etag is None else (data, etag)

    def write(self, bucket: str, key: str, data: bytes) -> None:
        self.objects[bucket, key] = data
        self.modified[bucket, key] = datetime.now(UTC)

    def write_if_unchanged(self, bucket: str, key: str, data: bytes | IO[bytes], *, etag: str | None) -> bool:
        if self.etag(bucket, key) != etag:
            return False
        self.write(bucket, key, data if isinstance(data, bytes) else data.read())
        return True

    def upload(self, bucket: str, key: str, file: Path) -> None:
        self.write(bucket, key, file.read_bytes())

    def download(self, bucket: str, key: str, file: IO[bytes]) -> bool:
        data = self.objects.get((bucket, key))
        if data is not None:
            file.write(data)
            file.flush()
        return data is not None

    def etag(self, bucket: str, key: str) -> str | None:
        data = self.objects.get((bucket, key))
        return None if data is None else hashlib.md5(data, usedforsecurity=False).hexdigest()

    def count_versions(self, bucket: str, key: str) -> int:
        return int((bucket, key) in self.objects)

    def delete(self, bucket: str, key: str) -> None:
        self.objects.pop((bucket, key), None)


class WordLengthEmbedder:
    """Turns "to be" into [2, 2, 0, 0] and makes it unit length: an expected vector can be read off the text."""

    def __init__(self, dimension: int = 4) -> None:
        self.dimension = dimension
        self.engine = "word lengths"

    def embed(self, texts: list[str], tokens: list[list[int]] | None = None) -> np.ndarray:
        assert tokens is None or len(tokens) == len(texts)
        rows = [[len(word) for word in text.split()][: self.dimension] for text in texts]
        vectors = np.array([row + [0] * (self.dimension - len(row)) for row in rows], "float32")
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def chunk_rows(texts: list[str], *, document: str = "a.txt", dimension: int = 4) -> pa.Table:
    """Return chunks of one document as a part holds them."""
    vectors = WordLengthEmbedder(dimension).embed(texts).tolist()
    rows = [
        {
            "id": chunk_id(document, text, 0),
            "document": document,
            "member": "",
            "title": "A",
            "section": "",
            "language": "eng",
            "page": 0,
            "time": "",
            "position": position,
            "start": 0,
            "text": text,
            "modified": 0,
            "acl": ["*"],
            "vector": vector,
        }
        for position, (text, vector) in enumerate(zip(texts, vectors, strict=True))
    ]
    return pa.Table.from_pylist(rows, schema=chunk_schema())


def stored_passages(content: str, texts: list[str], *, title: str = "A") -> pa.Table:
    """Return the passages of one content as a part holds them."""
    kept = [name for name in part_schema().names if name in chunk_schema().names]
    rows = [{name: row[name] for name in kept} for row in chunk_rows(texts).to_pylist()]
    extra = {"content": content, "title": title}
    return pa.Table.from_pylist(
        [{**row, **extra, "occurrence": texts[:i].count(row["text"])} for i, row in enumerate(rows)],
        schema=part_schema(),
    )


def a_corpus(**changes: object) -> Corpus:
    return Corpus.model_validate({"name": "docs", "source": {"bucket": "sources", "prefix": "docs/"}, **changes})


def release_files(release: str = "20260101T020000Z_abcd1234", store: ObjectStore | None = None) -> ReleaseFiles:
    """Return the files of a release that has begun, in memory."""
    files = ReleaseFiles(store or MemoryObjectStore(), STATE_BUCKET, "docs", release)
    files.freeze_corpus(a_corpus())
    files.write_report("snapshot", 0, {"documents": 1})
    return files


def exact_store(files: ReleaseFiles) -> ExactStore:
    """Return a vector store that imports from the release's bucket."""

    def read_file(key: str) -> pa.Table:
        data = files.store.read(files.bucket, key)
        assert data is not None
        return pq.read_table(io.BytesIO(data)).cast(chunk_schema())

    return ExactStore(read_file=read_file)


def past_release(
    *,
    bytes_embedded: int = 1000,
    chunks: int = 10,
    tokens: int = 2000,
    tokens_embedded: int | None = None,
    known_documents: int = 0,
    known_chunks: int = 0,
    known_tokens: int = 0,
) -> dict[str, dict[str, Any]]:
    """Return what a finished release's stages report; `chunks` and `tokens` are those of its embedded documents."""
    rows = {"rows": chunks + known_chunks, "seconds": 10.0}
    known = {"reuse": known_documents, "withhold": 0, "known_chunks": known_chunks, "known_tokens": known_tokens}
    embedded = tokens if tokens_embedded is None else tokens_embedded
    return {
        "plan": {"documents": 3, "seconds": 4.0, **known},
        "embed": {
            "chunks": chunks + known_chunks,
            "tokens": tokens + known_tokens,
            "chunks_embedded": chunks,
            "tokens_embedded": embedded,
            "bytes_embedded": bytes_embedded,
            "bytes": 3000,
            "seconds": 20.0,
        },
        "assemble": {**rows, "bytes": 5000},
        **{stage: {"release": "r", **rows} for stage in ("load", "index", "verify")},
        "promote": {"seconds": 3.0},
    }
