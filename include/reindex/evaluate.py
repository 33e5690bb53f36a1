"""The live index and judgements in, its relevance out: what `reindex eval` says."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from reindex.errors import BadJudgements
from reindex.golden import document_names
from reindex.judgements import Judgements
from reindex.live_index import LiveIndex
from reindex.ranking import search_rankings
from reindex.relevance import mean_measures, measure_queries, missing_documents
from reindex.store import VectorStore

if TYPE_CHECKING:
    import numpy as np

# So many of the missing documents are named.
_NAMED = 20


def evaluate_live(
    store: VectorStore,
    live: LiveIndex,
    judgements: Judgements,
    *,
    embed: Callable[[list[str]], np.ndarray],
    qrels_file: str,
) -> dict[str, Any]:
    """Return how relevant the live index's answers are; raise BadJudgements if none of the judged documents is in it.

    `embed` turns queries into vectors; `qrels_file` is what an error calls the judgements.
    """
    missing = missing_documents(judgements, document_names(live.files, live.corpus))
    if len(missing) == len(judgements.relevant_ids()):
        problem = f"none of the {len(missing)} relevant documents is in the index, the first of them {missing[0]!r}"
        raise BadJudgements(qrels_file, 0, problem, _shape_of_ids(live))
    rankings = search_rankings(
        store,
        live.collection,
        embed(list(judgements.queries.values())),
        search_params=live.search_params,
        name_of=live.corpus.source.name_of,
        ids=judgements.judged_ids(),
    )
    return {
        "corpus": live.files.corpus_name,
        "release": live.release,
        "queries": len(judgements.queries),
        "unjudged": judgements.unjudged,
        "missing_documents": len(missing),
        "first_missing": missing[:_NAMED],
        **mean_measures(measure_queries(judgements, rankings)),
    }


def _shape_of_ids(live: LiveIndex) -> str:
    prefix = live.corpus.source.prefix
    example = next(document_names(live.files, live.corpus), "")
    return f"keys as they are after {prefix!r}, with or without their suffix, as {example!r}"
