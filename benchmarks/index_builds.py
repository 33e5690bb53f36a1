"""Build the index of the same rows again and again, and print what each build finds at its most thorough setting.

    python benchmarks/index_builds.py [BUILDS]     24 of each kind unless said otherwise, some seven seconds each

Milvus builds an HNSW graph by several threads at once: no two builds are the same, and some leave rows out of reach,
which no search setting finds then. The rows are 3,000 chunks of real documents, which repeat each other much, as the
pages of pydoc do. The table counts, for each M, the builds that find everything and those that would fail the gate.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from figures import machine, print_table
from overheads import CHUNKS, CORPUS, choose_documents
from stacks import OwnStack, own_stack

from reindex.bench import Bench, Drawn, answers_of, draw, search_exactly
from reindex.cluster import spread
from reindex.importers import IMPORTERS
from reindex.index import ReadinessBarrier
from reindex.jobs import Embedders
from reindex.milvus import MilvusStore
from reindex.naming import twin_name
from reindex.parts import EmbeddingStore
from reindex.recall import Recall, meets
from reindex.records import Progress
from reindex.settings import Index, milvus_connection
from reindex.store import drop_green
from reindex.tuning import EVERYTHING, measure_rung, settings_to_try

BUILDS = 24
LINKS = (16, 24, 32)
# Ties of many copies leave a few answers that count as missed.
FOUND = 0.999
COLUMNS = ["M", "builds", "found everything", "would fail the gate", "worst mean recall", "and queries under 0.5"]


def bench_of(running: OwnStack, release: str, store: MilvusStore) -> Bench:
    files = running.release(CORPUS.name, release)
    corpus, space = files.corpus(), files.needed_report("plan")["space"]
    return Bench(
        files=files,
        corpus=corpus,
        parts=EmbeddingStore(files.store, files.bucket, corpus.name, space, limits=corpus.limits.fingerprint()),
        store=store,
        connect=lambda: store,
        embed=Embedders(),
        spread=partial(spread, files),
    )


def recall_of_build(bench: Bench, drawn: Drawn, store: MilvusStore, index: Index) -> Recall:
    """Load the release's files into a second collection with some index, and return what searching it finds."""
    importer, name = IMPORTERS[store.capabilities().importer](store), twin_name(bench.collection)
    drop_green(store, name)
    assembled = bench.files.needed_report("assemble")
    store.create_collection(name, dimension=bench.files.needed_report("plan")["dimension"], index=index)
    jobs = [importer.submit(name, file["file"], file["rows"]) for file in assembled["files"]]
    wait(lambda: importer.poll(name, jobs))
    wait(ReadinessBarrier(store, name, assembled["rows"]).poll)
    store.count_rows(name)  # waits for everything that was written before
    thorough = settings_to_try(index, bench.corpus.gate.k)[-1]
    answered = answers_of(bench, drawn, thorough, collection=name)
    findings, exact = search_exactly(bench, drawn, [answered])
    rung = measure_rung(answered, exact, drawn.queries, findings.vectors, bench.corpus.gate)
    drop_green(store, name)
    return rung.slices[EVERYTHING]


def wait(poll: Callable[[], Progress]) -> None:
    while not poll().done:
        time.sleep(0.25)


def measure(builds: int) -> dict[int, list[Recall]]:
    """Return what each build finds, by M."""
    with tempfile.TemporaryDirectory(prefix="index-builds-") as name:
        folder = Path(name)
        choose_documents(folder, CHUNKS)
        with own_stack(folder, [{"name": CORPUS.name, "schedule": None}]) as running:
            running.answer("put", CORPUS.name, str(folder / "text"))
            release = running.answer("run", CORPUS.name)["release"]
            os.environ.update(running.environment)
            with MilvusStore(milvus_connection(running.servers())) as store:
                bench = bench_of(running, release, store)
                drawn, found = draw(bench), dict[int, list[Recall]]()
                # In turn: what the machine does meanwhile meets them alike.
                for _ in range(builds):
                    for links in LINKS:
                        index = Index(params={"M": links, "efConstruction": 200})
                        found.setdefault(links, []).append(recall_of_build(bench, drawn, store, index))
    return found


def row(links: int, recalls: list[Recall]) -> list[str]:
    failed = sum(not meets(recall, CORPUS.gate, is_unindexed=False) for recall in recalls)
    worst = min(recalls, key=lambda recall: recall.mean)
    everything = sum(recall.mean >= FOUND for recall in recalls)
    return [*map(str, (links, len(recalls), everything, failed)), f"{worst.mean:.4f}", f"{worst.poor_share:.1%}"]


def main() -> None:
    found = measure(int(sys.argv[1]) if len(sys.argv) > 1 else BUILDS)
    print(f"{machine()}; at the most thorough setting")
    print_table(COLUMNS, [row(links, recalls) for links, recalls in found.items()])


if __name__ == "__main__":
    main()
