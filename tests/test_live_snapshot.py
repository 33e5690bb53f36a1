"""Snapshots of real buckets of the embedded object store, as of moments in their past; no run, no DAG."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from reindex.errors import PastUnknown
from reindex.releases import SNAPSHOT_FILE, ReleaseFiles
from reindex.settings import Corpus
from reindex.snapshot import take_snapshot
from reindex.storage import ObjectStore
from tests.conftest import LiveStack

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

VERSIONED, UNVERSIONED, STATE = "snapshots-versioned", "snapshots-unversioned", "reindex"


@pytest.fixture(scope="module")
def store(stack: LiveStack) -> ObjectStore:
    """Return the stack's object store, with one bucket that keeps versions and one that does not."""
    objects = stack.objects()
    for bucket in (VERSIONED, UNVERSIONED):
        objects._client.create_bucket(Bucket=bucket)
    switch_versioning(objects, VERSIONED, "Enabled")
    return objects


def switch_versioning(store: ObjectStore, bucket: str, status: str) -> None:
    store._client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})


def next_second() -> None:
    """Wait until what is done next is of a second of its own: the store tells no smaller times."""
    time.sleep(1.05 - time.time() % 1)


def a_moment() -> datetime:
    """Return now, with nothing else done in its second."""
    moment = datetime.now(UTC)
    next_second()
    return moment


def texts(store: ObjectStore, bucket: str, prefix: str, as_of: datetime | None = None) -> dict[str, bytes | None]:
    """Return what a listing names, read as a run reads it."""
    return {
        found.key.removeprefix(prefix): store.read(bucket, found.key, version=found.version, etag=found.etag)
        for found in store.list_objects(bucket, prefix, as_of)
    }


def write_all(store: ObjectStore, bucket: str, keys: list[str]) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: store.write(bucket, key, b"text"), keys))


def snapshot(store: ObjectStore, name: str, as_of: datetime, *, is_past: bool, **source: Any) -> tuple[list[str], str]:
    """Return the keys of a snapshot and how it was listed."""
    files = ReleaseFiles(store, STATE, "snapshots", name)
    corpus = Corpus.model_validate({"name": "snapshots", "source": source})
    report = take_snapshot(files, corpus, as_of=as_of, is_past=is_past)
    return files.read_column(SNAPSHOT_FILE, "key"), report["listing"]


def test_each_moment_of_a_bucket_is_listed_as_it_was(store: ObjectStore) -> None:
    moments = []
    for written, deleted in (({"a": b"1", "b": b"1"}, []), ({"a": b"2", "c": b"1"}, ["b"]), ({"b": b"2"}, ["a", "c"])):
        for key, text in written.items():
            store.write(VERSIONED, f"life/{key}", text)
        for key in deleted:
            store.delete(VERSIONED, f"life/{key}")
        moments.append(a_moment())
    then = [{"a": b"1", "b": b"1"}, {"a": b"2", "c": b"1"}, {"b": b"2"}]
    assert [texts(store, VERSIONED, "life/", moment) for moment in moments] == then
    assert texts(store, VERSIONED, "life/") == then[-1]


def test_a_second_is_taken_whole(store: ObjectStore) -> None:
    """The store cuts fractions of seconds off its times; it does not round them up."""
    next_second()
    early = datetime.now(UTC)
    time.sleep(0.7 - time.time() % 1)
    store.write(VERSIONED, "second/late", b"late")
    (found,) = store.list_objects(VERSIONED, "second/")
    assert found.modified == early.replace(microsecond=0)
    assert texts(store, VERSIONED, "second/", early) == {"late": b"late"}


def test_versions_of_one_second_are_told_apart(store: ObjectStore) -> None:
    next_second()
    store.write(VERSIONED, "tie/edited", b"1")
    store.write(VERSIONED, "tie/edited", b"2")
    store.write(VERSIONED, "tie/deleted", b"1")
    store.delete(VERSIONED, "tie/deleted")
    moment = a_moment()
    assert texts(store, VERSIONED, "tie/", moment) == {"edited": b"2"}
    store.write(VERSIONED, "tie/edited", b"3")
    assert texts(store, VERSIONED, "tie/", moment) == {"edited": b"2"}


def test_no_folder_is_left_out_where_a_listing_has_many_pages(store: ObjectStore) -> None:
    """SeaweedFS alone would leave out `pages/docs-old/`: it sorts before `pages/docs/`, which fills the first pages."""
    folders = {"docs/": 1100, "docs-old/": 30, "docs.d/deep/": 30}
    keys = [f"pages/{folder}{number:05d}" for folder, count in folders.items() for number in range(count)]
    keys += ["pages/docs.md", "pages/LICENSE", "pages/LICENSE-MIT"]
    write_all(store, VERSIONED, keys)
    moment = a_moment()
    store.delete(VERSIONED, "pages/docs-old/00000")
    assert sorted(found.key for found in store.list_objects(VERSIONED, "pages/", moment)) == sorted(keys)
    now = sorted(found.key for found in store.list_objects(VERSIONED, "pages/"))
    assert now == sorted(set(keys) - {"pages/docs-old/00000"})


def test_a_bucket_without_versions_has_a_present_alone(store: ObjectStore) -> None:
    source = {"bucket": UNVERSIONED, "prefix": "docs/"}
    for key in ("same", "edited"):
        store.write(UNVERSIONED, f"docs/{key}", b"1")
    moment = a_moment()
    store.write(UNVERSIONED, "docs/edited", b"2")
    with pytest.raises(PastUnknown, match="keeps no versions"):
        snapshot(store, "refused", moment, is_past=True, **source)
    approximate = snapshot(store, "approximate", moment, is_past=True, approximate_as_of=True, **source)
    assert approximate == (["docs/same"], "approximate")
    assert snapshot(store, "present", moment, is_past=False, **source) == (["docs/edited", "docs/same"], "present")


def test_what_was_written_over_before_versions_were_kept_is_not_made_up(store: ObjectStore) -> None:
    store._client.create_bucket(Bucket="snapshots-later")
    store.write("snapshots-later", "a", b"1")
    before = a_moment()
    store.write("snapshots-later", "a", b"2")
    switch_versioning(store, "snapshots-later", "Enabled")
    after = a_moment()
    store.write("snapshots-later", "a", b"3")
    assert texts(store, "snapshots-later", "", after) == {"a": b"2"}
    with pytest.raises(PastUnknown, match="without keeping"):
        texts(store, "snapshots-later", "", before)
    switch_versioning(store, "snapshots-later", "Suspended")
    with pytest.raises(PastUnknown, match="keeps no versions"):
        texts(store, "snapshots-later", "", after)
    assert texts(store, "snapshots-later", "") == {"a": b"3"}


def test_user_metadata_is_read_of_the_version_that_is_listed(store: ObjectStore) -> None:
    for owner in ("legal", "sales"):
        store._client.put_object(Bucket=VERSIONED, Key="meta/a", Body=b"1", Metadata={"Owner": owner})
    moment = a_moment()
    store._client.put_object(Bucket=VERSIONED, Key="meta/a", Body=b"2", Metadata={"Owner": "press"})
    (then,) = store.list_objects(VERSIONED, "meta/", moment)
    (now,) = store.list_objects(VERSIONED, "meta/")
    owners = [store.metadata(VERSIONED, "meta/a", version=found.version)["owner"] for found in (then, now)]
    assert owners == ["sales", "press"]
    assert store.metadata(VERSIONED, "meta/a", etag='"0"') is None
