"""An import file in, what verifying needs of its rows out: exact neighbours, some rows' own vectors, and counts.

Files are scanned apart from each other, on whatever worker, and the findings merged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from reindex.exact import Asked, ExactSearch, Neighbours, in_blocks, merge_neighbours, vector_matrix
from reindex.naming import DIGESTS, passage_digest
from reindex.records import ID_COLUMN

if TYPE_CHECKING:
    import numpy as np

# How many rows each document has, and what they add up to.
FILED_SCHEMA = pa.schema([("document", pa.string()), ("rows", pa.int64()), ("digest", pa.int64())])


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What to find out: the neighbours of several questions, and the vectors of the rows with these ids."""

    asked: tuple[Asked, ...]
    wanted: pa.Array
    metric: str
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What one or several files say: neighbours as they were asked for, vectors by id, rows, and rows by document."""

    neighbours: list[Neighbours]
    vectors: dict[str, np.ndarray]
    rows: int
    filed: pa.Table


def scan_file(batches: Iterable[pa.RecordBatch], errand: Errand) -> Findings:
    """Look through one import file."""
    search = ExactSearch(errand.asked, metric=errand.metric, memory_bytes=errand.memory_bytes)
    vectors: dict[str, np.ndarray] = {}
    filed = [FILED_SCHEMA.empty_table()]
    rows = 0
    room: np.ndarray | None = None
    for block in in_blocks(batches, search.block_rows):
        matrix = vector_matrix(block, room)
        room = matrix if room is None or matrix.size > room.size else room
        search.add(block, matrix)
        vectors |= _wanted(block, matrix, errand.wanted)
        filed.append(_filed(block, matrix))
        rows += block.num_rows
    return Findings(neighbours=search.found(), vectors=vectors, rows=rows, filed=pa.concat_tables(filed))


def merge_findings(parts: Sequence[Findings], errand: Errand) -> Findings:
    """Return what all the files say together."""
    return Findings(
        neighbours=[
            merge_neighbours([part.neighbours[place] for part in parts], ask.k)
            for place, ask in enumerate(errand.asked)
        ],
        vectors={chunk: vector for part in parts for chunk, vector in part.vectors.items()},
        rows=sum(part.rows for part in parts),
        filed=pa.concat_tables([part.filed for part in parts]),
    )


def _wanted(rows: pa.Table, vectors: np.ndarray, ids: pa.Array) -> dict[str, np.ndarray]:
    is_wanted = pc.is_in(rows.column(ID_COLUMN), ids)
    return dict(zip(rows.column(ID_COLUMN).filter(is_wanted).to_pylist(), vectors[is_wanted.to_numpy()], strict=True))


def _filed(rows: pa.Table, vectors: np.ndarray) -> pa.Table:
    """Count and add up each document's rows, as the embedding store did when it wrote them."""
    texts = rows.column("text").to_pylist()
    digests = [passage_digest(text, vector.data) for text, vector in zip(texts, vectors, strict=True)]
    # Sums of unsigned numbers leave multiples of 2**64 out, and so of DIGESTS.
    held = pa.table({"document": rows.column("document"), "digest": pa.array(digests, pa.uint64())})
    counted = held.group_by("document").aggregate([("digest", "count"), ("digest", "sum")])
    digest = pc.bit_wise_and(counted.column("digest_sum"), pa.scalar(DIGESTS - 1, pa.uint64()))
    return pa.table(
        [counted.column("document"), counted.column("digest_count"), digest.cast(pa.int64())], schema=FILED_SCHEMA
    )
