from __future__ import annotations

import threading
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from reindex import jobs
from reindex.cluster import Writers, _memory_to_prepare, pace, size_writers
from reindex.errors import ImportFailed, JobFailed
from reindex.jobs import Embedders, Job, _first_cause, _own_errors, _stages
from reindex.settings import Limits, MilvusConnection
from tests.fakes import release_files


class Wrapper(Exception):
    """As Ray wraps a worker's error."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__("wrapped")
        self.cause = cause


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Job:
    """Return a job whose verifying needs no preparation."""
    monkeypatch.setattr(jobs, "prepare_to_verify", lambda _: None)
    monkeypatch.setattr(jobs, "load_engine", lambda: None)
    monkeypatch.setattr(jobs, "MilvusStore", lambda _: nullcontext())
    monkeypatch.setattr(jobs, "_bench", lambda *_: None)
    files = release_files()
    return Job(name="mine", files=files, corpus=files.corpus(), milvus=MilvusConnection(uri="", token=""))


def test_the_reason_of_a_worker_comes_through_every_wrapping() -> None:
    reason = ImportFailed("c", "f", "disk full")
    with pytest.raises(ImportFailed, match="disk full"):
        _own_errors("embed", lambda _: (_ for _ in ()).throw(Wrapper(Wrapper(reason))), None)  # type: ignore[arg-type]


def test_an_error_that_nobody_expected_gets_a_name_and_one_line() -> None:
    with pytest.raises(JobFailed, match="the Ray job embed died: ValueError: bad; its log"):
        _own_errors("embed", lambda _: (_ for _ in ()).throw(ValueError("bad\nworse")), None)  # type: ignore[arg-type]


def test_an_error_that_is_its_own_cause_is_the_first() -> None:
    error = ValueError("x")
    error.__cause__ = error
    assert _first_cause(error) is error


def test_a_task_reserves_what_its_largest_object_may_take_but_no_more_than_a_node_has() -> None:
    limits = Limits(megabytes=200, memory_megabytes=2_048)
    small, large = ({"Resources": {"memory": size * 2**30}} for size in (1, 16))
    assert _memory_to_prepare(limits, [small, large]) == 2_248 * 2**20
    assert _memory_to_prepare(limits, [small, {"Resources": {}}]) == 2**30


@pytest.mark.parametrize(
    ("nodes", "writers"),
    [
        ([{"CPU": 1.0}], Writers(count=1, threads=1, cpus=0.5)),
        ([{"CPU": 2.0}], Writers(count=1, threads=2, cpus=1.0)),
        ([{"CPU": 16.0}], Writers(count=4, threads=4, cpus=3.0)),
        ([{"CPU": 1.0}] * 8, Writers(count=8, threads=1, cpus=0.5)),
        # A head that takes no work, and two nodes of unequal size.
        ([{}, {"CPU": 2.0}, {"CPU": 7.0}], Writers(count=4, threads=2, cpus=1.0)),
        # None yet: a cluster that starts its nodes when they are asked for.
        ([{}], Writers(count=1, threads=1, cpus=0.5)),
        ([{"CPU": 8.0, "GPU": 2.0}, {"CPU": 8.0}], Writers(count=2, threads=1, cpus=0.5, gpus=1)),
    ],
)
def test_writers_fill_every_processor_and_leave_room_for_what_feeds_them(
    nodes: list[dict[str, float]], writers: Writers
) -> None:
    assert size_writers(nodes) == writers
    if not writers.gpus:
        left = [node.get("CPU", 0) - node.get("CPU", 0) // writers.threads * writers.cpus for node in nodes]
        assert all(room >= 0.5 for room, node in zip(left, nodes, strict=True) if node)


@pytest.mark.parametrize(
    ("first", "chunks", "stages"),
    [
        ("embed", 100_000, ["embed", "assemble", "load", "index", "verify"]),
        ("embed", 100_001, ["embed"]),
        ("assemble", 1, ["assemble"]),
        ("verify", 1, ["verify"]),
    ],
)
def test_a_job_goes_on_to_what_would_take_longer_to_start_than_to_run(
    job: Job, first: str, chunks: int, stages: list[str]
) -> None:
    job.files.write_json("embed.json", {"chunks": chunks})
    assert list(_stages(first, job)) == stages


def test_a_job_prepares_to_verify_while_the_release_is_loaded_and_waits_for_that(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end, has_ended = threading.Event(), []
    monkeypatch.setattr(jobs, "prepare_to_verify", lambda _: has_ended.append(may_end.wait(10)))
    job.files.write_json("embed.json", {"chunks": 1})
    stages = _stages("embed", job)
    assert [next(stages) for _ in range(4)] == ["embed", "assemble", "load", "index"]
    assert not has_ended
    threading.Timer(0.2, may_end.set).start()
    assert next(stages) == "verify"
    assert has_ended == [True]


def test_what_a_job_takes_on_is_its_own_before_the_next_task_begins(job: Job) -> None:
    job.files.write_json("embed.json", {"chunks": 1})
    stages = _stages("embed", job)
    assert (next(stages), next(stages)) == ("embed", "assemble")
    assert [job.files.claim(stage, "a task") for stage in ("load", "index", "verify")] == [job.name] * 3
    # A later attempt leaves them to their tasks, which find that nobody is at work on them any more.
    assert list(_stages("embed", replace(job, name="a later attempt"))) == ["embed", "assemble"]


def test_a_query_is_embedded_once(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []

    class Counting:
        def embed(self, texts: list[str]) -> Any:
            loaded.append(texts)
            return np.asarray([[len(text), 0.0] for text in texts], "float32")

    monkeypatch.setattr(jobs, "load_embedder", lambda *_, **__: Counting())
    job.files.write_json("plan.json", {"precision": "float32"})
    embed = Embedders()
    assert embed(job.files, ["a", "bb", "a"]).tolist() == [[1, 0], [2, 0], [1, 0]]
    assert embed(job.files, ["ccc", "bb"]).tolist() == [[3, 0], [2, 0]]
    assert loaded == [["a", "bb"], ["ccc"]]


@pytest.mark.parametrize(
    ("documents", "of", "tokens", "seconds", "told"),
    [
        (0, 10, 0, 3.0, {"tokens a second": 0, "seconds left": 0}),
        (0, 10, 0, 0.0, {"tokens a second": 0, "seconds left": 0}),
        (4, 10, 1000, 2.0, {"tokens a second": 500, "seconds left": 3}),
        (10, 10, 1000, 2.0, {"tokens a second": 500, "seconds left": 0}),
    ],
)
def test_progress_tells_how_fast_it_goes_and_how_long_it_takes(
    documents: int, of: int, tokens: int, seconds: float, told: dict[str, int]
) -> None:
    assert pace(documents, of, tokens, seconds) == told
