"""Corpora and releases in, Airflow's pages of them out. What a page does, its script asks of Airflow's own API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from reindex import charts
from reindex.naming import dag_id
from reindex.report import measured_facts, templates
from reindex.standing import Rights, Standing, Waiting

REJECTS_ON_PAGE = 100
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
# Where the bars of the timeline begin: their names are shorter.
_BARS_FROM = 90.0


def render_corpora(
    standings: Sequence[Standing], next_runs: Mapping[str, str], waiting: Mapping[str, Sequence[Waiting]], *, root: str
) -> str:
    """Return the page of all corpora; `root` is where the pages lie."""
    return _page("corpora.html.jinja", root=root, standings=standings, next_runs=next_runs, waiting=waiting)


def render_corpus(
    standing: Standing,
    rows: Sequence[dict[str, Any]],
    waiting: Sequence[Waiting],
    rights: Rights,
    form: Sequence[Mapping[str, Any]],
    *,
    page: int,
    pages: int,
    root: str,
) -> str:
    """Return the page of a corpus and of one page of its releases, as `release_row` makes them.

    `form` has what a run may be asked for: each parameter's `name`, JSON `schema`, `value` and `description`.
    """
    oldest_first = rows[::-1]
    bounds = [row["recall_bound"] for row in oldest_first]
    minutes = [row["seconds"] / _MINUTE if row["seconds"] else None for row in oldest_first]
    return _page(
        "corpus.html.jinja",
        root=root,
        standing=standing,
        rows=rows,
        page=page,
        pages=pages,
        waiting=waiting,
        rights=rights,
        form=form if rights.run else [],
        acts=rights.run or rights.roll_back or rights.answer,
        dag=dag_id(standing.corpus),
        recall_chart=charts.series_chart(bounds, top=1.0),
        duration_chart=charts.series_chart(minutes),
    )


def render_release(report: dict[str, Any], progress: Mapping[str, int], measured: dict[str, Any], *, root: str) -> str:
    """Return the page of one release from what `release_report` says of it, how far its stage is, and its recall.json.

    Before it is verified, `measured` is what `live_search_facts` says.
    """
    return _page(
        "release.html.jinja",
        root=root,
        report=report,
        progress=progress,
        timeline=_timeline(report),
        **measured_facts(measured),
    )


def render_rejects(rejects: pa.Table, *, corpus: str, release: str, find: str, page: int, root: str) -> str:
    """Return one page of a release's rejects whose key, reason or detail holds a text."""
    found = rejects.filter(_holds(rejects, find)) if find else rejects
    pages = max(1, -(-found.num_rows // REJECTS_ON_PAGE))
    page = min(max(page, 1), pages)
    rows = found.sort_by([("key", "ascending"), ("member", "ascending")])
    return _page(
        "rejects.html.jinja",
        root=root,
        corpus=corpus,
        release=release,
        find=find,
        page=page,
        pages=pages,
        rows=rows.slice((page - 1) * REJECTS_ON_PAGE, REJECTS_ON_PAGE).to_pylist(),
        found=found.num_rows,
        all=rejects.num_rows,
    )


def _holds(rejects: pa.Table, text: str) -> pa.ChunkedArray:
    columns = [pc.match_substring(rejects.column(name), text, ignore_case=True) for name in ("key", "reason", "detail")]
    return pc.or_(pc.or_(columns[0], columns[1]), columns[2])


def _timeline(report: dict[str, Any]) -> list[charts.Bar]:
    """Return a bar for each stage that is over, from when it began to when it ended."""
    began = {stage: datetime.fromisoformat(at).timestamp() for stage, at in report["started"].items()}
    if not began:
        return []
    first = min(began.values())
    last = max(at + report["seconds"][stage] for stage, at in began.items())
    scale = (charts.WIDTH - _BARS_FROM) / max(last - first, 1.0)
    return [
        charts.Bar(
            x=round(_BARS_FROM + (at - first) * scale, 1),
            y=0.0,
            width=round(max(2.0, report["seconds"][stage] * scale), 1),
            height=0.0,
            label=stage,
            value=round(report["seconds"][stage]),
        )
        for stage, at in began.items()
    ]


def _page(template: str, **facts: Any) -> str:
    environment = templates()
    environment.filters |= {"moment": _moment, "age": _age}
    html = environment.get_template(template).render({"charts": charts, "now": datetime.now(UTC), **facts})
    return html.encode("utf-8", "replace").decode()


def _moment(at: Any) -> str | None:
    return datetime.fromisoformat(at).strftime("%Y-%m-%d %H:%M UTC") if at else None


def _age(at: str, now: datetime) -> str:
    seconds = (now - datetime.fromisoformat(at)).total_seconds()
    for size, word in ((_DAY, "days"), (_HOUR, "hours"), (_MINUTE, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {word}"
    return "a minute"
