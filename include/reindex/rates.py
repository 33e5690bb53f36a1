"""The reports of a corpus's last releases in, what work costs out: rows a byte, bytes a row, seconds a stage.

A report is the plain content of `<stage>.json`; a release's are a mapping from the stage's name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Reports = dict[str, dict[str, Any]]

# English prose, as the sample corpus: bytes of text for a token, tokens of a chunk.
TEXT_BYTES_A_TOKEN = 4.5
_TOKENS_A_CHUNK = 180
# By so much the same stage over the same work differs from run to run.
_NOISE_SECONDS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The seconds of a stage: some to start up, then some for each unit of its work."""

    fixed: float
    slope: float

    def at(self, work: float) -> float:
        return self.fixed + self.slope * work


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCost:
    """`work` is the key, in the stage's report, of what its seconds grow with; empty if they do not."""

    work: str
    usual: Line


# In the order of the run. Measured on 2 cores: the start-up over a few documents, the slope over 80,000 rows of 384;
# that of the index with M 16, which takes two thirds of the time of 32.
STAGE_COSTS = {
    "plan": StageCost(work="documents", usual=Line(fixed=4, slope=2e-5)),
    "embed": StageCost(work="tokens_embedded", usual=Line(fixed=18, slope=1 / 5000)),
    "assemble": StageCost(work="rows", usual=Line(fixed=8, slope=1e-4)),
    "load": StageCost(work="rows", usual=Line(fixed=6, slope=2e-4)),
    "index": StageCost(work="rows", usual=Line(fixed=12, slope=6e-4)),
    "verify": StageCost(work="rows", usual=Line(fixed=17, slope=2e-4)),
    "promote": StageCost(work="", usual=Line(fixed=3, slope=0)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What documents come to. Bytes of files are None where no report tells them.

    `rows_a_byte` and `tokens_a_byte` are of all text of an embedded document; `embedded_share` is the share of it that
    the last incremental runs had to embed, since an edit leaves most chunks as they were.
    """

    rows_a_byte: float
    tokens_a_byte: float
    embedded_share: float
    part_bytes_a_row: float | None
    import_bytes_a_row: float | None


def corpus_rates(past: Sequence[Reports]) -> Rates:
    """Pool the releases: a large one counts for more than a small one, one that embedded nothing for nothing."""
    told = [
        reports
        for reports in past
        if reports.get("embed", {}).get("bytes_embedded") and "known_chunks" in reports.get("plan", {})
    ]
    incremental = [reports for reports in told if reports["plan"]["reuse"] + reports["plan"]["withhold"]]
    share = _ratio(incremental, _embed("tokens_embedded"), _new("tokens"))
    return Rates(
        rows_a_byte=_ratio(told, _new("chunks"), _embed("bytes_embedded"))
        or 1 / (_TOKENS_A_CHUNK * TEXT_BYTES_A_TOKEN),
        tokens_a_byte=_ratio(told, _new("tokens"), _embed("bytes_embedded")) or 1 / TEXT_BYTES_A_TOKEN,
        embedded_share=1 if share is None else min(share, 1),
        part_bytes_a_row=_ratio([r for r in told if r["embed"].get("bytes")], _embed("bytes"), _new("chunks")),
        import_bytes_a_row=_ratio(
            [reports for reports in past if reports.get("assemble", {}).get("bytes")],
            lambda reports: reports["assemble"]["bytes"],
            lambda reports: reports["assemble"]["rows"],
        ),
    )


def stage_line(stage: str, past: Sequence[Reports]) -> Line:
    """Return the line through what a stage took, and through its usual start-up, so that one release makes a line."""
    cost = STAGE_COSTS[stage]
    reports = [found[stage] for found in past if stage in found]
    points = [(float(report.get(cost.work, 0)), float(report["seconds"])) for report in reports]
    return fit_line([(0.0, cost.usual.fixed), *points], usual_slope=cost.usual.slope)


def bound_by(reports: Reports) -> dict[str, float]:
    """Return the seconds for which a run was bound by each of its resources, that which bound it most first.

    The seconds of embedding are shared out as its writers' time was: to their own work, to waiting for bytes (storage)
    and to waiting for what prepares documents (parsing).
    """
    embed = reports.get("embed", {})
    waiting = {"storage": embed.get("wait_share", 0), "parsing": embed.get("parse_share", 0)}
    shares = {**waiting, "embedding": 1 - sum(waiting.values())}
    found = {name: share * embed.get("seconds", 0) for name, share in shares.items()}
    found |= {
        name: reports.get(stage, {}).get("seconds", 0) for name, stage in (("import", "load"), ("index", "index"))
    }
    return {name: round(found[name], 1) for name in sorted(found, key=found.__getitem__, reverse=True)}


def fit_line(points: Sequence[tuple[float, float]], *, usual_slope: float) -> Line:
    """Return the least-squares line through (work, seconds), neither of its coefficients below zero.

    The slope is drawn to the usual one the more, the less the points' own differences in work would have shown of it
    through the noise: a slope that a few hundred rows seem to have says nothing of a million.
    """
    mean_work = sum(work for work, _ in points) / len(points)
    mean_seconds = sum(seconds for _, seconds in points) / len(points)
    spread = sum((work - mean_work) ** 2 for work, _ in points)
    together = sum((work - mean_work) * (seconds - mean_seconds) for work, seconds in points)
    noise = (_NOISE_SECONDS / usual_slope) ** 2 if usual_slope else 0
    slope = max((together + usual_slope * noise) / (spread + noise), 0) if spread + noise else 0
    fixed = mean_seconds - slope * mean_work
    if fixed >= 0:
        return Line(fixed=fixed, slope=slope)
    # The best line of those through the origin: where a bound is broken, the best point lies on it.
    squares = sum(work**2 for work, _ in points)
    return Line(fixed=0, slope=sum(work * seconds for work, seconds in points) / squares)


def _ratio(past: Sequence[Reports], of: Callable[[Reports], float], to: Callable[[Reports], float]) -> float | None:
    """Return the sum of one figure over the sum of another, or None where there is nothing to divide by."""
    whole = sum(to(reports) for reports in past)
    return sum(of(reports) for reports in past) / whole if whole > 0 else None


def _embed(key: str) -> Callable[[Reports], float]:
    return lambda reports: float(reports["embed"][key])


def _new(key: str) -> Callable[[Reports], float]:
    """Return the figure of the release less that of the documents whose vectors its plan found.

    Not below zero: an erasure takes documents out of a release after its plan.
    """
    return lambda reports: float(max(reports["embed"][key] - reports["plan"][f"known_{key}"], 0))
