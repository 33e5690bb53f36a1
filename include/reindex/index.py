"""A filled collection in, one that is indexed, loaded and warm out: the readiness barrier.

The server's own "Finished" is not trusted: it has been seen with rows still to index.
"""

from __future__ import annotations

from typing import Any

from reindex.errors import IndexFailed
from reindex.records import IndexState, LoadState, Progress
from reindex.releases import ReleaseFiles
from reindex.store import VectorStore
from reindex.tuning import production_params

_AGREEING_POLLS = 3
_WARM_UP_QUERIES = 8
_WARM_UP_ROUNDS = 3


class ReadinessBarrier:
    """Open when three polls in a row agree that every row is indexed and every segment is in memory.

    Loads the collection once its indexes are built, not before: a load in between would serve unindexed segments.
    """

    def __init__(self, store: VectorStore, collection: str, rows: int) -> None:
        self._store, self._collection, self._rows = store, collection, rows
        self._agreeing = 0
        self._loading = False

    def poll(self) -> Progress:
        """Look once; raise IndexFailed if the server has given an index up."""
        states = self._store.index_states(self._collection)
        waiting_for = what_is_not_indexed(states, self._rows)
        if not waiting_for and not self._loading:
            self._store.load(self._collection)
            self._loading = True
        loaded = self._store.load_state(self._collection) if self._loading else None
        waiting_for = waiting_for or what_is_not_loaded(loaded, self._rows)
        self._agreeing = 0 if waiting_for else self._agreeing + 1
        counts = {
            "rows": min((state.indexed_rows for state in states), default=0),
            "loaded": loaded.loaded_rows if loaded else 0,
        }
        return Progress(
            done=self._agreeing >= _AGREEING_POLLS, message=waiting_for or "ready on this poll", counts=counts
        )


def what_is_not_indexed(states: list[IndexState], rows: int) -> str:
    """Return what is still to be indexed, in words, or nothing if every index has every row; raise IndexFailed."""
    if not states:
        return "no index is declared"
    for state in states:
        if state.state == "Failed":
            raise IndexFailed(state.name, state.reason)
        if state.pending_rows or state.indexed_rows != rows or state.total_rows != rows:
            return f"{state.indexed_rows} of {rows} rows indexed, {state.pending_rows} pending"
    return ""


def what_is_not_loaded(state: LoadState | None, rows: int) -> str:
    """Return what is not yet in memory, in words, or nothing if all segments and rows are."""
    if state is None or not state.loaded:
        return "loading"
    if state.loaded_segments != state.persistent_segments or state.loaded_rows != rows:
        return (
            f"{state.loaded_segments} of {state.persistent_segments} segments, "
            f"{state.loaded_rows} of {rows} rows in memory"
        )
    return ""


def finish_index(store: VectorStore, files: ReleaseFiles) -> dict[str, Any]:
    """Warm the release's collection up as readers will search it; raise IndexFailed if it does not answer."""
    loaded, k = files.needed_report("load"), files.corpus().gate.k
    params = production_params(files, k)
    return warm_up(store, loaded["collection"], k=k, rows=loaded["rows"], params=params)


def warm_up(store: VectorStore, collection: str, *, k: int, rows: int, params: dict[str, int]) -> dict[str, Any]:
    """Search for some of the collection's own vectors until every answer is full; raise IndexFailed if one is not."""
    vectors = store.sample_vectors(collection, _WARM_UP_QUERIES)
    for number in range(_WARM_UP_ROUNDS):
        # The first waits for everything that was written before it, which the others then find.
        answers = store.search(collection, vectors, k=k, params=params, is_strong=number == 0)
        if not answers or any(len(answer) < min(k, rows) for answer in answers):
            raise IndexFailed(collection, "warm-up searches came back short")
    return {"rows": rows, "warm_up_searches": _WARM_UP_ROUNDS * len(vectors)}
