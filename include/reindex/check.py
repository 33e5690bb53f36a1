"""What readers get now in, whether it is still what was measured out: the live index measured again, at any time."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from reindex.bench import Bench, Tried, compared, facts_of, in_short, latency_facts, measure, try_settings
from reindex.errors import Drifted, NotLoaded, SettingsError, UnknownRelease
from reindex.gates import Verdict, look
from reindex.latency import Latency, measure_latency
from reindex.naming import alias_name, checks_prefix, is_twin
from reindex.releases import RECALL_FILE, REPORT_FILE, ReleaseFiles
from reindex.report import render_report
from reindex.store import VectorStore, drop_green
from reindex.switch import Live, read_standing
from reindex.tuning import EVERYTHING, as_text, production_params

_KEPT_CHECKS = 30
# An erasure takes documents from those that were listed: the share of rejects would rise by it. Relevance is measured
# beside what a release replaces.
_SETTLED = ("rejects", "relevance")
_NOT_JUDGED = "relevance is measured when a release is verified"


def begin_check(store: VectorStore, check: ReleaseFiles, *, with_noise: bool = False) -> str | None:
    """Remember what is to be checked, and return it: the release that is live, or was until its collection went.

    `check` are the files of the check. What a measurement of noise has left that was killed is dropped, and so are all
    checks but the newest.
    """
    live = read_standing(store, check)
    release = live.release or (live.pointer.release if live.pointer else None)
    if release is None:
        return None
    for name in store.collections():
        if is_twin(check.corpus_name, name):
            drop_green(store, name)
    # Without them the check itself fails: checks of other corpora must not wait for this one.
    with suppress(UnknownRelease, SettingsError):
        check.freeze_corpus(check.of(release).corpus())
    check.write_json("begin.json", {"release": release, "noise": with_noise})
    _forget_old_checks(check)
    return release


def _forget_old_checks(check: ReleaseFiles) -> None:
    prefix = checks_prefix(check.corpus_name)
    by_key = {key: key.removeprefix(prefix).split("/", 1)[0] for key in check.store.keys(check.bucket, prefix)}
    kept = sorted(set(by_key.values()))[-_KEPT_CHECKS:]
    for key in (key for key, name in by_key.items() if name not in kept):
        check.store.delete(check.bucket, key)


def check_live(bench: Bench, check: ReleaseFiles) -> dict[str, Any]:
    """Measure the release with the setting that its readers search with; raise Drifted if it does not pass any more.

    Raises NotLoaded after it has begun to load the collection. A release that was replaced since the check began is
    not measured: the one that replaced it has just been.
    """
    files, gate = bench.files, bench.corpus.gate
    standing = read_standing(bench.store, files)
    if standing.release and standing.release != files.release:
        return {"corpus": files.corpus_name, "release": files.release, "replaced_by": standing.release, "gates": []}
    _require_searchable(bench, standing)
    tried = try_settings(bench, [production_params(files, gate.k)])
    check.show_progress("check", {"rows": tried.findings.rows})
    chosen, vectors = tried.rungs[0], tried.drawn.queries.vectors
    latency = measure_latency(bench.connect, bench.collection, vectors, k=gate.k, params=chosen.params)
    advice = f"that is what readers' searches find now{f', with {as_text(chosen.params)}' if chosen.params else ''}"
    made = compared(bench, tried.drawn, known={})
    measured = measure(bench, tried, chosen, latency["1"], advice=advice, relevance={"note": _NOT_JUDGED}, made=made)
    verdicts = [_unless_settled(verdict) for verdict in look(measured, bench.corpus, files)]
    facts = {
        **facts_of(bench, tried, chosen, measured, verdicts),
        "overlap": None,
        "latency": {"candidate": latency_facts(latency), "live": None, "max_p99_ms": gate.max_p99_ms},
        "drift": _drift(bench, tried, latency["1"]),
    }
    check.write_json(RECALL_FILE, facts)
    check.write_text(REPORT_FILE, render_report(facts))
    problems = [verdict.why for verdict in verdicts if verdict.error]
    # The next run builds a release even if no document has changed.
    files.record_drift(check.release, problems)
    if problems:
        raise Drifted(files.corpus_name, files.release, problems)
    return in_short(facts)


def _require_searchable(bench: Bench, standing: Live) -> None:
    """Raise Drifted or NotLoaded if readers get no answer at all."""
    if standing.release is None:
        problem = f"the alias {alias_name(bench.files.corpus_name)} names {standing.collection or 'no collection'}"
        raise Drifted(bench.files.corpus_name, bench.files.release, [problem])
    if not bench.store.load_state(bench.collection).loaded:
        bench.store.load(bench.collection)
        raise NotLoaded(bench.collection)


def _unless_settled(verdict: Verdict) -> Verdict:
    if verdict.gate not in _SETTLED:
        return verdict
    return replace(verdict, passed=None, why="settled when the release was verified", error=None)


def _drift(bench: Bench, tried: Tried, latency: Latency) -> dict[str, Any]:
    """Return what was measured when the release was verified beside what is measured now; None where it was not."""
    then = bench.files.report("verify") or {}
    recall_then, recall_now = then.get("recall") or {}, tried.rungs[0].slices.get(EVERYTHING)
    measures_now = recall_now if not tried.is_unindexed else None
    segments_then = {segment["id"] for segment in then.get("segments", ())}
    return {
        "recall_then": recall_then.get("mean"),
        "recall_now": measures_now.mean if measures_now else None,
        "recall_bound_then": recall_then.get("bound"),
        "recall_bound_now": measures_now.bound if measures_now else None,
        "p99_then": _p99(then),
        "p99_now": latency.p99,
        "segments_changed": segments_then != set(tried.segments) if segments_then else None,
    }


def _p99(verified: Mapping[str, Any]) -> float | None:
    clients = (verified.get("latency") or {}).get("candidate") or {}
    return clients["1"]["p99"] if clients else None
