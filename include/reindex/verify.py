"""A ready collection and its import files in, a verdict out: whether it may replace what is live.

Every gate is looked at, whatever the first one says; the verdict names the collection that it holds for.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from reindex.bench import Bench, compared, draw, facts_of, in_short, measure, try_settings
from reindex.beside import beside_live, live_files
from reindex.exact import Neighbours
from reindex.gates import look, raise_first
from reindex.judged import relevance_of
from reindex.latency import measure_latency
from reindex.live_search import live_search_facts
from reindex.releases import COSINES_FILE, QUERIES_FILE, RECALL_FILE, REPORT_FILE, ReleaseFiles
from reindex.report import render_report
from reindex.tuning import EVERYTHING, Queries, advise, choose_rung, settings_to_try

QUERIES_SCHEMA = pa.schema([("vector", pa.list_(pa.float32())), ("floor", pa.float32()), ("own", pa.string())])
# Queries kept with the release, to measure its recall again when it is gone back to: as many as are usually asked.
# Fewer would have a mean of their own, and fail by chance what all of them passed.
_KEPT_QUERIES = 1_000


def prepare_to_verify(bench: Bench) -> None:
    """Do of verifying what takes no answer of the collection, before it is ready; `bench.embed` remembers it."""
    compared(bench, draw(bench), _known_cosines(bench))


def verify_release(bench: Bench) -> dict[str, Any]:
    """Measure the release and pass it, or raise what the first gate that fails has to say.

    What was measured is in recall.json, whether it passes or not.
    """
    files, index, gate = bench.files, bench.corpus.index, bench.corpus.gate
    tried = try_settings(bench, settings_to_try(index, gate.k))
    queries = tried.drawn.queries
    keep_queries(files, queries, tried.exact[EVERYTHING], k=gate.k)
    files.show_progress("verify", {"rows": tried.findings.rows, "settings": len(tried.rungs)})
    chosen = choose_rung(tried.rungs, index, gate, is_unindexed=tried.is_unindexed)
    latency = measure_latency(bench.connect, bench.collection, queries.vectors, k=gate.k, params=chosen.params)
    advice = advise(tried.rungs, index, gate, is_unindexed=tried.is_unindexed)
    relevance = relevance_of(bench, chosen.params)
    made = compared(bench, tried.drawn, _known_cosines(bench))
    measured = measure(bench, tried, chosen, latency["1"], advice=advice, relevance=relevance, made=made)
    verdicts = look(measured, bench.corpus, files)
    facts = {
        **facts_of(bench, tried, chosen, measured, verdicts),
        **beside_live(bench, tried.drawn, chosen, latency),
        **live_search_facts(files),
    }
    files.write_json(RECALL_FILE, facts)
    files.write_text(REPORT_FILE, render_report(facts))
    raise_first(verdicts)
    files.write_json(COSINES_FILE, dict(made))
    return in_short(facts)


def _known_cosines(bench: Bench) -> dict[str, float]:
    """Return the cosines that were found when what is live was verified, if the same model has made its vectors."""
    live = live_files(bench)
    if live is None or live.needed_report("plan")["space"] != bench.files.needed_report("plan")["space"]:
        return {}
    return live.read_json(COSINES_FILE) or {}


def keep_queries(files: ReleaseFiles, queries: Queries, exact: Neighbours, *, k: int) -> None:
    """Leave queries with the exact score of their k-th neighbour: recall can then be measured again by itself.

    Of more than can be kept, those at equal steps: questions of a kind stand together, and some kinds are found less.
    """
    kept, asked = [], len(queries.own)
    for place in dict.fromkeys(number * asked // _KEPT_QUERIES for number in range(_KEPT_QUERIES)):
        own = queries.own[place]
        scores = exact.scores[place][exact.ids[place] != own][:k]
        if len(scores):
            kept.append({"vector": queries.vectors[place].tolist(), "floor": float(scores[-1]), "own": own})
    table = pa.Table.from_pylist(kept, schema=QUERIES_SCHEMA)
    files.write_table(QUERIES_FILE, QUERIES_SCHEMA, table.to_batches())
