"""The files of a release in the bucket: the stages' reports, tables, progress, and the pointer to what is live."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from reindex.errors import ReindexError, TerminalError, UnknownRelease, from_record
from reindex.forecast import score_forecast
from reindex.naming import corpus_prefix, release_prefix
from reindex.rates import bound_by
from reindex.settings import Corpus, read_corpus
from reindex.storage import ObjectStore, Written

STAGES = ("snapshot", "plan", "embed", "assemble", "load", "index", "verify", "promote", "retire")
_EMBED_COUNTS = ("reused", "embedded", "withheld", "rejected", "chunks", "chunks_embedded", "chunks_reused")
# A run that has left no sign for so long has ended, whatever it says.
UNFINISHED = timedelta(hours=24)
# The tables of a release: what was listed, what to do with it, what is indexed, what is not, what it was measured by.
SNAPSHOT_FILE = "snapshot.parquet"
PLAN_FILE = "plan.parquet"
DOCUMENTS_FILE = "documents.parquet"
REJECTS_FILE = "rejects.parquet"
QUERIES_FILE = "queries.parquet"
# Of texts and vectors that `verify` compared, by a digest of both: the next release compares those that are new.
COSINES_FILE = "cosines.json"
# What `verify` measured, and the same as a page for people.
RECALL_FILE = "recall.json"
REPORT_FILE = "report.html"
# What people ask, as it was when the release was begun.
GOLDEN_QUERIES_FILE = "golden_queries.jsonl"
GOLDEN_QRELS_FILE = "golden_qrels.tsv"
QUERY_LOG_FILE = "query_log.jsonl"
# What the last check of a live release has found wrong with it.
_DRIFT_FILE = "drifted.json"
_WENT_LIVE_FILE = "went_live.json"
# What the release has come to so far: one file, for whoever looks at many releases.
_SUMMARY_FILE = "summary.json"
_CORPUS_FILE = "corpus.json"
_PROGRESS_FILE = "progress.json"
_FAILURE_FILE = "failure.json"
# The last releases whose rates a forecast goes by.
_PAST_RELEASES = 5
_READING_THREADS = 16


class ReleaseFiles:
    """Reads and writes what one release leaves behind, under `reindex/<corpus>/releases/<release>/`."""

    def __init__(self, store: ObjectStore, bucket: str, corpus: str, release: str) -> None:
        self.store, self.bucket, self.corpus_name, self.release = store, bucket, corpus, release
        self._prefix = release_prefix(corpus, release)

    def key(self, name: str) -> str:
        return f"{self._prefix}/{name}"

    def of(self, release: str) -> ReleaseFiles:
        """Return the files of another release of the corpus."""
        return ReleaseFiles(self.store, self.bucket, self.corpus_name, release)

    def freeze_corpus(self, corpus: Corpus) -> None:
        """Keep the settings this release is made with: later edits of the corpus file are for later releases."""
        self.store.write(self.bucket, self.key(_CORPUS_FILE), corpus.model_dump_json(indent=1).encode())

    def corpus(self) -> Corpus:
        """Return the settings the release was begun with; raise UnknownRelease if it never was."""
        data = self.store.read(self.bucket, self.key(_CORPUS_FILE))
        if data is None:
            raise UnknownRelease(self.corpus_name, self.release)
        return read_corpus(data.decode(), where=f"s3://{self.bucket}/{self.key(_CORPUS_FILE)}", name=self.corpus_name)

    def report(self, stage: str) -> dict[str, Any] | None:
        return self.read_json(f"{stage}.json")

    def needed_report(self, stage: str) -> dict[str, Any]:
        """Return what an earlier stage left; raise UnknownRelease if it has not been here."""
        report = self.report(stage)
        if report is None:
            raise UnknownRelease(self.corpus_name, f"{self.release} with a finished stage {stage}")
        return report

    def write_report(self, stage: str, started_at: float, facts: dict[str, Any]) -> dict[str, Any]:
        """Record what a stage did; `started_at` is in seconds since 1970."""
        report = {
            "stage": stage,
            "release": self.release,
            "started_at": datetime.fromtimestamp(started_at, UTC).isoformat(),
            "seconds": round(time.time() - started_at, 3),
            **facts,
        }
        self.write_json(f"{stage}.json", report)
        self._keep_summary()
        return report

    def record_failure(self, stage: str, error: ReindexError) -> None:
        self.write_json(
            _FAILURE_FILE,
            {
                "stage": stage,
                "at": datetime.now(UTC).isoformat(),
                "message": str(error),
                **error.to_record(),
            },
        )
        self._keep_summary()

    def forget_failure(self) -> None:
        """A new attempt begins: what stopped the last one is not to be taken for its own."""
        if self.read_json(_FAILURE_FILE):
            self.store.delete(self.bucket, self.key(_FAILURE_FILE))
            self._keep_summary()

    def summary(self) -> dict[str, Any]:
        """Return what `release_report` said when the release last changed."""
        return self.read_json(_SUMMARY_FILE) or release_report(self)

    def _keep_summary(self) -> None:
        # Without names of documents: they may have to be erased.
        self.write_json(_SUMMARY_FILE, {**release_report(self), "withheld_keys": []})

    def failure(self) -> dict[str, Any] | None:
        """Return the last failure, unless its stage has since been finished."""
        failure = self.read_json(_FAILURE_FILE)
        return failure if failure and self.report(failure["stage"]) is None else None

    def claim(self, stage: str, job: str) -> str:
        """Take a stage for a job, unless another has taken it; return whose it is."""
        if self.store.write_if_unchanged(self.bucket, self.key(f"{stage}_job"), job.encode(), etag=None):
            return job
        return self.read_text(f"{stage}_job") or job

    def show_progress(self, stage: str, counts: dict[str, int]) -> None:
        """Tell whoever watches where a stage stands; nothing is decided by it."""
        with suppress(ReindexError):
            self.write_json(_PROGRESS_FILE, {"stage": stage, "counts": counts})

    def progress(self, stage: str) -> dict[str, int]:
        """Return how far a stage is, in counts by name; empty if it has not said so."""
        with suppress(ReindexError):
            progress = self.read_json(_PROGRESS_FILE) or {}
            return dict(progress["counts"]) if progress.get("stage") == stage else {}
        return {}

    def record_going_live(self, at: str, by: str) -> None:
        """Record the last time that readers were given the release: a rollback is one, too."""
        self.write_json(_WENT_LIVE_FILE, {"at": at, "by": by})

    def went_live(self) -> datetime | None:
        """Return when readers were last given the release, or None if they never were."""
        recorded = self.read_json(_WENT_LIVE_FILE)
        promoted = self.report("promote")
        at = recorded["at"] if recorded else promoted["started_at"] if promoted else None
        return datetime.fromisoformat(at) if at else None

    def record_drift(self, check: str, problems: list[str]) -> None:
        """Record what a check has found wrong while the release was live, or that it has found nothing."""
        if problems:
            self.write_json(_DRIFT_FILE, {"check": check, "problems": problems})
        else:
            self.store.delete(self.bucket, self.key(_DRIFT_FILE))

    def drift(self) -> list[str]:
        """Return what the last check has found wrong while the release was live."""
        return list((self.read_json(_DRIFT_FILE) or {}).get("problems", ()))

    def has_drifted(self) -> bool:
        return bool(self.drift())

    def has_failed_for_good(self) -> bool:
        """Return whether a stage has failed in a way that trying again does not mend."""
        failure = self.failure()
        return failure is not None and isinstance(from_record(failure), TerminalError)

    def is_going_on(self, now: datetime) -> bool:
        """Return whether a run is still at work on the release: it left a sign within a day, and has not ended."""
        signs = [found.modified for found in self.store.entries(self.bucket, self.key(""))]
        if not signs or now - max(signs) > UNFINISHED:
            return False
        if self.report("verify") or self.report("promote"):
            return False
        return not self.has_failed_for_good() and (self.report("plan") or {}).get("outcome") != "unchanged"

    def read_json(self, name: str) -> dict[str, Any] | None:
        return self.store.read_json(self.bucket, self.key(name))

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        self.store.write_json(self.bucket, self.key(name), content)

    def read_text(self, name: str) -> str | None:
        data = self.store.read(self.bucket, self.key(name))
        return None if data is None else data.decode()

    def write_text(self, name: str, content: str) -> None:
        self.store.write(self.bucket, self.key(name), content.encode())

    def read_batches(self, name: str) -> Iterator[pa.RecordBatch]:
        return self.store.read_batches(self.bucket, self.key(name))

    def read_column(self, name: str, column: str) -> list[Any]:
        """Return one column of a table, or nothing if there is no such table."""
        table = self.store.read_table(self.bucket, self.key(name))
        return [] if table is None else table.column(column).to_pylist()

    def write_table(self, name: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Written:
        return self.store.write_batches(self.bucket, self.key(name), schema, batches)


def run_stage(files: ReleaseFiles, stage: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Do a stage once: return an earlier report as it is; record a failure before it goes on its way."""
    report = files.report(stage)
    if report is not None:
        return report
    started_at = time.time()
    with recorded_failure(files, stage):
        return files.write_report(stage, started_at, work())


