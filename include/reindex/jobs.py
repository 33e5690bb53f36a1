"""What runs as jobs of Ray: `python -m reindex.jobs STAGE --corpus C --release R --job J`.

A job reads its addresses from the environment of the Ray node, its settings from the release, and leaves its report in
the release. A failure is left there too, by name, and the job ends with exit status 1. The job that embeds a small
release sees it through until it is verified. `cluster.py` has what jobs spread.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from reindex.assemble import assemble_import
from reindex.bench import Bench
from reindex.bulk_load import begin_load, finish_load, poll_load
from reindex.check import check_live
from reindex.cluster import run_chain, spread
from reindex.embed import embed_documents
from reindex.embedders import Embedder, Precision, find_model, load_embedder
from reindex.errors import JobFailed, ReindexError, Stalled, TerminalError
from reindex.exact import load_engine
from reindex.importers import IMPORTERS
from reindex.index import ReadinessBarrier, finish_index
from reindex.milvus import MilvusStore
from reindex.naming import collection_name
from reindex.noise import measure_noise
from reindex.parts import EmbeddingStore
from reindex.priority import done_behind, session_stays_behind, stay_behind
from reindex.records import Progress
from reindex.releases import ReleaseFiles, run_stage
from reindex.retire import make_room
from reindex.settings import (
    Corpus,
    MilvusConnection,
    milvus_connection,
    s3_connection,
    state_bucket,
)
from reindex.storage import ObjectStore
from reindex.verify import prepare_to_verify, verify_release

if TYPE_CHECKING:
    import numpy as np

_LOG = logging.getLogger("reindex")
_LOAD_SECONDS = 600.0
_POLL_SECONDS = 0.25
# Rows that are assembled, and then loaded, in less time than another Ray job and its models take to start.
_ROWS_AT_ONCE = 100_000
# What the job that has embedded so few takes on: the tasks of these names wait for it.
_TAKEN_ON = ("load", "index", "verify")


class Embedders:
    """Embeds queries as a release's model does; loads each model once, and makes each vector once."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[str, Precision], Embedder] = {}
        self._made: dict[tuple[str, Precision, str], np.ndarray] = {}

    def __call__(self, files: ReleaseFiles, texts: list[str]) -> np.ndarray:
        import numpy as np

        model, precision = _model_of(files)
        new = [text for text in dict.fromkeys(texts) if (model, precision, text) not in self._made]
        if new:
            vectors = self.load(files).embed(new)
            self._made |= {(model, precision, text): vector for text, vector in zip(new, vectors, strict=True)}
        return np.stack([self._made[model, precision, text] for text in texts])

    def load(self, files: ReleaseFiles) -> Embedder:
        """Return what runs a release's model in this process."""
        model, precision = _model_of(files)
        if (model, precision) not in self._loaded:
            self._loaded[model, precision] = load_embedder(find_model(model), precision, threads=os.cpu_count() or 1)
        return self._loaded[model, precision]


