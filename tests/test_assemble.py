from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from reindex.assemble import assemble_import, check_rows
from reindex.errors import FileMissing, InvalidRow
from reindex.naming import chunk_id
from reindex.parts import EmbeddingStore
from reindex.records import DOCUMENT_SCHEMA, chunk_schema, text_bytes
from reindex.releases import ReleaseFiles
from tests.fakes import STATE_BUCKET, chunk_rows, release_files, stored_passages

MOMENT = datetime(2026, 3, 1, 12, 0, 0, 999_999, tzinfo=UTC)
TEXTS = ["to be", "or not", "that is the question"]


def store_of(files: ReleaseFiles) -> EmbeddingStore:
    return EmbeddingStore(files.store, STATE_BUCKET, "docs", "space")


def write_part(files: ReleaseFiles, name: str, **contents: list[str]) -> None:
    tables = [stored_passages(content, texts) for content, texts in contents.items()]
    store_of(files).write_part(name, pa.concat_tables(tables), [])


def write_documents(files: ReleaseFiles, *documents: tuple[str, str, str]) -> None:
    """Say which documents the release has: key, content and part of each."""
    facts = {"version": "", "etag": "", "bytes": 1, "modified": MOMENT, "action": "reuse", "chunks": 1, "tokens": 1}
    rows = [{**facts, "key": key, "content": content, "part": part, "acl": [key]} for key, content, part in documents]
    table = pa.Table.from_pylist(rows, schema=DOCUMENT_SCHEMA)
    files.write_table("documents.parquet", DOCUMENT_SCHEMA, table.to_batches())


def assembled(files: ReleaseFiles, *, max_file_bytes: int = 2**20) -> dict[str, Any]:
    return assemble_import(files, store_of(files), dimension=4, max_file_bytes=max_file_bytes)


def rows_of(files: ReleaseFiles, column: str) -> list[Any]:
    return files.read_column("import/part-00001.parquet", column)


def changed(column: str, value: object) -> pa.RecordBatch:
    rows = chunk_rows(TEXTS).to_pylist()
    rows[1] = {**rows[1], column: value}
    return pa.RecordBatch.from_pylist(rows, schema=chunk_schema())


def test_import_files_hold_every_document_of_the_release_and_nothing_else() -> None:
    files = release_files()
    write_part(files, "1", c1=TEXTS, c2=["x"], unwanted=["y"])
    write_part(files, "2", c3=TEXTS)
    write_documents(files, ("a", "c1", "1"), ("b", "c2", "1"), ("c", "c3", "2"))
    facts = assembled(files)
    assert (facts["rows"], len(facts["files"])) == (7, 1)
    assert facts["bytes"] > 0
    assert len(set(rows_of(files, "id"))) == 7
    assert sorted(set(rows_of(files, "document"))) == ["a", "b", "c"]
    assert "y" not in rows_of(files, "text")


def test_ids_come_from_the_key_the_text_and_its_occurrence() -> None:
    files = release_files()
    write_part(files, "1", c1=["same", "same"])
    write_documents(files, ("a", "c1", "1"), ("b", "c1", "1"))
    assembled(files)
    expected = [chunk_id(key, "same", occurrence) for key in ("a", "b") for occurrence in (0, 1)]
    assert sorted(rows_of(files, "id")) == sorted(expected)


def test_a_document_without_a_title_gets_the_name_of_its_file() -> None:
    files = release_files()
    part = pa.concat_tables([stored_passages("c1", ["x"], title=""), stored_passages("c2", ["y"], title="Guide")])
    store_of(files).write_part("1", part, [])
    write_documents(files, ("folder/a.txt", "c1", "1"), ("folder/b.txt", "c2", "1"))
    assembled(files)
    assert dict(zip(rows_of(files, "text"), rows_of(files, "title"), strict=True)) == {"x": "a.txt", "y": "Guide"}


def test_a_row_says_when_its_document_was_modified_and_who_may_find_it() -> None:
    files = release_files()
    write_part(files, "1", c1=["same"])
    write_documents(files, ("a", "c1", "1"), ("b", "c1", "1"))
    assembled(files)
    assert dict(zip(rows_of(files, "document"), rows_of(files, "acl"), strict=True)) == {"a": ["a"], "b": ["b"]}
    assert rows_of(files, "modified") == [1_772_366_400] * 2


def test_files_stay_within_the_size_that_the_server_takes() -> None:
    files = release_files()
    for number in range(5):
        write_part(files, str(number), **{f"c{number}": TEXTS})
    write_documents(files, *((f"d{number}", f"c{number}", str(number)) for number in range(5)))
    facts = assembled(files, max_file_bytes=1)
    assert [file["rows"] for file in facts["files"]] == [3] * 5
    assert facts["rows"] == 15


def test_a_part_that_is_gone_is_named() -> None:
    files = release_files()
    write_documents(files, ("a", "c1", "lost"))
    with pytest.raises(FileMissing, match=r"parts/lost\.parquet is gone"):
        assembled(files)


def test_an_import_file_carries_only_types_that_milvus_reads() -> None:
    files = release_files()
    write_part(files, "1", c1=TEXTS)
    write_documents(files, ("a", "c1", "1"))
    assembled(files)
    table = files.store.read_table(STATE_BUCKET, files.key("import/part-00001.parquet"))
    assert table is not None
    kinds = {str(field.type).replace("element", "item") for field in table.schema}
    assert kinds == {"string", "int64", "list<item: float>", "list<item: string>"}
    assert not table.schema.metadata


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("text", "é" * text_bytes("text"), "text is over 16384 bytes"),
        ("acl", ["g"] * 65, "acl holds more than 64 texts"),
        ("acl", ["g", "é" * 129], "acl holds a text over 256 bytes"),
        ("acl", ["g", None], "acl holds a null"),
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


def test_a_text_as_long_as_its_column_passes_and_one_byte_more_does_not() -> None:
    longest = "é" * (text_bytes("text") // 2)
    accepted = changed("text", longest)
    check_rows(accepted, where="part-1", dimension=4)
    assert max(len(text.encode()) for text in accepted.column("text").to_pylist()) == text_bytes("text")
    with pytest.raises(InvalidRow, match="text is over"):
        check_rows(changed("text", longest + "e"), where="part-1", dimension=4)


def test_an_id_that_stands_twice_is_refused() -> None:
    files = release_files()
    doubled = pa.concat_tables([stored_passages("c1", ["same"]), stored_passages("c1", ["same"])])
    store_of(files).write_part("1", doubled, [])
    write_documents(files, ("a", "c1", "1"))
    with pytest.raises(InvalidRow, match="1 ids stand more than once"):
        assembled(files)
