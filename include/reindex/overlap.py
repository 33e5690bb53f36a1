"""The answers of a release and of what is live to the same questions: what they share, and where they differ most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reindex.index_types import Params
from reindex.records import ID_COLUMN, Hit
from reindex.store import VectorStore
from reindex.tuning import search_batches

if TYPE_CHECKING:
    import numpy as np

_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two: its collection, the queries as its model makes them, and what production searches with."""

    store: VectorStore
    collection: str
    vectors: np.ndarray
    params: Params

    def hits(self, k: int) -> list[list[Hit]]:
        """Return the answers, with the keys of the documents."""
        asked = search_batches(self.store, self.collection, self.vectors, k=k, params=self.params, columns=["document"])
        return list(asked)


def compare_answers(
    names: Sequence[str], candidate: Sequence[list[Hit]], live: Sequence[list[Hit]], *, k: int
) -> dict[str, Any]:
    """Return the mean share of the k answers that both give, and the questions whose answers have changed the most.

    Questions and documents are named; texts are left out.
    """
    shares = [_shared(ours, theirs) for ours, theirs in zip(candidate, live, strict=True)]
    most_changed = sorted(range(len(names)), key=lambda place: (shares[place], names[place]))[:_SHOWN]
    return {
        "k": k,
        "queries": len(names),
        "mean": sum(shares) / len(shares),
        "changed": [
            {
                "query": names[place],
                "overlap": shares[place],
                "candidate": _documents(candidate[place]),
                "live": _documents(live[place]),
            }
            for place in most_changed
            if shares[place] < 1
        ],
    }


def _shared(ours: list[Hit], theirs: list[Hit]) -> float:
    first, second = ({hit.fields[ID_COLUMN] for hit in hits} for hits in (ours, theirs))
    return len(first & second) / max(len(first), len(second), 1)


def _documents(hits: list[Hit]) -> list[str]:
    return list(dict.fromkeys(hit.fields["document"] for hit in hits))
