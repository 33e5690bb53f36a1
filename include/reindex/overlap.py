"""The answers of a release and of what is live to the same questions: what they share, and where they differ most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reindex.records import ID_COLUMN
from reindex.store import VectorStore

_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two: its collection, and the ids that it has answered each query with, as many as production asks."""

    store: VectorStore
    collection: str
    answers: Sequence[Sequence[str]]

    def documents(self, places: Sequence[int]) -> dict[str, str]:
        """Return the keys of the documents of some answers, by id."""
        ids = sorted({chunk for place in places for chunk in self.answers[place]})
        found = self.store.fetch(self.collection, ID_COLUMN, ids, [ID_COLUMN, "document"]) if ids else []
        return {row[ID_COLUMN]: row["document"] for row in found}


def compare_answers(names: Sequence[str], candidate: Side, live: Side, *, k: int) -> dict[str, Any]:
    """Return the mean share of the k answers that both give, and the questions whose answers have changed the most.

    Questions and documents are named; texts are left out.
    """
    ours, theirs = candidate.answers, live.answers
    shares = [_shared(*answers) for answers in zip(ours, theirs, strict=True)]
    order = sorted(range(len(names)), key=lambda place: (shares[place], names[place]))
    changed = [place for place in order[:_SHOWN] if shares[place] < 1]
    our_documents, their_documents = candidate.documents(changed), live.documents(changed)
    return {
        "k": k,
        "queries": len(names),
        "mean": sum(shares) / len(shares),
        "changed": [
            {
                "query": names[place],
                "overlap": shares[place],
                "candidate": _named(ours[place], our_documents),
                "live": _named(theirs[place], their_documents),
            }
            for place in changed
        ],
    }


def _shared(ours: Sequence[str], theirs: Sequence[str]) -> float:
    return len({*ours} & {*theirs}) / max(len(ours), len(theirs), 1)


def _named(answer: Sequence[str], documents: dict[str, str]) -> list[str]:
    """Return the documents of an answer, but for what was erased since."""
    return list(dict.fromkeys(documents[chunk] for chunk in answer if chunk in documents))
