"""The tables of docs/scaling.md are what the cost model computes."""

from __future__ import annotations

import importlib.util

import pytest

from reindex.settings import PROJECT

_SPEC = importlib.util.spec_from_file_location("cost_model", PROJECT / "benchmarks" / "cost_model.py")
assert _SPEC
assert _SPEC.loader
cost_model = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(cost_model)
PAGE = (PROJECT / "docs" / "scaling.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("table", cost_model.tables(), ids=["embedding", "indexing", "memory"])
def test_the_page_shows_what_the_model_computes(table: str) -> None:
    assert table in PAGE


def test_ten_times_the_chunks_cost_ten_times_the_work() -> None:
    assert cost_model.requests(10**7) == pytest.approx(10 * cost_model.requests(10**6))
    assert cost_model.documents_of(850) == 100


@pytest.mark.parametrize(
    ("value", "shown"), [(9.4, "9.4"), (850, "850"), (12_345, "12 k"), (1.8e9, "1.8 G"), (118e6, "118 M"), (1e9, "1 G")]
)
def test_numbers_are_shown_in_the_digits_that_count(value: float, shown: str) -> None:
    assert cost_model.number(value) == shown
