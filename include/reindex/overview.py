"""Releases as rows of a table: what `reindex releases` says of each."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

from reindex.errors import NothingRead
from reindex.naming import collection_name
from reindex.releases import REJECTS_FILE, ReleaseFiles, release_names
from reindex.storage import ObjectStore


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
        "search_params": report["search_params"],
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


def rejects_of(store: ObjectStore, bucket: str, corpus: str, release: str | None) -> tuple[str, list[dict[str, Any]]]:
    """Return a release and what it could not index, by key: a named one, or the newest that knows.

    Raises NothingRead if none does.
    """
    names = [release] if release else sorted(release_names(store, bucket, corpus), reverse=True)
    for name in names:
        table = store.read_table(bucket, ReleaseFiles(store, bucket, corpus, name).key(REJECTS_FILE))
        if table is not None:
            return name, sorted(table.to_pylist(), key=itemgetter("key", "member"))
    raise NothingRead(corpus, release or "")
