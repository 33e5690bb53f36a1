"""What is live, asked what a candidate is asked: how its answers and its latency differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reindex.bench import Bench, Drawn, embed_queries, latency_facts
from reindex.index_types import Params
from reindex.latency import Latency, measure_latency
from reindex.naming import collection_name
from reindex.overlap import Side, compare_answers
from reindex.releases import ReleaseFiles
from reindex.switch import read_standing
from reindex.tuning import production_params


def beside_live(bench: Bench, drawn: Drawn, params: Params, latency: Mapping[str, Latency]) -> dict[str, Any]:
    """Return how answers and latency differ from those of what is live, or that nothing is."""
    gate, ceiling = bench.corpus.gate, {"max_p99_ms": bench.corpus.gate.max_p99_ms}
    own = latency_facts(latency)
    live = live_side(bench, drawn)
    if live is None:
        return {"overlap": None, "latency": {"candidate": own, "live": None, **ceiling}}
    release, theirs = live
    ours = Side(store=bench.store, collection=bench.collection, vectors=drawn.queries.vectors, params=params)
    names = [question.name for question in drawn.questions]
    overlap = compare_answers(names, ours, theirs, k=gate.k)
    of_live = measure_latency(bench.connect, theirs.collection, theirs.vectors, k=gate.k, params=theirs.params)
    return {
        "overlap": {"live": release, **overlap},
        "latency": {
            "candidate": own,
            "live": latency_facts(of_live),
            **ceiling,
        },
    }


def live_side(bench: Bench, drawn: Drawn) -> tuple[str, Side] | None:
    """Return the live release and how it is asked the same questions: by its own model, where that is another one."""
    files = live_files(bench)
    if files is None:
        return None
    theirs, ours = (_asks_as(of) for of in (files, bench.files))
    vectors = drawn.queries.vectors
    if theirs != ours:
        vectors = embed_queries(bench, files, [question.text for question in drawn.questions])
    collection = collection_name(files.corpus_name, files.release)
    params = production_params(files, bench.corpus.gate.k)
    return files.release, Side(store=bench.store, collection=collection, vectors=vectors, params=params)


def live_files(bench: Bench) -> ReleaseFiles | None:
    """Return the files of what is live, if that is another release than the one that is measured."""
    release = read_standing(bench.store, bench.files).release
    is_other = release and release != bench.files.release and bench.files.of(release).report("plan")
    return bench.files.of(release) if release and is_other else None


def _asks_as(files: ReleaseFiles) -> tuple[str, str]:
    """Return what decides the vector of a question."""
    return files.needed_report("plan")["space"], files.corpus().embedding.query_prompt
