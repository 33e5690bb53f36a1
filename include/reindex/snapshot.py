"""A corpus in, its frozen listing out: `snapshot.parquet`, one row for each object that the corpus includes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

import pathspec
import pyarrow as pa

from reindex.errors import NothingToIndex
from reindex.records import SNAPSHOT_SCHEMA, StoredObject
from reindex.releases import ReleaseFiles
from reindex.settings import Corpus, Source

SNAPSHOT_FILE = "snapshot.parquet"
_BATCH_ROWS = 10_000


def take_snapshot(files: ReleaseFiles, corpus: Corpus) -> dict[str, Any]:
    """List the corpus's bucket as it is now and freeze the settings of the release with it.

    Raises NothingToIndex for an empty listing; a listing that breaks off is an error and leaves nothing behind.
    """
    source = corpus.source
    objects = select_objects(files.store.list_objects(source.bucket, source.prefix), source)
    first = next(objects, None)
    if first is None:
        raise NothingToIndex(source.bucket, source.prefix, "")
    totals = {"documents": 0, "bytes": 0}
    files.freeze_corpus(corpus)
    files.write_table(SNAPSHOT_FILE, SNAPSHOT_SCHEMA, _counted(chain([first], objects), totals))
    return totals


def select_objects(objects: Iterable[StoredObject], source: Source) -> Iterator[StoredObject]:
    """Yield the objects that the source includes; patterns are those of .gitignore, on the key after the prefix."""
    included = pathspec.GitIgnoreSpec.from_lines(source.include)
    excluded = pathspec.GitIgnoreSpec.from_lines(source.exclude)
    for found in objects:
        name = found.key.removeprefix(source.prefix).lstrip("/")
        is_folder_marker = found.key.endswith("/")
        if not is_folder_marker and included.match_file(name) and not excluded.match_file(name):
            yield found


def _counted(objects: Iterator[StoredObject], totals: dict[str, int]) -> Iterator[pa.RecordBatch]:
    while block := list(islice(objects, _BATCH_ROWS)):
        totals["documents"] += len(block)
        totals["bytes"] += sum(found.bytes for found in block)
        columns = {name: [getattr(found, name) for found in block] for name in SNAPSHOT_SCHEMA.names}
        yield pa.RecordBatch.from_pydict(columns, schema=SNAPSHOT_SCHEMA)
