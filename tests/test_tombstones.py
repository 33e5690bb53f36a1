from __future__ import annotations

from reindex.naming import tombstone_key
from reindex.tombstones import bury, erased_keys
from tests.fakes import STATE_BUCKET, MemoryObjectStore


def test_what_was_buried_is_known_by_its_corpus() -> None:
    store = MemoryObjectStore()
    for key in ("docs/a.md", "docs/ä b/c.md"):
        bury(store, STATE_BUCKET, "docs", key, reason="asked to", by="admin")
    assert erased_keys(store, STATE_BUCKET, "docs") == {"docs/a.md", "docs/ä b/c.md"}
    assert erased_keys(store, STATE_BUCKET, "tickets") == set()


def test_a_tombstone_says_why_and_who() -> None:
    store = MemoryObjectStore()
    bury(store, STATE_BUCKET, "docs", "docs/a.md", reason="asked to", by="admin")
    content = store.read_json(STATE_BUCKET, tombstone_key("docs", "docs/a.md")) or {}
    assert (content["reason"], content["by"]) == ("asked to", "admin")
    assert tombstone_key("docs", "docs/a.md").startswith("reindex/docs/tombstones/")
