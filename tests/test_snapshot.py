from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from reindex.errors import NothingToIndex, ServiceUnavailable
from reindex.records import StoredObject
from reindex.settings import Source
from reindex.snapshot import SNAPSHOT_FILE, select_objects, take_snapshot
from tests.fakes import MemoryObjectStore, a_corpus, release_files


def an_object(key: str, size: int = 10) -> StoredObject:
    return StoredObject(key=key, version="v1", etag="e", bytes=size, modified=datetime(2026, 1, 1, tzinfo=UTC))


class ListedStore(MemoryObjectStore):
    """A bucket whose listing is given, and may break off."""

    def __init__(self, keys: list[str], *, breaks_off: bool = False) -> None:
        super().__init__()
        self.listed, self.breaks_off = keys, breaks_off

    def list_objects(self, bucket: str, prefix: str) -> Iterator[StoredObject]:
        yield from (an_object(key) for key in self.listed)
        if self.breaks_off:
            raise ServiceUnavailable("the object store", "there", "reset")


def selected(source: Source, *keys: str) -> list[str]:
    return [found.key for found in select_objects(map(an_object, keys), source)]


def test_patterns_are_read_after_the_prefix() -> None:
    source = Source(bucket="b", prefix="docs/", include=("**/*.md",), exclude=("drafts/**",))
    assert selected(source, "docs/a.md", "docs/x/b.md", "docs/drafts/c.md", "docs/d.txt") == [
        "docs/a.md",
        "docs/x/b.md",
    ]


def test_folder_markers_are_no_documents() -> None:
    assert selected(Source(bucket="b"), "docs/", "docs/a") == ["docs/a"]


def test_a_snapshot_holds_every_selected_object() -> None:
    files = release_files(store=ListedStore(["docs/a.md", "docs/b.md"]))
    facts = take_snapshot(files, a_corpus())
    assert facts == {"documents": 2, "bytes": 20}
    assert files.read_column(SNAPSHOT_FILE, "key") == ["docs/a.md", "docs/b.md"]


def test_an_empty_listing_is_refused_and_leaves_nothing() -> None:
    files = release_files(store=ListedStore([]))
    with pytest.raises(NothingToIndex, match="s3://sources/docs/ holds no object"):
        take_snapshot(files, a_corpus())
    assert files.read_column(SNAPSHOT_FILE, "key") == []


def test_a_listing_that_breaks_off_is_an_error_never_a_short_snapshot() -> None:
    files = release_files(store=ListedStore(["docs/a.md"], breaks_off=True))
    with pytest.raises(ServiceUnavailable):
        take_snapshot(files, a_corpus())
    assert files.read_column(SNAPSHOT_FILE, "key") == []
