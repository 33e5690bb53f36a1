from __future__ import annotations

import json
from dataclasses import replace

import pytest

from reindex.errors import DoesNotFit
from reindex.forecast import (
    USABLE_SHARE,
    Forecast,
    PlannedWork,
    check_fits,
    forecast_release,
    loaded_bytes,
    score_forecast,
)
from reindex.index_types import INDEX_TYPES
from reindex.records import Memory
from reindex.releases import ReleaseFiles, finished_reports, release_report
from reindex.settings import Index
from tests.fakes import FIRST_NIGHT, STATE_BUCKET, MemoryObjectStore, past_release, release_files

NIGHT = PlannedWork(
    embed_documents=1,
    embed_bytes=1000,
    known_documents=9,
    known_chunks=90,
    known_tokens=18_000,
    live_rows=100,
    leaving_rows=0,
)
NOTHING = replace(NIGHT, embed_documents=0, embed_bytes=0)
GIB = 2**30


def a_forecast(
    planned: PlannedWork = FIRST_NIGHT, *past: dict[str, dict[str, object]], memory: Memory | None = None
) -> Forecast:
    return forecast_release(planned, dimension=384, index=Index(), past=past, memory=memory)


# What a run will take


def test_without_history_the_rates_are_usual_ones_and_the_forecast_says_so() -> None:
    forecast = a_forecast()
    assert (forecast.basis, forecast.releases) == ("defaults", [])
    assert (forecast.documents, forecast.chunks, forecast.rows) == (10, 12, 12)
    assert forecast.tokens == round(10_000 / 4.5)
    assert forecast.seconds["embed"] == pytest.approx(18 + forecast.tokens / 5000, abs=0.1)
    assert 60 < sum(forecast.seconds.values()) < 80


def test_one_release_gives_its_rates() -> None:
    forecast = a_forecast(FIRST_NIGHT, past_release(bytes_embedded=1000, chunks=10, tokens=2000))
    assert (forecast.basis, forecast.releases) == ("measured", ["r"])
    assert (forecast.chunks, forecast.rows, forecast.tokens) == (100, 100, 20_000)
    assert forecast.bytes == 100 * (3000 + 5000) / 10


def test_several_releases_give_the_rates_of_all() -> None:
    past = [past_release(bytes_embedded=1000, chunks=10), past_release(bytes_embedded=3000, chunks=10)]
    assert a_forecast(FIRST_NIGHT, *past).chunks == 50


def test_the_same_work_again_is_forecast_to_take_about_the_same_time() -> None:
    large = past_release(bytes_embedded=10**8, chunks=100_000, tokens=20_000_000)
    large["embed"]["seconds"], large["verify"]["seconds"] = 8000.0, 400.0
    again = a_forecast(replace(FIRST_NIGHT, embed_bytes=10**8), large)
    assert again.seconds["embed"] == pytest.approx(8000, rel=0.01)
    assert again.seconds["verify"] == pytest.approx(400, rel=0.03)


def test_what_is_known_is_counted_and_not_embedded() -> None:
    forecast = a_forecast(NIGHT, past_release(bytes_embedded=1000, chunks=10))
    assert (forecast.documents, forecast.chunks, forecast.rows) == (10, 10, 100)


def test_an_edit_is_forecast_as_the_last_edits_went() -> None:
    edits = past_release(tokens=2000, tokens_embedded=200, known_documents=9)
    assert a_forecast(NIGHT, edits).tokens == 200
    assert a_forecast(NIGHT, edits).chunks == 1
    assert a_forecast(NIGHT, edits).rows == 100


def test_a_run_that_knows_nothing_embeds_everything_whatever_the_last_edits_took() -> None:
    edits = past_release(tokens=2000, tokens_embedded=200, known_documents=9)
    assert a_forecast(FIRST_NIGHT, edits).tokens == 20_000


