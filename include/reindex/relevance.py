"""Rankings and judgements in, relevance out: nDCG, recall and MRR, and whether a release is worse than the live one.

The measures are those of trec_eval, which BEIR reports (N. Thakur et al., "BEIR: A Heterogeneous Benchmark for
Zero-shot Evaluation of Information Retrieval Models", 2021). A ranking is a list of document ids, best first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from posixpath import splitext
from statistics import fmean

from reindex.judgements import Judgements

# As deep as any measure looks.
RANKING_DEPTH = 100
_RESAMPLES = 10_000
_GATED = "ndcg@10"

Rankings = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Relevance:
    """What a candidate's rankings are worth, through its index and by exact search, and beside the live release's.

    `missing_documents` counts relevant documents that the candidate does not index. `difference` is candidate - live
    in nDCG@10, between one-sided bounds at `confidence`; `lost_to_search` is what the index misses of exact search,
    `lost_to_content` what exact search of the live release had over that of the candidate, both in nDCG@10.
    """

    note: str = ""
    queries: int
    missing_documents: int
    tolerance: float
    confidence: float
    candidate: dict[str, float]
    candidate_exact: dict[str, float]
    live: dict[str, float] | None
    live_exact: dict[str, float] | None
    difference: float | None
    low: float | None
    high: float | None
    lost_to_search: float
    lost_to_content: float | None

    @property
    def is_worse(self) -> bool:
        """Whether the candidate is worse than the live release by more than the tolerance, with confidence."""
        return self.high is not None and self.high < -self.tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The mean of candidate - live over queries, between one-sided bounds; all None where nothing is live."""

    difference: float | None = None
    low: float | None = None
    high: float | None = None


def judged_id(name: str, ids: set[str]) -> str:
    """Return the id that a document is judged by: its name, else that without its last suffix; the name if neither is.

    The name is the object's key after the corpus's prefix.
    """
    stem = splitext(name)[0]
    return name if name in ids or stem not in ids else stem


def rank_documents(names: Iterable[str], ids: set[str]) -> list[str]:
    """Return the ranking of documents from the documents of ranked chunks: each stands where its best chunk does."""
    return list(dict.fromkeys(judged_id(name, ids) for name in names))


def missing_documents(judgements: Judgements, names: Iterable[str]) -> list[str]:
    """Return the relevant documents' ids that no name of an index stands for, sorted."""
    ids, missing = judgements.judged_ids(), judgements.relevant_ids()
    for name in names:
        missing.discard(judged_id(name, ids))
    return sorted(missing)


def ndcg(ranking: Sequence[str], grades: Mapping[str, int], *, k: int) -> float:
    """Return nDCG@k with linear gain (K. Järvelin and J. Kekäläinen, 2002; trec_eval's `ndcg_cut`).

    The ideal ranking is over all judged documents, those too that are not in the index.
    """
    gains = [grades.get(document, 0) for document in ranking[:k]]
    return _dcg(gains) / _dcg(sorted(grades.values(), reverse=True)[:k])


def recall(ranking: Sequence[str], grades: Mapping[str, int], *, k: int) -> float:
    """Return which share of the relevant documents is among the first k."""
    relevant = {document for document, grade in grades.items() if grade > 0}
    return len(relevant.intersection(ranking[:k])) / len(relevant)


def reciprocal_rank(ranking: Sequence[str], grades: Mapping[str, int], *, k: int) -> float:
    """Return 1 / the rank of the first relevant document, from 1; 0 if it is not among the first k."""
    ranks = (rank for rank, document in enumerate(ranking[:k], start=1) if grades.get(document, 0) > 0)
    return 1 / next(ranks, math.inf)


MEASURES: dict[str, Callable[[Sequence[str], Mapping[str, int]], float]] = {
    "ndcg@10": partial(ndcg, k=10),
    "recall@10": partial(recall, k=10),
    "recall@100": partial(recall, k=RANKING_DEPTH),
    "mrr@10": partial(reciprocal_rank, k=10),
}


def measure_queries(judgements: Judgements, rankings: Rankings) -> dict[str, list[float]]:
    """Return each measure of each query; rankings and values are in the order of the judgements' queries."""
    judged = list(zip(rankings, (judgements.grades[query] for query in judgements.queries), strict=True))
    return {name: [measured(ranking, grades) for ranking, grades in judged] for name, measured in MEASURES.items()}


def mean_measures(measured: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: fmean(values) for name, values in measured.items()}


def compare(candidate: Sequence[float], live: Sequence[float], *, confidence: float, seed: int) -> Comparison:
    """Compare two systems by their values for the same queries, with a paired bootstrap of the mean difference.

    Queries are drawn with replacement, and the bounds are percentiles of what their mean comes to (B. Efron and
    R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13).
    """
    import numpy as np

    differences = np.subtract(candidate, live)
    count, random = len(differences), np.random.default_rng(seed)
    means = [differences[random.integers(0, count, count)].mean() for _ in range(_RESAMPLES)]
    low, high = np.quantile(means, [1 - confidence, confidence])
    return Comparison(difference=float(differences.mean()), low=float(low), high=float(high))


def assess_relevance(
    judgements: Judgements,
    *,
    candidate: Rankings,
    candidate_exact: Rankings,
    live: Rankings | None,
    live_exact: Rankings | None,
    missing: int,
    tolerance: float,
    confidence: float,
    seed: int = 0,
) -> Relevance:
    """Measure a candidate's rankings, and those of the live release where there is one, and compare the two."""
    asked = {"candidate": candidate, "candidate_exact": candidate_exact, "live": live, "live_exact": live_exact}
    measured = {name: measure_queries(judgements, rankings) for name, rankings in asked.items() if rankings is not None}
    means = {name: mean_measures(values) for name, values in measured.items()}
    gated = {name: values[_GATED] for name, values in measured.items()}
    compared = Comparison()
    if "live" in gated:
        compared = compare(gated["candidate"], gated["live"], confidence=confidence, seed=seed)
    exact = means["candidate_exact"][_GATED]
    return Relevance(
        queries=len(judgements.queries),
        missing_documents=missing,
        tolerance=tolerance,
        confidence=confidence,
        candidate=means["candidate"],
        candidate_exact=means["candidate_exact"],
        live=means.get("live"),
        live_exact=means.get("live_exact"),
        **asdict(compared),
        lost_to_search=exact - means["candidate"][_GATED],
        lost_to_content=means["live_exact"][_GATED] - exact if "live_exact" in means else None,
    )


def _dcg(gains: Sequence[int]) -> float:
    return sum(max(gain, 0) / math.log2(rank + 1) for rank, gain in enumerate(gains, start=1))
