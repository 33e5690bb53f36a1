"""The corpus's releases in, the ones nobody may need again dropped. Never a collection that an alias names."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Any

from reindex.naming import collection_release
from reindex.releases import ReleaseFiles, release_names
from reindex.settings import Retention
from reindex.store import VectorStore, drop_green

# A run that has not been promoted by now is not going to be: its collection only takes room.
_UNFINISHED = timedelta(hours=24)


class Fate(StrEnum):
    KEEP = "keep"
    UNLOAD = "unload"
    DROP = "drop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What decides a release's fate: when it was begun and promoted, and whether an alias names its collection."""

    release: str
    begun: datetime
    promoted: datetime | None
    is_live: bool


def retire_releases(store: VectorStore, files: ReleaseFiles, retention: Retention) -> dict[str, Any]:
    """Unload what is kept only to go back to, drop what is not kept, and delete its import files."""
    collections = {collection_release(files.corpus_name, name): name for name in store.collections()}
    names = release_names(files.store, files.bucket, files.corpus_name, holding="/import/") | collections.keys()
    standings = [s for name in sorted(filter(None, names)) if (s := _standing(store, files, name, collections))]
    fates = decide(standings, retention, now=datetime.now(UTC))
    if files.release in fates:
        # The run that asks is still going, however long ago it was begun.
        fates[files.release] = Fate.KEEP
    for release, fate in fates.items():
        if fate is Fate.UNLOAD and release in collections:
            store.release(collections[release])
        if fate is Fate.DROP:
            _drop(store, files, release, collections.get(release))
    return {fate.value: sorted(name for name, given in fates.items() if given is fate) for fate in Fate}


def decide(standings: list[Standing], retention: Retention, *, now: datetime) -> dict[str, Fate]:
    """Return each release's fate: the live one and the latest promoted ones stay, `retention.releases` in all.

    A kept release stays in memory until the one that replaced it has been live for the grace period.
    """
    promoted = sorted((s for s in standings if s.promoted), key=lambda s: s.promoted or now, reverse=True)
    by_rank = sorted(promoted, key=lambda s: not s.is_live)
    kept = {s.release for s in by_rank[: retention.releases]}
    successors = {older.release: newer.promoted for newer, older in pairwise(promoted)}
    grace = timedelta(minutes=retention.grace_minutes)
    return {s.release: _fate(s, successors.get(s.release), kept, grace, now) for s in standings}


def _fate(standing: Standing, replaced_at: datetime | None, kept: set[str], grace: timedelta, now: datetime) -> Fate:
    if standing.is_live:
        return Fate.KEEP
    if standing.promoted is None:
        return Fate.DROP if now - standing.begun > _UNFINISHED else Fate.KEEP
    if replaced_at and now - replaced_at < grace:
        return Fate.KEEP
    return Fate.UNLOAD if standing.release in kept else Fate.DROP


def _standing(
    store: VectorStore, files: ReleaseFiles, release: str, collections: dict[str | None, str]
) -> Standing | None:
    of = ReleaseFiles(files.store, files.bucket, files.corpus_name, release)
    begun, promoted = of.report("snapshot"), of.report("promote")
    if begun is None:
        # Somebody else's collection, whatever its name looks like.
        return None
    return Standing(
        release=release,
        begun=datetime.fromisoformat(begun["started_at"]),
        promoted=datetime.fromisoformat(promoted["started_at"]) if promoted else None,
        is_live=release in collections and bool(store.aliases_of(collections[release])),
    )


def _drop(store: VectorStore, files: ReleaseFiles, release: str, collection: str | None) -> None:
    """Delete the files first: the collection is what a later attempt would find the rest by."""
    of = ReleaseFiles(files.store, files.bucket, files.corpus_name, release)
    for key in files.store.keys(files.bucket, of.key("import/")):
        files.store.delete(files.bucket, key)
    if collection:
        drop_green(store, collection)