@pytest.mark.parametrize("past", [(), (past_release(),)], ids=["no history", "a release"])
def test_a_run_with_nothing_to_embed_starts_every_stage_up_all_the_same(
    past: tuple[dict[str, dict[str, object]], ...],
) -> None:
    forecast = a_forecast(NOTHING, *past)
    assert (forecast.chunks, forecast.tokens, forecast.rows) == (0, 0, 90)
    assert all(seconds > 0 for seconds in forecast.seconds.values())


def test_an_empty_plan_divides_by_nothing() -> None:
    forecast = a_forecast(replace(FIRST_NIGHT, embed_documents=0, embed_bytes=0))
    assert (forecast.rows, forecast.bytes, forecast.green_bytes) == (0, 0, 0)


def test_a_forecast_is_a_report_that_json_carries() -> None:
    forecast = a_forecast(NIGHT, memory=Memory(limit_bytes=GIB, used_bytes=1))
    assert json.loads(json.dumps(forecast.to_dict()))["planned"]["known_documents"] == 9


def test_the_past_is_the_last_five_verified_releases_newest_first() -> None:
    store = MemoryObjectStore()
    for day in range(1, 8):
        files = release_files(f"2026010{day}T020000Z_abcd1234", store)
        files.write_report("plan", 0, {"documents": day})
        if day != 6:
            files.write_report("verify", 0, {"rows": day})
    store.delete(STATE_BUCKET, ReleaseFiles(store, STATE_BUCKET, "docs", "20260105T020000Z_abcd1234").key("plan.json"))
    past = finished_reports(store, STATE_BUCKET, "docs")
    assert [reports["verify"]["rows"] for reports in past] == [7, 5, 4, 3, 2]
    assert "plan" not in past[1]


# Whether it fits


@pytest.mark.parametrize("name", INDEX_TYPES)
def test_every_index_takes_what_it_keeps_of_its_vectors_and_more_with_every_row(name: str) -> None:
    row = INDEX_TYPES[name]
    params = {key: values[0] for key, values in row.build.items()}
    sizes = [row.memory(rows, 384, params) for rows in (1000, 2000, 4000)]
    assert sizes == sorted(sizes)
    kept = {"IVF_SQ8": 1 / 4, "DISKANN": 0.225}.get(name, 1)
    assert kept * 1000 * 384 * 4 <= sizes[0] < 2 * 1000 * 384 * 4 + 1024 * 384 * 4


def test_the_worked_example_of_milvus_comes_out() -> None:
    # One million vectors of 128: 512 MB; its 32 links a row, 128 MB, are M = 16 on hnswlib's base layer.
    assert INDEX_TYPES["HNSW"].memory(1_000_000, 128, {"M": 16}) == 640_000_000
    assert INDEX_TYPES["FLAT"].memory(1_000_000, 128, {}) == 512_000_000
    assert INDEX_TYPES["IVF_FLAT"].memory(1_000_000, 128, {"nlist": 1024}) == pytest.approx(515e6, rel=0.02)


@pytest.mark.parametrize(("links", "seen"), [(16, 2908), (32, 3007)])
def test_a_loaded_collection_is_forecast_as_milvus_was_seen_to_load_it(links: int, seen: int) -> None:
    # 80,000 rows of 384 with 1,054 bytes of text each, in five columns, and three numbers; bytes a row of Milvus 2.3.5.
    row_bytes, index = 1054 + 5 * 32 + 3 * 8, Index(params={"M": links, "efConstruction": 200})
    forecast = loaded_bytes(80_000, row_bytes=row_bytes, dimension=384, index=index)
    assert forecast == pytest.approx(80_000 * seen, rel=0.02)


def test_memory_of_green_and_live_is_forecast() -> None:
    forecast = a_forecast(NIGHT, past_release())
    assert forecast.rows == NIGHT.live_rows
    assert forecast.green_bytes == forecast.live_bytes > 100 * 384 * 4


