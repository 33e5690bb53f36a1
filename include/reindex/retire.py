"""The corpus's releases in, the ones nobody may need again dropped. Never a collection that an alias names."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from reindex.errors import CollectionIsLive
from reindex.naming import collection_release, releases_prefix
from reindex.releases import UNFINISHED, LivePointer, ReleaseFiles, read_live
from reindex.settings import Retention
from reindex.store import VectorStore, drop_green
from reindex.sweep import sweep_parts
from reindex.switch import reconcile_live


class Fate(StrEnum):
    KEEP = "keep"
    UNLOAD = "unload"
    DROP = "drop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What decides a release's fate: when it last left a sign and last went live, and how far it has come."""

    release: str
    last_sign: datetime
    went_live: datetime | None
    is_live: bool
    is_verified: bool = False
    is_unchanged: bool = False
    has_failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    release: str
    fate: Fate
    why: str


@dataclass(slots=True)
class _Left:
    """What lies in the bucket of one release: the names of its files, and when the last of them was written."""

    last_sign: datetime
    names: set[str] = field(default_factory=set)

    @property
    def tables(self) -> list[str]:
        return sorted(name for name in self.names if name.endswith(".parquet"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inventory:
    """The corpus's releases as the bucket and Milvus hold them: files and collections by release."""

    left: dict[str, _Left]
    collections: dict[str, str]


def retire_releases(
    store: VectorStore, files: ReleaseFiles, retention: Retention, *, dry_run: bool = False
) -> dict[str, Any]:
    """Unload what is kept only to go back to, drop what is not kept, and sweep the parts that nothing needs then.

    `files` are those of the run that asks; it keeps its own release. With `dry_run` nothing is changed: the report says
    what would be.
    """
    if not dry_run:
        reconcile_live(store, files, by=f"the retirement after {files.release or 'a command'}")
    now = datetime.now(UTC)
    inventory = _take_inventory(store, files)
    verdicts = _judge(store, files, inventory, retention, now)
    if not dry_run:
        _carry_out(store, files, inventory, verdicts)
    dropped = {verdict.release for verdict in verdicts if verdict.fate is Fate.DROP}
    kept = {verdict.release for verdict in verdicts} - dropped | _planning(inventory, now)
    swept = sweep_parts(
        files, sorted(kept), set(inventory.left), days=retention.embeddings_days, now=now, dry_run=dry_run
    )
    return {**_report(verdicts), **swept}


def make_room(store: VectorStore, files: ReleaseFiles, retention: Retention) -> dict[str, Any]:
    """Give memory back before a release is loaded: retire the others, and leave the parts for later."""
    inventory = _take_inventory(store, files)
    verdicts = _judge(store, files, inventory, retention, datetime.now(UTC))
    _carry_out(store, files, inventory, verdicts)
    return _report(verdicts)


def leaving_rows(store: VectorStore, files: ReleaseFiles, retention: Retention) -> int:
    """Return the rows of the collections that `make_room` would take out of memory now."""
    inventory = _take_inventory(store, files)
    verdicts = _judge(store, files, inventory, retention, datetime.now(UTC))
    leaving = [verdict.release for verdict in verdicts if verdict.fate is not Fate.KEEP]
    held = [name for name in leaving if name in inventory.collections]
    loaded = [name for name in held if store.load_state(inventory.collections[name]).loaded]
    return sum((files.of(name).report("load") or {}).get("rows", 0) for name in loaded)


def decide(
    standings: list[Standing], retention: Retention, live: LivePointer | None, *, own: str, now: datetime
) -> list[Verdict]:
    """Return each release's fate: the live one and the latest promoted ones stay, `retention.releases` in all.

    What the live release replaced stays in memory for the grace period, so that going back is quick. `own` is the
    release of the run that asks, or empty.
    """
    promoted = sorted((s for s in standings if s.went_live), key=lambda s: s.went_live or now, reverse=True)
    by_rank = sorted(promoted, key=lambda s: not s.is_live)
    kept = {s.release for s in by_rank[: retention.releases]}
    grace = timedelta(minutes=retention.grace_minutes)
    is_fresh = live is not None and now - datetime.fromisoformat(live.since) < grace
    in_grace = live.replaced if live and is_fresh else ""
    verdicts = []
    for standing in standings:
        fate, why = (
            _own_fate(standing)
            if standing.release == own
            else _unpromoted_fate(standing, now)
            if standing.went_live is None
            else _promoted_fate(standing, kept, in_grace, retention)
        )
        if standing.is_live:
            fate, why = Fate.KEEP, "an alias names it"
        verdicts.append(Verdict(release=standing.release, fate=fate, why=why))
    return verdicts


def _own_fate(standing: Standing) -> tuple[Fate, str]:
    if standing.is_verified and standing.went_live is None:
        # A backfill leaves one such release for each of its nights.
        return Fate.UNLOAD, "verified and not promoted: it can still be made live, for a day"
    return Fate.KEEP, "the run's own"


def _unpromoted_fate(standing: Standing, now: datetime) -> tuple[Fate, str]:
    if standing.is_unchanged:
        return Fate.DROP, "nothing had changed, so it has no collection"
    if now - standing.last_sign > UNFINISHED:
        return Fate.DROP, "never promoted, and nothing has been done with it for a day"
    if standing.has_failed:
        return Fate.UNLOAD, "its run has failed"
    return Fate.KEEP, "not promoted yet"


def _promoted_fate(standing: Standing, kept: set[str], in_grace: str, retention: Retention) -> tuple[Fate, str]:
    if standing.release == in_grace:
        return Fate.KEEP, f"replaced less than {retention.grace_minutes} minutes ago"
    if standing.release in kept:
        return Fate.UNLOAD, "kept to go back to"
    return Fate.DROP, f"older than the {retention.releases} that are kept"


def _take_inventory(store: VectorStore, files: ReleaseFiles) -> _Inventory:
    left: dict[str, _Left] = {}
    prefix = releases_prefix(files.corpus_name)
    for found in files.store.entries(files.bucket, prefix):
        release, name = found.key.removeprefix(prefix).split("/", 1)
        of_release = left.setdefault(release, _Left(found.modified))
        of_release.names.add(name)
        of_release.last_sign = max(of_release.last_sign, found.modified)
    collections = {collection_release(files.corpus_name, name) or "": name for name in store.collections()}
    # A collection without a release is somebody else's, whatever its name looks like.
    return _Inventory(left=left, collections={name: held for name, held in collections.items() if name in left})


def _judge(
    store: VectorStore, files: ReleaseFiles, inventory: _Inventory, retention: Retention, now: datetime
) -> list[Verdict]:
    live, _ = read_live(files.store, files.bucket, files.corpus_name)
    holding = [name for name, left in sorted(inventory.left.items()) if left.tables or name in inventory.collections]
    standings = [_standing(store, files.of(name), inventory) for name in holding]
    return decide(standings, retention, live, own=files.release, now=now)


def _standing(store: VectorStore, files: ReleaseFiles, inventory: _Inventory) -> Standing:
    left, collection = inventory.left[files.release], inventory.collections.get(files.release)
    went_live = files.went_live() if "promote.json" in left.names else None
    # No other run ends with its plan.
    plan = files.report("plan") if "plan.json" in left.names and collection is None else None
    return Standing(
        release=files.release,
        last_sign=left.last_sign,
        went_live=went_live,
        is_live=collection is not None and bool(store.aliases_of(collection)),
        is_verified="verify.json" in left.names,
        has_failed="failure.json" in left.names and files.has_failed_for_good(),
        is_unchanged=plan is not None and plan.get("outcome") == "unchanged",
    )


def _planning(inventory: _Inventory, now: datetime) -> set[str]:
    """Return the releases that may be about to plan: nobody knows yet what they will need."""
    return {
        name
        for name, left in inventory.left.items()
        if "plan.json" not in left.names and now - left.last_sign < UNFINISHED
    }


def _carry_out(store: VectorStore, files: ReleaseFiles, inventory: _Inventory, verdicts: Iterable[Verdict]) -> None:
    for verdict in verdicts:
        collection = inventory.collections.get(verdict.release)
        if verdict.fate is Fate.KEEP or (collection and store.aliases_of(collection)):
            # Asked again: a rollback may have made it live since.
            continue
        if verdict.fate is Fate.UNLOAD and collection:
            _unload(store, collection)
        if verdict.fate is Fate.DROP:
            # It may have gone live this instant: then it stays, and the next retirement knows.
            with suppress(CollectionIsLive):
                _drop(store, files.of(verdict.release), collection, inventory.left[verdict.release].tables)


def _unload(store: VectorStore, collection: str) -> None:
    """Give a collection's memory back, and take it again if an alias came to name it meanwhile."""
    store.release(collection)
    if store.aliases_of(collection):
        store.load(collection)


def _drop(store: VectorStore, files: ReleaseFiles, collection: str | None, tables: list[str]) -> None:
    """Drop the collection and the tables; the reports stay, as history."""
    if collection:
        drop_green(store, collection)
    for name in tables:
        files.store.delete(files.bucket, files.key(name))


def _report(verdicts: list[Verdict]) -> dict[str, Any]:
    fates = {fate.value: [verdict.release for verdict in verdicts if verdict.fate is fate] for fate in Fate}
    return {**fates, "why": {verdict.release: verdict.why for verdict in verdicts}}