def release_report(files: ReleaseFiles) -> dict[str, Any]:
    """Return what a release came to, from what its stages left: counts, recall, seconds a stage, its last failure."""
    reports = {stage: report for stage in STAGES if (report := files.report(stage))}
    snapshot, plan, embed, verify = (reports.get(stage, {}) for stage in ("snapshot", "plan", "embed", "verify"))
    measured = verify or files.read_json(RECALL_FILE) or {}
    promote, failure = reports.get("promote", {}), files.failure()
    forecast = reports.get("plan", {}).get("forecast")
    return {
        "corpus": files.corpus_name,
        "release": files.release,
        "as_of": snapshot.get("as_of"),
        "listing": snapshot.get("listing"),
        "erased": snapshot.get("erased"),
        "hidden": snapshot.get("hidden"),
        "started_at": snapshot.get("started_at"),
        "outcome": plan.get("outcome"),
        "live": plan.get("live"),
        "listed": snapshot.get("documents"),
        "indexed": embed.get("documents"),
        **{name: embed.get(name) for name in _EMBED_COUNTS},
        "withdrawn": plan.get("withdraw"),
        "warning": "; ".join(filter(None, (plan.get("warning"), embed.get("unread_warning")))),
        "withheld_keys": plan.get("withheld_keys", []),
        "rejected_by_reason": embed.get("rejected_by_reason", {}),
        "rows": reports.get("load", {}).get("rows"),
        "recall": measured.get("recall"),
        "recall_note": measured.get("note", ""),
        "search_params": measured.get("search_params"),
        "gates": measured.get("gates", []),
        "live_search": measured.get("live_search"),
        "alias": promote.get("alias"),
        "collection": reports.get("load", {}).get("collection"),
        "promoted": "promote" in reports,
        "seconds": {stage: report["seconds"] for stage, report in reports.items()},
        "started": {stage: report["started_at"] for stage, report in reports.items()},
        "bound_by": bound_by(reports),
        "forecast": score_forecast(forecast, reports) if forecast else None,
        "failed": {"stage": failure["stage"], "reason": failure["message"]} if failure else None,
    }


