"""A corpus in, an earlier release live again out: chosen, checked as it was when it was measured, and switched to."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pyarrow as pa

from reindex.erasures import expected_rows
from reindex.errors import (
    AlreadyLive,
    NothingToGoBackTo,
    NotVerified,
    ReleaseDropped,
    SettingsError,
    UnknownRelease,
)
from reindex.naming import alias_name, collection_name, collection_release, rollback_key
from reindex.recall import check_recall, recall_over, wilson_lower_bound
from reindex.records import ID_COLUMN, Hit, Progress
from reindex.releases import QUERIES_FILE, ReleaseFiles
from reindex.store import Connect, VectorStore
from reindex.switch import Live, measured_collection, move_alias, reconcile_live
from reindex.tuning import production_params, search_batches, tie_floor

# A count may lag behind the load for a moment; one that stays wrong is for the check to refuse.
_PATIENT_POLLS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What decides whether a release can be gone back to."""

    release: str
    went_live: datetime | None
    is_verified: bool
    has_collection: bool


def begin_rollback(store: VectorStore, files: ReleaseFiles, rollback: str, *, asked: str | None, by: str) -> str:
    """Choose the release, and remember it under the rollback's name: repeated, a rollback must not go back again.

    `files` are those of any release of the corpus.
    """
    key = rollback_key(files.corpus_name, rollback)
    begun = files.store.read_json(files.bucket, key)
    if begun:
        return str(begun["release"])
    live = reconcile_live(store, files, by=by)
    release = choose_release(files.corpus_name, _candidates(store, files, asked), live, asked=asked)
    files.store.write_json(files.bucket, key, {"release": release, "instead_of": live.release or "", "by": by})
    return release


def choose_release(corpus: str, candidates: list[Candidate], live: Live, *, asked: str | None) -> str:
    """Return the release that was asked for, or else the one that the live one replaced, or one from before it.

    Raises UnknownRelease, AlreadyLive, ReleaseDropped, NotVerified, or NothingToGoBackTo.
    """
    known = {candidate.release: candidate for candidate in candidates}
    if asked:
        return _named(corpus, known.get(asked), asked, live)
    ready = {name: found for name, found in known.items() if found.is_verified and found.has_collection}
    ready.pop(live.release or "", None)
    if live.pointer:
        # Where the alias is gone, what was live last is what is missing.
        replaced = live.pointer.replaced if live.collection else live.pointer.release
        if replaced in ready:
            return replaced
    now_live = known.get(live.release or "")
    until = now_live.went_live if now_live else None
    earlier = [(found.went_live, name) for name, found in ready.items() if _is_before(found.went_live, until)]
    if not earlier:
        raise NothingToGoBackTo(corpus)
    return max(earlier)[1]


def check_again(store: VectorStore, files: ReleaseFiles) -> dict[str, Any]:
    """Measure recall again with the queries that the release kept; raise RecallTooLow if the index does worse now."""
    table = files.store.read_table(files.bucket, files.key(QUERIES_FILE))
    if not table:
        return {"recall": None, "note": "recall not checked: the release has kept no queries"}
    corpus, verified = files.corpus(), files.needed_report("verify")
    recalls = _recalls(store, files, table)
    # These are some of the queries that the release has passed with. How well those stand for all queries was settled
    # then, by their number; asked now is whether the index answers as it did.
    gate, verified_recall = corpus.gate, verified.get("recall")
    settled_by = max(len(recalls), (verified_recall or {}).get("queries", 0))
    found = recall_over(recalls, k=gate.k, confidence=gate.confidence)
    recall = replace(found, bound=wilson_lower_bound(found.mean, settled_by, gate.confidence))
    check_recall(recall, gate, is_unindexed=verified_recall is None)
    return {"recall": {"k": recall.k, "queries": len(recalls), "mean": recall.mean, "bound": recall.bound}, "note": ""}


def roll_back(connect: Connect, files: ReleaseFiles, *, by: str) -> dict[str, Any]:
    """Check the release as promotion does, measure its recall again, and make it live whatever moment it shows.

    Raises NotVerified, NotLoaded, RecallTooLow, SchemaMismatch and PromotedMeanwhile; the alias then stays on, or goes
    back to, what is live.
    """
    started_at = time.time()
    with connect() as store:
        before = reconcile_live(store, files, by=by)
        target = measured_collection(store, files)
        checked = check_again(store, files)
        note = "; ".join(filter(None, (checked["note"], _permissions_of_then(files, before))))
        pointer = move_alias(connect, store, files, target, before=before, by=by)
    facts = {"alias": alias_name(files.corpus_name), "collection": target.name, "by": by, "replaced": pointer.replaced}
    if files.report("promote") is None:
        # A green release: from now on it is one that has been live.
        files.write_report("promote", started_at, facts)
    return {"release": files.release, **facts, "since": pointer.since, **checked, "note": note}


