from __future__ import annotations

import math
from contextlib import nullcontext

import numpy as np
import pyarrow as pa
import pytest

from reindex.errors import LedgerMismatch, RecallTooLow, TooManyRejects
from reindex.ledger import Ledger
from reindex.recall import Recall, check_recall, wilson_lower_bound
from reindex.records import REJECT_SCHEMA, chunk_schema
from reindex.settings import Gate
from reindex.store import exact_search
from reindex.verify import (
    FILED_SCHEMA,
    Nearest,
    choose_queries,
    judge,
    measure_recall,
    merge_nearest,
    nearest_in_file,
)
from tests.fakes import chunk_rows, release_files
from tests.test_ledger import GOOD

GOOD_RECALL = Recall(k=10, queries=1000, mean=0.99, bound=0.985, confidence=0.95, poor_share=0.0, short_answers=0)


def unit_vectors(count: int, dimension: int = 8, seed: int = 1) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dimension)).astype("float32")
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def file_of(vectors: np.ndarray, first: int = 0) -> list[pa.RecordBatch]:
    """Return rows whose ids are their numbers, in batches of three."""
    template = chunk_rows(["x"]).to_pylist()[0]
    rows = [{**template, "id": str(first + i), "vector": vector.tolist()} for i, vector in enumerate(vectors)]
    return pa.Table.from_pylist(rows, schema=chunk_schema()).to_batches(max_chunksize=3)


@pytest.mark.parametrize("metric", ["IP", "COSINE", "L2"])
def test_exact_search_agrees_with_the_definition_of_the_metric(metric: str) -> None:
    vectors, queries = 2 * unit_vectors(20), unit_vectors(3, seed=2)
    found = exact_search(vectors, [str(i) for i in range(20)], queries, k=5, metric=metric)
    for query, ids, scores in zip(queries, found.ids, found.scores, strict=True):
        products = vectors @ query
        expected = {
            "IP": products,
            "COSINE": products / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query),
            "L2": -((vectors - query) ** 2).sum(1),
        }[metric]
        assert ids == [str(i) for i in np.argsort(-expected)[:5]]
        assert scores == pytest.approx(np.sort(expected)[::-1][:5], abs=1e-5)


def test_neighbours_over_several_files_are_those_over_all_rows() -> None:
    vectors, queries = unit_vectors(30), unit_vectors(4, seed=2)
    returned = [["0", "29"]] * 4
    parts = [nearest_in_file(file_of(vectors[i : i + 10], i), queries, returned, k=7, metric="IP") for i in (0, 10, 20)]
    merged = merge_nearest(parts, 7)
    whole = exact_search(vectors, [str(i) for i in range(30)], queries, k=7, metric="IP")
    assert merged.scores == pytest.approx(whole.scores, abs=1e-5)
    assert merged.rows == 30
    assert merged.returned_scores[:, 0] == pytest.approx(queries @ vectors[0], abs=1e-5)
    assert merged.returned_scores[:, 1] == pytest.approx(queries @ vectors[29], abs=1e-5)


def nearest(scores: list[float], returned: list[float], rows: int = 100) -> Nearest:
    return Nearest(
        scores=np.array([scores], "float32"),
        returned_scores=np.array([returned], "float32"),
        rows=rows,
        filed=FILED_SCHEMA.empty_table(),
    )


@pytest.mark.parametrize(
    ("returned_ids", "returned_scores", "expected"),
    [
        (["0", "1", "2", "3"], [0.9, 0.8, 0.7, 0.6], 1.0),
        (["0", "1", "2", "9"], [0.9, 0.8, 0.7, 0.6], 1.0),  # an equal score under another id
        (["0", "1", "2", "9"], [0.9, 0.8, 0.7, 0.5], 0.75),
        (["0", "0", "0", "0"], [0.9, 0.9, 0.9, 0.9], 0.25),  # one id is one neighbour
        (["0", "1"], [0.9, 0.8, -math.inf, -math.inf], 0.5),  # a short answer misses the rest
        (["7", "8", "9", "x"], [0.1, 0.1, 0.1, -math.inf], 0.0),
        ([], [-math.inf] * 4, 0.0),
    ],
)
def test_recall_counts_true_neighbours_and_their_equals(
    returned_ids: list[str], returned_scores: list[float], expected: float
) -> None:
    exact = nearest([0.9, 0.8, 0.7, 0.6], returned_scores)
    assert measure_recall(exact, [returned_ids], k=4, confidence=0.95).mean == expected


