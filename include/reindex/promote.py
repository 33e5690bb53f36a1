"""A verified release in, the alias moved to it out, and proved. Airflow's one-slot pool lets one in at a time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from reindex.errors import NotVerified
from reindex.naming import alias_name, collection_name
from reindex.records import CollectionInfo
from reindex.releases import LivePointer, ReleaseFiles, read_live, write_live
from reindex.store import VectorStore, check_readers_stay

Connect = Callable[[], AbstractContextManager[VectorStore]]
_PROOFS = 3


def promote_release(connect: Connect, files: ReleaseFiles, *, by: str) -> dict[str, Any]:
    """Check the release again, move the alias, prove the move on fresh connections, then record it.

    Raises NotVerified if the collection is not the one that was measured, or if readers still get another one; the
    alias is then back where it was.
    """
    alias = alias_name(files.corpus_name)
    with connect() as store:
        target = _check_again(store, files)
        before = store.resolve_alias(alias)
        live = store.describe(alias) if before else None
        check_readers_stay(live, dimension=target.dimension, metric=target.metric)
        store.point_alias(alias, target.name)
        try:
            _prove(connect, files.release, alias, target)
        except NotVerified:
            if before:
                store.point_alias(alias, before)
            raise
    pointer, replaced_something = _record(files, target, by)
    return {
        "alias": alias,
        "collection": target.name,
        "by": by,
        "replaced": pointer.replaced if replaced_something else "",
    }


def _check_again(store: VectorStore, files: ReleaseFiles) -> CollectionInfo:
    verified = files.needed_report("verify")
    collection = collection_name(files.corpus_name, files.release)
    found = store.describe(collection)
    if found is None or found.id != verified["collection_id"]:
        raise NotVerified(files.release, f"{collection} is not the collection that was measured")
    if not store.load_state(collection).loaded:
        raise NotVerified(files.release, f"{collection} is not in memory")
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
        if found is None or found.id != target.id or not answers[0]:
            raise NotVerified(release, f"the alias {alias} still answers from {found.name if found else 'nothing'}")


def _record(files: ReleaseFiles, target: CollectionInfo, by: str) -> tuple[LivePointer, bool]:
    live, etag = read_live(files.store, files.bucket, files.corpus_name)
    replaced = live.release if live and live.release != files.release else ""
    pointer = LivePointer(
        release=files.release,
        collection=target.name,
        since=datetime.now(UTC).isoformat(),
        by=by,
        replaced=replaced,
    )
    if not write_live(files.store, files.bucket, files.corpus_name, pointer, etag=etag):
        raise NotVerified(files.release, f"another run wrote live.json meanwhile ({asdict(pointer)} was to be written)")
    return pointer, bool(replaced)
