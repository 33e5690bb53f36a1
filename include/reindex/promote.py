"""A verified release in, the alias moved to it out, and proved. Airflow's one-slot pool lets one in at a time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

from reindex.errors import NotLoaded, NotVerified, OlderThanLive, ReindexError
from reindex.naming import alias_name, collection_name, collection_release
from reindex.records import CollectionInfo
from reindex.releases import LivePointer, ReleaseFiles, read_live, write_live
from reindex.store import VectorStore, check_readers_stay

Connect = Callable[[], AbstractContextManager[VectorStore]]
_PROOFS = 3


def promote_release(connect: Connect, files: ReleaseFiles, *, by: str) -> dict[str, Any]:
    """Check the release again, move the alias, prove the move on fresh connections, then record it.

    Raises OlderThanLive, and NotVerified if the collection is not the one that was measured or readers still get
    another one. Whatever is raised, the alias is back where it was.
    """
    alias = alias_name(files.corpus_name)
    with connect() as store:
        target = _check_again(store, files)
        before = store.resolve_alias(alias)
        _check_newer(files, before)
        check_readers_stay(store.describe(before) if before else None, target.dimension, target.metric)
        store.point_alias(alias, target.name)
        try:
            _prove(connect, files.release, alias, target)
            pointer = _record(files, target, by)
        except ReindexError:
            _put_back(store, alias, before)
            raise
    return {"alias": alias, "collection": target.name, "by": by, "replaced": pointer.replaced}


def _put_back(store: VectorStore, alias: str, before: str | None) -> None:
    if before:
        store.point_alias(alias, before)
    else:
        store.remove_alias(alias)


def _check_newer(files: ReleaseFiles, live_collection: str | None) -> None:
    """Raise OlderThanLive if what is live was listed after this release: a late retry must not bring old texts back."""
    live = collection_release(files.corpus_name, live_collection or "")
    listed = ReleaseFiles(files.store, files.bucket, files.corpus_name, live).report("snapshot") if live else None
    if live and listed and listed["started_at"] > files.needed_report("snapshot")["started_at"]:
        raise OlderThanLive(files.release, live)


def _check_again(store: VectorStore, files: ReleaseFiles) -> CollectionInfo:
    verified = files.needed_report("verify")
    collection = collection_name(files.corpus_name, files.release)
    found = store.describe(collection)
    if found is None or found.id != verified["collection_id"]:
        raise NotVerified(files.release, f"{collection} is not the collection that was measured")
    if not store.load_state(collection).loaded:
        store.load(collection)
        raise NotLoaded(collection)
    rows = store.count_rows(collection)
    if rows != verified["rows"]:
        raise NotVerified(files.release, f"{collection} has {rows} rows, {verified['rows']} were measured")
    return found


def _prove(connect: Connect, release: str, alias: str, target: CollectionInfo) -> None:
    """Ask through the alias as a new reader would: a server may remember an alias's old collection."""
    for _ in range(_PROOFS):
        with connect() as reader:
            found = reader.describe(alias)
            answers = reader.search(alias, reader.sample_vectors(target.name, 1), k=1, params={})
        if found is None or found.id != target.id or not all(answers):
            raise NotVerified(release, f"the alias {alias} still answers from {found.name if found else 'nothing'}")


def _record(files: ReleaseFiles, target: CollectionInfo, by: str) -> LivePointer:
    live, etag = read_live(files.store, files.bucket, files.corpus_name)
    if live and live.release == files.release:
        return live
    since = datetime.now(UTC).isoformat()
    replaced = live.release if live else ""
    pointer = LivePointer(release=files.release, collection=target.name, since=since, by=by, replaced=replaced)
    if not write_live(files.store, files.bucket, files.corpus_name, pointer, etag=etag):
        # A write whose answer was lost is repeated by the client and refused by its own first success.
        live, _ = read_live(files.store, files.bucket, files.corpus_name)
        if live != pointer:
            raise NotVerified(files.release, f"{live.by if live else 'somebody'} changed live.json meanwhile")
    return pointer
