"""What was measured in, a verdict out: every gate is looked at, and the first that fails stops the release."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from reindex.errors import NotJudged, RelevanceWorse, TerminalError, TooManyRejects, TooSlow
from reindex.fidelity import Fidelity, require_fidelity
from reindex.latency import Latency
from reindex.ledger import Ledger, check_ledger
from reindex.recall import Recall, check_recall
from reindex.records import RejectReason
from reindex.releases import REJECTS_FILE, ReleaseFiles
from reindex.settings import Corpus, Gate
from reindex.tuning import EVERYTHING, as_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the gates look at. `advice` says what would find more; `relevance` is empty where nothing was judged.

    `is_unindexed` says that no segment has the rows for which the server builds an index.
    """

    ledger: Ledger
    fidelity: Fidelity
    recalls: Mapping[str, Recall]
    advice: str
    is_unindexed: bool
    relevance: Mapping[str, Any]
    latency: Latency
    params: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one gate says; `passed` is None where nothing was asked of it, or nothing could be measured."""

    gate: str
    passed: bool | None
    why: str
    error: TerminalError | None = None

    def row(self) -> dict[str, Any]:
        return {"gate": self.gate, "passed": self.passed, "why": self.why}


def look(measured: Measured, corpus: Corpus, files: ReleaseFiles) -> list[Verdict]:
    """Return what each gate says, in the order in which they stop a release."""
    gate = corpus.gate
    return [
        _ledger(measured),
        _rejects(measured, gate, files),
        _vectors(measured),
        _recall(measured, gate),
        _relevance(measured, corpus),
        _latency(measured, gate),
    ]


def raise_first(verdicts: list[Verdict]) -> None:
    """Raise what the first gate that failed has to say."""
    failed = next((verdict.error for verdict in verdicts if verdict.error), None)
    if failed:
        raise failed


def _ledger(measured: Measured) -> Verdict:
    ledger = measured.ledger
    good = (
        f"{ledger.listed:,} documents listed = {ledger.reused:,} reused + {ledger.embedded:,} embedded + "
        f"{ledger.rejected:,} rejected; {ledger.collection_rows:,} rows in parts, files and collection"
    )
    return _checked("ledger", lambda: check_ledger(ledger), good)


def _rejects(measured: Measured, gate: Gate, files: ReleaseFiles) -> Verdict:
    rejected = measured.ledger.rejected - measured.ledger.duplicates
    good = f"{rejected:,} of {measured.ledger.listed:,} documents, up to {gate.max_rejected_share:g} of them may be"
    return _checked("rejects", lambda: check_rejects(files, measured.ledger, gate), good)


def check_rejects(files: ReleaseFiles, ledger: Ledger, gate: Gate) -> None:
    """Raise TooManyRejects, with the first, if more were rejected than the corpus allows; copies are no fault."""
    rejected = ledger.rejected - ledger.duplicates
    if rejected > gate.max_rejected_share * ledger.listed:
        rows = (row for batch in files.read_batches(REJECTS_FILE) for row in batch.to_pylist())
        first = next(row for row in rows if row["reason"] != RejectReason.DUPLICATE and not row["member"])
        raise TooManyRejects(rejected, ledger.listed, gate.max_rejected_share, f"{first['key']} ({first['detail']})")


def _vectors(measured: Measured) -> Verdict:
    found = measured.fidelity
    good = (
        f"{found.checked:,} passages embedded again and read back: cosine {found.lowest_cosine:.4f} and "
        f"{found.lowest_served:.4f} at the least"
    )
    return _checked("vectors", lambda: require_fidelity(found), good)


def _recall(measured: Measured, gate: Gate) -> Verdict:
    def check() -> None:
        for name, recall in measured.recalls.items():
            where = "" if name == EVERYTHING else name
            check_recall(recall, gate, is_unindexed=measured.is_unindexed, where=where, advice=measured.advice)

    if not measured.recalls:
        return Verdict(gate="recall", passed=None, why="a single row has no neighbours")
    lowest = min(recall.bound for recall in measured.recalls.values())
    setting = f" with {as_text(measured.params)}" if measured.params else ""
    good = f"the lower bound is {lowest:.4f} in every slice at the least{setting}, and {gate.min_recall:g} is asked for"
    found = _checked("recall", check, good)
    if measured.is_unindexed and found.passed:
        return Verdict(gate="recall", passed=None, why="meaningless: no segment has the rows for an index")
    return found


def _relevance(measured: Measured, corpus: Corpus) -> Verdict:
    found, golden = measured.relevance, corpus.gate.golden
    if golden is None or found.get("note"):
        return _not_judged(corpus, str(found.get("note") or "relevance not verified"))

    if found["live"] is None:
        why = f"nDCG@10 is {found['candidate']['ndcg@10']:.4f}, and nothing is live to compare with"
        return _not_judged(corpus, why)

    def check() -> None:
        if found["is_worse"]:
            candidate, live = found["candidate"]["ndcg@10"], found["live"]["ndcg@10"]
            raise RelevanceWorse(candidate, live, found["high"], golden.max_loss, found["queries"])

    good = f"nDCG@10 {found['candidate']['ndcg@10']:.4f}, of what is live {found['live']['ndcg@10']:.4f}"
    return _checked("relevance", check, good)


def _not_judged(corpus: Corpus, why: str) -> Verdict:
    """Return that nothing was measured, which stops a release in int8: no other gate can vouch for its vectors."""
    error = NotJudged(why) if corpus.embedding.precision == "int8" else None
    return Verdict(gate="relevance", passed=False if error else None, why=str(error or why), error=error)


def _latency(measured: Measured, gate: Gate) -> Verdict:
    p99, ceiling = measured.latency.p99, gate.max_p99_ms
    if ceiling is None:
        return Verdict(gate="latency", passed=None, why=f"p99 {p99:g} ms; no ceiling is set (gate.max_p99_ms)")
    error = TooSlow(p99, ceiling, as_text(measured.params)) if p99 > ceiling else None
    return Verdict(gate="latency", passed=not error, why=str(error or f"p99 {p99:g} ms of {ceiling:g}"), error=error)


def _checked(gate: str, check: Callable[[], None], good: str) -> Verdict:
    try:
        check()
    except TerminalError as error:
        return Verdict(gate=gate, passed=False, why=str(error), error=error)
    return Verdict(gate=gate, passed=True, why=good)
