"""The documents of a release and the parts in, import files out: validated, in the types that Milvus reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reindex.brake import Pause
from reindex.errors import InvalidRow, NothingLeft
from reindex.exact import vector_matrix
from reindex.naming import chunk_id, import_file_name
from reindex.parts import EmbeddingStore
from reindex.records import (
    ACL_COLUMN,
    DOCUMENT_SCHEMA,
    ID_COLUMN,
    VECTOR_COLUMN,
    chunk_schema,
    passage_columns,
    text_columns,
    texts_columns,
)
from reindex.releases import DOCUMENTS_FILE, ReleaseFiles
from reindex.tables import Tables
from reindex.tombstones import erased_keys

# Columns that a chunk takes from its document as they are.
_OF_DOCUMENT = ("modified", ACL_COLUMN)
_WANTED = """
    select part, content, key, epoch_us(modified) // 1000000 as modified, acl
    from documents order by part, content, key
"""
_WANTED_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("part", "content", "key")),
        *((name, chunk_schema().field(name).type) for name in _OF_DOCUMENT),
    ]
)
_IDS_SCHEMA = pa.schema([chunk_schema().field(ID_COLUMN)])
# float32 vectors made unit length differ from 1 in the last digits only; a model's own bfloat16 by a percent.
_UNIT_TOLERANCE = 1e-3


def assemble_import(
    files: ReleaseFiles, parts: EmbeddingStore, *, dimension: int, max_file_bytes: int
) -> dict[str, Any]:
    """Write the release's rows as import files no larger than `max_file_bytes` in memory.

    Raises InvalidRow, with the file and the row, for what the server would take silently: duplicate ids, vectors that
    are not finite or not of unit length, texts over their column's limit.
    """
    written: list[dict[str, Any]] = []
    rows = _live_rows(files, parts, dimension)
    with Tables() as tables:
        for number, group in enumerate(_grouped(rows, max_file_bytes), start=1):
            name, ids = import_file_name(number), list[pa.RecordBatch]()
            file = files.write_table(name, chunk_schema(), _remembering(group, ids))
            tables.add_rows("ids", ids, _IDS_SCHEMA)
            written.append({"file": files.key(name), "rows": file.rows, "bytes": file.bytes})
            files.show_progress("assemble", {"files": number})
        if not written:
            raise NothingLeft(files.release)
        _check_unique(tables)
    totals = {name: sum(file[name] for file in written) for name in ("rows", "bytes")}
    return {**totals, "files": written}


def check_rows(rows: pa.RecordBatch, *, where: str, dimension: int) -> None:
    """Raise InvalidRow for the first row that Milvus would store but could not serve."""
    ids = rows.column(ID_COLUMN)
    for name in rows.schema.names:
        if rows.column(name).null_count:
            raise InvalidRow(where, "?", f"{name} is null")
    for name, limit in text_columns().items():
        too_long = pc.greater(pc.binary_length(rows.column(name)), limit)
        _raise_first(too_long, ids, where, f"{name} is over {limit} bytes")
    for name in texts_columns():
        _check_texts(rows, name, where)
    lengths = pc.not_equal(pc.list_value_length(rows.column(VECTOR_COLUMN)), dimension)
    _raise_first(lengths, ids, where, f"its vector has not {dimension} numbers")
    norms = np.linalg.norm(vector_matrix(rows), axis=1)
    # Written so that NaN fails too.
    wrong = ~(np.abs(norms - 1) <= _UNIT_TOLERANCE)
    _raise_first(pa.array(wrong), ids, where, "its vector is not of unit length")


def _check_texts(rows: pa.RecordBatch, name: str, where: str) -> None:
    lists, ids, limit = rows.column(name), rows.column(ID_COLUMN), texts_columns()[name]
    too_many = pc.greater(pc.list_value_length(lists), limit.count)
    _raise_first(too_many, ids, where, f"{name} holds more than {limit.count} texts")
    owners, texts = ids.take(pc.list_parent_indices(lists)), pc.list_flatten(lists)
    _raise_first(pc.is_null(texts), owners, where, f"{name} holds a null")
    too_long = pc.greater(pc.binary_length(texts), limit.bytes)
    _raise_first(too_long, owners, where, f"{name} holds a text over {limit.bytes} bytes")


def _live_rows(files: ReleaseFiles, parts: EmbeddingStore, dimension: int) -> Iterator[pa.RecordBatch]:
    """Yield the release's rows, part by part: each part is read once."""
    pause = Pause(files)
    for part, documents in groupby(_documents_by_part(files), key=itemgetter("part")):
        by_content: dict[str, list[dict[str, Any]]] = {}
        for document in documents:
            by_content.setdefault(document["content"], []).append(document)
        pause.wait()
        for batch in parts.read_part(part):
            rows = rows_of_documents(batch, by_content)
            check_rows(rows, where=part, dimension=dimension)
            if rows.num_rows:
                yield rows


