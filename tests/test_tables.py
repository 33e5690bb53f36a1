from __future__ import annotations

import pyarrow as pa
import pytest

from reindex.errors import FileMissing
from reindex.tables import Tables, gathered, kept_on_disk
from tests.fakes import STATE_BUCKET, MemoryObjectStore

SCHEMA = pa.schema([("key", pa.string()), ("bytes", pa.int64())])


def bucket(**files: list[tuple[str, int]]) -> MemoryObjectStore:
    store = MemoryObjectStore()
    for name, rows in files.items():
        table = pa.Table.from_pylist([{"key": key, "bytes": size} for key, size in rows], schema=SCHEMA)
        store.write_batches(STATE_BUCKET, name, SCHEMA, table.to_batches())
    return store


def test_several_objects_are_one_table() -> None:
    store = bucket(one=[("a", 1)], two=[("b", 2), ("c", 3)])
    with Tables() as tables:
        tables.add("objects", store, STATE_BUCKET, ["one", "two"], SCHEMA)
        assert tables.row("select count(*) as objects, sum(bytes)::bigint as bytes from objects") == {
            "objects": 3,
            "bytes": 6,
        }


def test_no_object_is_an_empty_table_and_the_sum_of_nothing_is_nothing() -> None:
    with Tables() as tables:
        tables.add("objects", bucket(), STATE_BUCKET, [], SCHEMA)
        assert tables.row("select count(*) as objects, sum(bytes)::bigint as bytes from objects") == {
            "objects": 0,
            "bytes": 0,
        }


def test_an_object_that_is_gone_is_an_error_unless_that_is_asked() -> None:
    with Tables() as tables:
        with pytest.raises(FileMissing, match="lost is gone"):
            tables.add("objects", bucket(), STATE_BUCKET, ["lost"], SCHEMA)
        store = bucket(one=[("a", 1)])
        assert tables.add_what_is_there("others", store, STATE_BUCKET, ["one", "lost"], SCHEMA) == ["lost"]
        assert tables.row("select count(*) as others from others") == {"others": 1}


def test_very_many_objects_are_one_table_and_those_that_lack_a_column_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reindex.tables._FILES_AT_ONCE", 2)
    store = bucket(one=[("a", 1)], two=[("b", 2)], three=[("c", 3)])
    old = pa.schema([SCHEMA.field("key")])
    store.write_batches(STATE_BUCKET, "old", old, pa.table({"key": ["d"]}, old).to_batches())
    with Tables() as tables:
        keys = ["one", "two", "lost", "three", "old"]
        assert tables.add_what_is_there("objects", store, STATE_BUCKET, keys, SCHEMA) == ["lost"]
        found = {row["key"]: row["bytes"] for row in tables.rows("from objects")}
    assert found == {"a": 1, "b": 2, "c": 3, "d": None}


def test_a_large_answer_comes_in_batches_of_the_schema_asked_for() -> None:
    with Tables() as tables:
        tables.add_rows("objects", bucket_rows(25), SCHEMA)
        batches = list(tables.batches("select key, bytes from objects", SCHEMA, rows=10))
    assert sum(batch.num_rows for batch in batches) == 25
    assert {batch.schema for batch in batches} == {SCHEMA}


def test_a_name_in_a_query_never_means_a_python_variable() -> None:
    mine = pa.table({"key": ["a"]})
    with Tables() as tables, pytest.raises(Exception, match="mine does not exist"):
        tables.rows("select * from mine")
    assert mine.num_rows == 1


def bucket_rows(count: int) -> list[pa.RecordBatch]:
    rows = [{"key": str(number), "bytes": number} for number in range(count)]
    return pa.Table.from_pylist(rows, schema=SCHEMA).to_batches()


def batches_of(*sizes: int) -> list[pa.RecordBatch]:
    """Return batches of these lengths, their rows numbered through."""
    starts = [sum(sizes[:place]) for place in range(len(sizes))]
    return [
        pa.RecordBatch.from_pylist([{"key": str(row), "bytes": row} for row in range(start, start + size)], SCHEMA)
        for start, size in zip(starts, sizes, strict=True)
    ]


def test_rows_that_are_added_have_a_name_of_their_own_and_that_of_all() -> None:
    with Tables() as tables:
        tables.add_rows("rows", [], SCHEMA)
        first = tables.add_rows("rows", batches_of(3), SCHEMA)
        second = tables.add_rows("rows", iter(batches_of(1, 1)), SCHEMA)
        counts = [tables.row(f"select count(*) as rows from {name}")["rows"] for name in ("rows", first, second)]
    assert counts == [5, 3, 2]


def test_small_batches_are_joined_and_none_is_lost() -> None:
    found = list(gathered(batches_of(3, 3, 3, 10, 1), 5))
    assert [table.num_rows for table in found] == [6, 13, 1]
    assert pa.concat_tables(found).column("bytes").to_pylist() == list(range(20))


def test_rows_on_disk_are_the_rows_and_no_rows_are_a_table_too() -> None:
    kept = kept_on_disk(iter(batches_of(2, 3)), SCHEMA)
    assert kept == pa.Table.from_batches(batches_of(5))
    assert kept_on_disk([], SCHEMA) == SCHEMA.empty_table()
