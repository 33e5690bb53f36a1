"""A live release in, how much a second build of the same files differs from it out: the noise floor of the gates.

An index is built in parallel and by chance: differences as small as these say nothing of the documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

from reindex.bench import Bench, answers_of, draw, search_exactly
from reindex.forecast import check_twin_fits
from reindex.golden import frozen_judgements
from reindex.importers import Importer
from reindex.index import ReadinessBarrier
from reindex.judged import rankings_of
from reindex.naming import noise_key, twin_name
from reindex.records import Progress
from reindex.relevance import mean_measures, measure_queries
from reindex.store import drop_green
from reindex.tuning import EVERYTHING, Answered, measure_rung, production_params

# Asks again and again until it is told that something is done.
Wait = Callable[[Callable[[], Progress]], None]


def measure_noise(bench: Bench, importer: Importer, wait: Wait) -> dict[str, Any]:
    """Build the release's index once more, ask both the same, record and return what differs: an A/A comparison.

    `recall` and `ndcg` are absolute differences of recall@k and, where there are golden queries, of nDCG@10; `overlap`
    is 1 - overlap@k. Raises DoesNotFit if Milvus has not the memory for a second collection, which is dropped in any
    case.
    """
    plan, rows = bench.files.needed_report("plan"), bench.store.count_rows(bench.collection)
    check_twin_fits(plan["forecast"], rows, bench.store.memory())
    with _twin(bench, importer, wait, dimension=plan["dimension"]) as twin:
        differences = _differences(bench, twin)
    facts = {
        "release": bench.files.release,
        "space": plan["space"],
        "index": bench.corpus.index.model_dump(),
        "k": bench.corpus.gate.k,
        **differences,
        "measured_at": datetime.now(UTC).isoformat(),
    }
    bench.files.store.write_json(bench.files.bucket, noise_key(bench.files.corpus_name), facts)
    return facts


@contextmanager
def _twin(bench: Bench, importer: Importer, wait: Wait, *, dimension: int) -> Iterator[str]:
    """Load the release's import files into a second collection for a while."""
    store, name = bench.store, twin_name(bench.collection)
    drop_green(store, name)
    try:
        store.create_collection(name, dimension=dimension, index=bench.corpus.index)
        files = bench.files.needed_report("assemble")["files"]
        jobs = [importer.submit(name, file["file"], file["rows"]) for file in files]
        wait(lambda: importer.poll(name, jobs))
        wait(ReadinessBarrier(store, name, sum(store.import_state(job.id).rows for job in jobs)).poll)
        yield name
    finally:
        drop_green(store, name)


def _differences(bench: Bench, twin: str) -> dict[str, Any]:
    """Return how far the two are apart in what they find of the same questions."""
    drawn, params = draw(bench), production_params(bench.files, bench.corpus.gate.k)
    collections = (bench.collection, twin)
    for name in collections:
        bench.store.count_rows(name)  # waits for everything that was written before
    both = [answers_of(bench, drawn, params, collection=name) for name in collections]
    findings, exact = search_exactly(bench, drawn, both)
    rungs = [measure_rung(given, exact, drawn.queries, findings.vectors, bench.corpus.gate) for given in both]
    means = [rung.slices[EVERYTHING].mean for rung in rungs if EVERYTHING in rung.slices]
    return {
        "queries": len(drawn.questions),
        "recall": max(means, default=0.0) - min(means, default=0.0),
        "overlap": 1 - _overlap(both, drawn.queries.own, bench.corpus.gate.k),
        **_difference_in_relevance(bench, twin),
    }


def _difference_in_relevance(bench: Bench, twin: str) -> dict[str, float]:
    """Return the absolute difference of nDCG@10 over the golden queries, if there are any."""
    judgements = frozen_judgements(bench.files, bench.corpus)
    if judgements is None:
        return {}
    search_params = partial(production_params, bench.files)
    found = [
        measure_queries(judgements, rankings_of(bench, bench.files, judgements, search_params, collection=name))
        for name in (bench.collection, twin)
    ]
    one, other = (mean_measures(measured)["ndcg@10"] for measured in found)
    return {"ndcg": abs(one - other)}


def _overlap(both: Sequence[Answered], own: Sequence[str], k: int) -> float:
    """Return the mean share of the first k answers that both give; a passage is no answer to itself."""
    shares = []
    for passage, *given in zip(own, *(answers.ids[EVERYTHING] for answers in both), strict=True):
        one, other = ([chunk for chunk in ids if chunk != passage][:k] for ids in given)
        shares.append(len({*one} & {*other}) / max(len(one), len(other), 1))
    return sum(shares) / len(shares)
