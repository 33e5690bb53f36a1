"""Recall as a number: how sure one may be of it, and whether it is good enough."""

from __future__ import annotations

import math
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


def check_recall(recall: Recall, gate: Gate, *, is_unindexed: bool) -> None:
    """Raise RecallTooLow unless the bound reaches the floor; `is_unindexed` says that no index was built.

    A corpus of a few notes gives too few queries for any bound to reach the floor: there every answer must be perfect.
    """
    best_possible = wilson_lower_bound(1.0, recall.queries, recall.confidence)
    is_tiny = is_unindexed and best_possible < gate.min_recall < 1
    passes = recall.mean == 1 if is_tiny else recall.bound >= gate.min_recall
    if not passes or recall.poor_share > MAX_POOR_SHARE:
        raise RecallTooLow(recall.k, recall.bound, gate.min_recall, recall.mean, recall.poor_share)
