"""Run the stage `embed` against a slow object store, and print how much of its time the writers waited for bytes.

    python benchmarks/slow_store.py [DOCUMENTS]     200 unless said otherwise

What runs is the whole stage of a real run, on a Ray node of this machine, with the real model, against a real object
store: once directly, once through a proxy that lets every GET wait 50 ms and all bytes together pass at 20 MB/s. The
medians of three rounds count, in each of which every document is embedded anew. `waited` is `wait_share` of the
release's report: the share of the writers' time in which they had no work because the bytes of documents were awaited.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from documents import write_documents
from figures import machine, print_table, state
from object_store import object_store
from slow_proxy import slow_proxy

DOCUMENTS = 200
ROUNDS = 3
NAME = "slow-store"
COLUMNS = ["object store", "stage", "tokens/s", "writers waited for bytes", "for parsing", "GETs"]


def measure(documents: int) -> dict[str, dict[str, float]]:
    """Return the medians of the stage's figures, directly and through the slow proxy."""
    rounds: dict[str, list[dict[str, float]]] = {"direct": [], "slow": []}
    with tempfile.TemporaryDirectory(prefix="slow-store-") as folder, object_store() as environment:
        write_documents(Path(folder), documents)
        put(Path(folder) / "html", environment)
        for number in range(ROUNDS):
            for way, found in rounds.items():
                found.append(embedded(f"20260101T00000{number}Z_{way:0<8.8}", environment, is_slow=way == "slow"))
    return {way: {name: median(one[name] for one in found) for name in found[0]} for way, found in rounds.items()}


def put(folder: Path, environment: dict[str, str]) -> None:
    from reindex.settings import Source, s3_connection
    from reindex.storage import ObjectStore
    from reindex.upload import put_files

    put_files(ObjectStore(s3_connection(environment)), Source(bucket="sources", prefix=f"{NAME}/"), [folder])


def embedded(release: str, environment: dict[str, str], *, is_slow: bool) -> dict[str, float]:
    """Run the stage for a new release in a process of its own, and return its figures."""
    endpoint = environment["REINDEX_S3_ENDPOINT"]
    with slow_proxy(endpoint) if is_slow else nullcontext((endpoint, None)) as (address, proxy):
        words = [sys.executable, __file__, "stage", release]
        own = {**os.environ, **environment, "REINDEX_S3_ENDPOINT": address, "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(words, env=own, stdout=subprocess.PIPE, check=True)
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return {**found, "gets": proxy.gets if proxy else 0}


def run_stage(release: str) -> dict[str, Any]:
    """Take a snapshot, plan to embed everything anew, start Ray, and run the stage."""
    from reindex import jobs
    from reindex.embedders import find_model
    from reindex.plan import Asked, QuerySide, plan_release
    from reindex.releases import ReleaseFiles, run_stage
    from reindex.settings import Corpus, MilvusConnection, s3_connection, state_bucket
    from reindex.snapshot import take_snapshot
    from reindex.storage import ObjectStore

    corpus = Corpus.model_validate({"name": NAME, "source": {"bucket": "sources", "prefix": f"{NAME}/"}})
    files = ReleaseFiles(ObjectStore(s3_connection(os.environ)), state_bucket(os.environ), NAME, release)
    run_stage(files, "snapshot", lambda: take_snapshot(files, corpus, as_of=datetime.now(UTC), is_past=False))
    model, asked = find_model(corpus.embedding.model), Asked(rebuild=True)
    run_stage(files, "plan", lambda: plan_release(files, corpus, model, QuerySide(live=None), asked))
    job = jobs.Job(name="", files=files, corpus=corpus, milvus=MilvusConnection(uri="", token=""))
    with ray_node():
        return run_stage(files, "embed", lambda: jobs.embed(job))


def ray_node() -> Any:
    """Start Ray as the embedded stack does: this machine's processors, nothing that listens elsewhere."""
    import ray

    processors = len(os.sched_getaffinity(0))
    return ray.init(num_cpus=processors, object_store_memory=256 * 2**20, include_dashboard=False, log_to_driver=False)


def main() -> None:
    if sys.argv[1:2] == ["stage"]:  # the process of one round
        found = run_stage(sys.argv[2])
        print(json.dumps({name: found[name] for name in ("seconds", "tokens_a_second", "wait_share", "parse_share")}))
        return
    documents = int(sys.argv[1]) if len(sys.argv) > 1 else DOCUMENTS
    found = measure(documents)
    print(f"{machine()}; {documents} documents; medians of {ROUNDS}")
    rows = [
        [
            "direct" if way == "direct" else "50 ms on every GET, 20 MB/s",
            f"{facts['seconds']:.1f} s",
            f"{facts['tokens_a_second']:,.0f}",
            f"{facts['wait_share']:.1%}",
            f"{facts['parse_share']:.1%}",
            f"{facts['gets']:.0f}" if facts["gets"] else "-",
        ]
        for way, facts in found.items()
    ]
    print_table(COLUMNS, rows)
    note = f"{found['slow']['tokens_a_second'] / found['direct']['tokens_a_second']:.2f} of the rate without"
    state("storage_wait", found["slow"]["wait_share"], note=note)


if __name__ == "__main__":
    main()
