"""A snapshot in, what to do with each of its objects out: `plan.parquet`. For now every object is embedded anew."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from reindex.embedders import Model, check_window
from reindex.records import PLAN_SCHEMA, Action, CollectionInfo
from reindex.releases import ReleaseFiles
from reindex.settings import Corpus
from reindex.store import check_readers_stay

PLAN_FILE = "plan.parquet"
_SNAPSHOT_FILE = "snapshot.parquet"


def plan_release(files: ReleaseFiles, corpus: Corpus, model: Model, live: CollectionInfo | None) -> dict[str, Any]:
    """Write the plan; raise SchemaMismatch or SettingsError before anything is spent.

    Readers of the live index must not break, and no chunk may be longer than the model reads.
    """
    check_window(corpus, model)
    check_readers_stay(live, model.dimension, corpus.index.metric)
    documents = files.write_table(PLAN_FILE, PLAN_SCHEMA, _planned(files.read_batches(_SNAPSHOT_FILE)))
    return {"documents": documents, Action.EMBED.value: documents, "dimension": model.dimension}


def plan_batch(objects: pa.RecordBatch) -> pa.RecordBatch:
    """Return the objects with what to do about each."""
    actions = pa.array([Action.EMBED.value] * objects.num_rows, pa.string())
    return pa.RecordBatch.from_arrays([*objects.columns, actions], schema=PLAN_SCHEMA)


def _planned(snapshot: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    return (plan_batch(batch) for batch in snapshot)