class recorded_failure:  # noqa: N801 - read as a `with` statement
    """Write what stops a stage into the release, for `reindex releases` and for Airflow, which raises it again."""

    def __init__(self, files: ReleaseFiles, stage: str) -> None:
        self._files, self._stage = files, stage

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ReindexError):
            self._files.record_failure(self._stage, error)


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePointer:
    """What the alias names, since when and by whose doing: `replaced` is the release before it, or empty."""

    release: str
    collection: str
    since: str
    by: str
    replaced: str


def read_live(store: ObjectStore, bucket: str, corpus: str) -> tuple[LivePointer | None, str | None]:
    """Return the pointer and the ETag under which it may be replaced."""
    found = store.read_tagged(bucket, _live_key(corpus))
    return (LivePointer(**json.loads(found[0])), found[1]) if found else (None, None)


def write_live(store: ObjectStore, bucket: str, corpus: str, pointer: LivePointer, *, etag: str | None) -> bool:
    """Replace the pointer if nobody has since; return whether it was replaced."""
    data = json.dumps(asdict(pointer), indent=1).encode()
    return store.write_if_unchanged(bucket, _live_key(corpus), data, etag=etag)


def release_names(store: ObjectStore, bucket: str, corpus: str, *, holding: str = "/") -> set[str]:
    """Return the corpus's releases that have a file with `holding` in its path."""
    prefix = f"{corpus_prefix(corpus)}/releases/"
    if holding == "/":
        return set(store.folders(bucket, prefix))
    keys = (key.removeprefix(prefix) for key in store.keys(bucket, prefix))
    return {key.split("/", 1)[0] for key in keys if holding in key}


def read_summaries(store: ObjectStore, bucket: str, corpus: str, names: Iterable[str]) -> list[dict[str, Any]]:
    """Return what some releases of a corpus came to, in the order of their names."""
    with ThreadPoolExecutor(_READING_THREADS) as pool:
        return list(pool.map(lambda name: ReleaseFiles(store, bucket, corpus, name).summary(), names))


def finished_reports(store: ObjectStore, bucket: str, corpus: str) -> list[dict[str, dict[str, Any]]]:
    """Return the reports of the last verified releases, by stage, newest first: of a dropped one, what is left."""
    names = sorted(release_names(store, bucket, corpus, holding="/verify.json"), reverse=True)[:_PAST_RELEASES]
    with ThreadPoolExecutor(_READING_THREADS) as pool:
        releases = [ReleaseFiles(store, bucket, corpus, name) for name in names]
        found = [pool.map(files.report, STAGES) for files in releases]
        return [{stage: report for stage, report in zip(STAGES, reports, strict=True) if report} for reports in found]


def _live_key(corpus: str) -> str:
    return f"{corpus_prefix(corpus)}/live.json"
