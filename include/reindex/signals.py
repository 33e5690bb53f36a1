"""What a release came to in, its metrics out: names and tags that do not change from night to night."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_PREFIX = "reindex.release"
# Counted once for each run that misses its deadline.
LATE_METRIC = f"{_PREFIX}.late"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One gauge: what it measures is in its name, of what in its tags."""

    name: str
    value: float
    tags: dict[str, str]


def release_metrics(report: dict[str, Any]) -> Iterator[Metric]:
    """Yield the metrics of what `release_report` says; what was not measured has none."""
    corpus = {"corpus": report["corpus"]}
    for stage, seconds in report["seconds"].items():
        yield Metric(name=f"{_PREFIX}.stage_seconds", value=seconds, tags={**corpus, "stage": stage})
    for reason, documents in report["rejected_by_reason"].items():
        yield Metric(name=f"{_PREFIX}.rejects", value=documents, tags={**corpus, "reason": reason})
    during = (report["live_search"] or {}).get("during") or {}
    measured = {
        "documents": report["indexed"],
        # In all: a reason that no document has tonight has no metric, and its last value would stand for tonight's.
        "rejected": report["rejected"],
        "rows": report["rows"],
        "recall_bound": (report["recall"] or {}).get("bound"),
        "live_p99_ms": during.get("p99"),
        "promoted": int(report["promoted"]),
    }
    for name, value in measured.items():
        if value is not None:
            yield Metric(name=f"{_PREFIX}.{name}", value=value, tags=corpus)
