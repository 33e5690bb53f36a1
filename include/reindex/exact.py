"""Exact nearest neighbours, computed here in float32: what the index is measured against.

Rows stream past in blocks, so that memory stays within a bound however many there are. torch multiplies, for numpy is
not fast everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from reindex.records import ID_COLUMN, VECTOR_COLUMN
from reindex.slices import Slice

if TYPE_CHECKING:
    import numpy as np
    import torch

_FLOAT_BYTES = 4
# What a row takes beside its vector: its text, and the other columns.
_COLUMN_BYTES = 2048
_FEWEST_ROWS = 64
# Scores whose highest is found at once, which is quicker than sorting them.
_GROUP = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What to look for: vectors of shape (queries, dimension), and how many neighbours of each among which rows."""

    vectors: np.ndarray
    k: int
    within: Slice | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """Each query's best rows, best first; a higher score is better. All of shape (queries, k or fewer).

    `documents` are the keys of the rows' documents, `rows` is how many were looked through.
    """

    ids: np.ndarray
    documents: np.ndarray
    scores: np.ndarray
    rows: int = 0


class ExactSearch:
    """Neighbours of several questions among rows that come block by block.

    `memory_bytes` bounds what is held: two blocks of rows, and the scores of one.
    """

    def __init__(self, asked: Sequence[Asked], *, metric: str, memory_bytes: int) -> None:
        self._asked, self._metric = asked, metric
        queries = max((len(ask.vectors) for ask in asked), default=1)
        dimension = asked[0].vectors.shape[1] if asked else 1
        # The next block is read meanwhile; a metric may need its vectors or scores a second time.
        row_bytes = 2 * (_FLOAT_BYTES * (queries + dimension) + _COLUMN_BYTES)
        self.block_rows = max(_FEWEST_ROWS, memory_bytes // row_bytes)
        self._best: list[list[Neighbours]] = [[] for _ in asked]

    def add(self, rows: pa.Table, vectors: np.ndarray) -> None:
        """Look through up to `block_rows` rows, with ids, documents and the slices' columns, and their vectors."""
        ids, documents = rows.column(ID_COLUMN).to_numpy(), rows.column("document").to_numpy()
        for ask, best in zip(self._asked, self._best, strict=True):
            mask = ask.within.mask(rows).to_numpy(zero_copy_only=False) if ask.within else slice(None)
            found, scores = nearest_rows(vectors[mask], ask.vectors, k=ask.k, metric=self._metric)
            of_block = Neighbours(
                ids=ids[mask][found], documents=documents[mask][found], scores=scores, rows=len(ids[mask])
            )
            best[:] = [merge_neighbours([*best, of_block], ask.k)]

    def found(self) -> list[Neighbours]:
        """Return the neighbours of each question among all rows so far; there must have been some."""
        return [best[0] for best in self._best]


def load_engine() -> None:
    """Load what multiplies, which takes seconds: whoever is going to search may have them to spare now."""
    import torch  # noqa: F401


def merge_neighbours(parts: Sequence[Neighbours], k: int) -> Neighbours:
    """Return the best of several answers to the same question, each over rows of its own."""
    import numpy as np

    scores = np.concatenate([part.scores for part in parts], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    ids, documents = (
        np.take_along_axis(np.concatenate([getattr(part, name) for part in parts], axis=1), order, 1)
        for name in ("ids", "documents")
    )
    return Neighbours(
        ids=ids,
        documents=documents,
        scores=np.take_along_axis(scores, order, 1),
        rows=sum(part.rows for part in parts),
    )


def nearest_rows(vectors: np.ndarray, queries: np.ndarray, *, k: int, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of each query's k best of these vectors, and their scores, by multiplying out."""
    places, scores = _best(_similarity(queries, vectors, metric=metric), min(k, len(vectors)))
    return places.numpy(), scores.numpy()


def _best(scores: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the places of the k best of each row, and their scores.

    They lie in the k groups whose highest scores are the highest, or behind the last whole group.
    """
    import torch

    groups = scores.shape[1] // _GROUP
    if groups <= k:
        best = scores.topk(k, dim=1)
        return best.indices, best.values
    whole = groups * _GROUP
    highest = scores[:, :whole].unflatten(1, (groups, _GROUP)).amax(2).topk(k, dim=1, sorted=False).indices
    rest = torch.arange(whole, scores.shape[1]).expand(len(scores), -1)
    places = torch.cat([(highest.unsqueeze(2) * _GROUP + torch.arange(_GROUP)).flatten(1), rest], dim=1)
    best = scores.gather(1, places).topk(k, dim=1)
    return places.gather(1, best.indices), best.values


def similarity(queries: np.ndarray, vectors: np.ndarray, *, metric: str) -> np.ndarray:
    """Return every query's score against every vector, shape (queries, vectors), higher is better.

    L2 is negated, and squared as Milvus reports it.
    """
    scores: np.ndarray = _similarity(queries, vectors, metric=metric).numpy()
    return scores


def _similarity(queries: np.ndarray, vectors: np.ndarray, *, metric: str) -> torch.Tensor:
    import torch

    left, right = torch.from_numpy(queries), torch.from_numpy(vectors)
    if metric == "COSINE":
        left = torch.nn.functional.normalize(left, dim=1)
        right = torch.nn.functional.normalize(right, dim=1)
    products = left @ right.T
    if metric == "L2":
        products.mul_(2).sub_((left**2).sum(1, keepdim=True)).sub_((right**2).sum(1))
    return products


def in_blocks(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """Gather batches into tables of up to so many rows, each read while the one before is worked on."""
    pieces = _pieces(batches, rows)
    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(next, pieces, None)
        while (block := ahead.result()) is not None:
            ahead = reader.submit(next, pieces, None)
            yield block


def _pieces(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    small = (batch.slice(start, rows) for batch in batches for start in range(0, batch.num_rows, rows))
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in small:
        if count + batch.num_rows > rows:
            yield pa.Table.from_batches(held)
            held, count = [], 0
        held.append(batch)
        count += batch.num_rows
    if held:
        yield pa.Table.from_batches(held)


def vector_matrix(rows: pa.Table | pa.RecordBatch, into: np.ndarray | None = None) -> np.ndarray:
    """Return the vector column of some rows as float32, shape (rows, dimension): in a matrix that has room, if given.

    Memory that is new each time costs as much as looking through it.
    """
    import numpy as np

    column = rows.column(VECTOR_COLUMN)
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    values = [chunk.flatten().to_numpy() for chunk in chunks if len(chunk)]
    count = sum(map(len, values))
    room = into.ravel()[:count] if into is not None and into.size >= count else np.empty(count, "float32")
    if values:
        np.concatenate(values, out=room)
    return room.reshape(rows.num_rows, -1)
