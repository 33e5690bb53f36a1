"""A measured release in, the alias and `live.json` moved to it together out: what promotion and rollback share.

The alias is the truth about what is live; `live.json` follows it, by conditional put alone. Of two that switch at the
same moment the put names the winner, and the other leaves the alias to it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from reindex.erasures import check_erased, expected_rows
from reindex.errors import NotLoaded, NotVerified, PromotedMeanwhile, ReindexError
from reindex.naming import alias_name, collection_name, collection_release
from reindex.records import CollectionInfo
from reindex.releases import LivePointer, ReleaseFiles, read_live, write_live
from reindex.store import Connect, VectorStore, check_readers_stay

_PROOFS = 3
_ATTEMPTS = 5
# Longer than a search takes that has asked what an alias names.
_SETTLE_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What readers get, by the alias, and what `live.json` says of it, with the ETag that it may be replaced under."""

    collection: str | None
    release: str | None
    pointer: LivePointer | None
    etag: str | None


def read_standing(store: VectorStore, files: ReleaseFiles) -> Live:
    """Return what is live; `live.json` is read first, so that nothing that happens later is written over."""
    pointer, etag = read_live(files.store, files.bucket, files.corpus_name)
    collection = store.resolve_alias(alias_name(files.corpus_name))
    release = collection_release(files.corpus_name, collection or "")
    return Live(collection=collection, release=release, pointer=pointer, etag=etag)


def reconcile_live(store: VectorStore, files: ReleaseFiles, *, by: str) -> Live:
    """Make `live.json` follow the alias, if a crash came between the two; return what is live.

    An alias that is gone, or that names a collection of no release, leaves `live.json` as it was: it is then the last
    that is known.
    """
    for _ in range(_ATTEMPTS):
        live = read_standing(store, files)
        if not live.collection or not live.release or (live.pointer and live.pointer.collection == live.collection):
            break
        pointer = LivePointer(
            release=live.release,
            collection=live.collection,
            since=datetime.now(UTC).isoformat(),
            by=f"reconciled to the alias by {by}",
            replaced=live.pointer.release if live.pointer else "",
        )
        write_live(files.store, files.bucket, files.corpus_name, pointer, etag=live.etag)
    return live


def measured_collection(store: VectorStore, files: ReleaseFiles) -> CollectionInfo:
    """Return the release's collection if it is still the one that was measured, and in memory.

    Raises NotVerified, and NotLoaded after it has begun to load it.
    """
    verified = files.needed_report("verify")
    collection = collection_name(files.corpus_name, files.release)
    found = store.describe(collection)
    if found is None or found.id != verified["collection_id"]:
        raise NotVerified(files.release, f"{collection} is not the collection that was measured")
    if found.index != verified.get("index", found.index):
        raise NotVerified(files.release, f"its index is {found.index}, {verified['index']} was measured")
    if not store.load_state(collection).loaded:
        store.load(collection)
        raise NotLoaded(collection)
    check_erased(files)
    rows, expected = store.count_rows(collection), expected_rows(files)
    if rows != expected:
        raise NotVerified(files.release, f"{collection} has {rows} rows, {expected} were measured and not erased since")
    return found


def check_segments(store: VectorStore, files: ReleaseFiles) -> None:
    """Raise NotVerified if the server has rearranged the rows since they were measured: another index answers then."""
    verified = files.needed_report("verify")
    measured = {segment["id"]: segment["rows"] for segment in verified.get("segments", ())}
    found = store.segments(collection_name(files.corpus_name, files.release))
    if measured and set(found) != set(measured):
        raise NotVerified(
            files.release,
            f"it has {len(found)} other segments than were measured, {len(set(found) - set(measured))} new",
        )