def _permissions_of_then(files: ReleaseFiles, before: Live) -> str:
    """Say where other people may find the documents than may now: permissions go back as texts do."""
    # What is live need not be a release that can still be read: that stops no way back.
    with suppress(UnknownRelease, SettingsError):
        if before.release and files.of(before.release).corpus().permissions != files.corpus().permissions:
            return "the corpus had other permissions then, and they hold again until it has been run once more"
    return ""


def finish_rollback(files: ReleaseFiles, rollback: str, facts: dict[str, Any]) -> None:
    """Record what a rollback came to, beside what it began with."""
    key = rollback_key(files.corpus_name, rollback)
    begun = files.store.read_json(files.bucket, key) or {}
    files.store.write_json(files.bucket, key, {**begun, **facts})


class ReloadBarrier:
    """Open when the release's collection is in memory with the rows that were measured.

    Segments are not compared: after a deletion they hold rows that no search returns.
    """

    def __init__(self, store: VectorStore, files: ReleaseFiles) -> None:
        self._store, self._files = store, files
        self._collection = collection_name(files.corpus_name, files.release)
        self._rows = expected_rows(files)
        self._wrong_counts = 0

    def poll(self) -> Progress:
        """Look once; raise NotVerified if the collection is gone."""
        if self._store.describe(self._collection) is None:
            raise NotVerified(self._files.release, f"{self._collection} is gone")
        state = self._store.load_state(self._collection)
        counts = {"loaded": state.loaded_rows}
        if not state.loaded:
            return Progress(done=False, message="loading", counts=counts)
        rows = self._store.count_rows(self._collection)
        self._wrong_counts += rows != self._rows
        is_open = rows == self._rows or self._wrong_counts >= _PATIENT_POLLS
        return Progress(done=is_open, message=f"{rows} of {self._rows} rows in memory", counts=counts)


def begin_reload(store: VectorStore, files: ReleaseFiles) -> None:
    """Begin to load the release's collection; raise NotVerified if it is gone."""
    collection = collection_name(files.corpus_name, files.release)
    if store.describe(collection) is None:
        raise NotVerified(files.release, f"{collection} is gone")
    store.load(collection)


def _candidates(store: VectorStore, files: ReleaseFiles, asked: str | None) -> list[Candidate]:
    """Return what is known of the releases that have a collection, and of the one that was asked for."""
    held = {collection_release(files.corpus_name, name) for name in store.collections()} - {None}
    found = []
    for release in sorted(name for name in held | {asked} if name):
        of = files.of(release)
        is_verified = of.report("verify") is not None
        if release in held or is_verified or of.report("snapshot"):
            found.append(
                Candidate(
                    release=release,
                    went_live=of.went_live(),
                    is_verified=is_verified,
                    has_collection=release in held,
                )
            )
    return found


def _named(corpus: str, candidate: Candidate | None, asked: str, live: Live) -> str:
    if candidate is None:
        raise UnknownRelease(corpus, asked)
    if asked == live.release:
        raise AlreadyLive(corpus, asked)
    if not candidate.is_verified:
        raise NotVerified(asked, "nobody has measured it")
    if not candidate.has_collection:
        raise ReleaseDropped(corpus, asked)
    return asked


def _is_before(went_live: datetime | None, until: datetime | None) -> bool:
    return went_live is not None and (until is None or went_live < until)


def _recalls(store: VectorStore, files: ReleaseFiles, queries: pa.Table) -> list[float]:
    """Return each query's recall: the share of its true neighbours' places that were filled by hits as good as they.

    A query that is a passage of the index is no answer to itself.
    """
    import numpy as np

    metric, k, rows = files.corpus().index.metric, files.corpus().gate.k, expected_rows(files)
    params = production_params(files, k + 1)
    collection = collection_name(files.corpus_name, files.release)
    asked = queries.to_pylist()
    vectors = np.asarray([kept["vector"] for kept in asked], "float32")
    recalls = []
    for answer, kept in zip(search_batches(store, collection, vectors, k=k + 1, params=params), asked, strict=True):
        others = [hit for hit in answer if hit.fields[ID_COLUMN] != kept["own"]][:k]
        wanted = min(k, rows - bool(kept["own"]))
        recalls.append(min(_good_hits(others, tie_floor(kept["floor"]), metric=metric), wanted) / wanted)
    return recalls


def _good_hits(answer: list[Hit], floor: float, *, metric: str) -> int:
    # Milvus gives L2 as a distance, less is better; the floor is kept negated.
    scores = {hit.fields[ID_COLUMN]: -abs(hit.score) if metric == "L2" else hit.score for hit in answer}
    return sum(score >= floor for score in scores.values())
