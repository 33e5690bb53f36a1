"""How much each search setting finds, slice by slice, and the least that finds enough."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from reindex.exact import Neighbours, similarity
from reindex.index_types import INDEX_TYPES, Params, at_least
from reindex.recall import Recall, meets, recall_over
from reindex.records import ID_COLUMN, Hit
from reindex.releases import ReleaseFiles
from reindex.settings import Gate, Index
from reindex.slices import Slice
from reindex.store import VectorStore

if TYPE_CHECKING:
    import numpy as np

EVERYTHING = "all"
# Readers whose searches come meanwhile wait for no more than so many at once. Half as many take the server nearly as
# long: most of the time is the search's own, however many it asks.
SEARCH_BATCH = 32
# Scores are added up in another order, and in another precision, by the server: within this, of the k-th's, they tie.
TIE_TOLERANCE = 1e-4
_BINS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What one setting has answered: ids for each query by the slice's name, and a query's milliseconds, in batches."""

    params: Params
    ids: dict[str, list[list[str]]]
    milliseconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """What one setting finds: by the slice's name, each query's recall, and what they come to.

    A slice without rows has none. `answers` are the ids among all rows for each query, one more than is asked for.
    """

    params: Params
    milliseconds: float
    answers: list[list[str]]
    recalls: dict[str, list[float]]
    slices: dict[str, Recall]

    def meets(self, gate: Gate, *, is_unindexed: bool) -> bool:
        return all(meets(recall, gate, is_unindexed=is_unindexed) for recall in self.slices.values())

    def point(self) -> dict[str, Any]:
        """Return the rung as a point of the curve."""
        slices = {name: {"mean": recall.mean, "bound": recall.bound} for name, recall in self.slices.items()}
        return {"params": self.params, "milliseconds": round(self.milliseconds, 3), "slices": slices}


def settings_to_try(index: Index, k: int) -> list[Params]:
    """Return the search settings from the quickest to the most thorough, and one that is pinned in its place."""
    ladder = INDEX_TYPES[index.type].ladder(k, index.params)
    if not index.search or index.search in ladder:
        return ladder
    return sorted([*ladder, index.search], key=lambda params: tuple(params.values()))


def production_params(files: ReleaseFiles, k: int) -> Params:
    """Return what searches of a release set when they ask for k: what verifying it has found, or is to find out."""
    verified, index = files.report("verify") or {}, files.corpus().index
    found = verified.get("search_params")
    if found is None:
        found = index.search or INDEX_TYPES[index.type].thorough(k, index.params)
    return at_least(found, k)


def answer_all(
    store: VectorStore,
    collection: str,
    vectors: np.ndarray,
    *,
    k: int,
    params: Params,
    slices: Sequence[Slice | None],
) -> Answered:
    """Return what the index answers to each query in each slice (None: all rows), with one setting.

    It waits for nothing that was written before: whoever tries several settings has waited once, and none is timed with
    it.
    """
    ids, seconds = {}, 0.0
    for within in slices:
        started = time.monotonic()
        ids[name_of(within)] = search_all(
            store, collection, vectors, k=k, params=params, within=within, is_strong=False
        )
        if within is None:
            seconds = time.monotonic() - started
    return Answered(params=params, ids=ids, milliseconds=1000 * seconds / len(vectors))


def search_all(
    store: VectorStore,
    collection: str,
    vectors: np.ndarray,
    *,
    k: int,
    params: Params,
    within: Slice | None = None,
    is_strong: bool = True,
) -> list[list[str]]:
    """Return the ids that the index gives for each query."""
    answers = search_batches(store, collection, vectors, k=k, params=params, within=within, is_strong=is_strong)
    return [[hit.fields[ID_COLUMN] for hit in answer] for answer in answers]


def search_batches(
    store: VectorStore,
    collection: str,
    vectors: np.ndarray,
    *,
    k: int,
    params: Params,
    columns: Sequence[str] = (),
    within: Slice | None = None,
    is_strong: bool = True,
) -> Iterator[list[Hit]]:
    """Yield the answer to each query, some at a time.

    The first search waits for everything that was written before it, if it is to be strong; those after it find that
    there, for a collection is loaded once.
    """
    for start in range(0, len(vectors), SEARCH_BATCH):
        batch = vectors[start : start + SEARCH_BATCH].tolist()
        yield from store.search(
            collection, batch, k=k, params=params, columns=columns, within=within, is_strong=is_strong and start == 0
        )


def name_of(within: Slice | None) -> str:
    return within.name if within else EVERYTHING


