"""A verified release in, the alias moved to it out, forward only. Airflow's one-slot pool lets one in at a time."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from reindex.errors import OlderThanLive
from reindex.naming import alias_name
from reindex.releases import ReleaseFiles
from reindex.store import Connect
from reindex.switch import check_segments, measured_collection, move_alias, reconcile_live


def wants_promotion(asked: str | None, corpus_says: str, *, is_backfill: bool) -> bool:
    """Return whether a run promotes: as it was asked, else as its corpus says, but a backfill only if it was asked."""
    return (asked or ("never" if is_backfill else corpus_says)) == "auto"


def wants_approval(runs: str, *, is_manual: bool) -> bool:
    """Return whether a person is asked before this run promotes."""
    return runs == "all" or (runs == "manual" and is_manual)


def promote_release(connect: Connect, files: ReleaseFiles, *, by: str) -> dict[str, Any]:
    """Check the release again, move the alias, prove the move on fresh connections, then record it.

    Raises OlderThanLive, PromotedMeanwhile, and NotVerified if the collection is not the one that was measured or
    readers still get another one. Whatever is raised, the alias stays on, or goes back to, what is live.
    """
    with connect() as store:
        before = reconcile_live(store, files, by=by)
        target = measured_collection(store, files)
        check_segments(store, files)
        _check_newer(files, before.release)
        pointer = move_alias(connect, store, files, target, before=before, by=by)
    alias = alias_name(files.corpus_name)
    return {"alias": alias, "collection": target.name, "by": by, "replaced": pointer.replaced}


def _check_newer(files: ReleaseFiles, live: str | None) -> None:
    """Raise OlderThanLive if what is live shows a later moment: a late retry must not bring old texts back.

    Of two that show the same moment, the one that was listed later is the newer.
    """
    listed = files.of(live).report("snapshot") if live else None
    if live and listed and _moment(listed) > _moment(files.needed_report("snapshot")):
        raise OlderThanLive(files.release, live)


def _moment(snapshot: dict[str, Any]) -> tuple[datetime, datetime]:
    listed_at = datetime.fromisoformat(snapshot["started_at"])
    # Releases of before snapshots could read the past show the moment of their listing.
    return datetime.fromisoformat(snapshot.get("as_of", snapshot["started_at"])), listed_at
