from __future__ import annotations

import pytest

from reindex.rates import STAGE_COSTS, bound_by, corpus_rates, fit_line, stage_line
from reindex.releases import STAGES
from tests.fakes import past_release


def test_points_far_apart_give_the_line_that_they_lie_on() -> None:
    line = fit_line([(0, 10), (1_000_000, 1010), (2_000_000, 2010)], usual_slope=0.0005)
    assert (line.fixed, line.slope) == (pytest.approx(10, rel=0.01), pytest.approx(0.001, rel=0.01))


def test_a_few_rows_more_that_took_some_seconds_more_say_nothing_of_a_million() -> None:
    line = fit_line([(0, 10), (100, 14)], usual_slope=0.0005)
    assert line.slope == pytest.approx(0.0005, rel=0.05)
    assert line.at(50) == pytest.approx(12)


def test_without_a_usual_slope_the_line_is_the_least_squares_one() -> None:
    line = fit_line([(0, 10), (100, 20), (200, 30)], usual_slope=0)
    assert (line.fixed, line.slope) == (pytest.approx(10), pytest.approx(0.1))


@pytest.mark.parametrize(
    "points",
    [
        [(0.0, 20.0), (100.0, 5.0)],
        [(0.0, 20.0), (100_000.0, 0.0), (1_000_000.0, 0.0)],
        [(0.0, 0.0), (10.0, 1.0), (1_000_000.0, 500.0)],
        [(10.0, 1.0), (11.0, 100.0)],
        [(100_000.0, 0.0)],
        [(0.0, 0.0), (0.0, 0.0)],
    ],
)
@pytest.mark.parametrize("usual_slope", [0, 0.0002, 0.5])
def test_no_coefficient_of_a_line_is_ever_below_zero(points: list[tuple[float, float]], usual_slope: float) -> None:
    line = fit_line(points, usual_slope=usual_slope)
    assert min(line.fixed, line.slope) >= 0


def test_more_work_that_took_less_time_makes_a_level_line() -> None:
    assert fit_line([(0, 20), (1_000_000, 10)], usual_slope=0.0001).at(10**9) == pytest.approx(15)


def test_a_line_that_would_start_below_zero_starts_there() -> None:
    line = fit_line([(10, 1), (20, 3)], usual_slope=0)
    assert (line.fixed, line.slope) == (0, pytest.approx(70 / 500))


def test_points_over_one_amount_of_work_keep_the_usual_slope() -> None:
    line = fit_line([(0, 10), (0, 30)], usual_slope=0.25)
    assert (line.fixed, line.slope) == (20, 0.25)


@pytest.mark.parametrize("stage", STAGE_COSTS)
def test_a_stage_without_history_takes_what_is_usual(stage: str) -> None:
    assert stage_line(stage, []) == STAGE_COSTS[stage].usual


@pytest.mark.parametrize("stage", [stage for stage, cost in STAGE_COSTS.items() if cost.work])
def test_one_large_release_is_enough_for_a_rate(stage: str) -> None:
    measured, cost = past_release(), STAGE_COSTS[stage]
    measured[stage] |= {cost.work: 10_000_000, "seconds": cost.usual.fixed + 20_000}
    line = stage_line(stage, [measured])
    assert line.slope == pytest.approx(0.002, rel=0.01)
    assert line.at(10_000_000) == pytest.approx(20_000, rel=0.01)


def test_promotion_grows_with_nothing() -> None:
    line = stage_line("promote", [{"promote": {"seconds": 5.0}}])
    assert (line.fixed, line.slope) == (4, 0)


def test_a_stage_that_a_release_skipped_leaves_its_usual_line() -> None:
    assert stage_line("promote", [{}]) == STAGE_COSTS["promote"].usual


def test_the_costs_are_those_of_stages_in_the_order_of_the_run() -> None:
    assert list(STAGE_COSTS) == [stage for stage in STAGES if stage in STAGE_COSTS]
    assert set(STAGES) - set(STAGE_COSTS) == {"snapshot", "retire"}


def test_large_releases_count_for_more_than_small_ones() -> None:
    rates = corpus_rates([past_release(bytes_embedded=9000, chunks=9), past_release(bytes_embedded=1000, chunks=11)])
    assert rates.rows_a_byte == 20 / 10_000


def test_what_a_release_found_says_nothing_of_what_a_byte_comes_to() -> None:
    rates = corpus_rates([past_release(bytes_embedded=1000, chunks=10, known_chunks=90, known_documents=9)])
    assert rates.rows_a_byte == 10 / 1000


def test_a_release_that_lost_more_than_it_embedded_makes_no_rate_below_zero() -> None:
    erased = past_release(chunks=-5, tokens=-1000, tokens_embedded=100, known_chunks=50, known_tokens=9000)
    rates, usual = corpus_rates([erased]), corpus_rates([])
    assert (rates.rows_a_byte, rates.tokens_a_byte) == (usual.rows_a_byte, usual.tokens_a_byte)


def test_only_incremental_releases_say_what_an_edit_embeds() -> None:
    first = past_release(tokens=1000, tokens_embedded=1000)
    edit = past_release(tokens=1000, tokens_embedded=100, known_documents=9)
    assert corpus_rates([first]).embedded_share == 1
    assert corpus_rates([edit, first]).embedded_share == 0.1


def test_a_release_that_embedded_nothing_leaves_the_usual_rates() -> None:
    nothing = past_release(bytes_embedded=0, chunks=0, tokens=0, tokens_embedded=0, known_documents=9)
    rates, usual = corpus_rates([nothing]), corpus_rates([])
    assert (rates.rows_a_byte, rates.tokens_a_byte) == (usual.rows_a_byte, usual.tokens_a_byte)
    assert rates.embedded_share == 1


def test_bytes_of_files_come_from_the_reports_that_tell_them() -> None:
    silent, telling = past_release(), past_release()
    del silent["embed"]["bytes"], silent["assemble"]["bytes"]
    telling["embed"]["bytes"], telling["assemble"]["bytes"] = 500, 1500
    rates = corpus_rates([silent, telling])
    assert (rates.part_bytes_a_row, rates.import_bytes_a_row) == (50, 150)
    rates = corpus_rates([silent])
    assert (rates.part_bytes_a_row, rates.import_bytes_a_row) == (None, None)


def test_reports_that_are_gone_tell_nothing() -> None:
    assert corpus_rates([{}, {"plan": {"documents": 3}}, {"embed": past_release()["embed"]}]) == corpus_rates([])


def test_what_bound_a_run_most_comes_first_and_embedding_is_shared_out_as_its_writers_time_was() -> None:
    embed = {"seconds": 100.0, "wait_share": 0.05, "parse_share": 0.25}
    found = bound_by({"embed": embed, "load": {"seconds": 30.0}, "index": {"seconds": 3.0}})
    assert list(found.items()) == [
        ("embedding", 70.0),
        ("import", 30.0),
        ("parsing", 25.0),
        ("storage", 5.0),
        ("index", 3.0),
    ]


def test_a_run_that_did_nothing_was_bound_by_nothing() -> None:
    assert set(bound_by({"plan": {"seconds": 1.0}}).values()) == {0.0}
