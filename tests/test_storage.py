from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reindex.errors import PastUnknown
from reindex.storage import ObjectStore, read_moment
from tests.fakes import MemoryObjectStore

LATER = datetime(2026, 3, 2, tzinfo=UTC)


def page(*keys: str, is_truncated: bool = False) -> dict[str, Any]:
    entries = [
        {
            "Key": key,
            "VersionId": f"{key}-1",
            "IsLatest": True,
            "LastModified": datetime(2026, 3, 1, tzinfo=UTC),
            "ETag": "e",
            "Size": 1,
        }
        for key in keys
    ]
    return {
        "Versions": entries,
        "IsTruncated": is_truncated,
        "ResponseMetadata": {"HTTPHeaders": {}},
    }


class ScriptedClient:
    """An S3 client whose version listings are given, page by page."""

    def __init__(self, status: str | None, listings: list[dict[str, Any]]) -> None:
        self.status, self.listings = status, listings

    def get_bucket_versioning(self, *, Bucket: str) -> dict[str, Any]:  # noqa: N803 - boto3's word
        return {"Status": self.status} if self.status else {}

    def get_paginator(self, call: str) -> ScriptedClient:
        self.call = call
        return self

    def paginate(self, *, Bucket: str, Prefix: str) -> Iterator[dict[str, Any]]:  # noqa: N803 - as above
        if self.call == "list_objects_v2":
            return iter([{"Contents": listed["Versions"]} for listed in self.listings])
        return iter(self.listings)


class ScriptedStore(ObjectStore):
    def __init__(self, status: str | None, listings: list[dict[str, Any]]) -> None:
        self._client = ScriptedClient(status, listings)
        self._address = "there"


def keys(store: ObjectStore, as_of: datetime | None = None) -> list[str]:
    return [found.key for found in store.list_objects("sources", "", as_of)]


@pytest.mark.parametrize("status", [None, "Suspended"])
def test_a_bucket_that_does_not_keep_versions_lists_the_present_alone(status: str | None) -> None:
    store = ScriptedStore(status, [page("a"), page("b")])
    assert not store.is_versioned("sources")
    assert keys(store) == ["a", "b"]
    with pytest.raises(PastUnknown, match="2026-03-02T00:00:00\\+00:00: it keeps no versions; switch versioning on"):
        keys(store, LATER)


def test_pages_follow_each_other() -> None:
    store = ScriptedStore("Enabled", [page("a", is_truncated=True), page("b")])
    assert keys(store) == ["a", "b"]
    assert keys(store, LATER) == ["a", "b"]


def test_small_batches_share_a_row_group() -> None:
    store, schema = MemoryObjectStore(), pa.schema([("number", pa.int64())])
    batches = [pa.RecordBatch.from_pydict({"number": list(range(3000))}, schema) for _ in range(4)]
    assert store.write_batches("reindex", "file", schema, batches).rows == 12_000
    written = pq.ParquetFile(io.BytesIO(store.read("reindex", "file") or b""))
    assert [written.metadata.row_group(place).num_rows for place in range(2)] == [9000, 3000]
    assert written.metadata.num_row_groups == 2
    assert written.read().column("number").to_pylist() == list(range(3000)) * 4


@pytest.mark.parametrize(
    "written", ["2026-03-01T02:03:04.000Z", "2026-03-01T02:03:04Z", "Sun, 01 Mar 2026 02:03:04 GMT"]
)
def test_a_moment_is_read_in_the_forms_of_listings_and_of_headers(written: str) -> None:
    assert read_moment(written) == datetime(2026, 3, 1, 2, 3, 4, tzinfo=UTC)
