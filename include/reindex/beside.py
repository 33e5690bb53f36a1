"""What is live, asked what a candidate is asked: how its answers and its latency differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from reindex.bench import Bench, Drawn, embed_queries, latency_facts
from reindex.index_types import at_least
from reindex.latency import Latency, measure_latency
from reindex.naming import collection_name
from reindex.overlap import Side, compare_answers
from reindex.releases import ReleaseFiles
from reindex.switch import read_standing
from reindex.tuning import Rung, production_params, search_all

if TYPE_CHECKING:
    import numpy as np


def beside_live(bench: Bench, drawn: Drawn, chosen: Rung, latency: Mapping[str, Latency]) -> dict[str, Any]:
    """Return how answers and latency differ from those of what is live, or that nothing is."""
    gate, ceiling = bench.corpus.gate, {"max_p99_ms": bench.corpus.gate.max_p99_ms}
    own = latency_facts(latency)
    files = live_files(bench)
    if files is None:
        return {"overlap": None, "latency": {"candidate": own, "live": None, **ceiling}}
    vectors, params = _asked_of(bench, files, drawn), production_params(files, gate.k)
    collection = collection_name(files.corpus_name, files.release)
    # One more than is asked for, as the candidate was asked: among equals another one may be left out otherwise.
    more = gate.k + 1
    theirs = search_all(bench.store, collection, vectors, k=more, params=at_least(params, more))
    overlap = compare_answers(
        [question.name for question in drawn.questions],
        Side(store=bench.store, collection=bench.collection, answers=[answer[: gate.k] for answer in chosen.answers]),
        Side(store=bench.store, collection=collection, answers=[answer[: gate.k] for answer in theirs]),
        k=gate.k,
    )
    of_live = measure_latency(bench.connect, collection, vectors, k=gate.k, params=params)
    return {
        "overlap": {"live": files.release, **overlap},
        "latency": {
            "candidate": own,
            "live": latency_facts(of_live),
            **ceiling,
        },
    }


def _asked_of(bench: Bench, files: ReleaseFiles, drawn: Drawn) -> np.ndarray:
    """Return the same questions as what is live is asked them: by its own model, where that is another one."""
    theirs, ours = (_asks_as(of) for of in (files, bench.files))
    if theirs == ours:
        return drawn.queries.vectors
    return embed_queries(bench, files, [question.text for question in drawn.questions])


def live_files(bench: Bench) -> ReleaseFiles | None:
    """Return the files of what is live, if that is another release than the one that is measured."""
    release = read_standing(bench.store, bench.files).release
    is_other = release and release != bench.files.release and bench.files.of(release).report("plan")
    return bench.files.of(release) if release and is_other else None


def _asks_as(files: ReleaseFiles) -> tuple[str, str]:
    """Return what decides the vector of a question."""
    return files.needed_report("plan")["space"], files.corpus().embedding.query_prompt
