"""What is done on Ray's workers: the chain that embeds, and going through import files. Ray is imported here alone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from reindex.embed import Work
from reindex.embed_worker import PART_DOCUMENTS, PartWriter
from reindex.embedders import Embedder, find_model, load_embedder
from reindex.prepare import PREPARE_DOCUMENTS, EmbedTask, prepare_documents
from reindex.priority import worker_stays_behind
from reindex.releases import ReleaseFiles
from reindex.sandbox import MEGABYTE
from reindex.settings import Limits

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")
_PROGRESS_SECONDS = 1.0
# More than these embed no faster together than two writers with half of them, which take twice the memory.
_WRITER_THREADS = 4
# What a writer leaves of its threads' processors to the tasks that feed it, and what it takes at least.
_FEEDING_CPUS, _LEAST_WRITER_CPUS = 1.0, 0.5
# Parts that a writer has ordered at once: one to embed, one that is ready and one that is prepared.
_PARTS_ORDERED = 3
# How often a writer that dies is started again, and a part that it had begun is: what kills it each time ends the job.
_WRITER_RESTARTS, _PART_RETRIES = 10, 3
# Of documents that a job reads in its own process: more are read sooner by many.
_BYTES_HERE = 8 * MEGABYTE
# A task that waits for the store in between: two on a processor keep it busy, and more only start more processes.
_PREPARE_CPUS = 0.5


def run_chain(
    files: ReleaseFiles, plan: dict[str, Any], load: Callable[[], Embedder], work: Work
) -> Iterator[pa.Table]:
    """Take documents through the chain: plan rows, fetch, parse, chunk, embed, write part. Yield what comes out.

    `load` returns what embeds in this process.
    """
    if work.pending.num_rows <= PART_DOCUMENTS and pc.sum(work.pending.column("bytes")).as_py() <= _BYTES_HERE:
        yield _run_chain_here(_embed_task(files, plan, threads=os.cpu_count() or 1), load, work)
        return
    documents, rows, tokens, shown_at, began = 0, 0, 0, 0.0, time.monotonic()
    for found in _run_chain_on_workers(files, plan, work):
        documents += found.num_rows
        rows += pc.sum(found.column("chunks")).as_py()
        tokens += pc.sum(found.column("embedded_tokens")).as_py()
        # Not for each part: with many writers the store's answers would be waited for one after the other.
        if time.monotonic() - shown_at >= _PROGRESS_SECONDS:
            counts = {"documents": documents, "rows": rows}
            seconds = time.monotonic() - began
            files.show_progress("embed", counts | pace(documents, work.pending.num_rows, tokens, seconds))
            shown_at = time.monotonic()
        yield found


def _run_chain_on_workers(files: ReleaseFiles, plan: dict[str, Any], work: Work) -> Iterator[pa.Table]:
    """Have tasks prepare the documents, some at a time, and writers make a part of what several tasks have prepared.

    Each writer has a few parts ordered: one to embed, while the tasks prepare the next. What a lost node had prepared
    Ray has prepared again, and a part that died with its writer written again.
    """
    ray = _connected_ray()
    writers = size_writers([node["Resources"] for node in ray.nodes() if node["Alive"]])
    task = _embed_task(files, plan, threads=writers.threads)
    # The writers come first: tasks that had their processors would have to end before they could start.
    actor = ray.remote(
        num_cpus=writers.cpus,
        num_gpus=writers.gpus,
        max_restarts=_WRITER_RESTARTS,
        max_task_retries=_PART_RETRIES,
        allow_out_of_order_execution=True,  # what is prepared need not wait for what still is
    )(_Writer)
    free = [actor.remote(task) for _ in range(writers.count)] * _PARTS_ORDERED
    memory = _memory_to_prepare(task.corpus.limits, ray.nodes())
    prepare = ray.remote(num_cpus=_PREPARE_CPUS, memory=memory)(_prepare)
    held, blocks = ray.put(work.held), work.blocks()
    ordered: dict[Any, Any] = {}
    while part := list(islice(blocks, PART_DOCUMENTS // PREPARE_DOCUMENTS)):
        if not free:
            (done,), _ = ray.wait(list(ordered))
            free.append(ordered.pop(done))
            yield ray.get(done)
        writer = free.pop()
        ordered[writer.write.remote(*(prepare.remote(block, task, held) for block in part))] = writer
    while ordered:
        (done,), _ = ray.wait(list(ordered))
        del ordered[done]
        yield ray.get(done)


def pace(documents: int, of: int, tokens: int, seconds: float) -> dict[str, int]:
    """Return how fast it goes, and how long it takes if what is left takes what came before it has taken."""
    left = seconds * (of - documents) / documents if documents else 0.0
    return {"tokens a second": round(tokens / seconds) if seconds else 0, "seconds left": round(left)}


def _run_chain_here(task: EmbedTask, load: Callable[[], Embedder], work: Work) -> pa.Table:
    """Do what is one part's work in this process: on workers, their start would take longer than the work."""
    with ThreadPoolExecutor(1) as pool:
        embedder = pool.submit(load)  # while the documents are read
        prepared = []
        for block in work.blocks():
            prepared.append(prepare_documents(block, task, work.held))
            task.files.show_progress("embed", {"prepared": sum(table.num_rows for table in prepared)})
        return PartWriter(task, embedder.result())(pa.concat_tables(prepared))


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


class _Writer:
    """The writer as an actor of Ray's."""

    def __init__(self, task: EmbedTask) -> None:
        worker_stays_behind()
        self._writer = PartWriter(task, load_embedder(task.model, task.precision, threads=task.threads))

    def write(self, *prepared: pa.Table) -> pa.Table:
        return self._writer(pa.concat_tables(prepared))


def _prepare(documents: pa.Table, task: EmbedTask, held: np.ndarray) -> pa.Table:
    worker_stays_behind()
    return prepare_documents(documents, task, held)


def spread(files: ReleaseFiles, keys: Sequence[str], work: Callable[[Iterable[pa.RecordBatch]], T]) -> list[T]:
    """Do the same to each of some Parquet objects of the state bucket, wherever there is room; to a single one here."""
    if len(keys) == 1:
        return [_with_file(files, keys[0], work)]
    ray = _connected_ray()
    shared = ray.put(work)
    task = ray.remote(num_cpus=1)(_with_file_behind)
    return list(ray.get([task.remote(files, key, shared) for key in keys]))


def _with_file(files: ReleaseFiles, key: str, work: Callable[[Iterable[pa.RecordBatch]], T]) -> T:
    return work(files.store.read_batches(files.bucket, key))


def _with_file_behind(files: ReleaseFiles, key: str, work: Callable[[Iterable[pa.RecordBatch]], T]) -> T:
    worker_stays_behind()
    return _with_file(files, key, work)


def _embed_task(files: ReleaseFiles, plan: dict[str, Any], *, threads: int) -> EmbedTask:
    corpus = files.corpus()
    return EmbedTask(
        corpus=corpus,
        model=find_model(corpus.embedding.model),
        precision=plan["precision"],
        store=files.store,
        state_bucket=files.bucket,
        release=files.release,
        space=plan["space"],
        threads=threads,
    )


def _connected_ray() -> Any:
    """Return Ray, connected to the cluster that runs this job; only the stages that spread work wait for it."""
    import ray

    ray.init(ignore_reinit_error=True)
    return ray
