"""Prepared documents in, parts of the embedding store out: the second step of the chain.

`PartWriter` takes and returns Arrow tables. A row is a document until it is written, never a piece of one.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from resource import RUSAGE_SELF, getrusage
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from reindex.brake import Pause
from reindex.chunk import embedded_text
from reindex.embedders import Embedder
from reindex.errors import FileMissing
from reindex.naming import DIGESTS, passage_digest
from reindex.parts import EmbeddingStore
from reindex.prepare import EmbedTask
from reindex.records import (
    CATALOG_SCHEMA,
    LASTING_REASONS,
    VECTOR_COLUMN,
    part_schema,
)

if TYPE_CHECKING:
    import numpy as np

# Documents in a part: what a crash costs at most, for each worker.
PART_DOCUMENTS = 64
# Texts embedded between two looks at the brake: some seconds of one processor at most.
_BRAKE_TEXTS = 512
# Texts whose vectors a writer remembers: what documents repeat, they repeat near each other.
_REMEMBERED_TEXTS = 16_384
# What Linux counts a process's memory in.
_KIBIBYTE = 1024

OUTCOME_SCHEMA = pa.schema(
    [
        *CATALOG_SCHEMA,
        ("is_held", pa.bool_()),
        # For which the document's writer worked on it, and waited for it; the task that prepared it, for its bytes.
        ("writer_seconds", pa.float64()),
        ("writer_waited", pa.float64()),
        ("waited", pa.float64()),
        ("engine", pa.string()),
        # The most memory that the writer has held until then.
        ("writer_memory", pa.int64()),
        ("part_bytes", pa.int64()),
        # Chunks of which the model would not have read the end.
        ("truncated", pa.int64()),
    ]
)


class PartWriter:
    """Embeds prepared documents and writes each batch as one part."""

    def __init__(self, task: EmbedTask, embedder: Embedder) -> None:
        self._task = task
        self._pause = Pause(task.files)
        self._parts = task.parts
        self._embedder = embedder
        self._remembered: dict[str, np.ndarray] = {}
        self._free_since = time.monotonic()

    def __call__(self, documents: pa.Table) -> pa.Table:
        started, paused = time.monotonic(), self._pause.seconds
        rows = documents.to_pylist()
        name = f"{self._task.release}-{uuid.uuid4().hex[:12]}"
        read = [row for row in rows if not row["reason"] and not row["is_held"]]
        vectors = self._vectors(read)
        findings = _findings(rows, name, vectors, self._task.corpus.limits.fingerprint())
        size = self._write(name, read, vectors, [row for row in findings if is_lasting(row)])
        waited, self._free_since = started - self._free_since, time.monotonic()
        facts = {
            "writer_seconds": (self._free_since - started - (self._pause.seconds - paused)) / len(rows),
            "writer_waited": waited / len(rows),
            "engine": self._embedder.engine,
            "writer_memory": getrusage(RUSAGE_SELF).ru_maxrss * _KIBIBYTE,
        }
        window = self._task.model.window
        outcomes = [
            {
                **finding,
                **facts,
                "is_held": row["is_held"],
                "waited": row["waited"],
                "part_bytes": size / len(rows),
                "truncated": sum(len(tokens) > window for tokens in row["tokens"]),
            }
            for row, finding in zip(rows, findings, strict=True)
        ]
        return pa.Table.from_pylist(outcomes, schema=OUTCOME_SCHEMA)

    def _vectors(self, documents: list[dict[str, Any]]) -> Vectors:
        """Embed each text once, and none that an earlier version of its document or an earlier part has."""
        has_prefix = self._task.corpus.chunks.heading_prefix
        earlier = earlier_vectors(self._parts, documents, heading_prefix=has_prefix)
        given = {row["key"]: _given(row["passages"], heading_prefix=has_prefix) for row in documents}
        new = {
            text: tokens
            for row in documents
            for text, tokens in zip(given[row["key"]], row["tokens"], strict=True)
            if text not in earlier[row["key"]]
        }
        prompt = self._task.corpus.embedding.passage_prompt
        remembered = {text: self._remembered[text] for text in new if text in self._remembered}
        fresh: dict[str, np.ndarray] = {}
        # By length, so that texts of like length are still together when they are embedded some at a time.
        ordered = sorted((text for text in new if text not in remembered), key=lambda text: len(new[text]))
        for start in range(0, len(ordered), _BRAKE_TEXTS):
            self._pause.wait()
            some = ordered[start : start + _BRAKE_TEXTS]
            vectors = self._embedder.embed([prompt + text for text in some], [new[text] for text in some])
            fresh |= dict(zip(some, vectors, strict=True))
        self._remember(fresh)
        return Vectors(given=given, earlier=earlier, fresh=fresh, remembered=remembered)

    def _remember(self, vectors: dict[str, np.ndarray]) -> None:
        self._remembered |= vectors
        for text in list(self._remembered)[: max(0, len(self._remembered) - _REMEMBERED_TEXTS)]:
            del self._remembered[text]

    def _write(
        self,
        name: str,
        documents: list[dict[str, Any]],
        vectors: Vectors,
        findings: list[dict[str, Any]],
    ) -> int:
        if documents:
            return self._parts.write_part(name, _stored(documents, vectors), findings)
        if findings:
            self._parts.record(name, pa.Table.from_pylist(findings, schema=CATALOG_SCHEMA).to_batches())
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectors:
    """The vectors of some documents, by what the model was given: an earlier version's by key too, and new ones.

    `given` is that text of each of a document's passages; `remembered` are those that parts before have embedded.
    """

    given: dict[str, list[str]]
    earlier: dict[str, dict[str, np.ndarray]]
    fresh: dict[str, np.ndarray]
    remembered: dict[str, np.ndarray]

    def of(self, key: str, text: str) -> np.ndarray:
        found = self.earlier[key].get(text)
        if found is not None:
            return found
        return self.fresh[text] if text in self.fresh else self.remembered[text]


def earlier_vectors(
    parts: EmbeddingStore, documents: list[dict[str, Any]], *, heading_prefix: bool
) -> dict[str, dict[str, np.ndarray]]:
    """Return, by key and by what the model was given, the vectors of an earlier version of each document.

    None of one whose part is gone.
    """
    found: dict[str, dict[str, np.ndarray]] = {row["key"]: {} for row in documents}
    by_part: dict[str, list[dict[str, Any]]] = {}
    for row in documents:
        if row["earlier_part"]:
            by_part.setdefault(row["earlier_part"], []).append(row)
    for part, rows in by_part.items():
        with suppress(FileMissing):
            for batch in parts.read_part(part):
                for row in rows:
                    mine = batch.filter(pc.equal(batch.column("content"), row["earlier_content"]))
                    given = _given(mine.select(["section", "text"]).to_pylist(), heading_prefix=heading_prefix)
                    found[row["key"]] |= dict(zip(given, mine.column(VECTOR_COLUMN).to_numpy(False), strict=True))
    return found


def _given(passages: list[dict[str, Any]], *, heading_prefix: bool) -> list[str]:
    return [embedded_text(found["section"], found["text"], heading_prefix=heading_prefix) for found in passages]


def _findings(rows: list[dict[str, Any]], part: str, vectors: Vectors, limits: str) -> list[dict[str, Any]]:
    """Return what the catalog is to know of each document; a text that several share is counted for the first."""
    kept = ("key", "version", "etag", "bytes", "content", "reason", "detail", "members", "seconds")
    uncounted = set(vectors.fresh)
    findings = []
    for row in rows:
        given = vectors.given.get(row["key"], [])
        computed = [len(tokens) for text, tokens in zip(given, row["tokens"], strict=True) if _take(uncounted, text)]
        findings.append(
            {
                **{name: row[name] for name in kept},
                "chunks": len(row["passages"]),
                "tokens": sum(map(len, row["tokens"])),
                "part": part if row["passages"] else "",
                "digest": _digest(row, vectors) if row["passages"] else None,
                "embedded": len(computed),
                "embedded_tokens": sum(computed),
                "limits": limits,
            }
        )
    return findings


def _digest(document: dict[str, Any], vectors: Vectors) -> int:
    """Return what the document's passages add up to: the ledger adds them up again from the import files."""
    given = vectors.given[document["key"]]
    return (
        sum(
            passage_digest(passage["text"], vectors.of(document["key"], text).astype("float32").tobytes())
            for passage, text in zip(document["passages"], given, strict=True)
        )
        % DIGESTS
    )


