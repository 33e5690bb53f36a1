from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from reindex.errors import IndexFailed
from reindex.index import ReadinessBarrier, warm_up
from reindex.records import Hit, IndexState, LoadState

ROWS = 100
INDEXED = IndexState(name="vector", state="Finished", total_rows=ROWS, indexed_rows=ROWS, pending_rows=0, reason="")
LOADED = LoadState(loaded=True, persistent_segments=2, loaded_segments=2, loaded_rows=ROWS)


@dataclass
class ScriptedStore:
    """Says what it is told to, poll by poll; the last word stays."""

    indexes: list[list[IndexState]] = field(default_factory=lambda: [[INDEXED]])
    loads: list[LoadState] = field(default_factory=lambda: [LOADED])
    loaded: int = 0
    answers: int = 10

    def index_states(self, collection: str) -> list[IndexState]:
        return self.indexes.pop(0) if len(self.indexes) > 1 else self.indexes[0]

    def load(self, collection: str) -> None:
        self.loaded += 1

    def load_state(self, collection: str) -> LoadState:
        return self.loads.pop(0) if len(self.loads) > 1 else self.loads[0]

    def sample_vectors(self, name: str, count: int) -> list[list[float]]:
        return [[1.0]] * 2

    def search(self, name: str, vectors: list[list[float]], **options: object) -> list[list[Hit]]:
        return [[Hit(score=1.0, fields={})] * self.answers for _ in vectors]


def polls_until_open(store: ScriptedStore) -> int:
    barrier = ReadinessBarrier(store, "c", ROWS)  # type: ignore[arg-type]
    for poll in range(1, 50):
        if barrier.poll().done:
            return poll
    raise AssertionError("the barrier never opened")


def test_the_barrier_opens_after_three_agreeing_polls() -> None:
    assert polls_until_open(ScriptedStore()) == 3


@pytest.mark.parametrize(
    "not_yet",
    [
        replace(INDEXED, pending_rows=1),  # "Finished", yet rows are pending: milvus-io/milvus#40580
        replace(INDEXED, indexed_rows=99),
        replace(INDEXED, total_rows=0, indexed_rows=0),
        replace(INDEXED, total_rows=200, indexed_rows=200),
    ],
)
def test_finished_is_not_believed_while_rows_are_missing(not_yet: IndexState) -> None:
    store = ScriptedStore(indexes=[[not_yet], [not_yet], [INDEXED]])
    assert polls_until_open(store) == 5
    assert store.loaded == 1


def test_every_index_must_have_every_row() -> None:
    other = replace(INDEXED, name="other", pending_rows=5)
    assert polls_until_open(ScriptedStore(indexes=[[INDEXED, other], [INDEXED, INDEXED]])) == 4


@pytest.mark.parametrize(
    "not_yet",
    [
        replace(LOADED, loaded=False),
        replace(LOADED, loaded_segments=1),
        replace(LOADED, loaded_rows=99),
    ],
)
def test_loaded_is_not_believed_while_segments_are_missing(not_yet: LoadState) -> None:
    assert polls_until_open(ScriptedStore(loads=[LOADED, LOADED, not_yet, LOADED])) == 6


def test_nothing_is_loaded_before_its_index_is_built() -> None:
    store = ScriptedStore(indexes=[[replace(INDEXED, pending_rows=1)]])
    barrier = ReadinessBarrier(store, "c", ROWS)  # type: ignore[arg-type]
    assert barrier.poll().message == "100 of 100 rows indexed, 1 pending"
    assert store.loaded == 0


def test_an_index_that_failed_is_not_waited_for() -> None:
    store = ScriptedStore(indexes=[[replace(INDEXED, state="Failed", reason="no memory")]])
    with pytest.raises(IndexFailed, match="no memory"):
        ReadinessBarrier(store, "c", ROWS).poll()  # type: ignore[arg-type]


def test_warm_up_wants_full_answers() -> None:
    assert warm_up(ScriptedStore(), "c", k=10, rows=ROWS, params={})["warm_up_searches"] == 6  # type: ignore[arg-type]
    with pytest.raises(IndexFailed, match="came back short"):
        warm_up(ScriptedStore(answers=3), "c", k=10, rows=ROWS, params={})  # type: ignore[arg-type]
