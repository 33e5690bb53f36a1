"""Recall as a number: how sure one may be of it, and whether it is good enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from reindex.errors import RecallTooLow
from reindex.settings import Gate

# Queries that find fewer than half of their neighbours: a good mean can hide them.
POOR_RECALL = 0.5
MAX_POOR_SHARE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """Recall@k over some queries; `bound` is the lower end of the confidence interval of the mean."""

    k: int
    queries: int
    mean: float
    bound: float
    confidence: float
    poor_share: float
    short_answers: int


def wilson_lower_bound(mean: float, count: int, confidence: float) -> float:
    """Return the one-sided lower bound of a mean of values between 0 and 1 (Wilson's score interval, 1927).

    It treats each value as all or nothing, which no such values can vary more than; unlike the usual interval it does
    not call a perfect sample certain.
    """
    z = NormalDist().inv_cdf(confidence)
    centre = mean + z * z / (2 * count)
    spread = z * math.sqrt(mean * (1 - mean) / count + z * z / (4 * count * count))
    return (centre - spread) / (1 + z * z / count)


def recall_over(recalls: Sequence[float], *, k: int, confidence: float, short_answers: int = 0) -> Recall:
    """Return what some queries' recalls come to; there must be one."""
    mean = sum(recalls) / len(recalls)
    return Recall(
        k=k,
        queries=len(recalls),
        mean=mean,
        bound=wilson_lower_bound(mean, len(recalls), confidence),
        confidence=confidence,
        poor_share=sum(recall < POOR_RECALL for recall in recalls) / len(recalls),
        short_answers=short_answers,
    )


def meets(recall: Recall, gate: Gate, *, is_unindexed: bool) -> bool:
    """Return whether the bound reaches the floor, and few queries find next to nothing.

    `is_unindexed` says that no index was built, for there are too few rows: what answers is searched nearly exactly,
    and the few queries that there are give no bound that reaches a floor. Then the mean decides.
    """
    reached = recall.mean if is_unindexed else recall.bound
    return reached >= gate.min_recall and recall.poor_share <= MAX_POOR_SHARE


def check_recall(recall: Recall, gate: Gate, *, is_unindexed: bool, where: str = "", advice: str = "") -> None:
    """Raise RecallTooLow unless the gate is met; `where` names a slice, `advice` says what would find more."""
    if not meets(recall, gate, is_unindexed=is_unindexed):
        raise RecallTooLow(recall.k, recall.bound, gate.min_recall, recall.mean, recall.poor_share, where, advice)