def _model_of(files: ReleaseFiles) -> tuple[str, Precision]:
    return files.corpus().embedding.model, files.needed_report("plan")["precision"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What every job is given: its name, the release's files and settings, where Milvus is, and what embeds queries."""

    name: str
    files: ReleaseFiles
    corpus: Corpus
    milvus: MilvusConnection
    embed: Embedders = field(default_factory=Embedders)


def embed(job: Job) -> dict[str, Any]:
    """Fetch, parse, chunk, embed and write what the plan asks for and the embedding space does not hold yet."""
    plan = job.files.needed_report("plan")
    run = partial(run_chain, job.files, plan, partial(job.embed.load, job.files))
    report = done_behind(partial(embed_documents, job.files, _parts(job), run, rebuild=plan["rebuild"]))
    return {"space": plan["space"], **report}


def assemble(job: Job) -> dict[str, Any]:
    """Merge the release's rows into import files that the server can take."""
    with MilvusStore(job.milvus) as store:
        max_file_bytes = store.capabilities().max_import_file_bytes
    dimension = job.files.needed_report("plan")["dimension"]
    merge = partial(assemble_import, dimension=dimension, max_file_bytes=max_file_bytes)
    return done_behind(partial(merge, job.files, _parts(job)))


def load(job: Job) -> dict[str, Any]:
    """Import the release's files into a new collection."""
    with MilvusStore(job.milvus) as store:
        make_room(store, job.files, job.corpus.retention)
        importer = IMPORTERS[store.capabilities().importer](store)
        begin_load(store, importer, job.files, job.corpus)
        _wait(job.files, "load", partial(poll_load, importer, job.files))
        return finish_load(store, job.files)


def index(job: Job) -> dict[str, Any]:
    """Wait until the collection is indexed and in memory, and warm it up."""
    loaded = job.files.needed_report("load")
    with MilvusStore(job.milvus) as store:
        _wait(job.files, "index", ReadinessBarrier(store, loaded["collection"], loaded["rows"]).poll)
        return finish_index(store, job.files)


def check(job: Job) -> dict[str, Any]:
    """Measure the live release once more and, where that was asked, how much two builds of it differ."""
    begun = job.files.needed_report("begin")
    with MilvusStore(job.milvus) as store:
        bench = _bench(replace(job, files=job.files.of(begun["release"])), store)
        facts = check_live(bench, job.files)
        if not begun["noise"] or "replaced_by" in facts:
            return facts
        importer = IMPORTERS[store.capabilities().importer](store)
        return {**facts, "noise": measure_noise(bench, importer, partial(_wait, job.files, "check"))}


def verify(job: Job) -> dict[str, Any]:
    """Measure recall and draw the ledger; a release that fails gives its memory back."""
    collection = collection_name(job.corpus.name, job.files.release)
    with MilvusStore(job.milvus) as store:
        try:
            bench = _bench(job, store)
            _wait_until_loaded(job, store, collection)
            return verify_release(bench)
        except TerminalError:
            store.release(collection)
            raise


def _bench(job: Job, store: MilvusStore) -> Bench:
    """Return what it takes to measure the job's release, with its files spread over the cluster."""
    return Bench(
        files=job.files,
        corpus=job.corpus,
        parts=_parts(job),
        store=store,
        connect=lambda: MilvusStore(job.milvus),
        embed=job.embed,
        spread=partial(spread, job.files),
    )


def _wait_until_loaded(job: Job, store: MilvusStore, collection: str) -> None:
    """Bring a collection back that an earlier verdict has unloaded: the task may be cleared and tried again."""
    if store.load_state(collection).loaded:
        return
    barrier = ReadinessBarrier(store, collection, job.files.needed_report("load")["rows"])
    _wait(job.files, "verify", barrier.poll)


def _wait(files: ReleaseFiles, stage: str, poll: Callable[[], Progress]) -> None:
    """Poll, and show how far it is; raise Stalled if nothing moves."""
    counts: dict[str, int] = {}
    moved_at = time.monotonic()
    while not (progress := poll()).done:
        if progress.counts != counts:
            counts, moved_at = progress.counts, time.monotonic()
            files.show_progress(stage, counts)
        if time.monotonic() - moved_at > _LOAD_SECONDS:
            raise Stalled(stage, _LOAD_SECONDS, progress.message)
        time.sleep(_POLL_SECONDS)


def _parts(job: Job) -> EmbeddingStore:
    space = job.files.needed_report("plan")["space"]
    limits = job.corpus.limits.fingerprint()
    return EmbeddingStore(job.files.store, job.files.bucket, job.corpus.name, space, limits=limits)


JOBS: dict[str, Callable[[Job], dict[str, Any]]] = {
    "embed": embed,
    "assemble": assemble,
    "load": load,
    "index": index,
    "verify": verify,
    "check": check,
}


def main() -> int:
    """Run one stage of one release, or check; its failure is in the release's files when this returns 1."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    session_stays_behind()  # Ray gives each job one of its own
    parser = argparse.ArgumentParser(prog="python -m reindex.jobs")
    parser.add_argument("stage", choices=sorted(JOBS))
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--release", required=True)
    parser.add_argument("--job", required=True, help="the name that this job was submitted under")
    asked = parser.parse_args()
    files = ReleaseFiles(ObjectStore(s3_connection(os.environ)), state_bucket(os.environ), asked.corpus, asked.release)
    job = Job(name=asked.job, files=files, corpus=files.corpus(), milvus=milvus_connection(os.environ))
    try:
        for stage in _stages(asked.stage, job):
            report = run_stage(files, stage, partial(_own_errors, stage, JOBS[stage], job))
            _LOG.info("%s: %s", stage, report)
    except ReindexError:
        _LOG.exception("%s failed", job.name)
        return 1
    return 0


def _stages(first: str, job: Job) -> Iterator[str]:
    """Yield the stage that was asked for and those that the job goes on to: their own would take longer to start."""
    yield first
    if first != "embed" or job.files.needed_report("embed")["chunks"] > _ROWS_AT_ONCE:
        return
    # Before it is assembled, and with that the next task begins.
    takes_on = all(job.files.claim(stage, job.name) == job.name for stage in _TAKEN_ON)
    yield "assemble"
    if takes_on:
        yield "load"
        # Not beside the import: readers, who come first, feel both. For the index Milvus mostly waits.
        with MilvusStore(job.milvus) as store, ThreadPoolExecutor(2, initializer=stay_behind) as pool:
            prepared = [pool.submit(prepare_to_verify, _bench(job, store)), pool.submit(load_engine)]
            yield "index"
            for one in prepared:
                one.result()
        yield "verify"


def _own_errors(stage: str, work: Callable[[Job], dict[str, Any]], job: Job) -> dict[str, Any]:
    """Do the work; what fails on a Ray worker comes back wrapped, what nobody expected gets a name."""
    try:
        return work(job)
    except Exception as error:
        first = _first_cause(error)
        if isinstance(first, ReindexError):
            raise first from error
        raise JobFailed(stage, f"{type(first).__name__}: {first}".splitlines()[0]) from error


def _first_cause(error: BaseException) -> BaseException:
    """Return what began it: Ray wraps the worker's error, some of them more than once."""
    inner = getattr(error, "cause", None) or error.__cause__
    # `raise e from e` makes an error its own cause.
    if not isinstance(inner, BaseException) or inner is error or isinstance(error, ReindexError):
        return error
    return _first_cause(inner)


if __name__ == "__main__":
    sys.exit(main())
