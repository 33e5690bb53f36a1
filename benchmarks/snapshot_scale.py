"""Take snapshots of a synthetic bucket of millions of keys, and print keys a second and the peak of memory.

The bucket makes its pages up as they are asked for, so the figures are Reindex's own: merging versions, patterns,
Parquet. A server's time, and boto3's for reading its XML, come on top. A run with ten times the keys and the same
memory shows that memory is bounded.

    python benchmarks/snapshot_scale.py [MILLIONS]
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from reindex.records import SNAPSHOT_SCHEMA
from reindex.releases import ReleaseFiles
from reindex.settings import Corpus
from reindex.snapshot import take_snapshot
from reindex.storage import ObjectStore

PAGE = 1000
THEN = datetime(2026, 1, 1, tzinfo=UTC)
LATER = THEN + timedelta(days=2)
CORPUS = Corpus.model_validate(
    {"name": "scale", "source": {"bucket": "sources", "include": ["**/*.md"], "exclude": ["drafts/**"]}}
)


class SyntheticClient:
    """A bucket in which every key has two versions, and every tenth was deleted between them."""

    def __init__(self, keys: int) -> None:
        self.keys = keys

    def get_bucket_versioning(self, **_: str) -> dict[str, str]:
        return {"Status": "Enabled"}

    def get_paginator(self, _: str) -> SyntheticClient:
        return self

    def paginate(self, **_: str) -> Iterator[dict[str, Any]]:
        for start in range(0, self.keys, PAGE // 2):
            numbers = range(start, min(start + PAGE // 2, self.keys))
            yield {
                "Versions": [version for number in numbers for version in self.versions(number)],
                "DeleteMarkers": [self.marker(number) for number in numbers if number % 10 == 0],
                "NextKeyMarker": key(numbers[-1]),
                "IsTruncated": numbers[-1] + 1 < self.keys,
                "ResponseMetadata": {"HTTPHeaders": {"server": "synthetic"}},
            }

    def versions(self, number: int) -> Iterator[dict[str, Any]]:
        for version, modified, is_latest in (("2", LATER, True), ("1", THEN, False)):
            yield {
                "Key": key(number),
                "VersionId": f"{number:032d}{version}",
                "ETag": f'"{number:032x}"',
                "Size": 10_000,
                "LastModified": modified,
                "IsLatest": is_latest,
            }

    def marker(self, number: int) -> dict[str, Any]:
        return {
            "Key": key(number),
            "VersionId": f"{number:032d}d",
            "LastModified": THEN + timedelta(hours=1),
            "IsLatest": False,
        }


class SyntheticStore(ObjectStore):
    """The library's own object store over the synthetic client; what is written is measured and let go."""

    def __init__(self, keys: int) -> None:
        self._client, self._address = SyntheticClient(keys), "synthetic"
        self.listed, self.file_bytes = keys, 0

    def keys(self, bucket: str, prefix: str) -> Iterator[str]:
        """Hold no tombstones."""
        yield from ()

    def write(self, bucket: str, key: str, data: bytes) -> None: ...

    def upload(self, bucket: str, key: str, file: Path) -> None:
        self.file_bytes = file.stat().st_size


def key(number: int) -> str:
    return f"docs/{number // 1000:07d}/document-{number:010d}.md"


def measure(name: str, store: SyntheticStore, as_of: datetime, *, is_past: bool) -> None:
    started = time.perf_counter()
    report = take_snapshot(ReleaseFiles(store, "reindex", "scale", "synthetic"), CORPUS, as_of=as_of, is_past=is_past)
    seconds = time.perf_counter() - started
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{name:<8} {report['documents']:>12,} documents of {store.listed:,} keys in {seconds:8.1f} s: "
        f"{store.listed / seconds:>8,.0f} keys/s, peak {peak_mb:,.0f} MB, "
        f"snapshot.parquet {store.file_bytes / 2**20:,.0f} MB of {len(SNAPSHOT_SCHEMA)} columns"
    )


def main() -> None:
    """Measure the present and the past; the peak of memory is the process's, so of both."""
    millions = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    store = SyntheticStore(int(millions * 1_000_000))
    measure("present", store, datetime.now(UTC), is_past=False)
    measure("exact", store, THEN + timedelta(days=1), is_past=True)


if __name__ == "__main__":
    main()
