from __future__ import annotations

import random
from dataclasses import asdict
from math import log2

import pytest

from reindex.judgements import Judgements
from reindex.relevance import (
    MEASURES,
    Relevance,
    assess_relevance,
    compare,
    judged_id,
    mean_measures,
    measure_queries,
    missing_documents,
    ndcg,
    rank_documents,
    recall,
    reciprocal_rank,
)


def judged(*grades: dict[str, int]) -> Judgements:
    by_query = {str(number): of for number, of in enumerate(grades)}
    return Judgements(queries={query: f"query {query}" for query in by_query}, grades=by_query, unjudged=0)


def random_case(seed: int) -> tuple[list[str], dict[str, int]]:
    """Return a ranking of up to 150 documents and grades of some of them and of others, at least one above 0."""
    chosen = random.Random(seed)
    documents = [f"d{number}" for number in range(200)]
    grades = {document: chosen.choice([-1, 0, 1, 2, 3]) for document in chosen.sample(documents, chosen.randint(1, 60))}
    return chosen.sample(documents, chosen.randint(0, 150)), {**grades, chosen.choice(documents): 1}


# The measures


def test_ndcg_is_as_published() -> None:
    """That of "Discounted cumulative gain" in Wikipedia: graded 3, 2, 3, 0, 1, 2, and two not found, 3 and 2."""
    grades = {"D1": 3, "D2": 2, "D3": 3, "D4": 0, "D5": 1, "D6": 2, "D7": 3, "D8": 2}
    assert ndcg(["D1", "D2", "D3", "D4", "D5", "D6"], grades, k=6) == pytest.approx(6.861 / 8.740, abs=1e-4)


def test_ndcg_is_what_trec_eval_says() -> None:
    """The example of pytrec_eval's README, whose figures are trec_eval's."""
    assert ndcg(["d3", "d1", "d2"], {"d1": 0, "d2": 1, "d3": 0}, k=10) == pytest.approx(0.5, abs=1e-15)
    assert ndcg(["d1", "d3", "d2"], {"d2": 1, "d3": 1}, k=10) == pytest.approx(0.6934264036172708, abs=1e-15)


def test_the_gain_is_the_grade_itself_and_a_bad_grade_gains_nothing() -> None:
    grades = {"best": 3, "good": 1, "wrong": -2}
    assert ndcg(["good", "wrong", "best"], grades, k=10) == pytest.approx((1 + 3 / 2) / (3 + 1 / log2(3)))


def test_the_ideal_counts_what_the_index_lacks() -> None:
    assert ndcg(["here"], {"here": 1, "gone": 1}, k=10) == pytest.approx(1 / (1 + 1 / log2(3)))


def test_recall_is_the_share_of_relevant_documents_among_the_first() -> None:
    grades = {"a": 1, "b": 3, "c": 2, "gone": 1, "no": 0}
    ranking = ["a", "no", "x", "b", "c"]
    assert [recall(ranking, grades, k=k) for k in (1, 3, 4, 5, 10)] == [0.25, 0.25, 0.5, 0.75, 0.75]


def test_the_mean_reciprocal_rank_is_as_published() -> None:
    """That of "Mean reciprocal rank" in Wikipedia: plurals found in third, second and first place."""
    rankings = [["catten", "cati", "cats"], ["torii", "tori", "toruses"], ["viruses", "virii", "viri"]]
    measured = measure_queries(judged({"cats": 1}, {"tori": 1}, {"viruses": 1}), rankings)
    assert mean_measures(measured)["mrr@10"] == pytest.approx(11 / 18)


def test_a_relevant_document_in_eleventh_place_counts_for_recall_at_100_alone() -> None:
    ranking = [f"d{number}" for number in range(11)]
    measured = measure_queries(judged({"d10": 2}), [ranking])
    assert measured == {"ndcg@10": [0.0], "recall@10": [0.0], "recall@100": [1.0], "mrr@10": [0.0]}


