from __future__ import annotations

import os
import time

import pytest

from reindex import brake
from reindex.brake import Brake, Pause, Sample, is_braked, should_brake, waits
from reindex.priority import worker_stays_behind
from tests.fakes import release_files

BUDGET_MS = 10.0


def searches(*milliseconds: float | None, since: float = 0.0) -> list[Sample]:
    return [Sample(at=since + 0.1 * place, milliseconds=found) for place, found in enumerate(milliseconds)]


def decided(*milliseconds: float | None, held: float = 0.0, elapsed: float = 60.0) -> bool:
    return should_brake(searches(*milliseconds), BUDGET_MS, held=held, elapsed=elapsed)


def test_work_pauses_when_the_slowest_searches_of_a_minute_are_over_the_budget_and_still_are() -> None:
    assert not decided(*[9.0] * 600)
    assert decided(*[5.0] * 590, *[12.0] * 10)
    assert not decided(*[12.0] * 10, *[5.0] * 590)


def test_a_few_slow_searches_of_a_minute_and_the_slow_ones_of_a_few_seconds_stop_nothing() -> None:
    assert not decided(*[5.0] * 595, *[50.0] * 5)
    assert not decided(*[50.0] * 200)


def test_searches_that_fail_are_over_any_budget() -> None:
    assert decided(*[5.0] * 590, *[None] * 10)
    assert decided(*[None] * 300)


def test_the_brake_holds_for_half_of_the_time_at_most() -> None:
    assert decided(*[50.0] * 300, held=29.0, elapsed=60.0)
    assert not decided(*[50.0] * 300, held=30.0, elapsed=60.0)


def test_a_search_that_hung_stops_work_until_the_next_one_is_quick() -> None:
    hung, quick = Sample(at=0.0, milliseconds=50_000.0), Sample(at=11.0, milliseconds=5.0)
    assert should_brake([hung], BUDGET_MS, held=0.0, elapsed=60.0)
    assert not should_brake([hung, quick], BUDGET_MS, held=0.0, elapsed=60.0)


def test_a_search_that_hangs_counts_for_those_who_would_have_asked_meanwhile() -> None:
    assert waits(searches(5.0, None)) == [5.0]
    assert waits(searches(5.0, 350.0)) == [5.0, 350.0, 250.0, 150.0, 50.0]


def test_the_brake_is_on_for_every_machine_and_let_go_when_search_is_well_again() -> None:
    files, now = release_files(), time.time()
    held = Brake(files=files, budget_ms=BUDGET_MS, began=now - 60)
    for sample in searches(*[50.0] * 320, since=now):
        held.look(sample)
    assert held.is_on
    assert is_braked(files)
    for sample in searches(*[5.0] * 120, since=now + 32):
        held.look(sample)
    assert not held.is_on
    assert not is_braked(files)


def test_work_that_slows_search_down_however_long_it_pauses_goes_on_half_of_the_time() -> None:
    files, now = release_files(), time.time()
    held = Brake(files=files, budget_ms=BUDGET_MS, began=now)
    braked = 0
    for sample in searches(*[50.0] * 3000, since=now):
        held.look(sample)
        braked += held.is_on
    assert 0.45 * 3000 < braked <= 0.5 * 3000


def test_a_brake_that_nobody_renews_lets_go() -> None:
    files = release_files()
    assert not is_braked(files)
    files.write_json("brake.json", {"until": time.time() + 100})
    assert is_braked(files)
    files.write_json("brake.json", {"until": time.time() - 1})
    assert not is_braked(files)


def test_a_worker_waits_until_the_brake_is_off_and_looks_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    files, slept = release_files(), []
    files.write_json("brake.json", {"until": time.time() + 100})

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            files.write_json("brake.json", {"until": 0.0})

    monkeypatch.setattr("time.sleep", sleep)
    pause = Pause(files)
    pause.wait()
    assert slept == [1.0] * 3
    files.write_json("brake.json", {"until": time.time() + 100})
    pause.wait()
    assert len(slept) == 3


def test_a_worker_believes_no_brake_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    files = release_files()
    files.write_json("brake.json", {"until": time.time() + 10_000})
    monkeypatch.setattr(brake, "_LONGEST_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(brake, "_LOOK_SECONDS", 0.01)
    pause = Pause(files)
    pause.wait()
    assert is_braked(files)
    assert pause.seconds >= 0.05


def test_embedding_has_the_lowest_priority_in_a_session_of_its_own() -> None:
    child = os.fork()
    if not child:
        os.setpgid(0, 0)  # as Ray starts its workers
        worker_stays_behind()
        is_behind = (os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)) == (19, os.SCHED_IDLE)
        os._exit(0 if is_behind and os.getsid(0) == os.getpid() else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
