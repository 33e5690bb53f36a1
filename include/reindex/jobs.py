"""What runs on Ray: `python -m reindex.jobs STAGE --corpus C --release R`. Ray is imported here and nowhere else.

A job reads its addresses from the environment of the Ray node, its settings from the release, and leaves its report in
the release. A failure is left there too, by name, and the job ends with exit status 1.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from reindex.assemble import assemble_import
from reindex.bench import Bench
from reindex.check import check_live
from reindex.embed import Work, embed_documents
from reindex.embed_worker import OUTCOME_SCHEMA, PART_DOCUMENTS, PartWriter
from reindex.embedders import Embedder, find_model, load_embedder
from reindex.errors import JobFailed, ReindexError, Stalled, TerminalError
from reindex.importers import IMPORTERS
from reindex.index import ReadinessBarrier
from reindex.milvus import MilvusStore
from reindex.naming import collection_name
from reindex.noise import measure_noise
from reindex.parts import EmbeddingStore
from reindex.prepare import PREPARE_DOCUMENTS, EmbedTask, prepare_documents
from reindex.priority import session_stays_behind, stay_behind, worker_stays_behind
from reindex.records import Progress
from reindex.releases import ReleaseFiles, run_stage
from reindex.sandbox import MEGABYTE
from reindex.settings import (
    Corpus,
    Limits,
    MilvusConnection,
    milvus_connection,
    s3_connection,
    state_bucket,
)
from reindex.storage import ObjectStore
from reindex.verify import verify_release

T = TypeVar("T")
_LOG = logging.getLogger("reindex")
_LOAD_SECONDS = 600.0
_PROGRESS_SECONDS = 1.0
# More than these embed no faster together than two writers with half of them, which take twice the memory.
_WRITER_THREADS = 4
# What a writer leaves of its threads' processors to the tasks that feed it, and what it takes at least.
_FEEDING_CPUS, _LEAST_WRITER_CPUS = 1.0, 0.5
# Of documents that a job reads in its own process: more are read sooner by many.
_BYTES_HERE = 8 * MEGABYTE
# Rows that are assembled in less time than a Ray job takes to start.
_ROWS_AT_ONCE = 100_000
# A task that waits for the store in between: two on a processor keep it busy, and more only start more processes.
_PREPARE_CPUS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What every job is given: the release's files and settings, and where Milvus is."""

    files: ReleaseFiles
    corpus: Corpus
    milvus: MilvusConnection


def embed(job: Job) -> dict[str, Any]:
    """Fetch, parse, chunk, embed and write what the plan asks for and the embedding space does not hold yet."""
    stay_behind()
    plan = job.files.needed_report("plan")
    report = embed_documents(job.files, _parts(job), partial(_run_chain, job, plan), rebuild=plan["rebuild"])
    return {"space": plan["space"], **report}


def _run_chain(job: Job, plan: dict[str, Any], work: Work) -> Iterator[pa.Table]:
    """Take documents through the chain: plan rows, fetch, parse, chunk, embed, write part. Yield what comes out."""
    if work.pending.num_rows <= PART_DOCUMENTS and pc.sum(work.pending.column("bytes")).as_py() <= _BYTES_HERE:
        yield _run_chain_here(_embed_task(job, plan, threads=min(os.cpu_count() or 1, _WRITER_THREADS)), work)
        return
    ray = _connected_ray()
    writers = size_writers([node["Resources"] for node in ray.nodes() if node["Alive"]])
    task = _embed_task(job, plan, threads=writers.threads)
    dataset = (
        ray.data.from_arrow(work.blocks())
        .map_batches(
            _prepare,
            fn_args=(task, ray.put(work.held)),
            batch_size=PREPARE_DOCUMENTS,
            batch_format="pyarrow",
            num_cpus=_PREPARE_CPUS,
            memory=_memory_to_prepare(job.corpus.limits, ray.nodes()),
        )
        .map_batches(
            _Writer,
            fn_constructor_args=(task,),
            compute=ray.data.ActorPoolStrategy(size=writers.count),
            batch_size=PART_DOCUMENTS,
            batch_format="pyarrow",
            num_cpus=writers.cpus,
            num_gpus=writers.gpus,
        )
    )
    documents, rows, shown_at = 0, 0, 0.0
    for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
        found = batch.cast(OUTCOME_SCHEMA)
        documents += found.num_rows
        rows += pc.sum(found.column("chunks")).as_py()
        # Not for each batch: with many writers the store's answers would be waited for one after the other.
        if time.monotonic() - shown_at >= _PROGRESS_SECONDS:
            job.files.show_progress("embed", {"documents": documents, "rows": rows})
            shown_at = time.monotonic()
        yield found