def _take(texts: set[str], text: str) -> bool:
    was_there = text in texts
    texts.discard(text)
    return was_there


# The same, of a table's rows.
IS_LASTING = f"(part <> '' or reason in ({', '.join(repr(str(reason)) for reason in sorted(LASTING_REASONS))}))"


def is_lasting(finding: dict[str, Any]) -> bool:
    """Return whether what was found about a document stays so as long as it is the same."""
    return bool(finding["part"]) or finding["reason"] in LASTING_REASONS


def _stored(documents: list[dict[str, Any]], vectors: Vectors) -> pa.Table:
    """Return the rows of a part: each content once, however many keys have it."""
    import numpy as np

    rows, matrix = [], []
    for document in {row["content"]: row for row in documents}.values():
        seen: Counter[tuple[str, str]] = Counter()
        for passage, given in zip(document["passages"], vectors.given[document["key"]], strict=True):
            place = (passage["member"], passage["text"])
            rows.append({**passage, "content": document["content"], "occurrence": seen[place]})
            matrix.append(vectors.of(document["key"], given))
            seen[place] += 1
    plain = part_schema().remove(part_schema().get_field_index(VECTOR_COLUMN))
    column = _vector_column(np.asarray(matrix, "float32"))
    table = pa.Table.from_pylist(rows, schema=plain).append_column(part_schema().field(VECTOR_COLUMN), column)
    return table.select(part_schema().names)


def _vector_column(vectors: np.ndarray) -> pa.Array:
    count, dimension = vectors.shape
    offsets = pa.array(range(0, (count + 1) * dimension, dimension), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(vectors.ravel(), pa.float32()))
