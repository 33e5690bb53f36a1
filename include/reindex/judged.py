"""Golden queries asked of a candidate and of what is live, through their indexes and by exact search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import pyarrow as pa

from reindex.bench import Bench, embed_queries, import_files
from reindex.beside import live_files
from reindex.exact import Asked
from reindex.golden import document_names, frozen_judgements
from reindex.index_types import Params, at_least
from reindex.judgements import Judgements
from reindex.naming import collection_name
from reindex.ranking import search_rankings
from reindex.releases import ReleaseFiles
from reindex.relevance import RANKING_DEPTH, assess_relevance, missing_documents, rank_documents
from reindex.scan import Errand, merge_findings, scan_file
from reindex.tuning import production_params

# Chunks, of which 100 documents are ranked: enough of them unless each has more than ten among the best.
_EXACT_DEPTH = 1000
# A bootstrap of fewer says more than it knows.
_FEWEST_QUERIES = 20
_NOT_JUDGED = "relevance not verified: the corpus names no golden queries (gate.golden)"
_NOTHING_JUDGED_IS_HERE = "relevance not verified: none of the documents that are judged relevant is in the index"


def relevance_of(bench: Bench, params: Params) -> dict[str, Any]:
    """Return what golden queries find in the release, searched with these parameters, and in what is live."""
    corpus, judgements = bench.corpus, frozen_judgements(bench.files, bench.corpus)
    if judgements is None or corpus.gate.golden is None:
        return {"note": _NOT_JUDGED}
    if len(judgements.queries) < _FEWEST_QUERIES:
        few = f"{len(judgements.queries)} judged queries are too few, {_FEWEST_QUERIES} are needed"
        return {"note": f"relevance not verified: {few}"}
    missing = missing_documents(judgements, document_names(bench.files, corpus))
    if len(missing) == len(judgements.relevant_ids()):
        return {"note": f"{_NOTHING_JUDGED_IS_HERE}, the first {missing[0]!r}"}
    live = live_files(bench)
    found = assess_relevance(
        judgements,
        candidate=rankings_of(bench, bench.files, judgements, lambda k: at_least(params, k)),
        candidate_exact=_exact_rankings(bench, bench.files, judgements),
        live=rankings_of(bench, live, judgements, partial(production_params, live)) if live else None,
        live_exact=_exact_rankings(bench, live, judgements) if live else None,
        missing=len(missing),
        tolerance=corpus.gate.golden.max_loss,
        confidence=corpus.gate.confidence,
    )
    return {**asdict(found), "is_worse": found.is_worse}


def rankings_of(
    bench: Bench,
    files: ReleaseFiles,
    judgements: Judgements,
    search_params: Callable[[int], Params],
    *,
    collection: str = "",
) -> list[list[str]]:
    """Return what each query finds in a release, or in another collection with its rows."""
    return search_rankings(
        bench.store,
        collection or collection_name(files.corpus_name, files.release),
        embed_queries(bench, files, list(judgements.queries.values())),
        search_params=search_params,
        name_of=files.corpus().source.name_of,
        ids=judgements.judged_ids(),
    )


def _exact_rankings(bench: Bench, files: ReleaseFiles, judgements: Judgements) -> list[list[str]]:
    """Return what an index that misses nothing would find."""
    source, ids = files.corpus().source, judgements.judged_ids()
    asked = Asked(vectors=embed_queries(bench, files, list(judgements.queries.values())), k=_EXACT_DEPTH)
    errand = Errand(
        asked=(asked,),
        wanted=pa.array([], pa.string()),
        metric=files.corpus().index.metric,
        memory_bytes=bench.corpus.gate.memory_megabytes * 2**20,
    )
    found = merge_findings(bench.spread(import_files(files), partial(scan_file, errand=errand)), errand)
    return [
        rank_documents(map(source.name_of, documents), ids)[:RANKING_DEPTH]
        for documents in found.neighbours[0].documents.tolist()
    ]
