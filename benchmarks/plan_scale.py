"""Plan a corpus of millions of objects and say what it took: time, and the most memory that the process held.

    python benchmarks/plan_scale.py [OBJECTS]     ten million unless said otherwise

The objects are synthetic rows in a folder that stands for the bucket: a catalog and a live release that know all of
them, and a night in which one of a hundred was edited, one of a thousand renamed, and one of a thousand deleted. What
runs is the plan of a real run, with its reading and writing of Parquet; the process does nothing else.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc

from reindex.embedders import find_model, resolve_precision, space_facts
from reindex.naming import collection_name, space_fingerprint
from reindex.parts import EmbeddingStore
from reindex.plan import Asked, QuerySide, plan_release
from reindex.records import CATALOG_SCHEMA, DOCUMENT_SCHEMA, SNAPSHOT_SCHEMA, CollectionInfo
from reindex.releases import ReleaseFiles
from reindex.settings import Corpus
from reindex.storage import ObjectStore

BUCKET = "reindex"
BATCH = 100_000
CORPUS = Corpus.model_validate({"name": "docs", "source": {"bucket": "sources"}, "embedding": {"precision": "float32"}})


class FolderStore(ObjectStore):
    """A bucket in a folder: what a plan asks of a bucket, without a server's memory or time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keys(self, bucket: str, prefix: str) -> Iterator[str]:
        files = (str(file.relative_to(self._folder)) for file in sorted(self._folder.rglob("*")) if file.is_file())
        yield from (key for key in files if key.startswith(prefix))

    def read(self, bucket: str, key: str, *, version: str = "", etag: str = "") -> bytes | None:
        file = self._folder / key
        return file.read_bytes() if file.exists() else None

    def write(self, bucket: str, key: str, data: bytes) -> None:
        self._place(key).write_bytes(data)

    def upload(self, bucket: str, key: str, file: Path) -> None:
        shutil.copyfile(file, self._place(key))

    def download(self, bucket: str, key: str, file: IO[bytes]) -> bool:
        if not (self._folder / key).exists():
            return False
        with (self._folder / key).open("rb") as source:
            shutil.copyfileobj(source, file)
        return True

    def delete(self, bucket: str, key: str) -> None:
        (self._folder / key).unlink(missing_ok=True)

    def _place(self, key: str) -> Path:
        path = self._folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def objects(first: int, count: int) -> dict[str, pa.Array]:
    """Return the columns of some objects: realistic lengths, nothing that compresses to nothing."""
    numbers = pa.array(range(first, first + count))
    text = pc.cast(numbers, pa.string())
    scrambled = pc.cast(pc.bit_wise_and(pc.multiply(numbers, 2_654_435_761), 0xFFFFFFFF), pa.string())
    digest = pc.utf8_lpad(scrambled, 32, padding="abcdef0123456789"[first % 16])
    return {
        "key": pc.binary_join_element_wise("teams/handbook/section/document-", text, ".md", ""),
        "version": pc.utf8_lpad(text, 32, padding="v"),
        "etag": pc.binary_join_element_wise('"', digest, '"', ""),
        "bytes": pc.add(pc.bit_wise_and(numbers, 0xFFFF), 1000),
        "modified": pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * count, pa.timestamp("us", tz="UTC")),
        "content": pc.binary_join_element_wise(digest, digest, ""),
        "chunks": pc.add(pc.bit_wise_and(numbers, 15), 1),
        "tokens": pc.multiply(pc.add(pc.bit_wise_and(numbers, 15), 1), 200),
        "acl": pa.array([["engineering", "handbook-readers"]] * count, pa.list_(pa.string())),
        "part": pc.binary_join_element_wise(
            "20260101T020000Z_abcd1234-", pc.cast(pc.divide(numbers, 64), pa.string()), ""
        ),
    }


def table(columns: dict[str, pa.Array], schema: pa.Schema, **constants: object) -> pa.RecordBatch:
    rows = len(columns["key"])
    filled = [
        columns[f.name] if f.name in columns else pa.array([constants.get(f.name, "")] * rows, f.type) for f in schema
    ]
    return pa.RecordBatch.from_arrays(
        [array.cast(f.type) for array, f in zip(filled, schema, strict=True)], schema=schema
    )