@pytest.mark.parametrize("seed", range(50))
def test_the_ideal_ranking_is_worth_1_and_no_ranking_more(seed: int) -> None:
    ranking, grades = random_case(seed)
    ideal = sorted(grades, key=lambda document: -grades[document])
    assert ndcg(ideal, grades, k=10) == 1
    assert reciprocal_rank(ideal, grades, k=10) == 1
    assert all(0 <= measured(ranking, grades) <= 1 for measured in MEASURES.values())


@pytest.mark.parametrize("seed", range(50))
def test_what_happens_below_the_cut_changes_nothing(seed: int) -> None:
    ranking, grades = random_case(seed)
    below = ranking[10:]
    random.Random(seed).shuffle(below)
    for name in ("ndcg@10", "recall@10", "mrr@10"):
        assert MEASURES[name]([*ranking[:10], *below], grades) == MEASURES[name](ranking, grades)


@pytest.mark.parametrize("seed", range(50))
def test_a_better_document_never_loses_by_rising(seed: int) -> None:
    ranking, grades = random_case(seed)
    for place in range(1, len(ranking)):
        upper, lower = ranking[place - 1 : place + 1]
        if grades.get(lower, 0) > grades.get(upper, 0):
            risen = [*ranking[: place - 1], lower, upper, *ranking[place + 1 :]]
            assert all(measured(risen, grades) >= measured(ranking, grades) for measured in MEASURES.values())


@pytest.mark.parametrize("seed", range(50))
def test_a_document_nobody_judged_is_as_one_judged_0(seed: int) -> None:
    ranking, grades = random_case(seed)
    spelled_out = {**dict.fromkeys(ranking, 0), **grades}
    assert all(measured(ranking, spelled_out) == measured(ranking, grades) for measured in MEASURES.values())


# From chunks to judged documents


def test_a_document_stands_where_its_best_chunk_does() -> None:
    assert rank_documents(["b", "a", "b", "c", "a"], set()) == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("name", "ids", "judged_as"),
    [
        ("184.md", {"184"}, "184"),
        ("184.md", {"184.md"}, "184.md"),
        ("184.md", {"184", "184.md"}, "184.md"),
        ("184", {"184"}, "184"),
        ("184.tar.gz", {"184", "184.tar"}, "184.tar"),
        ("guide/install.html", {"guide/install"}, "guide/install"),
        ("guide/v1.2/install", {"guide/v1"}, "guide/v1.2/install"),
        ("install.html", {"guide/install"}, "install.html"),
        (".profile", {""}, ".profile"),
    ],
)
def test_a_document_is_judged_by_its_key_or_by_that_without_its_last_suffix(
    name: str, ids: set[str], judged_as: str
) -> None:
    assert judged_id(name, ids) == judged_as


def test_what_two_keys_are_judged_as_counts_once() -> None:
    assert rank_documents(["7.pdf", "8.md", "7.md"], {"7"}) == ["7", "8.md"]


def test_relevant_documents_that_no_key_stands_for_are_missing() -> None:
    judgements = judged({"a": 1, "b": 0, "c.md": 2}, {"d": 1, "a": 0})
    assert missing_documents(judgements, ["a.txt", "c.md.txt", "x"]) == ["d"]
    assert missing_documents(judgements, []) == ["a", "c.md", "d"]


# Against the live release


def test_the_bounds_are_those_of_the_bootstrap_distribution() -> None:
    """Of three differences 0, 0 and 3 the mean of a resample is 0 with probability 8/27, and 3 with 1/27."""
    compared = compare([0.0, 0.0, 3.0], [0.0, 0.0, 0.0], confidence=0.98, seed=0)
    assert (compared.difference, compared.low, compared.high) == (1.0, 0.0, 3.0)
    narrower = compare([0.0, 0.0, 3.0], [0.0, 0.0, 0.0], confidence=0.9, seed=0)
    assert (narrower.low, narrower.high) == (0.0, 2.0)


