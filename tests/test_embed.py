"""How work is cut for Ray, however much there is."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from reindex.embed import Work, writers_time
from reindex.prepare import PENDING_SCHEMA


def work_on(documents: int, *, batch: int = 10_000) -> Work:
    keys = [pa.array(map(str, range(start, min(start + batch, documents)))) for start in range(0, documents, batch)]
    rest = pa.schema([field for field in PENDING_SCHEMA if field.name != "key"])
    batches = [
        pa.RecordBatch.from_arrays([of, *(pa.nulls(len(of), field.type) for field in rest)], schema=PENDING_SCHEMA)
        for of in keys
    ]
    return Work(pending=pa.Table.from_batches(batches, PENDING_SCHEMA), held=np.array([7], "uint64"))


@pytest.mark.parametrize(("documents", "tasks"), [(0, 0), (7, 1), (80, 10), (1_000_001, 125_001)])
def test_tasks_are_small_however_many_documents_there_are(documents: int, tasks: int) -> None:
    blocks = list(work_on(documents).blocks())
    assert len(blocks) == tasks
    assert sum(block.num_rows for block in blocks) == documents


def test_work_that_is_done_again_is_on_the_documents_that_were_named_and_nothing_is_held() -> None:
    again = work_on(30, batch=10).without_held({"3", "25"})
    assert again.pending.column("key").to_pylist() == ["3", "25"]
    assert len(again.held) == 0
    assert work_on(30).without_held(set()).pending.num_rows == 0


def test_a_writer_that_waits_waits_for_bytes_and_for_parsing_in_their_proportion() -> None:
    found = writers_time({"worked": 60, "idle": 40, "fetching": 1, "parsing": 3})
    assert found == {"embedding_seconds": 60, "wait_share": 0.1, "parse_share": 0.3}
    assert set(writers_time({"worked": 0, "idle": 0, "fetching": 0, "parsing": 0}).values()) == {0}
