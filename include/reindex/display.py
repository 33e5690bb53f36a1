"""What the command line shows: answers as JSON or as tables and lines for people."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from reindex.groups import EVERYONE
from reindex.relevance import MEASURES

_SHOWN_CHARACTERS = 300
_PIPE_WIDTH = 200
_PASSED = {True: "passed", False: "FAILED", None: "not verified"}
out = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def stage_line(stage: str, report: dict[str, Any]) -> str:
    """Return what one finished stage says of itself."""
    counts = [f"{report[name]:,} {name}" for name in ("documents", "rejected", "chunks", "rows") if name in report]
    forecast = [_forecast(report["forecast"])] if report.get("forecast") else []
    return f"{stage:<9} {report.get('seconds', 0):7.1f} s  {', '.join(counts + forecast)}"


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))  # noqa: T201 - the command's answer


def print_table(rows: list[dict[str, Any]]) -> None:
    shown = [name for name in (rows[0] if rows else {}) if any(row[name] not in (None, "") for row in rows)]
    table = Table(*shown, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in shown))
    out.print(table if rows else "nothing yet")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return _params(value)
    return (
        f"{value:.4f}"
        if isinstance(value, float) and value <= 1
        else f"{value:,}"
        if isinstance(value, int | float)
        else str(value)
    )


def print_rejects(release: str, rows: list[dict[str, Any]]) -> None:
    """Print each reject on a line; a name may hold anything, so it is shown as Python would write it if it must be."""
    out.print(f"{release}: {len(rows):,} rejected", markup=False, soft_wrap=True)
    for row in rows:
        name = "#".join(filter(None, (row["key"], row["member"])))
        shown = name if name.isprintable() else repr(name)
        out.print(f"{shown}  {row['reason']}: {row['detail']}", markup=False, soft_wrap=True)


def print_report(report: dict[str, Any]) -> None:
    lines = _unchanged_lines(report) if report["outcome"] == "unchanged" else _release_lines(report)
    _print_lines(lines)


def _unchanged_lines(report: dict[str, Any]) -> dict[str, str]:
    return {
        "unchanged": f"{report['listed']:,} documents listed, as they are in the live release: it stands",
        "live": report["live"],
        **_snapshot_lines(report),
    }


def _snapshot_lines(report: dict[str, Any]) -> dict[str, str]:
    """Return what a reader must know of the listing: not of the present, not complete, or more gone than is allowed."""
    moment = f"{report['as_of']}, listed {report['listing']}" if report["listing"] in {"exact", "approximate"} else ""
    erased = f"{report['erased']:,} erased documents still lie in the bucket: left out" if report["erased"] else ""
    hidden = f"{report['hidden']:,} documents of unknown permissions: nobody finds them" if report["hidden"] else ""
    return {"as of": moment, "erased": erased, "hidden": hidden, "WARNING": report["warning"]}


def _release_lines(report: dict[str, Any]) -> dict[str, str]:
    recall = report["recall"] or {}
    accounted = report["reused"] + report["embedded"] + report["rejected"]
    return {
        "release": report["release"],
        "documents": f"{report['listed']:,} listed = {report['reused']:,} reused + {report['embedded']:,} embedded "
        f"+ {report['rejected']:,} rejected ({accounted / report['listed']:.0%} accounted for)",
        "withdrawn": f"{report['withdrawn']:,} documents left the index" if report["withdrawn"] else "",
        **_snapshot_lines(report),
        "rejects": ", ".join(f"{count} {reason}" for reason, count in report["rejected_by_reason"].items()) or "none",
        "chunks": f"{report['chunks']:,} = {report['chunks_embedded']:,} embedded + {report['chunks_reused']:,} reused",
        "rows": f"{report['rows']:,}",
        "recall": f"recall@{recall['k']} {recall['mean']:.4f}, lower bound {recall['bound']:.4f} "
        f"at {recall['confidence']:.0%} over {recall['queries']:,} queries"
        if recall
        else report["recall_note"],
        "search with": _params(report["search_params"]),
        **_gate_lines(report["gates"]),
        "live search": _live_search(report["live_search"]) if report["live_search"] else "",
        "seconds": ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in report["seconds"].items()),
        "bound by": ", ".join(f"{name} {seconds:.1f}" for name, seconds in report["bound_by"].items() if seconds),
        "forecast": _scored(report["forecast"]) if report["forecast"] else "",
        "collection": report["collection"],
        "alias": report["alias"] or "not moved: the release stays green",
    }


def _gate_lines(gates: list[dict[str, Any]]) -> dict[str, str]:
    return {f"gate {row['gate']}": f"{_PASSED[row['passed']]}: {row['why']}" for row in gates}


def _live_search(found: dict[str, Any]) -> str:
    """Return how much slower live search was while the release was built, or why that is not known."""
    during, idle = found["during"], found["idle"]
    if not idle or during["p99"] is None:
        return found["note"] or "not asked"
    return (
        f"p99 {during['p99']:.1f} ms while it was built, {idle['p99']:.1f} ms at rest; "
        f"the brake was on for {during['brake_seconds']:.0f} s"
    )


def _params(params: dict[str, int] | None) -> str:
    return ", ".join(f"{name} {value}" for name, value in (params or {}).items())


def _forecast(forecast: dict[str, Any]) -> str:
    """Return what a plan expects of the run and, where the server says it, how full the run will make Milvus."""
    limit, green = forecast["limit_bytes"], forecast["green_bytes"]
    memory = f"{green / 2**30:,.2f} GiB of memory of Milvus's {limit / 2**30:,.1f} GiB" if limit else "memory unknown"
    count = len(forecast["releases"])
    last = "its last release" if count == 1 else f"its last {count} releases"
    rates = f"the rates of {last}" if count else "usual rates"
    return (
        f"forecast {sum(forecast['seconds'].values()):.0f} s, {forecast['chunks']:,} chunks and "
        f"{forecast['tokens']:,} tokens to embed, {memory} (by {rates})"
    )


def _scored(score: dict[str, Any]) -> str:
    """Return what was forecast beside what it came to, as far as the run went."""
    seconds, chunks = score["seconds"], score.get("chunks")
    error = f" ({seconds['error_percent']:+.0f} %)" if seconds["error_percent"] is not None else ""
    embedded = f"; {chunks['forecast']:,} chunks to embed, were {chunks['actual']:,}" if chunks else ""
    return f"{seconds['forecast']:.0f} s, took {seconds['actual']:.0f} s{error}{embedded}"


def print_live(rollback: dict[str, Any]) -> None:
    """Show what a rollback has made live."""
    recall = rollback["recall"] or {}
    lines = {
        "live": rollback["release"],
        "since": rollback["since"],
        "by": rollback["by"],
        "instead of": rollback["instead_of"] or "nothing",
        "collection": rollback["collection"],
        "recall": f"recall@{recall['k']} {recall['mean']:.4f}, over {recall['queries']} queries" if recall else "",
        "note": rollback["note"],
    }
    _print_lines(lines)


def print_evaluation(report: dict[str, Any]) -> None:
    """Show how relevant the answers of a live index are."""
    count, first = report["missing_documents"], ", ".join(report["first_missing"])
    lines = {
        "release": report["release"],
        "queries": f"{report['queries']:,} asked, {report['unjudged']:,} left out: nothing is judged relevant to them",
        "missing": f"{count:,} relevant documents are not in the index, the first: {first}" if count else "",
        **{name: f"{report[name]:.4f}" for name in MEASURES},
    }
    _print_lines(lines)


def print_check(check: dict[str, Any]) -> None:
    """Show what was measured of what is live, beside what was measured when it was verified."""
    if "replaced_by" in check:
        _print_lines(
            {"replaced": f"{check['release']} is not live any more: {check['replaced_by']} was verified since"}
        )
        return
    drift, noise = check["drift"], check.get("noise")
    lines = {
        "live": check["release"],
        "rows": f"{check['rows']:,}",
        "recall": check["note"] or f"{_then(drift, 'recall')}; lower bound {_then(drift, 'recall_bound')}",
        "search with": _params(check["search_params"]),
        "p99": f"{_then(drift, 'p99', digits=1)} ms",
        "segments": "rearranged since it was verified" if drift["segments_changed"] else "",
        **_gate_lines(check["gates"]),
        "noise": f"two builds differ by {noise['recall']:.4f} in recall, and by {noise['overlap']:.2%} of their answers"
        if noise
        else "",
    }
    _print_lines(lines)


def _then(drift: dict[str, Any], name: str, *, digits: int = 4) -> str:
    now, then = (drift[f"{name}_{moment}"] for moment in ("now", "then"))
    shown = "not measured" if now is None else f"{now:.{digits}f}"
    return shown if then is None else f"{shown}, was {then:.{digits}f}"


def print_retired(report: dict[str, Any], *, dry_run: bool) -> None:
    """Show each release's fate and why, then what became of the parts."""
    fates = {release: fate for fate in ("keep", "unload", "drop") for release in report[fate]}
    print_table(
        [{"release": release, "fate": fate, "why": report["why"][release]} for release, fate in sorted(fates.items())]
    )
    verb = "would be " if dry_run else ""
    out.print(
        f"\n{report['parts']:,} parts ({report['part_bytes']:,} bytes) {verb}removed, "
        f"{report['rejects_forgotten']:,} rejects {verb}forgotten, "
        f"{len(report['spaces'])} embedding spaces {verb}removed",
        soft_wrap=True,
    )
    if report["waits_for"]:
        out.print(f"no part is touched before {report['waits_for']} has planned what it needs", soft_wrap=True)