def _documents_by_part(files: ReleaseFiles) -> Iterator[dict[str, Any]]:
    """Yield which contents are wanted of which part, and for whom: not for documents that were erased meanwhile."""
    erased = erased_keys(files.store, files.bucket, files.corpus_name)
    with Tables() as tables:
        tables.add("documents", files.store, files.bucket, [files.key(DOCUMENTS_FILE)], DOCUMENT_SCHEMA)
        for batch in tables.batches(_WANTED, _WANTED_SCHEMA):
            yield from (row for row in batch.to_pylist() if row["key"] not in erased)


def rows_of_documents(passages: pa.RecordBatch, by_content: dict[str, list[dict[str, Any]]]) -> pa.RecordBatch:
    """Return some stored passages as readers find them, once for each document that has their content."""
    contents = passages.column("content").to_pylist()
    chosen = [(row, document) for row, content in enumerate(contents) for document in by_content.get(content, ())]
    taken = passages.take(pa.array([row for row, _ in chosen], pa.int64()))
    documents = [document["key"] for _, document in chosen]
    names = [PurePosixPath(key).name for key in documents]
    members, texts, occurrences = (taken.column(name).to_pylist() for name in ("member", "text", "occurrence"))
    columns = {name: taken.column(name) for name in [*passage_columns(), VECTOR_COLUMN]}
    columns["document"] = pa.array(documents, pa.string())
    for name in _OF_DOCUMENT:
        columns[name] = pa.array([document[name] for _, document in chosen], chunk_schema().field(name).type)
    ids = [
        chunk_id(key, text, occurrence, member=member)
        for key, text, occurrence, member in zip(documents, texts, occurrences, members, strict=True)
    ]
    columns["id"] = pa.array(ids, pa.string())
    has_title = pc.not_equal(taken.column("title"), "")
    columns["title"] = pc.if_else(has_title, taken.column("title"), pa.array(names, pa.string()))
    return pa.RecordBatch.from_arrays(
        [columns[name].cast(chunk_schema().field(name).type) for name in chunk_schema().names], schema=chunk_schema()
    )


def _grouped(batches: Iterator[pa.RecordBatch], max_bytes: int) -> Iterator[Iterator[pa.RecordBatch]]:
    for first in batches:
        yield _until_full(first, batches, max_bytes)


def _until_full(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch], max_bytes: int) -> Iterator[pa.RecordBatch]:
    size = first.nbytes
    yield first
    while size < max_bytes and (batch := next(rest, None)) is not None:
        size += batch.nbytes
        yield batch


def _remembering(batches: Iterable[pa.RecordBatch], ids: list[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        ids.append(batch.select([ID_COLUMN]))
        yield batch


def _check_unique(tables: Tables) -> None:
    """Raise InvalidRow if an id stands twice; there may be more of them than memory holds."""
    tables.define("doubled", f"select {ID_COLUMN} from ids group by {ID_COLUMN} having count(*) > 1")
    doubled = tables.row(f"select count(*) as ids, min({ID_COLUMN}) as first from doubled")
    if doubled["ids"]:
        raise InvalidRow("the import files", doubled["first"], f"{doubled['ids']} ids stand more than once")


def _raise_first(wrong: pa.Array, ids: pa.Array, where: str, problem: str) -> None:
    position = pc.index(wrong, value=True).as_py()
    if position >= 0:
        raise InvalidRow(where, str(ids[position]), problem)
