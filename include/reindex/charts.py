"""Numbers in, the places of lines, bars and labels of a chart out, in the units of its SVG's view box."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Narrow enough for its labels to be read on a phone, which shows it at two thirds of this width.
WIDTH, HEIGHT = 480, 280
LEFT, RIGHT, TOP, BOTTOM = 50, 464, 30, 236
# A line of its own looks: more than these cannot be told apart.
MAX_LINES = 8
_INSET = 14
_LABEL_WIDTH = 30
_MOST_STEPS = 5

Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A value's name, and its place along the axis."""

    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    x: float
    y: float
    width: float
    height: float
    label: str
    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LineChart:
    """Lines over a logarithmic axis; `level` is the place of a value to be reached, `chosen` of the value in use."""

    lines: dict[str, list[Point]]
    x_labels: list[Label]
    y_labels: list[Label]
    level: float | None
    chosen: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalChart:
    """An interval on one line, with the places of zero and of the lowest value that is tolerated."""

    low: float
    value: float
    high: float
    zero: float
    lowest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeChart:
    """Lines over time, of values on a logarithmic axis; each span of time has a name, each level is a value's place."""

    lines: list[list[Point]]
    levels: dict[str, float]
    spans: list[Label]
    breaks: list[float]
    x_labels: list[Label]
    y_labels: list[Label]


def line_chart(
    lines: dict[str, list[Point]], *, level: float | None = None, chosen: float | None = None, top: float | None = None
) -> LineChart:
    """Lay out lines of (x, y) with x above 0; the y axis ends at `top`, and begins at 0 where that is not given."""
    heights = [y for points in lines.values() for _, y in points]
    ticks = _ticks(0.0, max(heights)) if top is None else _ticks(min([*heights, level or top]), top)
    places = sorted({x for points in lines.values() for x, _ in points} | ({chosen} if chosen else set()))
    first, last = places[0], places[-1]

    def across(x: float) -> float:
        return _along(math.log(x), math.log(first), math.log(last), LEFT + _INSET, RIGHT - _INSET)

    def up(y: float) -> float:
        return _along(y, ticks[0], ticks[-1], BOTTOM, TOP)

    digits = _digits(ticks)
    return LineChart(
        lines={name: [(across(x), up(y)) for x, y in sorted(points)] for name, points in lines.items()},
        x_labels=_spread([Label(at=across(x), text=f"{x:g}") for x in places]),
        y_labels=[Label(at=up(tick), text=f"{tick:.{digits}f}") for tick in ticks],
        level=None if level is None else up(level),
        chosen=across(chosen) if chosen else None,
    )


def time_chart(spans: dict[str, list[list[Point]]], levels: dict[str, float]) -> TimeChart:
    """Lay out, for each span of time by its name, lines of (seconds, value above 0), and levels beside them."""
    every = [point for lines in spans.values() for line in lines for point in line]
    values = [value for _, value in every] + list(levels.values())
    ticks = _powers(min(values), max(values))
    last = max(at for at, _ in every)

    def across(at: float) -> float:
        return _along(at, 0.0, last, LEFT, RIGHT)

    def up(value: float) -> float:
        return _along(math.log(value), math.log(ticks[0]), math.log(ticks[-1]), BOTTOM, TOP)

    begins = [across(min(at for line in lines for at, _ in line)) for lines in spans.values()]
    return TimeChart(
        lines=[[(across(at), up(value)) for at, value in line] for lines in spans.values() for line in lines],
        levels={name: up(value) for name, value in levels.items()},
        spans=_spread([Label(at=at, text=name) for at, name in zip(begins, spans, strict=True)]),
        breaks=begins,
        x_labels=[Label(at=across(at), text=f"{at:g}") for at in _ticks(0.0, last) if at <= last],
        y_labels=[Label(at=up(tick), text=f"{tick:g}") for tick in ticks],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesChart:
    """One line over releases at equal steps."""

    points: list[Point]
    y_labels: list[Label]


def series_chart(values: Sequence[float | None], *, top: float | None = None) -> SeriesChart | None:
    """Lay out values in their order, leaving out what is None; the axis ends at `top`, and begins at 0 without it."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    ticks = _ticks(0.0, max(known)) if top is None else _ticks(min(known), top)
    points = [
        (_along(place, 0, len(values) - 1, LEFT, RIGHT), _along(value, ticks[0], ticks[-1], BOTTOM, TOP))
        for place, value in enumerate(values)
        if value is not None
    ]
    digits = _digits(ticks)
    return SeriesChart(
        points=points,
        y_labels=[
            Label(at=_along(tick, ticks[0], ticks[-1], BOTTOM, TOP), text=f"{tick:.{digits}f}") for tick in ticks
        ],
    )


def bar_chart(counts: Sequence[int]) -> list[Bar]:
    """Lay out a histogram of a share, from 0 to 1 in equal steps. A bar that counts anything can be seen."""
    step = (RIGHT - LEFT) / len(counts)
    highest = max([*counts, 1])
    bars = []
    for place, count in enumerate(counts):
        height = max(2.0, (BOTTOM - TOP) * count / highest) if count else 0.0
        label = f"{place / max(1, len(counts) - 1):.1f}"
        x = round(LEFT + place * step + step * 0.1, 1)
        bars.append(
            Bar(x=x, y=round(BOTTOM - height, 1), width=round(step * 0.8, 1), height=height, label=label, value=count)
        )
    return bars


def interval_chart(low: float, value: float, high: float, *, lowest: float) -> IntervalChart:
    first, last = min(low, lowest, 0.0), max(high, 0.0)
    margin = (last - first or 1.0) * 0.1
    low, value, high, zero, lowest = (
        _along(number, first - margin, last + margin, _INSET, WIDTH - _INSET)
        for number in (low, value, high, 0.0, lowest)
    )
    return IntervalChart(low=low, value=value, high=high, zero=zero, lowest=lowest)


def _along(value: float, first: float, last: float, start: float, end: float) -> float:
    """Return the place between start and end that the value has between first and last; the middle if they are one."""
    share = (value - first) / (last - first) if last > first else 0.5
    return round(start + share * (end - start), 1)


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers, at equal steps, that begin at or below `low` and end at or above `high`."""
    rough = max(high - low, abs(high) * 0.01, 1e-6) / _MOST_STEPS
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(min(first, last - 1), last + 1)]


def _powers(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten, from one at or below `low` to one at or above `high`."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = [factor * 10.0**power for power in range(first, last + 1) for factor in (1, 2, 5)]
    lowest = max(step for step in steps if step <= low * (1 + 1e-9))
    highest = min(step for step in steps if step >= high * (1 - 1e-9) and step > lowest)
    return [step for step in steps if lowest <= step <= highest]


def _digits(ticks: list[float]) -> int:
    return max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))


def _spread(labels: list[Label]) -> list[Label]:
    """Leave out labels that would be printed over the one before."""
    kept: list[Label] = []
    for label in labels:
        if not kept or label.at - kept[-1].at >= _LABEL_WIDTH:
            kept.append(label)
    return kept
