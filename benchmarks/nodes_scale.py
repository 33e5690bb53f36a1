"""Embed on one, two, four and eight Ray nodes, and say how much of the added nodes' work comes out.

    python benchmarks/nodes_scale.py [NODES …]     1 2 4 8 unless said otherwise

What runs is the whole stage `embed` of a real run: its chain of tasks and actors over a Ray cluster whose nodes are
processes of this machine with one processor each, as Ray counts them, against a real object store. Only the model is
not real: it sleeps in proportion to the words that it is given, so that two processors stand for many, and what limits
the rate is the chain. Every node gets as many documents; its writer is at work for a minute and a half.

Throughput is measured from when the last writer has begun its first batch until the last batch is embedded: the end, at
which some writers have nothing left to do, is included. What comes before is the start of processes, which all nodes do
on the same two processors here and each on its own elsewhere: it is printed apart. Efficiency is throughput by that of
one node and the number of nodes. `driver ms` is what the one process that feeds all nodes computes for a document, its
start included: 1,000 by it is how many documents a second it can feed at most.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from figures import state
from object_store import object_store

NODES = (1, 2, 4, 8)
DOCUMENTS_A_NODE = 768
WORDS_A_DOCUMENT = 100
WORDS_A_SECOND = 800
# Each is one token of most models.
WORDS = ["the", "sea", "house", "tree", "river", "stone", "light", "night", "wind", "water", "road", "field", "hand"]
LEAST_EFFICIENCY = 0.85
EVENTS = "NODES_SCALE_EVENTS"
COLUMNS = ("nodes", "writers", "documents", "words/s", "efficiency", "busy", "start s", "stage s", "driver ms")


class SleepingEmbedder:
    """Takes the time that a model would take, and says when it was at work, in a file of its own."""

    engine = "sleep"

    def __init__(self, dimension: int) -> None:
        self._draw, self._dimension = np.random.default_rng(os.getpid()), dimension
        self._events = Path(os.environ[EVENTS]) / f"{os.getpid()}.jsonl"

    def embed(self, texts: list[str], tokens: list[list[int]] | None = None) -> np.ndarray:
        words, begun = sum(len(text.split()) for text in texts), time.time()
        time.sleep(words / WORDS_A_SECOND)
        with self._events.open("a", encoding="utf-8") as events:
            events.write(json.dumps({"begun": begun, "ended": time.time(), "words": words}) + "\n")
        vectors = self._draw.normal(size=(len(texts), self._dimension)).astype("float32")
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def sleep_instead() -> None:
    """Put the sleeping model in place of the real one: Ray calls this in each worker as it starts."""
    from reindex import cluster

    cluster.load_embedder = lambda model, *_, **__: SleepingEmbedder(model.dimension)  # type: ignore[assignment]


def measure(nodes: Sequence[int] = NODES) -> dict[str, Any]:
    """Return what each number of nodes came to, a process for each; the first is what the others are held against."""
    found = []
    with object_store() as environment:
        for count in nodes:
            words = [sys.executable, __file__, "measure", str(count)]
            done = subprocess.run(words, env={**os.environ, **environment}, stdout=subprocess.PIPE, check=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
    one = found[0]["words_a_second"] / found[0]["nodes"]
    return {
        "nodes": [{**row, "efficiency": round(row["words_a_second"] / row["nodes"] / one, 3)} for row in found],
        "least_efficiency": LEAST_EFFICIENCY,
    }


def measure_nodes(count: int) -> dict[str, Any]:
    """Embed a corpus on a cluster of so many nodes, and return the figures."""
    from reindex import jobs
    from reindex.settings import MilvusConnection

    files = planned_release(count)
    job = jobs.Job(name="", files=files, corpus=files.corpus(), milvus=MilvusConnection(uri="", token=""))
    with tempfile.TemporaryDirectory(prefix="nodes-") as events:
        with ray_nodes(count, events):
            before, begun = processor_seconds(), time.time()
            report = jobs.embed(job)
            stage, computed = time.time() - begun, processor_seconds() - before
        steady = steady_state(Path(events), begun)
    return {
        "nodes": count,
        "documents": report["embedded"],
        **steady,
        "stage_seconds": round(stage, 1),
        "driver_ms_a_document": round(1000 * computed / report["embedded"], 2),
    }


def planned_release(count: int) -> Any:
    """Fill a bucket with documents, and leave a release's snapshot and plan."""
    from reindex.embedders import find_model
    from reindex.plan import Asked, QuerySide, plan_release
    from reindex.releases import ReleaseFiles
    from reindex.settings import Corpus, s3_connection, state_bucket
    from reindex.snapshot import take_snapshot
    from reindex.storage import ObjectStore

    name = f"nodes-{count}"
    # What a task reserves of a node's memory is not what is measured.
    limits = {"megabytes": 10, "memory_megabytes": 256}
    corpus = Corpus.model_validate(
        {"name": name, "source": {"bucket": "sources", "prefix": f"{name}/"}, "limits": limits}
    )
    store = ObjectStore(s3_connection(os.environ))
    with ThreadPoolExecutor(8) as pool:
        numbered = enumerate(texts(count * DOCUMENTS_A_NODE))
        list(pool.map(lambda one: store.write("sources", f"{name}/{one[0]:06}.txt", one[1].encode()), numbered))
    files = ReleaseFiles(store, state_bucket(os.environ), name, "20260101T020000Z_abcd1234")
    files.write_report("snapshot", 0, take_snapshot(files, corpus, as_of=datetime.now(UTC), is_past=False))
    plan = plan_release(files, corpus, find_model(corpus.embedding.model), QuerySide(live=None), Asked())
    files.write_report("plan", 0, plan)
    return files


