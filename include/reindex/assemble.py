"""The plan and the catalog in, import files out: only live rows, validated, in the types that Milvus reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reindex.errors import InvalidRow
from reindex.naming import import_file_name
from reindex.parts import EmbeddingStore
from reindex.records import ID_COLUMN, VECTOR_COLUMN, chunk_schema, text_columns
from reindex.releases import ReleaseFiles
from reindex.store import vector_matrix

# float32 vectors made unit length differ from 1 in the last digits only; a model's own bfloat16 by a percent.
_UNIT_TOLERANCE = 1e-3


def assemble_import(
    files: ReleaseFiles, parts: EmbeddingStore, *, dimension: int, max_file_bytes: int
) -> dict[str, Any]:
    """Write the release's live rows as import files no larger than `max_file_bytes` in memory.

    Raises InvalidRow, with the file and the row, for what the server would take silently: duplicate ids, vectors that
    are not finite or not of unit length, texts over their column's limit.
    """
    documents = parts.documents(files.release)
    keys_by_part: dict[str, list[str]] = {}
    for key, row in documents.items():
        keys_by_part.setdefault(str(row["part"]), []).append(key)
    ids: list[pa.Array] = []
    written = []
    rows = _live_rows(parts, keys_by_part, dimension)
    for number, group in enumerate(_grouped(rows, max_file_bytes), start=1):
        name = import_file_name(number)
        count = files.write_table(name, chunk_schema(), _remembering(group, ids))
        written.append({"file": files.key(name), "rows": count})
        files.show_progress("assemble", {"files": number})
    _check_unique(pa.chunked_array(ids, pa.string()))
    return {"documents": len(documents), "rows": sum(file["rows"] for file in written), "files": written}


def check_rows(rows: pa.RecordBatch, *, where: str, dimension: int) -> None:
    """Raise InvalidRow for the first row that Milvus would store but could not serve."""
    ids = rows.column(ID_COLUMN)
    for name in rows.schema.names:
        if rows.column(name).null_count:
            raise InvalidRow(where, "?", f"{name} is null")
    for name, limit in text_columns().items():
        too_long = pc.greater(pc.binary_length(rows.column(name)), limit)
        _raise_first(too_long, ids, where, f"{name} is over {limit} bytes")
    lengths = pc.not_equal(pc.list_value_length(rows.column(VECTOR_COLUMN)), dimension)
    _raise_first(lengths, ids, where, f"its vector has not {dimension} numbers")
    norms = np.linalg.norm(vector_matrix(rows), axis=1)
    # Written so that NaN fails too.
    wrong = ~(np.abs(norms - 1) <= _UNIT_TOLERANCE)
    _raise_first(pa.array(wrong), ids, where, "its vector is not of unit length")


def _live_rows(parts: EmbeddingStore, keys_by_part: dict[str, list[str]], dimension: int) -> Iterator[pa.RecordBatch]:
    for part, keys in sorted(keys_by_part.items()):
        wanted = pa.array(keys, pa.string())
        for batch in parts.read_part(part):
            live = batch.filter(pc.is_in(batch.column("document"), wanted)).cast(chunk_schema())
            check_rows(live, where=part, dimension=dimension)
            if live.num_rows:
                yield live


def _grouped(batches: Iterator[pa.RecordBatch], max_bytes: int) -> Iterator[Iterator[pa.RecordBatch]]:
    for first in batches:
        yield _until_full(first, batches, max_bytes)


def _until_full(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch], max_bytes: int) -> Iterator[pa.RecordBatch]:
    size = first.nbytes
    yield first
    while size < max_bytes and (batch := next(rest, None)) is not None:
        size += batch.nbytes
        yield batch


def _remembering(batches: Iterable[pa.RecordBatch], ids: list[pa.Array]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        ids.append(batch.column(ID_COLUMN))
        yield batch


def _check_unique(ids: pa.ChunkedArray) -> None:
    if pc.count_distinct(ids).as_py() == len(ids):
        return
    counts = pc.value_counts(ids)
    doubled = counts.filter(pc.greater(counts.field("counts"), 1))
    raise InvalidRow("the import files", str(doubled[0]["values"]), f"{len(doubled)} ids stand more than once")


def _raise_first(wrong: pa.Array, ids: pa.Array, where: str, problem: str) -> None:
    position = pc.index(wrong, value=True).as_py()
    if position >= 0:
        raise InvalidRow(where, str(ids[position]), problem)
