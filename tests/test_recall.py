from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest

from reindex.errors import RecallTooLow
from reindex.exact import Neighbours
from reindex.recall import Recall, check_recall, recall_over, wilson_lower_bound
from reindex.settings import Gate
from reindex.tuning import Queries, histogram, recall_of, tie_floor

GOOD = Recall(k=10, queries=1000, mean=0.99, bound=0.985, confidence=0.95, poor_share=0.0, short_answers=0)
# One query along the first axis: a row's score is its own first number.
SCORES = {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.6, "equal": 0.6 - 5e-5, "less": 0.5}
VECTORS = {name: np.array([score, 0], "float32") for name, score in SCORES.items()}


def neighbours(names: str, metric_sign: int = 1) -> Neighbours:
    return Neighbours(
        ids=np.array([list(names)], object),
        documents=np.array([list(names)], object),
        scores=np.array([[metric_sign * SCORES[name] for name in names]], "float32"),
        rows=100,
    )


def found(answer: list[str], *, exact: str = "abcd", own: str = "", k: int = 4) -> tuple[float | None, bool]:
    queries = Queries(vectors=np.array([[1, 0]], "float32"), own=[own], metric="IP")
    return recall_of(neighbours(exact), 0, answer, queries, VECTORS, k=k)


@pytest.mark.parametrize(("answer", "recall", "is_short"), [
    (["a", "b", "c", "d"], 1.0, False),
    (["d", "c", "b", "a"], 1.0, False),
    (["a", "b", "c", "equal"], 1.0, False),
    (["a", "b", "c", "less"], 0.75, False),
    (["a", "a", "a", "a"], 0.25, True),
    (["a", "b"], 0.5, True),
    (["less", "unheard-of"], 0.0, True),
    ([], 0.0, True),
])  # fmt: skip
def test_recall_counts_true_neighbours_and_what_scores_as_well(
    answer: list[str], recall: float, is_short: bool
) -> None:
    assert found(answer) == (recall, is_short)


def test_a_passage_is_no_answer_to_itself() -> None:
    assert found(["a", "b", "c"], exact="abc", own="a", k=2) == (1.0, False)
    assert found(["a", "c", "less"], exact="abc", own="a", k=2) == (0.5, False)
    assert found(["b", "c"], exact="abc", own="a", k=2) == (1.0, False)


def test_fewer_rows_than_k_are_fully_found_when_every_row_is() -> None:
    assert found(["a", "b"], exact="ab", k=9) == (1.0, False)


def test_where_there_is_nothing_to_find_there_is_no_recall() -> None:
    assert found(["a"], exact="a", own="a") == (None, False)


@pytest.mark.parametrize(("kth", "floor"), [(0.5, 0.49995), (-0.5, -0.50005), (0.0, 0.0)])
def test_a_score_within_a_ten_thousandth_of_the_k_th_ties_with_it(kth: float, floor: float) -> None:
    assert tie_floor(kth) == pytest.approx(floor, abs=1e-9)


def test_the_bound_is_wilson_s() -> None:
    # Newcombe (1998), Statistics in Medicine 17, table I: 81 of 263, 95 % two-sided, lower limit 0.2553.
    assert wilson_lower_bound(81 / 263, 263, 0.975) == pytest.approx(0.2553, abs=5e-5)


def test_a_perfect_sample_is_not_called_certain() -> None:
    assert wilson_lower_bound(1.0, 20, 0.95) < 0.9
    assert 0.997 < wilson_lower_bound(1.0, 1000, 0.95) < 1


def test_queries_are_counted_by_the_tenths_that_they_find() -> None:
    assert histogram([0, 0.1, 0.25, 0.3, 1 / 3, 0.9, 1, 1]) == [1, 1, 1, 2, 0, 0, 0, 0, 0, 1, 2]


def test_the_gate_is_the_lower_bound_not_the_mean() -> None:
    check_recall(GOOD, Gate(min_recall=0.985), is_unindexed=False)
    with pytest.raises(RecallTooLow, match=r"recall@10 is 0\.9900, its lower bound 0\.9850 against a floor of 0\.987"):
        check_recall(GOOD, Gate(min_recall=0.987), is_unindexed=False)


@pytest.mark.parametrize(("mean", "floor", "is_unindexed", "passes"), [
    (0.96, 0.95, True, True),
    (0.94, 0.95, True, False),
    (1.0, 0.95, False, False),
])  # fmt: skip
def test_without_an_index_the_mean_decides(mean: float, floor: float, is_unindexed: bool, passes: bool) -> None:
    bound = wilson_lower_bound(mean, 10, 0.95)
    few = Recall(k=10, queries=10, mean=mean, bound=bound, confidence=0.95, poor_share=0.0, short_answers=0)
    with nullcontext() if passes else pytest.raises(RecallTooLow):
        check_recall(few, Gate(min_recall=floor), is_unindexed=is_unindexed)


def test_a_tail_of_poor_queries_fails_a_good_mean() -> None:
    tail = recall_over([1.0] * 970 + [0.3] * 30, k=10, confidence=0.95)
    assert tail.bound > 0.96
    with pytest.raises(RecallTooLow, match=r"3\.0% of the queries under 0\.5"):
        check_recall(tail, Gate(), is_unindexed=False)


def test_a_slice_is_named_and_told_what_would_find_more() -> None:
    with pytest.raises(RecallTooLow, match=r"recall@10 of the slice group hr is .*: more ef"):
        check_recall(GOOD, Gate(min_recall=0.999), is_unindexed=False, where="group hr", advice="more ef")
