"""Search what is live while a whole release is built beside it, and say how much slower it gets.

    python benchmarks/live_search.py

A stack of its own, in a folder of its own, on ports of its own. The sample corpus goes live; then a reader of this
process asks ten questions a second through the alias, at rest for a minute and while every document is embedded anew,
imported, indexed and verified. What the project's own probe has measured meanwhile stands beside it. The bound is 1.5
times the 99th percentile at rest.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from datetime import datetime
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from figures import state

from reindex import stack
from reindex.brake import PACE_SECONDS, Sample, waits
from reindex.errors import ReindexError
from reindex.latency import percentiles
from reindex.milvus import MilvusStore
from reindex.naming import alias_name
from reindex.releases import STAGES, ReleaseFiles
from reindex.settings import PROJECT, milvus_connection, s3_connection, state_bucket
from reindex.stack.ports import PORTS, choose_ports, variable
from reindex.storage import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REINDEX = Path(sys.executable).parent / "reindex"
CORPUS = "live-search"
BOUND = 1.5
IDLE_SECONDS = 60
# The server is busy for some time with what it was given last.
SETTLE_SECONDS = 20
QUESTIONS = 200
SEARCH = {"k": 10, "params": {"ef": 64}}
FIRST_PORTS = range(40_000, 48_000, 100)
SHOWN = ("p50", "p95", "p99")
BETWEEN = "between stages"


def free_ports() -> dict[str, str]:
    """Return the variables of a block of ports that nobody listens on."""
    for first in FIRST_PORTS:
        chosen = {variable(name): str(first + place) for place, name in enumerate(PORTS)}
        with ExitStack() as probes:
            try:
                for port in choose_ports(chosen).values():
                    probes.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return chosen
    raise AssertionError("no block of ports is free")


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
        began = datetime.fromisoformat(report["started_at"]).timestamp()
        spans.append((stage, began, began + report["seconds"]))
    for sample in samples:
        stage = next((stage for stage, began, ended in spans if began <= sample.at < ended), BETWEEN)
        found[stage].append(sample)
    return {stage: in_all(some) for stage, some in found.items() if len(some) > 1}


@contextmanager
def running_stack(home: Path) -> Iterator[dict[str, str]]:
    """Start a stack with one corpus; yield the environment in which commands find it."""
    corpora = home.parent / "corpora"
    corpora.mkdir()
    corpus = {"name": CORPUS, "source": {"bucket": "sources", "prefix": f"{CORPUS}/"}}
    (corpora / f"{CORPUS}.yaml").write_text(yaml.safe_dump(corpus), encoding="utf-8")
    own = {"REINDEX_HOME": str(home), "REINDEX_CORPORA": str(corpora), "HF_HUB_OFFLINE": "1", **free_ports()}
    environment = {**os.environ, **own}
    try:
        command(environment, "up")
        yield environment
    finally:
        subprocess.run([REINDEX, "down"], env=environment, stdout=subprocess.DEVNULL, check=False)


def command(environment: dict[str, str], *words: str) -> Any:
    done = subprocess.run([REINDEX, *words, "--json"], env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout or "null")


def measure() -> dict[str, Any]:
    """Return the latency at rest and during a release, as a reader and as the probe has seen it, and the brake."""
    with tempfile.TemporaryDirectory(prefix="live-search-") as folder, ExitStack() as stores:
        environment = stores.enter_context(running_stack(Path(folder) / "home"))
        sample = Path(folder) / "sample"
        words = [sys.executable, "-m", "reindex.sample_corpus", str(sample)]
        subprocess.run(words, env={**environment, "PYTHONHASHSEED": "0"}, cwd=PROJECT, check=True)
        command(environment, "put", CORPUS, str(sample))
        first = command(environment, "run", CORPUS)
        time.sleep(SETTLE_SECONDS)
        servers = stack.stack_environment(Path(folder) / "home")
        store = stores.enter_context(MilvusStore(milvus_connection(servers)))
        vectors = store.sample_vectors(alias_name(CORPUS), QUESTIONS)
        idle = searched(store, vectors, lambda: time.sleep(IDLE_SECONDS))
        reports: list[dict[str, Any]] = []
        during = searched(store, vectors, lambda: reports.append(command(environment, "run", CORPUS, "--rebuild")))
        bucket = ObjectStore(s3_connection(servers))
        stages = by_stage(during, ReleaseFiles(bucket, state_bucket(servers), CORPUS, reports[0]["release"]))
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
        times = [f"{row[percentile]:.1f}" for percentile in SHOWN]
        print(f"| {name} | " + " | ".join([*times, str(row["searches"]), str(row["failed"])]) + " |")
    print(f"{found['rows']:,} rows; p99 {found['ratio']:.2f} times that at rest, the bound is {found['bound']}")
    print(f"brake: {found['brake_seconds']:.0f} s, over a budget of {probe['budget_ms']:.1f} ms")
    for name, seconds in found["seconds"].items():
        print(f"{name}: " + ", ".join(f"{stage} {took:.0f} s" for stage, took in seconds.items()))
    state("live_p99", found["ratio"], note=f"brake {found['brake_seconds']:.0f} s")


if __name__ == "__main__":
    main()
