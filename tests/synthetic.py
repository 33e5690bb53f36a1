"""Releases of made-up rows on the tests' Milvus: clustered vectors, as those of texts are, each known by its text."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from reindex.exact import vector_matrix
from reindex.importers import IMPORTERS
from reindex.index import ReadinessBarrier
from reindex.milvus import MilvusStore
from reindex.naming import DIGESTS, chunk_id, collection_name, import_file_name, passage_digest
from reindex.parts import EmbeddingStore
from reindex.records import CATALOG_SCHEMA, DOCUMENT_SCHEMA, REJECT_SCHEMA, SNAPSHOT_SCHEMA, chunk_schema
from reindex.releases import ReleaseFiles
from reindex.settings import Corpus
from reindex.verify import Bench
from tests.conftest import LiveStack
from tests.fakes import STATE_BUCKET, chunk_rows

T = TypeVar("T")
SPACE = "synthetic"
PASSAGES = 10
# Keys that a filter could take for a pattern, or for the end of a string.
FOLDERS = [
    "plain/",
    "a_b/",
    "axb/",
    "100%/",
    "1000/",
    'so "called"/',
    "it's/",
    "back\\slash/",
    "straße/",
    "日本/",
    "z/",
]
LANGUAGES = ["eng", "eng", "eng", "deu", "fra"]
GROUPS = [["*"], ["hr"], ["it", "hr"], [], ['the "few"'], ["100%"]]


def clustered(count: int, dimension: int, *, clusters: int, width: float, seed: int) -> np.ndarray:
    """Return unit vectors around random centres; `width` is their distance from these, as a centre's length is 1."""
    draw = np.random.default_rng(seed)
    centres = unit(draw.normal(size=(clusters, dimension)))[draw.integers(clusters, size=count)]
    return unit(centres + width * unit(draw.normal(size=(count, dimension))))


def unit(vectors: np.ndarray) -> np.ndarray:
    made: np.ndarray = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype("float32")
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """Rows as import files hold them, and the vectors of their texts and headings."""

    rows: pa.Table
    vectors: dict[str, np.ndarray]

    def embed(self, _: ReleaseFiles, texts: list[str]) -> np.ndarray:
        return np.stack([self.vectors[text] for text in texts])