def _run_chain_here(task: EmbedTask, work: Work) -> pa.Table:
    """Do what is one part's work in this process: on workers, their start would take longer than the work."""
    writer = PartWriter(task)
    prepared = []
    for block in work.blocks():
        prepared.append(prepare_documents(block, task, work.held))
        task.files.show_progress("embed", {"prepared": sum(table.num_rows for table in prepared)})
    return writer(pa.concat_tables(prepared))


@dataclass(frozen=True, slots=True, kw_only=True)
class Writers:
    """How many writers a cluster gets, the threads of each, and what each reserves of Ray's processors and GPUs."""

    count: int
    threads: int
    cpus: float
    gpus: int = 0


def size_writers(nodes: Sequence[Mapping[str, float]]) -> Writers:
    """Return what fills the nodes' processors, or GPUs where there are any; a node is what Ray counts of it.

    A writer computes in all the threads that it may have, and reserves less: what is left is for the tasks that feed
    it, without which nothing moves (ray-project/ray#44687).
    """
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    if gpus:
        return Writers(count=gpus, threads=1, cpus=_LEAST_WRITER_CPUS, gpus=1)
    processors = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
    if not processors:  # they may still be started, and be of any size
        return Writers(count=1, threads=1, cpus=_LEAST_WRITER_CPUS)
    threads = min(_WRITER_THREADS, *processors)
    count = sum(of_node // threads for of_node in processors)
    return Writers(count=count, threads=threads, cpus=max(threads - _FEEDING_CPUS, _LEAST_WRITER_CPUS))


def _memory_to_prepare(limits: Limits, nodes: list[dict[str, Any]]) -> int:
    """Return the bytes that a task reserves, so that a node runs no more tasks than its memory allows.

    They are what its largest object may take, fetched and read; all that a node has, where that is less.
    """
    largest_node = max(int(node["Resources"].get("memory", 0)) for node in nodes)
    return min((limits.megabytes + limits.memory_megabytes) * MEGABYTE, largest_node)


class _Writer(PartWriter):
    """The writer as an actor of Ray's."""

    def __init__(self, task: EmbedTask) -> None:
        worker_stays_behind()
        super().__init__(task)


def _prepare(documents: pa.Table, task: EmbedTask, held: Any) -> pa.Table:
    # The contents are shared by all tasks of a node, not copied to each.
    import ray

    worker_stays_behind()
    return prepare_documents(documents, task, ray.get(held) if isinstance(held, ray.ObjectRef) else held)


def assemble(job: Job) -> dict[str, Any]:
    """Merge the release's rows into import files that the server can take."""
    stay_behind()
    with MilvusStore(job.milvus) as store:
        max_file_bytes = store.capabilities().max_import_file_bytes
    dimension = job.files.needed_report("plan")["dimension"]
    return assemble_import(job.files, _parts(job), dimension=dimension, max_file_bytes=max_file_bytes)


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

    def spread(keys: Sequence[str], work: Callable[[Iterable[pa.RecordBatch]], T]) -> list[T]:
        if len(keys) == 1:
            return [_with_file(job, keys[0], work)]
        ray = _connected_ray()
        shared = ray.put(work)
        task = ray.remote(num_cpus=1)(_with_file_behind)
        return list(ray.get([task.remote(job, key, shared) for key in keys]))

    return Bench(
        files=job.files,
        corpus=job.corpus,
        parts=_parts(job),
        store=store,
        connect=lambda: MilvusStore(job.milvus),
        embed=Embedders(),
        spread=spread,
    )


class Embedders:
    """Embeds queries as a release's model does; each model is loaded once."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[str, str], Embedder] = {}

    def __call__(self, files: ReleaseFiles, texts: list[str]) -> Any:
        model, precision = files.corpus().embedding.model, files.needed_report("plan")["precision"]
        if (model, precision) not in self._loaded:
            self._loaded[model, precision] = load_embedder(find_model(model), precision, threads=os.cpu_count() or 1)
        return self._loaded[model, precision].embed(texts)


def _connected_ray() -> Any:
    """Return Ray, connected to the cluster that runs this job; only the stages that spread work wait for it."""
    import ray

    ray.init(ignore_reinit_error=True)
    return ray


def _wait_until_loaded(job: Job, store: MilvusStore, collection: str) -> None:
    """Bring a collection back that an earlier verdict has unloaded: the task may be cleared and tried again."""
    if store.load_state(collection).loaded:
        return
    barrier = ReadinessBarrier(store, collection, job.files.needed_report("load")["rows"])
    _wait(job.files, "verify", barrier.poll)


def _wait(files: ReleaseFiles, stage: str, poll: Callable[[], Progress]) -> None:
    """Poll once a second and show how far it is; raise Stalled if nothing moves."""
    counts: dict[str, int] = {}
    moved_at = time.monotonic()
    while not (progress := poll()).done:
        if progress.counts != counts:
            counts, moved_at = progress.counts, time.monotonic()
            files.show_progress(stage, counts)
        if time.monotonic() - moved_at > _LOAD_SECONDS:
            raise Stalled(stage, _LOAD_SECONDS, progress.message)
        time.sleep(1)


def _with_file(job: Job, key: str, work: Callable[[Iterable[pa.RecordBatch]], T]) -> T:
    return work(job.files.store.read_batches(job.files.bucket, key))


def _with_file_behind(job: Job, key: str, work: Callable[[Iterable[pa.RecordBatch]], T]) -> T:
    worker_stays_behind()
    return _with_file(job, key, work)


def _embed_task(job: Job, plan: dict[str, Any], *, threads: int) -> EmbedTask:
    return EmbedTask(
        corpus=job.corpus,
        model=find_model(job.corpus.embedding.model),
        precision=plan["precision"],
        store=job.files.store,
        state_bucket=job.files.bucket,
        release=job.files.release,
        space=plan["space"],
        threads=threads,
    )


def _parts(job: Job) -> EmbeddingStore:
    space = job.files.needed_report("plan")["space"]
    limits = job.corpus.limits.fingerprint()
    return EmbeddingStore(job.files.store, job.files.bucket, job.corpus.name, space, limits=limits)


JOBS: dict[str, Callable[[Job], dict[str, Any]]] = {
    "embed": embed,
    "assemble": assemble,
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
    asked = parser.parse_args()
    files = ReleaseFiles(ObjectStore(s3_connection(os.environ)), state_bucket(os.environ), asked.corpus, asked.release)
    job = Job(files=files, corpus=files.corpus(), milvus=milvus_connection(os.environ))
    stage: str | None = asked.stage
    while stage:
        try:
            report = run_stage(files, stage, partial(_own_errors, stage, JOBS[stage], job))
        except ReindexError:
            _LOG.exception("%s of %s failed", stage, asked.release)
            return 1
        _LOG.info("%s: %s", stage, report)
        stage = _next_at_once(stage, report)
    return 0


def _next_at_once(stage: str, report: Mapping[str, Any]) -> str | None:
    """Return the stage that this job goes on to: its own would take longer to start than to run."""
    return "assemble" if stage == "embed" and report["chunks"] <= _ROWS_AT_ONCE else None


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
