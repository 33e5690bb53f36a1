from __future__ import annotations

from typing import Any

import pytest

from reindex.display import print_report, stage_line
from reindex.forecast import forecast_release
from reindex.records import Memory
from reindex.releases import release_report
from reindex.settings import Index
from tests.fakes import FIRST_NIGHT, past_release, release_files

STARTED = "2026-01-01T02:00:00+00:00"


def a_plan(*past: dict[str, dict[str, Any]], memory: Memory | None = None) -> dict[str, Any]:
    forecast = forecast_release(FIRST_NIGHT, dimension=384, index=Index(), past=past, memory=memory)
    return {"documents": 10, "seconds": 4.0, "forecast": forecast.to_dict()}


def test_a_finished_plan_says_what_the_run_will_take_and_by_which_rates() -> None:
    said = stage_line("plan", a_plan(memory=Memory(limit_bytes=8 * 2**30, used_bytes=0)))
    assert said.startswith("plan          4.0 s  10 documents, forecast 68 s, 12 chunks and 2,222 tokens to embed")
    assert said.endswith("0.00 GiB of memory of Milvus's 8.0 GiB (by usual rates)")


def test_memory_that_nobody_knows_is_said_to_be_unknown() -> None:
    said = stage_line("plan", a_plan(past_release()))
    assert said.endswith("memory unknown (by the rates of its last release)")


def test_the_report_of_a_run_sets_the_forecast_beside_what_it_came_to(capsys: pytest.CaptureFixture[str]) -> None:
    files = release_files()
    for stage, facts in {**past_release(chunks=80), "plan": a_plan(past_release())}.items():
        files.write_json(f"{stage}.json", {"started_at": STARTED, **facts})
    embedded = {"started_at": STARTED, **past_release(chunks=80)["embed"], "chunks_reused": 0}
    files.write_json("embed.json", {**embedded, "embedded": 1, "reused": 0, "withheld": 0, "rejected": 0})
    recall = {"k": 10, "mean": 1.0, "bound": 0.99, "confidence": 0.95, "queries": 200}
    files.write_json("verify.json", {"started_at": STARTED, "rows": 80, "seconds": 10.0, "recall": recall})
    print_report(release_report(files))
    assert "\nforecast    72 s, took 67 s (+7 %); 100 chunks to embed, were 80\n" in capsys.readouterr().out


def test_documents_that_nobody_may_find_are_counted_in_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    files = release_files()
    files.write_report("snapshot", 0, {"documents": 10, "hidden": 3})
    files.write_report("plan", 0, {"documents": 10, "outcome": "unchanged", "live": "an earlier one"})
    print_report(release_report(files))
    assert "\nhidden      3 documents of unknown permissions: nobody finds them\n" in capsys.readouterr().out
