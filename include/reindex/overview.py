"""Releases as rows of a table: what `reindex releases` says of each."""

from __future__ import annotations

from typing import Any

from reindex.naming import collection_name


def release_row(report: dict[str, Any], collections: set[str], live: str | None) -> dict[str, Any]:
    """Return a release's row from its report, the collections that there are, and the one that is live."""
    recall = report["recall"] or {}
    return {
        "release": report["release"],
        "state": release_state(report, collections, live),
        "documents": report["indexed"],
        "rejected": report["rejected"],
        "rows": report["rows"],
        "recall": recall.get("mean"),
        "recall_bound": recall.get("bound"),
        "seconds": round(sum(report["seconds"].values()), 1),
        "forecast_seconds": report["forecast"]["seconds"]["forecast"] if report["forecast"] else None,
        "failed": f"{report['failed']['stage']}: {report['failed']['reason']}" if report["failed"] else "",
    }


def release_state(report: dict[str, Any], collections: set[str], live: str | None) -> str:
    collection = collection_name(report["corpus"], report["release"])
    if collection == live:
        return "live"
    if report["outcome"] == "unchanged":
        return "unchanged"
    if report["promoted"]:
        return "retained" if collection in collections else "retired"
    if report["failed"]:
        return "failed"
    if "verify" in report["seconds"]:
        return "green" if collection in collections else "dropped"
    return "unfinished"