def test_memory_that_is_unknown_refuses_nothing() -> None:
    forecast = a_forecast(replace(FIRST_NIGHT, embed_bytes=10**15))
    assert (forecast.limit_bytes, forecast.used_bytes) == (None, None)
    check_fits(forecast)


def test_what_just_fits_is_let_through_and_one_byte_more_is_refused() -> None:
    forecast = replace(a_forecast(), limit_bytes=1000, green_bytes=400, live_bytes=0)
    check_fits(replace(forecast, used_bytes=500))
    with pytest.raises(DoesNotFit) as refused:
        check_fits(replace(forecast, used_bytes=501))
    assert refused.value.args == (400, 501, 1000, USABLE_SHARE, "the new release")


def test_a_live_release_that_a_restart_unloaded_still_needs_its_room() -> None:
    forecast = replace(a_forecast(), limit_bytes=1000, green_bytes=500, live_bytes=500, used_bytes=0)
    with pytest.raises(DoesNotFit):
        check_fits(forecast)


def test_what_leaves_memory_before_the_load_is_room() -> None:
    forecast = replace(a_forecast(), limit_bytes=1000, green_bytes=300, live_bytes=300, used_bytes=700)
    check_fits(replace(forecast, leaving_bytes=300))
    with pytest.raises(DoesNotFit):
        check_fits(forecast)
    assert a_forecast(replace(NIGHT, leaving_rows=100)).leaving_bytes == a_forecast(NIGHT).live_bytes


def test_the_refusal_says_what_is_needed_what_there_is_and_what_to_do() -> None:
    said = str(DoesNotFit(3 * GIB, 2 * GIB, 4 * GIB, USABLE_SHARE))
    for words in (
        "needs 3.00 GiB",
        "the 2.00 GiB in use",
        "90% of its 4.00 GiB",
        "REINDEX_MILVUS_MEMORY_BYTES",
        "index",
    ):
        assert words in said


# How far off it was


def score(**changes: dict[str, object]) -> dict[str, object]:
    seconds = {"plan": 4.0, "embed": 22.0, "assemble": 10.0}
    forecast = {**a_forecast(FIRST_NIGHT, past_release()).to_dict(), "seconds": seconds}
    return score_forecast(forecast, {**past_release(chunks=80), **changes})


def test_a_score_sets_every_figure_against_what_it_came_to() -> None:
    found = score()
    assert found["basis"] == "measured"
    assert found["stages"]["embed"] == {"forecast": 22.0, "actual": 20.0, "error_percent": 10.0}
    assert found["seconds"] == {"forecast": 36.0, "actual": 34.0, "error_percent": 5.9}
    assert found["chunks"] == {"forecast": 100, "actual": 80, "error_percent": 25.0}
    assert found["rows"] == {"forecast": 100, "actual": 80, "error_percent": 25.0}
    assert found["tokens"]["actual"] == 2000
    assert found["bytes"] == {"forecast": 80_000, "actual": 8000, "error_percent": 900.0}


def test_a_forecast_that_was_not_to_be_is_an_error_without_a_percentage() -> None:
    embed = {**past_release()["embed"], "chunks_embedded": 0}
    assert score(embed=embed)["chunks"] == {"forecast": 100, "actual": 0, "error_percent": None}


def test_an_unfinished_release_is_scored_as_far_as_it_went() -> None:
    plan = past_release()["plan"]
    found = score_forecast(a_forecast().to_dict(), {"plan": plan})
    assert found["seconds"] == {"forecast": 4.0, "actual": 4.0, "error_percent": 0.0}
    assert found.keys() == {"basis", "seconds", "stages"}


def test_the_report_of_a_release_carries_the_score() -> None:
    files = release_files()
    assert release_report(files)["forecast"] is None
    files.write_report("plan", 0, {"documents": 1, "forecast": a_forecast().to_dict()})
    assert release_report(files)["forecast"]["stages"].keys() == {"plan"}