def test_the_bounds_of_many_queries_are_about_those_of_the_normal_distribution() -> None:
    drawn = random.Random(1)
    differences = [drawn.gauss(0.02, 0.1) for _ in range(400)]
    compared = compare(differences, [0.0] * 400, confidence=0.95, seed=0)
    assert compared.difference is not None
    assert compared.low == pytest.approx(compared.difference - 1.645 * 0.1 / 20, abs=1e-3)
    assert compared.high == pytest.approx(compared.difference + 1.645 * 0.1 / 20, abs=1e-3)


def test_the_same_seed_gives_the_same_bounds() -> None:
    values = [number / 10 for number in range(10)], [number % 3 / 3 for number in range(10)]
    assert compare(*values, confidence=0.9, seed=7) == compare(*values, confidence=0.9, seed=7)


def assessed(candidate: list[list[str]], live: list[list[str]] | None, tolerance: float = 0.01) -> Relevance:
    """Assess answers to queries that one document is relevant to, called `right`, with exact search that finds it."""
    return assess_relevance(
        judged(*[{"right": 1}] * len(candidate)),
        candidate=candidate,
        candidate_exact=[["right"]] * len(candidate),
        live=live,
        live_exact=live and [["right"]] * len(live),
        missing=0,
        tolerance=tolerance,
        confidence=0.95,
    )


def test_a_candidate_that_answers_as_the_live_release_does_is_not_worse_at_any_tolerance() -> None:
    answers = [["right"], ["wrong", "right"], []] * 10
    assert not assessed(answers, answers, tolerance=0).is_worse


def test_a_candidate_is_worse_when_the_loss_is_surely_more_than_the_tolerance() -> None:
    live, candidate = [["right"]] * 100, [["right"]] * 80 + [[]] * 20
    measured = assessed(candidate, live)
    assert measured.is_worse
    assert measured.difference == pytest.approx(-0.2)
    assert not assessed(candidate, live, tolerance=0.2).is_worse


def test_a_loss_that_may_be_chance_is_no_reason() -> None:
    live, candidate = [["right"], []] * 50, [["right"], []] * 49 + [[], ["right"]]
    assert not assessed(candidate, live, tolerance=0).is_worse
    assert not assessed([["right"]] * 99 + [[]], [["right"]] * 100).is_worse


def test_a_candidate_that_nothing_is_live_beside_is_measured_and_not_compared() -> None:
    measured = assessed([["right"], ["wrong", "right"]], None)
    assert (measured.live, measured.live_exact, measured.lost_to_content) == (None, None, None)
    assert (measured.difference, measured.low, measured.high, measured.is_worse) == (None, None, None, False)
    assert measured.candidate["ndcg@10"] == pytest.approx((1 + 1 / log2(3)) / 2)


def test_a_loss_is_told_apart_by_what_lost_it() -> None:
    measured = assess_relevance(
        judged({"a": 1}, {"b": 1}),
        candidate=[["a"], []],
        candidate_exact=[["a"], ["x", "b"]],
        live=[["a"], ["b"]],
        live_exact=[["a"], ["b"]],
        missing=0,
        tolerance=0.01,
        confidence=0.95,
    )
    assert measured.lost_to_search == pytest.approx(1 / log2(3) / 2)
    assert measured.lost_to_content == pytest.approx((1 - 1 / log2(3)) / 2)
    assert measured.difference == pytest.approx(-measured.lost_to_search - measured.lost_to_content)


def test_the_record_has_every_figure_of_the_report() -> None:
    record = asdict(assessed([["right"]], [["right"]]))
    assert list(record) == [
        "note", "queries", "missing_documents", "tolerance", "confidence", "candidate", "candidate_exact", "live",
        "live_exact", "difference", "low", "high", "lost_to_search", "lost_to_content",
    ]  # fmt: skip
    assert record["candidate"] == {"ndcg@10": 1.0, "recall@10": 1.0, "recall@100": 1.0, "mrr@10": 1.0}