def print_hits(hits: list[dict[str, Any]]) -> None:
    for number, hit in enumerate(hits, start=1):
        place = " > ".join(part for part in (hit["document"], hit["section"], _page(hit["page"])) if part)
        out.print(f"{number:>2}. {hit['score']:.4f}  {place}", markup=False, style="bold")
        out.print(f"    {' '.join(hit['text'].split())[:_SHOWN_CHARACTERS]}", markup=False, soft_wrap=True)
    if not hits:
        out.print("no hits")


def print_explanation(found: dict[str, Any]) -> None:
    """Show where a passage comes from, from the document to who promoted its release."""
    source, space, live = found["object"], found["space"], found["live"] or {}
    place = [found["section"], _page(found["page"]), f"characters {found['start']:,} to {found['end']:,}"]
    lines = {
        "document": found["document"],
        "title": found["title"],
        "place": ", ".join(part for part in place if part),
        "object": f"s3://{source['bucket']}/{found['document']}, version {source['version'] or 'none kept'}, "
        f"ETag {source['etag']}, {source['bytes']:,} bytes of {source['modified']}",
        "found by": _readers(found["acl"]),
        "content": found["content"],
        "space": ", ".join([space["name"], *(f"{name} {value}" for name, value in space.items() if name != "name")]),
        "part": found["part"],
        "import file": found["import_file"],
        "release": f"{found['release']}, of the bucket as of {found['as_of']}",
        "collection": found["collection"],
        "promoted": f"{found['promoted']['at']} by {found['promoted']['by']}",
        "live since": f"{live['since']} by {live['by']}" if live else "",
    }
    _print_lines(lines)
    out.print(f"\n{found['text']}", markup=False, soft_wrap=True)


