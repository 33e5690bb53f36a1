"""What was measured of a release in, a page for people out: whether it passed, why not, and what that rests on.

The page needs nothing but itself: no script, no font, no picture from elsewhere, so that it can be mailed and kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined, Environment, FileSystemLoader

from reindex import charts

_TEMPLATE = "report.html.jinja"
_NOT_MEASURED = "not measured"
# What each gate asks, in the order in which they are asked. One that is missing was never come to.
_GATES = {
    "ledger": "every listed document is accounted for, and every row arrived",
    "vectors": "the vectors in Milvus are those that were made",
    "rejects": "no more documents are rejected than the corpus allows",
    "recall": "the index finds the true neighbours",
    "relevance": "golden queries are answered as well as by the live release",
    "latency": "an answer comes in time",
}
# The percentiles that live search is drawn by.
_DRAWN = ("p50", "p99")
# What means something in Markdown.
_MARKDOWN = frozenset("\\`*_{}[]()<>#+-!|~")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gate:
    name: str
    asks: str
    verdict: str
    why: str


def render_report(measured: dict[str, Any]) -> str:
    """Return the page of one release from the content of its recall.json, however early its verification ended."""
    html = templates().get_template(_TEMPLATE).render(measured_facts(measured))
    # A name may hold half of a character, which no encoding of the page could carry.
    return html.encode("utf-8", "replace").decode()


def measured_facts(measured: dict[str, Any]) -> dict[str, Any]:
    """Return what `measured.html.jinja` shows of the content of a recall.json."""
    gates = _gates(measured)
    return {
        "measured": measured,
        "headline": _headline(gates),
        "failed": [gate for gate in gates if gate.verdict == "failed"],
        "unverified": [gate for gate in gates if gate.verdict not in {"failed", "passed"}],
        "gates": gates,
        "why_missing": _why_missing(gates),
        "charts": charts,
        **_curve(measured),
        "bars": charts.bar_chart(measured["histogram"]) if measured.get("histogram") else None,
        "interval": _interval(measured),
        "live_chart": _live_chart(measured),
    }


def gates_table(measured: dict[str, Any], address: str) -> str:
    """Return the gates of a release as a table in Markdown, and where the whole report is."""
    rows = [
        f"| {gate.name} | {gate.verdict} | {_in_cell(gate.why)} |"
        for gate in _gates(measured)
        if gate.verdict != _NOT_MEASURED
    ]
    return "\n".join(["| gate | verdict | why |", "| --- | --- | --- |", *rows, "", f"[The whole report]({address})"])


def _in_cell(text: str) -> str:
    """Return a text that neither ends a cell nor begins anything else: names of documents may be in it."""
    return "".join(f"\\{letter}" if letter in _MARKDOWN else letter for letter in " ".join(text.split()))


@cache
def templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        # What is missing is said to be missing, wherever it would have stood.
        undefined=ChainableUndefined,
        finalize=lambda value: _NOT_MEASURED if value is None or isinstance(value, ChainableUndefined) else value,
    )
    environment.filters |= {"decimal": _decimal, "signed": _signed, "count": _count, "percent": _percent}
    return environment


def _gates(measured: dict[str, Any]) -> list[_Gate]:
    judged = {gate["gate"]: gate for gate in measured.get("gates") or []}
    never_reached = {"passed": None, "why": "the verification ended before it came to this gate"}
    return [
        _Gate(
            name=name,
            asks=_GATES.get(name, ""),
            verdict=_verdict(judged[name]["passed"]) if name in judged else _NOT_MEASURED,
            why=judged.get(name, never_reached)["why"],
        )
        for name in [*_GATES, *(name for name in judged if name not in _GATES)]
    ]


def _verdict(passed: bool | None) -> str:
    return "not verified" if passed is None else "passed" if passed else "failed"


def _headline(gates: list[_Gate]) -> str:
    """Return passed, failed or not verified: a gate that was never come to, or nothing but open ones, pass nothing."""
    verdicts = {gate.verdict for gate in gates}
    if "failed" in verdicts:
        return "failed"
    return "passed" if "passed" in verdicts and _NOT_MEASURED not in verdicts else "not verified"


def _why_missing(gates: list[_Gate]) -> str:
    """Return why a part is missing, or nothing if every gate was come to."""
    if all(gate.verdict != _NOT_MEASURED for gate in gates):
        return ""
    failed = ", ".join(gate.name for gate in gates if gate.verdict == "failed")
    return f"the verification ended before this{f'; what failed: {failed}' if failed else ''}"


def _curve(measured: dict[str, Any]) -> dict[str, Any]:
    """Return the two charts of the curve, or none, with the parameter that varies and how many slices there are."""
    curve = measured.get("curve") or []
    parameter = next((name for point in curve for name, value in point["params"].items() if value > 0), None)
    if parameter is None:
        return {"recall_chart": None, "time_chart": None}
    chosen = (measured.get("search_params") or {}).get(parameter)
    points = sorted((float(point["params"][parameter]), point) for point in curve if parameter in point["params"])
    lines = _bounds(points)
    times = [(place, point["milliseconds"]) for place, point in points if _is_number(point.get("milliseconds"))]
    drawn = dict(list(lines.items())[: charts.MAX_LINES])
    floor = measured.get("min_recall")
    return {
        "parameter": parameter,
        "slice_count": len(lines),
        "recall_chart": charts.line_chart(drawn, level=floor, chosen=chosen, top=1.0) if drawn else None,
        "time_chart": charts.line_chart({"milliseconds": times}, chosen=chosen) if times else None,
    }


def _bounds(points: list[tuple[float, dict[str, Any]]]) -> dict[str, list[charts.Point]]:
    """Return the lower bounds of each slice, the whole collection first, then the slices that do worst."""
    lines: dict[str, list[charts.Point]] = {}
    for place, point in points:
        for name, recall in (point.get("slices") or {}).items():
            if recall and _is_number(recall.get("bound")):
                lines.setdefault(name, []).append((place, recall["bound"]))
    worst_first = sorted(lines, key=lambda name: (name != "all", min(bound for _, bound in lines[name])))
    return {name: lines[name] for name in worst_first}


def _interval(measured: dict[str, Any]) -> charts.IntervalChart | None:
    relevance = measured.get("relevance") or {}
    low, value, high = (relevance.get(name) for name in ("low", "difference", "high"))
    if low is None or value is None or high is None:
        return None
    return charts.interval_chart(low, value, high, lowest=-(relevance.get("tolerance") or 0.0))


def _live_chart(measured: dict[str, Any]) -> charts.TimeChart | None:
    """Return the chart of live search over time, each stage's medians and 99th percentiles beside those at rest."""
    idle = (measured.get("live_search") or {}).get("idle") or {}
    spans: dict[str, list[list[charts.Point]]] = {}
    for point in measured.get("live_search_curve") or []:
        # A slice of failed searches alone has neither.
        for line, percentile in enumerate(_DRAWN):
            if all(_is_number(point.get(name)) for name in ("begin", "end", percentile)):
                lines = spans.setdefault(str(point.get("stage")), [[] for _ in _DRAWN])
                lines[line] += [(point["begin"], point[percentile]), (point["end"], point[percentile])]
    levels = {name: idle[name] for name in _DRAWN if _is_number(idle.get(name))}
    return charts.time_chart(spans, levels) if spans else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _decimal(value: Any, digits: int = 4) -> str | None:
    return f"{value:,.{digits}f}" if _is_number(value) else None


def _signed(value: Any, digits: int = 4) -> str | None:
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}") if _is_number(value) else None


def _count(value: Any) -> str | None:
    return f"{value:,}" if _is_number(value) else None


def _percent(value: Any, digits: int = 1) -> str | None:
    return f"{value * 100:.{digits}f}\N{NO-BREAK SPACE}%" if _is_number(value) else None