def texts(count: int) -> Iterator[str]:
    draw = np.random.default_rng(0)
    return (" ".join(draw.choice(WORDS, WORDS_A_DOCUMENT)) for _ in range(count))


@contextmanager
def ray_nodes(count: int, events: str) -> Iterator[None]:
    """Start a cluster of nodes with one processor each, and connect to it."""
    os.environ[EVENTS] = events
    import ray
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "memory": 2**30, "object_store_memory": 128 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    for _ in range(count - 1):
        cluster.add_node(**node)
    ray.init(address=cluster.address, runtime_env={"worker_process_setup_hook": sleep_instead}, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()


def steady_state(events: Path, begun: float) -> dict[str, Any]:
    """Return the rate of all writers together once all have begun, and the share of the time that they were at work."""
    writers = [[json.loads(line) for line in file.read_text().splitlines()] for file in events.iterdir()]
    batches = [batch for writer in writers for batch in writer]
    first = max(min(batch["begun"] for batch in writer) for writer in writers)
    last = max(batch["ended"] for batch in batches)
    inside = [(batch, max(batch["ended"] - max(batch["begun"], first), 0)) for batch in batches]
    words = sum(batch["words"] * seconds / (batch["ended"] - batch["begun"]) for batch, seconds in inside)
    return {
        "writers": len(writers),
        "words_a_second": round(words / (last - first), 1),
        "busy_share": round(sum(seconds for _, seconds in inside) / (last - first) / len(writers), 3),
        "steady_seconds": round(last - first, 1),
        "start_seconds": round(first - begun, 1),
    }


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    if sys.argv[1:2] == ["measure"]:  # the process of one number of nodes
        print(json.dumps(measure_nodes(int(sys.argv[2]))))
        return
    found = measure([int(word) for word in sys.argv[1:]] or NODES)
    print("| " + " | ".join(COLUMNS) + " |")
    for row in found["nodes"]:
        shown = [row["nodes"], row["writers"], row["documents"], round(row["words_a_second"]), row["efficiency"]]
        shown += [row["busy_share"], row["start_seconds"], row["stage_seconds"], row["driver_ms_a_document"]]
        print("| " + " | ".join(map(str, shown)) + " |")
    state("nodes_efficiency", found["nodes"][-1]["efficiency"])
    if found["nodes"][-1]["efficiency"] < LEAST_EFFICIENCY:
        raise SystemExit(f"efficiency is under {LEAST_EFFICIENCY}")


if __name__ == "__main__":
    main()