def measure_rung(
    answered: Answered,
    exact: Mapping[str, Neighbours],
    queries: Queries,
    vectors: Mapping[str, np.ndarray],
    gate: Gate,
) -> Rung:
    """Return how much of the exact answers a setting has found; `vectors` are those of the rows that were answered."""
    recalls: dict[str, list[float]] = {}
    slices: dict[str, Recall] = {}
    for name, answers in answered.ids.items():
        found = [
            recall_of(exact[name], place, answer, queries, vectors, k=gate.k) for place, answer in enumerate(answers)
        ]
        recalls[name] = [recall for recall, _ in found if recall is not None]
        if recalls[name]:
            slices[name] = recall_over(
                recalls[name], k=gate.k, confidence=gate.confidence, short_answers=sum(short for _, short in found)
            )
    return Rung(
        params=answered.params,
        milliseconds=answered.milliseconds,
        answers=answered.ids[EVERYTHING],
        recalls=recalls,
        slices=slices,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Queries:
    """Queries as they are searched: vectors (queries, dimension), and the ids that are not answers to themselves."""

    vectors: np.ndarray
    own: list[str]
    metric: str


def recall_of(
    exact: Neighbours,
    place: int,
    answer: Sequence[str],
    queries: Queries,
    vectors: Mapping[str, np.ndarray],
    *,
    k: int,
) -> tuple[float | None, bool]:
    """Return the share of a query's k places that hold a true neighbour, or one as good, and if the answer was short.

    A row is as good if its exact score is within TIE_TOLERANCE of the k-th: ids alone would punish ties, of which there
    are many among documents that repeat each other. None where nothing could be found.
    """
    own = queries.own[place]
    true = [(chunk, score) for chunk, score in zip(exact.ids[place], exact.scores[place], strict=True) if chunk != own][
        :k
    ]
    given = list(dict.fromkeys(chunk for chunk in answer if chunk != own))[:k]
    if not true:
        return None, False
    known = {chunk for chunk, _ in true}
    others = [chunk for chunk in given if chunk not in known and chunk in vectors]
    hits = len(given) - len(set(given) - known) + _as_good(others, float(true[-1][1]), place, queries, vectors)
    return min(hits, len(true)) / len(true), len(given) < len(true)


def _as_good(ids: list[str], kth: float, place: int, queries: Queries, vectors: Mapping[str, np.ndarray]) -> int:
    if not ids:
        return 0
    import numpy as np

    scores = similarity(
        queries.vectors[place : place + 1], np.stack([vectors[chunk] for chunk in ids]), metric=queries.metric
    )
    return int((scores >= tie_floor(kth)).sum())


def tie_floor(kth: float) -> float:
    """Return the least score that counts as the k-th best."""
    return kth - TIE_TOLERANCE * abs(kth)


def choose_rung(rungs: Sequence[Rung], index: Index, gate: Gate, *, is_unindexed: bool) -> Rung:
    """Return the pinned setting, or the first that meets the gate in every slice, or else the most thorough."""
    if index.search:
        return next(rung for rung in rungs if rung.params == index.search)
    return next((rung for rung in rungs if rung.meets(gate, is_unindexed=is_unindexed)), rungs[-1])


def advise(rungs: Sequence[Rung], index: Index, gate: Gate, *, is_unindexed: bool) -> str:
    """Return what would find enough, for people: another setting, or another index."""
    enough = next((rung for rung in rungs if rung.meets(gate, is_unindexed=is_unindexed)), None)
    if enough and index.search:
        return f"index.search pins {as_text(index.search)}, and {as_text(enough.params)} would do: pin nothing"
    tried = f"no setting finds enough, {as_text(rungs[-1].params)} the most thorough: " if rungs[-1].params else ""
    return f"{tried}{INDEX_TYPES[index.type].remedy}; or lower gate.min_recall"


def as_text(params: Params) -> str:
    return ", ".join(f"{name} {value}" for name, value in params.items())


def histogram(recalls: Sequence[float]) -> list[int]:
    """Return how many queries have a recall of 0, up to 0.1, and so on to 1."""
    counts = [0] * (_BINS + 1)
    for recall in recalls:
        counts[int(recall * _BINS + 1e-9)] += 1
    return counts


def slice_rows(rung: Rung, exact: Mapping[str, Neighbours], gate: Gate, *, is_unindexed: bool) -> list[dict[str, Any]]:
    """Return each slice as the report shows it."""
    shown = []
    rows = exact[EVERYTHING].rows
    for name, neighbours in exact.items():
        recall = rung.slices.get(name)
        passed = meets(recall, gate, is_unindexed=is_unindexed) if recall else None
        shown.append(
            {
                "name": name,
                "rows": neighbours.rows,
                "share": neighbours.rows / rows,
                "recall": asdict(recall) if recall and not is_unindexed else None,
                "note": "" if recall else "no row is in it",
                "passed": passed,
            }
        )
    return shown