def move_alias(
    connect: Connect, store: VectorStore, files: ReleaseFiles, target: CollectionInfo, *, before: Live, by: str
) -> LivePointer:
    """Move the alias, prove it on fresh connections and record it; return what `live.json` says then.

    `before` is what was live when the caller made its checks. Raises SchemaMismatch, NotVerified if readers still get
    another collection, and PromotedMeanwhile. Whatever is raised, the alias and `live.json` agree.
    """
    alias = alias_name(files.corpus_name)
    check_readers_stay(store.describe(alias) if before.collection else None, target.dimension, target.metric)
    store.point_alias(alias, target.name)
    try:
        _prove(connect, files.release, alias, target)
        # A search that came between may have had the server remember the old collection until it is pointed once more.
        store.point_alias(alias, target.name)
        pointer = _record(files, target, before, by)
    except ReindexError as error:
        winner = _put_back(store, files, target, before, by)
        if winner and not isinstance(error, PromotedMeanwhile):
            raise PromotedMeanwhile(files.release, winner.release, winner.by) from error
        raise
    files.record_going_live(pointer.since, by)
    if store.resolve_alias(alias) != target.name:
        # Somebody who has lost to this release moved the alias in between: the winner has the last word.
        _point_back(store, alias, target.name)
    return pointer


def _point_back(store: VectorStore, alias: str, collection: str) -> None:
    """Point an alias, and once more when nobody is answered any more who had asked what it named before.

    Unless somebody has moved it on meanwhile.
    """
    store.point_alias(alias, collection)
    time.sleep(_SETTLE_SECONDS)
    if store.resolve_alias(alias) == collection:
        store.point_alias(alias, collection)


def _prove(connect: Connect, release: str, alias: str, target: CollectionInfo) -> None:
    """Ask through the alias as a new reader would: a server may remember an alias's old collection."""
    for _ in range(_PROOFS):
        with connect() as reader:
            found = reader.describe(alias)
            answers = reader.search(alias, reader.sample_vectors(target.name, 1), k=1, params={})
        if found is None or found.id != target.id or not all(answers):
            raise NotVerified(release, f"the alias {alias} still answers from {found.name if found else 'nothing'}")


def _record(files: ReleaseFiles, target: CollectionInfo, before: Live, by: str) -> LivePointer:
    if before.pointer and before.pointer.collection == before.collection == target.name:
        return before.pointer
    pointer = LivePointer(
        release=files.release,
        collection=target.name,
        since=datetime.now(UTC).isoformat(),
        by=by,
        replaced=_replaced(files.release, before),
    )
    etag = before.etag
    for _ in range(_ATTEMPTS):
        if write_live(files.store, files.bucket, files.corpus_name, pointer, etag=etag):
            break
        live, etag = read_live(files.store, files.bucket, files.corpus_name)
        if live == pointer:
            # A write whose answer was lost is repeated by the client and refused by its own first success.
            break
        if live is None or live.collection != target.name:
            winner, winner_by = (live.release, live.by) if live else ("another release", "somebody")
            raise PromotedMeanwhile(files.release, winner, winner_by)
        # Somebody found the alias moved and wrote it down before we did: what is left to say is who moved it.
    return pointer


def _replaced(release: str, before: Live) -> str:
    """Return what was live before, or, where the alias was gone, what was known last."""
    known = before.pointer
    if before.release or known is None:
        return before.release or ""
    return known.replaced if known.release == release else known.release


def _put_back(
    store: VectorStore, files: ReleaseFiles, target: CollectionInfo, before: Live, by: str
) -> LivePointer | None:
    """Leave the alias to a winner and return it; put it back otherwise, unless somebody has moved it on since."""
    alias = alias_name(files.corpus_name)
    winner, etag = read_live(files.store, files.bucket, files.corpus_name)
    is_lost = etag != before.etag and winner is not None and winner.collection != target.name
    if is_lost and winner and store.describe(winner.collection):
        _point_back(store, alias, winner.collection)
        return winner
    if store.resolve_alias(alias) == target.name:
        if before.collection:
            _point_back(store, alias, before.collection)
        else:
            store.remove_alias(alias)
    reconcile_live(store, files, by=by)
    return None
