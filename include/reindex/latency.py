"""How long searches take: percentiles over single queries, by one client and by several at once.

They are asked as readers ask, who do not wait for what was written last.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import quantiles
from typing import TYPE_CHECKING

from reindex.index_types import Params
from reindex.store import Connect, VectorStore

if TYPE_CHECKING:
    import numpy as np

CLIENTS = (1, 4)
_QUERIES = 200
_WARM_UP = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Milliseconds of one search at three percentiles, and how many searches a second all clients made together."""

    p50: float
    p95: float
    p99: float
    per_second: float


def measure_latency(
    connect: Connect, collection: str, vectors: np.ndarray, *, k: int, params: Params
) -> dict[str, Latency]:
    """Return the latency by the number of clients, each with its own connection, a few searches left unmeasured."""
    asked = [vectors[place % len(vectors)].tolist() for place in range(_QUERIES)]
    return {str(clients): _with_clients(connect, collection, asked, clients, k, params) for clients in CLIENTS}


def _with_clients(
    connect: Connect, collection: str, asked: list[list[float]], clients: int, k: int, params: Params
) -> Latency:
    with ExitStack() as open_stores, ThreadPoolExecutor(clients) as pool:
        stores = [open_stores.enter_context(connect()) for _ in range(clients)]
        for store in stores:
            _times(store, collection, asked[:_WARM_UP], k, params)
        started = time.monotonic()
        of_clients = list(
            pool.map(lambda place: _times(stores[place], collection, asked[place::clients], k, params), range(clients))
        )
        seconds = time.monotonic() - started
    return percentiles([took for times in of_clients for took in times], seconds)


def _times(store: VectorStore, collection: str, asked: list[list[float]], k: int, params: Params) -> list[float]:
    times = []
    for vector in asked:
        started = time.monotonic()
        store.search(collection, [vector], k=k, params=params, is_strong=False)
        times.append(time.monotonic() - started)
    return times


def percentiles(times: Sequence[float], seconds: float) -> Latency:
    """Return what some searches' seconds come to; there must be two."""
    cuts = quantiles(times, n=100, method="inclusive")
    p50, p95, p99 = (round(1000 * cuts[percent - 1], 3) for percent in (50, 95, 99))
    return Latency(p50=p50, p95=p95, p99=p99, per_second=round(len(times) / seconds, 1))
