from __future__ import annotations

import pytest

from reindex.parsers import Context
from reindex.parsers.tables import read_csv
from reindex.records import Shape
from reindex.settings import Limits, Parsing


def read(data: str | bytes) -> list[str]:
    raw = data.encode() if isinstance(data, str) else data
    (document,) = read_csv(raw, Context(name="a.csv", parsing=Parsing(), limits=Limits()))
    assert {block.shape for block in document.blocks} <= {Shape.LINE}
    return [block.text for block in document.blocks]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_row_reads_alone_whatever_stands_between_its_cells(delimiter: str) -> None:
    rows = [["Name", "City", "Age"], ["Ann", "Paris, France", "41"], ["Bob", "", "37"]]
    text = "\n".join(delimiter.join(f'"{cell}"' if "," in cell else cell for cell in row) for row in rows)
    assert read(text) == ["Name: Ann; City: Paris, France; Age: 41", "Name: Bob; Age: 37"]


@pytest.mark.parametrize("first", ["Ann,41", "Ann,ann@example.org", "Ann,2026-11-02", "Ann,Ann"])
def test_a_first_row_of_values_names_no_columns(first: str) -> None:
    assert read(f"{first}\nBob,Paris\n") == [first.replace(",", " | "), "Bob | Paris"]


def test_one_column_has_no_name() -> None:
    assert read("left\nright\n") == ["left", "right"]


def test_a_table_of_names_alone_is_its_names() -> None:
    assert read("Name,City\n") == ["Name | City"]


def test_rows_may_be_shorter_and_longer_than_the_first() -> None:
    assert read("a,b\n1\n1,2,3\n\n,\n") == ["a: 1", "a: 1; b: 2; 3"]


def test_a_column_may_be_without_a_name() -> None:
    assert read(",name\n0,left\n") == ["0; name: left"]


def test_a_cell_may_hold_lines_and_be_very_long() -> None:
    assert read(f'a,b\n"one\ntwo",{"x" * 200_000}\n') == [f"a: one two; b: {'x' * 200_000}"]


def test_a_zero_byte_does_no_harm() -> None:
    assert read(b"a,b\n" + b"one,two\n" * 2000 + b"le\0ft,right\n")[-1] == "a: left; b: right"


def test_an_empty_table_has_no_rows() -> None:
    assert read("\n \n") == []
