from __future__ import annotations

import pytest

from reindex.cluster import Writers, _memory_to_prepare, pace, size_writers
from reindex.errors import ImportFailed, JobFailed
from reindex.jobs import _first_cause, _next_at_once, _own_errors
from reindex.settings import Limits


class Wrapper(Exception):
    """As Ray wraps a worker's error."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__("wrapped")
        self.cause = cause


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
    ("stage", "chunks", "goes_on_to"),
    [("embed", 100_000, "assemble"), ("embed", 100_001, None), ("assemble", 1, None), ("verify", 1, None)],
)
def test_a_job_goes_on_to_what_would_take_longer_to_start_than_to_run(
    stage: str, chunks: int, goes_on_to: str | None
) -> None:
    assert _next_at_once(stage, {"chunks": chunks}) == goes_on_to


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