def made_rows(vectors: np.ndarray, *, prefix: str, seed: int = 1, languages: Sequence[str] = LANGUAGES) -> Made:
    """Return a row for each vector, PASSAGES to a document; headings lie near the passages that they stand above.

    Ids change with the seed. Columns go round, each in a circle of its own, so that every combination is there.
    """
    template = chunk_rows(["x"]).to_pylist()[0]
    near = unit(vectors + 0.3 * unit(np.random.default_rng(seed).normal(size=vectors.shape)))
    rows, known = [], {}
    for place, (vector, beside) in enumerate(zip(vectors, near, strict=True)):
        number, position = divmod(place, PASSAGES)
        document = f"{prefix}{FOLDERS[number % len(FOLDERS)]}{number:04}.md"
        text, heading = f"passage {place} of {seed}", f"heading {place} of {seed}"
        known |= {text: vector, heading: beside}
        own = {"id": chunk_id(document, text, 0), "document": document, "text": text, "section": heading}
        going_round = {"language": languages[place % len(languages)], "acl": GROUPS[place % len(GROUPS)]}
        rows.append({**template, **own, **going_round, "position": position, "vector": vector})
    return Made(rows=pa.Table.from_pylist(rows, schema=chunk_schema()), vectors=known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A release in a collection of its own, and what its rows were made from."""

    stack: LiveStack
    store: MilvusStore
    files: ReleaseFiles
    made: Made

    @property
    def collection(self) -> str:
        return collection_name(self.files.corpus_name, self.files.release)

    def bench(self) -> Bench:
        def spread(keys: Sequence[str], work: Callable[[Iterable[pa.RecordBatch]], T]) -> list[T]:
            return [work(self.files.store.read_batches(STATE_BUCKET, key)) for key in keys]

        return Bench(
            files=self.files,
            corpus=self.files.corpus(),
            parts=EmbeddingStore(self.files.store, STATE_BUCKET, self.files.corpus_name, SPACE),
            store=self.store,
            connect=self.stack.milvus,
            embed=self.made.embed,
            spread=spread,
        )

    def wait_until_ready(self, *, seconds: float = 120) -> Release:
        """Wait until every row is indexed and in memory."""
        barrier = ReadinessBarrier(self.store, self.collection, self.made.rows.num_rows)
        wait_for(lambda: barrier.poll().done, seconds)
        return self


def import_release(stack: LiveStack, corpus: Corpus, name: str, made: Made) -> Release:
    """Leave what the stages up to `load` leave: the collection has its rows, and an index to come."""
    files = ReleaseFiles(stack.objects(), STATE_BUCKET, corpus.name, name)
    store = stack.milvus()
    release = Release(stack=stack, store=store, files=files, made=made)
    files.freeze_corpus(corpus)
    write_tables(files, made.rows)
    rows, file = made.rows.num_rows, import_file_name(1)
    written = files.write_table(file, chunk_schema(), made.rows.to_batches())
    held = {"file": files.key(file), "rows": rows}
    files.write_report("assemble", time.time(), {"rows": rows, "files": [{**held, "bytes": written.bytes}]})
    store.create_collection(release.collection, dimension=vector_matrix(made.rows).shape[1], index=corpus.index)
    importer = IMPORTERS[store.capabilities().importer](store)
    jobs = [importer.submit(release.collection, held["file"], rows)]
    wait_for(lambda: importer.poll(release.collection, jobs).done)
    imported = [{**held, "imported": rows}]
    files.write_report("load", time.time(), {"collection": release.collection, "rows": rows, "files": imported})
    return release


def write_tables(files: ReleaseFiles, rows: pa.Table) -> None:
    """Write what was listed and indexed, as a first night that rejects nothing does, and what its parts hold."""
    documents = [document_row(rows.slice(first, PASSAGES)) for first in range(0, rows.num_rows, PASSAGES)]
    for name, schema, held in (
        ("snapshot", SNAPSHOT_SCHEMA, documents),
        ("documents", DOCUMENT_SCHEMA, documents),
        ("rejects", REJECT_SCHEMA, []),
    ):
        table = pa.Table.from_pylist(held, schema=schema)
        files.write_table(f"{name}.parquet", schema, table.to_batches())
    now = time.time()
    files.write_report("snapshot", now, {"documents": len(documents)})
    files.write_report("plan", now, {"outcome": "build", "precision": "float32", "space": SPACE})
    files.write_report("embed", now, {"space": SPACE, "documents": len(documents), "chunks": rows.num_rows})
    EmbeddingStore(files.store, files.bucket, files.corpus_name, SPACE).record(
        files.release, pa.Table.from_pylist(documents, schema=CATALOG_SCHEMA).to_batches()
    )


def document_row(rows: pa.Table) -> dict[str, Any]:
    """Return what the tables say of the document that these are the rows of."""
    vectors, texts = vector_matrix(rows), rows.column("text").to_pylist()
    digests = [passage_digest(text, vector.tobytes()) for text, vector in zip(texts, vectors, strict=True)]
    content = hashlib.sha256("".join(texts).encode()).hexdigest()
    return {
        "key": rows.column("document")[0].as_py(),
        "version": "",
        "etag": content,
        "bytes": 1000,
        "modified": datetime(2026, 1, 1, tzinfo=UTC),
        "metadata": "{}",
        "acl": ["*"],
        "action": "embed",
        "content": content,
        "part": "synthetic",
        "chunks": len(texts),
        "tokens": len(texts),
        "digest": sum(digests) % DIGESTS,
        "members": [],
        "limits": "",
    }


def wait_for(done: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.2)