def blocks(count: int) -> Iterator[tuple[int, int]]:
    return ((first, min(BATCH, count - first)) for first in range(0, count, BATCH))


def tonight(count: int) -> Iterator[pa.RecordBatch]:
    """Yield the snapshot: edited, renamed and deleted objects among those that have not changed."""
    for first, size in blocks(count):
        columns = objects(first, size)
        numbers = pa.array(range(first, first + size))
        is_edited = pc.equal(pc.subtract(numbers, pc.multiply(pc.divide(numbers, 100), 100)), 0)
        is_renamed = pc.equal(pc.subtract(numbers, pc.multiply(pc.divide(numbers, 1000), 1000)), 1)
        is_deleted = pc.equal(pc.subtract(numbers, pc.multiply(pc.divide(numbers, 1000), 1000)), 2)
        columns["etag"] = pc.if_else(is_edited, pc.replace_substring(columns["etag"], '"', '"e'), columns["etag"])
        columns["key"] = pc.if_else(is_renamed, pc.replace_substring(columns["key"], "teams", "groups"), columns["key"])
        yield table(columns, SNAPSHOT_SCHEMA).filter(pc.invert(is_deleted))


def prepare(folder: Path, count: int) -> None:
    """Write what a plan reads."""
    store = FolderStore(folder)
    model = find_model(CORPUS.embedding.model)
    space = space_fingerprint(space_facts(CORPUS, model, resolve_precision(CORPUS.embedding.precision)))
    parts = EmbeddingStore(store, BUCKET, CORPUS.name, space)
    live = ReleaseFiles(store, BUCKET, CORPUS.name, "20260101T020000Z_abcd1234")
    live.freeze_corpus(CORPUS)
    live.write_report("embed", 0, {"space": space, "chunks": count})
    constants = {"digest": 0, "embedded": 1, "embedded_tokens": 200, "action": "embed", "members": [], "seconds": 0.1}
    catalog = (table(objects(*block), CATALOG_SCHEMA, **constants) for block in blocks(count))
    store.write_batches(BUCKET, parts.catalog_key(live.release), CATALOG_SCHEMA, catalog)
    documents = (table(objects(*block), DOCUMENT_SCHEMA, **constants) for block in blocks(count))
    live.write_table("documents.parquet", DOCUMENT_SCHEMA, documents)
    files = live.of("20260102T020000Z_abcd1234")
    files.freeze_corpus(CORPUS)
    files.write_table("snapshot.parquet", SNAPSHOT_SCHEMA, tonight(count))


def peak_memory() -> float:
    """Return the most memory that this process has held, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    if len(sys.argv) == 4:  # the planning process itself
        measure(Path(sys.argv[2]), int(sys.argv[3]))
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    with tempfile.TemporaryDirectory(prefix="plan-scale-") as folder:
        started = time.monotonic()
        prepare(Path(folder), count)
        print(f"prepared    {count:,} objects in {time.monotonic() - started:.0f} s")
        subprocess.run([sys.executable, __file__, "measure", folder, str(count)], check=True)


def measure(folder: Path, count: int) -> None:
    model = find_model(CORPUS.embedding.model)
    store = FolderStore(folder)
    files = ReleaseFiles(store, BUCKET, CORPUS.name, "20260102T020000Z_abcd1234")
    collection = collection_name(CORPUS.name, "20260101T020000Z_abcd1234")
    live = CollectionInfo(name=collection, id=1, dimension=model.dimension, metric=CORPUS.index.metric)
    before = peak_memory()
    started = time.monotonic()
    plan = plan_release(files, CORPUS, model, QuerySide(live=live), Asked())
    seconds = time.monotonic() - started
    actions = ", ".join(f"{plan[name]:,} {name}" for name in ("embed", "reuse", "reject", "withdraw", "withhold"))
    print(f"planned     {plan['documents']:,} documents: {actions}; {plan['moved']:,} moved")
    print(f"time        {seconds:.1f} s, {count / seconds:,.0f} objects a second")
    print(f"memory      {peak_memory():.2f} GB at most, of which {before:.2f} GB before the plan began")


if __name__ == "__main__":
    main()
