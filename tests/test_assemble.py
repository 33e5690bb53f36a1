from __future__ import annotations

import math

import pyarrow as pa
import pytest

from reindex.assemble import assemble_import, check_rows
from reindex.errors import InvalidRow
from reindex.parts import EmbeddingStore
from reindex.records import chunk_schema, text_bytes
from reindex.releases import ReleaseFiles
from tests.fakes import STATE_BUCKET, chunk_rows, release_files

TEXTS = ["to be", "or not", "that is the question"]


def catalog_row(document: str, chunks: int) -> dict[str, object]:
    return {"key": document, "version": "", "etag": "e", "content": "c", "chunks": chunks, "tokens": 9}


def store_of(files: ReleaseFiles) -> EmbeddingStore:
    return EmbeddingStore(files.store, STATE_BUCKET, "docs", "space")


def write_part(files: ReleaseFiles, name: str, **documents: list[str]) -> None:
    tables = [chunk_rows(texts, document=document) for document, texts in documents.items()]
    rows = [catalog_row(document, len(texts)) for document, texts in documents.items()]
    store_of(files).write_part(f"{files.release}-{name}", pa.concat_tables(tables), rows)


def changed(column: str, value: object) -> pa.RecordBatch:
    rows = chunk_rows(TEXTS).to_pylist()
    rows[1] = {**rows[1], column: value}
    return pa.RecordBatch.from_pylist(rows, schema=chunk_schema())


def test_import_files_hold_every_live_row_once() -> None:
    files = release_files()
    write_part(files, "1", a=TEXTS, b=["x"])
    write_part(files, "2", c=TEXTS)
    facts = assemble_import(files, store_of(files), dimension=4, max_file_bytes=2**20)
    assert (facts["documents"], facts["rows"], len(facts["files"])) == (3, 7, 1)
    assert len(set(files.read_column("import/part-00001.parquet", "id"))) == 7


def test_files_stay_within_the_size_that_the_server_takes() -> None:
    files = release_files()
    for number in range(5):
        write_part(files, str(number), **{f"d{number}": TEXTS})
    facts = assemble_import(files, store_of(files), dimension=4, max_file_bytes=1)
    assert [file["rows"] for file in facts["files"]] == [3] * 5
    assert facts["rows"] == 15


def test_a_document_embedded_by_two_attempts_is_taken_from_one() -> None:
    files = release_files()
    write_part(files, "1", a=TEXTS)
    write_part(files, "2", a=TEXTS)
    assert assemble_import(files, store_of(files), dimension=4, max_file_bytes=2**20)["rows"] == 3


def test_a_part_without_its_catalog_does_not_exist() -> None:
    files = release_files()
    write_part(files, "1", a=TEXTS)
    write_part(files, "2", b=TEXTS)
    files.store.delete(STATE_BUCKET, f"reindex/docs/spaces/space/catalog/{files.release}-2.parquet")
    assert assemble_import(files, store_of(files), dimension=4, max_file_bytes=2**20)["documents"] == 1


def test_an_import_file_carries_only_types_that_milvus_reads() -> None:
    files = release_files()
    write_part(files, "1", a=TEXTS)
    assemble_import(files, store_of(files), dimension=4, max_file_bytes=2**20)
    table = files.store.read_table(STATE_BUCKET, files.key("import/part-00001.parquet"))
    assert table is not None
    kinds = {str(field.type).replace("element", "item") for field in table.schema}
    assert kinds == {"string", "int64", "list<item: float>"}
    assert not table.schema.metadata


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("text", "é" * text_bytes("text"), "text is over 16384 bytes"),
        ("vector", [1.0, 0.0], "has not 4 numbers"),
        ("vector", [math.nan, 0.0, 0.0, 1.0], "not of unit length"),
        ("vector", [math.inf, 0.0, 0.0, 1.0], "not of unit length"),
        ("vector", [0.0] * 4, "not of unit length"),
        ("vector", [0.9, 0.0, 0.0, 0.0], "not of unit length"),
    ],
)
def test_a_row_that_milvus_would_swallow_is_refused_by_name(column: str, value: object, problem: str) -> None:
    with pytest.raises(InvalidRow, match=problem) as caught:
        check_rows(changed(column, value), where="part-1", dimension=4)
    assert caught.value.row == chunk_rows(TEXTS).column("id")[1].as_py()


def test_a_text_as_long_as_its_column_passes() -> None:
    files = release_files()
    rows = pa.Table.from_batches([changed("text", "é" * (text_bytes("text") // 2))])
    store_of(files).write_part(f"{files.release}-1", rows, [catalog_row("a.txt", 3)])
    assert assemble_import(files, store_of(files), dimension=4, max_file_bytes=2**20)["rows"] == 3


def test_an_id_that_stands_twice_is_refused() -> None:
    files = release_files()
    doubled = pa.concat_tables([chunk_rows(["same"]), chunk_rows(["same"])])
    store_of(files).write_part(f"{files.release}-1", doubled, [catalog_row("a.txt", 2)])
    with pytest.raises(InvalidRow, match="1 ids stand more than once"):
        assemble_import(files, store_of(files), dimension=4, max_file_bytes=2**20)
