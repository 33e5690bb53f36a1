"""Search what is live while a whole release is built beside it, and say how much slower it gets.

    python benchmarks/live_search.py

A stack of its own, in a folder of its own, on ports of its own. The sample corpus goes live; then a reader of this
process asks ten questions a second through the alias, at rest for three minutes and while every document is embedded
anew, imported, indexed and verified. What the project's own probe has measured meanwhile stands beside it. The bound is
1.5 times the 99th percentile at rest.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figures import state
from stacks import began, ended, own_stack

from reindex.brake import PACE_SECONDS, Sample, waits
from reindex.errors import ReindexError
from reindex.latency import percentiles
from reindex.milvus import MilvusStore
from reindex.naming import alias_name
from reindex.releases import STAGES, ReleaseFiles
from reindex.settings import PROJECT, milvus_connection

if TYPE_CHECKING:
    from collections.abc import Callable

CORPUS = "live-search"
BOUND = 1.5
# As long as the release takes: of one minute the 99th percentile is the sixth slowest search, and varies by half.
IDLE_SECONDS = 180
# The server is busy for some time with what it was given last.
SETTLE_SECONDS = 20
QUESTIONS = 200
SEARCH = {"k": 10, "params": {"ef": 64}}
SHOWN = ("p50", "p95", "p99")
BETWEEN = "between stages"


class Reader(threading.Thread):
    """Asks one question after another, at a fixed pace, until it is told to stop."""

    def __init__(self, store: MilvusStore, vectors: list[list[float]]) -> None:
        super().__init__(daemon=True)
        self._store, self._vectors = store, cycle(vectors)
        self._is_over = threading.Event()
        self.samples: list[Sample] = []

    def run(self) -> None:
        due = time.monotonic()
        while not self._is_over.wait(max(0.0, due - time.monotonic())):
            asked_at, started, took = time.time(), time.perf_counter(), None
            try:
                self._store.search(alias_name(CORPUS), [next(self._vectors)], is_strong=False, **SEARCH)
                took = 1000 * (time.perf_counter() - started)
            except ReindexError as error:
                print(f"a search failed: {error}", file=sys.stderr)
            self.samples.append(Sample(at=asked_at, milliseconds=took))
            due = max(due + PACE_SECONDS, time.monotonic())

    def stop(self) -> list[Sample]:
        self._is_over.set()
        self.join()
        return self.samples


def in_all(samples: list[Sample]) -> dict[str, Any]:
    """Return what some searches came to: percentiles in milliseconds, how many there were, how many failed."""
    failed = sum(sample.milliseconds is None for sample in samples)
    found = percentiles([wait / 1000 for wait in waits(samples)], samples[-1].at - samples[0].at)
    return {**{name: getattr(found, name) for name in SHOWN}, "searches": len(samples), "failed": failed}


def by_stage(samples: list[Sample], files: ReleaseFiles) -> dict[str, Any]:
    """Return what the searches of each stage came to, and those while Airflow was between two of them."""
    found: dict[str, list[Sample]] = {stage: [] for stage in (*STAGES, BETWEEN)}
    spans = []
    for stage in STAGES:
        report = files.needed_report(stage)
        spans.append((stage, began(report), ended(report)))
    for sample in samples:
        stage = next((stage for stage, first, last in spans if first <= sample.at < last), BETWEEN)
        found[stage].append(sample)
    return {stage: in_all(some) for stage, some in found.items() if len(some) > 1}


def measure() -> dict[str, Any]:
    """Return the latency at rest and during a release, as a reader and as the probe has seen it, and the brake."""
    with tempfile.TemporaryDirectory(prefix="live-search-") as folder, ExitStack() as stores:
        running = stores.enter_context(own_stack(Path(folder), [{"name": CORPUS}]))
        sample = Path(folder) / "sample"
        words = [sys.executable, "-m", "reindex.sample_corpus", str(sample)]
        subprocess.run(words, env={**running.environment, "PYTHONHASHSEED": "0"}, cwd=PROJECT, check=True)
        running.answer("put", CORPUS, str(sample))
        first = running.answer("run", CORPUS)
        time.sleep(SETTLE_SECONDS)
        store = stores.enter_context(MilvusStore(milvus_connection(running.servers())))
        vectors = store.sample_vectors(alias_name(CORPUS), QUESTIONS)
        idle = searched(store, vectors, lambda: time.sleep(IDLE_SECONDS))
        reports: list[dict[str, Any]] = []
        during = searched(store, vectors, lambda: reports.append(running.answer("run", CORPUS, "--rebuild")))
        stages = by_stage(during, running.release(CORPUS, reports[0]["release"]))
    probed = reports[0]["live_search"]
    at_rest, beside = in_all(idle), in_all(during)
    return {
        "rows": first["rows"],
        "idle": at_rest,
        "during": beside,
        "stages": stages,
        "ratio": round(beside["p99"] / at_rest["p99"], 2),
        "bound": BOUND,
        "brake_seconds": probed["during"]["brake_seconds"],
        "probe": probed,
        "seconds": {"without live search": first["seconds"], "beside live search": reports[0]["seconds"]},
    }


def searched(store: MilvusStore, vectors: list[list[float]], meanwhile: Callable[[], Any]) -> list[Sample]:
    """Return the searches that were made while something else was done."""
    reader = Reader(store, vectors)
    reader.start()
    meanwhile()
    return reader.stop()


def main() -> None:
    found = measure()
    print("| | " + " | ".join(SHOWN) + " | searches | failed |")
    probe = found["probe"]
    rows = {
        "reader, at rest": found["idle"],
        "reader, during the release": found["during"],
        **{f"reader, {stage}": facts for stage, facts in found["stages"].items()},
        "probe, at rest": probe["idle"],
        "probe, during the release": probe["during"],
        **{f"probe, {stage}": facts for stage, facts in probe["stages"].items()},
    }
    for name, row in rows.items():
        # Of a stage that was over in a moment there are none.
        times = ["-" if row[percentile] is None else f"{row[percentile]:.1f}" for percentile in SHOWN]
        print(f"| {name} | " + " | ".join([*times, str(row["searches"]), str(row["failed"])]) + " |")
    print(f"{found['rows']:,} rows; p99 {found['ratio']:.2f} times that at rest, the bound is {found['bound']}")
    print(f"brake: {found['brake_seconds']:.0f} s, over a budget of {probe['budget_ms']:.1f} ms")
    for name, seconds in found["seconds"].items():
        print(f"{name}: " + ", ".join(f"{stage} {took:.0f} s" for stage, took in seconds.items()))
    state("live_p99", found["ratio"], note=f"brake {found['brake_seconds']:.0f} s")


if __name__ == "__main__":
    main()
