"""The keys that were erased from a corpus: what no listing, no cache and no way back may bring in again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from reindex.naming import tombstone_key, tombstones_prefix
from reindex.storage import ObjectStore

_READ_THREADS = 16


def bury(store: ObjectStore, bucket: str, corpus: str, key: str, reason: str, by: str) -> None:
    """Put up the tombstone of a document; `bucket` is the one of Reindex's state."""
    content = {"key": key, "reason": reason, "by": by, "at": datetime.now(UTC).isoformat()}
    store.write_json(bucket, tombstone_key(corpus, key), content)


def erased_keys(store: ObjectStore, bucket: str, corpus: str) -> set[str]:
    """Return the keys that have a tombstone; `bucket` is the one of Reindex's state."""
    with ThreadPoolExecutor(_READ_THREADS) as pool:
        tombstones = pool.map(lambda name: store.read_json(bucket, name), store.keys(bucket, tombstones_prefix(corpus)))
        return {str(tombstone["key"]) for tombstone in tombstones if tombstone}