def _readers(acl: list[str] | None) -> str:
    if acl is None or acl == [EVERYONE]:
        return "everyone"
    return f"members of {', '.join(acl)}" if acl else "nobody: who may find it is unknown"


def print_erasure(report: dict[str, Any]) -> None:
    """Show where an erased document was, and whether anything is left of it."""
    source = report["source"]
    if report["found"]:
        print_table([{"it was in": place["place"], "rows": place["rows"]} for place in report["found"]])
        out.print()
    shared, left = ", ".join(report["shared_with"]), [place["place"] for place in report["left"]]
    there = f"still there, in {source['versions']} versions" if source["is_there"] else "not there now"
    if not source["is_there"] and source["versions"]:
        there += f", but in {source['versions']} older versions"
    lines = {
        "erased": f"{report['key']}, on {report['at']} by {report['by']}: {report['reason']}",
        "found": "" if report["found"] else "nothing: it was erased before" if report["buried_before"] else "nowhere",
        "tombstone": f"{report['tombstone']}, which alone still names it and keeps it out",
        "source": f"s3://{source['bucket']}: {there}; Reindex deletes no sources",
        "same as": f"{shared}: the same content under other keys stays" if shared else "",
        "scan": f"STILL THERE: {', '.join(left)}" if left else "finds none of it",
        "not asked": f"{', '.join(names)}: not in memory; its rows were deleted by id"
        if (names := report["not_in_memory"])
        else "",
        "RUNNING": f"{', '.join(report['going_on'])}: repeat this command when it has ended"
        if report["going_on"]
        else "",
    }
    _print_lines(lines)


def _print_lines(lines: dict[str, str]) -> None:
    for name, value in ((name, value) for name, value in lines.items() if value):
        out.print(f"{name:<11} {value}", soft_wrap=True, markup=False)


def _page(number: int) -> str:
    return f"page {number}" if number else ""
