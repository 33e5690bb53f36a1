"""Vectors of queries in, rankings of documents out: an index's chunks, asked for until there are documents enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from reindex.index_types import Params
from reindex.relevance import RANKING_DEPTH, rank_documents
from reindex.store import VectorStore

if TYPE_CHECKING:
    import numpy as np

_FIRST_CHUNKS = 200
# Milvus gives no more hits to one query.
_MOST_CHUNKS = 16_384
# What one call brings back: 100 queries to begin with.
_CALL_HITS = 20_000


def search_rankings(
    store: VectorStore,
    collection: str,
    queries: np.ndarray,
    *,
    search_params: Callable[[int], Params],
    name_of: Callable[[str], str],
    ids: set[str],
) -> list[list[str]]:
    """Return each query's ranking of documents, 100 deep where the index has so many among the chunks it can give.

    `search_params` says how to search for so many chunks, `name_of` what follows the corpus's prefix in a key, `ids`
    by what documents are judged. Nothing is hidden: permissions are the readers'.
    """
    rankings: list[list[str]] = [[] for _ in queries]
    most = min(store.count_rows(collection), _MOST_CHUNKS)
    for chunks in _depths(most):
        short = [query for query, ranking in enumerate(rankings) if len(ranking) < RANKING_DEPTH]
        at_once = max(1, _CALL_HITS // chunks)
        for start in range(0, len(short), at_once):
            batch = short[start : start + at_once]
            vectors, params = queries[batch].tolist(), search_params(chunks)
            answers = store.search(collection, vectors, k=chunks, params=params, columns=["document"])
            for query, answer in zip(batch, answers, strict=True):
                rankings[query] = rank_documents((name_of(hit.fields["document"]) for hit in answer), ids)
    return rankings


def _depths(most: int) -> Iterator[int]:
    """Yield how many chunks to ask for: twice as many each time, until all are asked for."""
    chunks = _FIRST_CHUNKS
    while chunks < most:
        yield chunks
        chunks *= 2
    yield min(chunks, _MOST_CHUNKS)