def test_a_corpus_smaller_than_k_is_fully_found_when_every_row_is() -> None:
    exact = nearest([0.9, 0.8], [0.9, 0.8, -math.inf], rows=2)
    found = measure_recall(exact, [["0", "1"]], k=3, confidence=0.95)
    assert (found.mean, found.short_answers) == (1.0, 0)


def test_the_bound_is_wilson_s() -> None:
    # Newcombe (1998), Statistics in Medicine 17, table I: 81 of 263, 95 % two-sided, lower limit 0.2553.
    assert wilson_lower_bound(81 / 263, 263, 0.975) == pytest.approx(0.2553, abs=5e-5)


def test_a_perfect_sample_is_not_called_certain() -> None:
    assert wilson_lower_bound(1.0, 20, 0.95) < 0.9
    assert 0.997 < wilson_lower_bound(1.0, 1000, 0.95) < 1


def test_queries_are_the_same_each_time_and_different_from_each_other() -> None:
    passages = [(f"{i:032x}", " ".join(f"word{i}_{j}" for j in range(40))) for i in range(5)]
    queries = choose_queries(passages, 50)
    assert queries == choose_queries(list(reversed(passages)), 50)
    assert len(set(queries)) == len(queries) == 50
    assert all(len(query.split()) == 12 for query in queries)


def verdict(recall: Recall = GOOD_RECALL, ledger: Ledger = GOOD, **gate: float) -> dict[str, object]:
    files = release_files()
    reject = {
        "key": "bad.pdf",
        "member": "",
        "version": "",
        "stage": "embed",
        "reason": "r",
        "detail": "broken",
        "bytes": 1,
    }
    table = pa.Table.from_pylist([reject], schema=REJECT_SCHEMA)
    files.write_table("rejects.parquet", REJECT_SCHEMA, table.to_batches())
    return judge(
        files, Gate(max_rejected_share=gate.pop("max_rejected_share", 0.5), **gate), recall, ledger, collection_id=7
    )


def test_a_release_that_meets_every_gate_passes() -> None:
    assert verdict()["collection_id"] == 7


def test_the_gate_is_the_lower_bound_not_the_mean() -> None:
    with pytest.raises(RecallTooLow, match=r"recall@10 is 0\.9900, its lower bound 0\.9850 against a floor of 0\.987"):
        verdict(min_recall=0.987)


@pytest.mark.parametrize(("mean", "floor", "is_unindexed", "passes"), [
    (1.0, 0.95, True, True),
    (0.99, 0.95, True, False),
    (1.0, 0.95, False, False),
    (1.0, 1.0, True, False),
])  # fmt: skip
def test_a_handful_of_notes_passes_only_when_every_answer_is_perfect(
    mean: float, floor: float, is_unindexed: bool, passes: bool
) -> None:
    bound = wilson_lower_bound(mean, 10, 0.95)
    few = Recall(k=10, queries=10, mean=mean, bound=bound, confidence=0.95, poor_share=0.0, short_answers=0)
    with nullcontext() if passes else pytest.raises(RecallTooLow):
        check_recall(few, Gate(min_recall=floor), is_unindexed=is_unindexed)


def test_a_tail_of_poor_queries_fails_a_good_mean() -> None:
    with pytest.raises(RecallTooLow, match=r"5\.0% of the queries under 0\.5"):
        verdict(Recall(k=10, queries=1000, mean=0.98, bound=0.97, confidence=0.95, poor_share=0.05, short_answers=0))


def test_too_many_rejects_fail_and_name_the_first() -> None:
    with pytest.raises(TooManyRejects, match=r"1 of 4 documents were rejected.*bad\.pdf"):
        verdict(max_rejected_share=0.2)


def test_a_ledger_that_does_not_add_up_fails_before_anything_else() -> None:
    lost = Ledger(**{**{name: getattr(GOOD, name) for name in GOOD.__slots__}, "collection_rows": 9})
    with pytest.raises(LedgerMismatch):
        verdict(ledger=lost, min_recall=1.0)
