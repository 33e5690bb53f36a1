"""The stages that take long: each operator submits, waits a little, lets go of its worker and comes back when a trigger
says so.
"""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.observability import stats

from reindex.bulk_load import begin_load, finish_load
from reindex.errors import JobFailed, ReindexError, from_record
from reindex.importers import IMPORTERS
from reindex.index import finish_index
from reindex.live_search import measure_at_rest
from reindex.naming import job_name
from reindex.releases import ReleaseFiles, recorded_failure, release_report
from reindex.report import gates_table
from reindex.retire import make_room
from reindex.rollback import begin_reload
from reindex.signals import release_metrics
from reindex_airflow import hooks
from reindex_airflow.links import JOB_KEY, CheckedReleaseLink, RayJobLink, ReportLink
from reindex_airflow.triggers import MilvusTrigger, RayJobTrigger, call_off

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from reindex.store import VectorStore

RAY_POOL = "ray"
# What a person is to read who is asked to approve.
VERDICT_KEY = "verdict"
# What is over within this is not worth the way to the triggerer and back, which takes some four seconds.
_WAIT_HERE_SECONDS = 60.0


class _StageOperator(BaseOperator):
    """What the waiting stages share: they do one stage of one release, and pass the release on."""

    template_fields = ("release",)
    # The Ray job that does the stage, where one does.
    job = ""

    def __init__(self, *, corpus: str, release: Any, stage: str, **options: Any) -> None:
        # A mapped task is given its own name and text by Airflow, beside what it is mapped over.
        super().__init__(**{"task_id": stage, "doc_md": STAGE_DOCS[stage], **options})
        self.corpus, self.release, self.stage = corpus, release, stage

    def _files(self, services: hooks.Services) -> ReleaseFiles:
        return services.files(self.corpus, self.release)

    def _await(self, context: Context, trigger: MilvusTrigger | RayJobTrigger, **kept: Any) -> str:
        """Finish when the trigger fires: here if that is soon, else from the triggerer."""
        event = asyncio.run(_first_event(trigger, _WAIT_HERE_SECONDS))
        if trigger.probe:
            trigger.probe.join()  # this process ends soon, and with it whatever is not written
        if event is not None:
            return self.finish(context, event, **kept)
        self.defer(trigger=trigger, method_name="finish", kwargs=kept)
        raise AssertionError  # defer does not return

    @abstractmethod
    def finish(self, context: Context, event: dict[str, Any], **kept: Any) -> str:
        """Return the release if what was waited for is done, raise its own reason otherwise."""

    def on_kill(self) -> None:
        """Stop the job: the task was killed before it let go of its worker."""
        if self.job:
            hooks.RayJobs(hooks.services().ray).stop(self.job)

    def _taken_on(self, context: Context, services: hooks.Services) -> str:
        """Return the Ray job that has taken the stage on and is at work, or none: then the stage is this attempt's."""
        own = self._own_job(context)
        owner = self._files(services).claim(self.stage, own)
        is_at_work = owner != own and hooks.RayJobs(services.ray).status(owner) in hooks.UNFINISHED_JOB
        return owner if is_at_work else ""

    def _own_job(self, context: Context) -> str:
        return job_name(self.corpus, self.release, self.stage, context["ti"].try_number)

    def _follow(self, context: Context, job: str, **kept: Any) -> str:
        self.job = job
        trigger = RayJobTrigger(job=job, corpus=self.corpus, release=self.release, stage=self.stage)
        return self._await(context, trigger, **kept)

    def _followed(self, event: dict[str, Any]) -> str:
        """Return the release if the job left its report, raise the job's own reason otherwise."""
        services = hooks.services()
        files = self._files(services)
        if files.report(self.stage):
            return str(self.release)
        failure = files.failure()
        if failure and failure["stage"] == self.stage:
            raise from_record(failure)
        with recorded_failure(files, self.stage):
            _raise_failure(event)
            detail = hooks.RayJobs(services.ray).last_log_line(event["job"])
            raise JobFailed(event["job"], f"{event['status']}: {detail}")


class RayJobOperator(_StageOperator):
    """Runs one stage as a Ray job. A retry finds the job of the attempt before it, if that is still going."""

    operator_extra_links = (RayJobLink(),)

    def __init__(self, **options: Any) -> None:
        # One job at a time for each slot, counted while it waits: two that share a machine could starve each other.
        super().__init__(**{"pool": RAY_POOL, **options})

    def execute(self, context: Context) -> str:
        services = hooks.services()
        files = self._files(services)
        jobs = hooks.RayJobs(services.ray)
        running = self._running_job(context, jobs)
        # One that is done with this stage may be going on to the next.
        if files.report(self.stage) and not running:
            return self.finish(context, {})
        files.forget_failure()
        with recorded_failure(files, self.stage):
            job = running or self._submit(context, jobs)
        context["ti"].xcom_push(key=JOB_KEY, value=f"{services.ray.url}/#/jobs/{job}")
        return self._follow(context, job)

    def finish(self, context: Context, event: dict[str, Any]) -> str:  # noqa: ARG002 - Airflow's signature
        """Return the release if the job left its report, raise the job's own reason otherwise."""
        return self._followed(event)

    def _running_job(self, context: Context, jobs: hooks.RayJobs) -> str | None:
        job = str(context["task_state_store"].get(JOB_KEY) or "")
        return job if job and jobs.status(job) in hooks.UNFINISHED_JOB else None

    def _submit(self, context: Context, jobs: hooks.RayJobs) -> str:
        job = self._own_job(context)
        context["task_state_store"].set(JOB_KEY, job)
        asked = f"--corpus {self.corpus} --release {self.release} --job {job}"
        jobs.submit(job, f"python -m reindex.jobs {self.stage} {asked}")
        return job


class EmbedOperator(RayJobOperator):
    """Measures how fast live search is at rest, then embeds; where the job goes on, waits until it has indexed."""

    def __init__(self, **options: Any) -> None:
        super().__init__(stage="embed", **options)

    def _submit(self, context: Context, jobs: hooks.RayJobs) -> str:
        services = hooks.services()
        measure_at_rest(services.milvus_store, self._files(services))
        return super()._submit(context, jobs)


class VerifyOperator(RayJobOperator):
    """Runs the stage that measures, and leads to its report, whether the release passed or not."""

    operator_extra_links = (RayJobLink(), ReportLink())

    def __init__(self, **options: Any) -> None:
        super().__init__(stage="verify", **options)

    def _submit(self, context: Context, jobs: hooks.RayJobs) -> str:
        """Go on with the job that has embedded the release, if it has taken this on."""
        owner = self._taken_on(context, hooks.services())
        if not owner:
            return super()._submit(context, jobs)
        context["task_state_store"].set(JOB_KEY, owner)
        return owner

    def finish(self, context: Context, event: dict[str, Any]) -> str:
        """Return the release, and leave what was measured for whoever is asked to approve it."""
        files = self._files(hooks.services())
        try:
            release = super().finish(context, event)
        except ReindexError:
            # No later task of a release that has failed would.
            tell_metrics(files)
            raise
        report = files.needed_report("verify")
        address = ReportLink().get_link(self, ti_key=None)
        context["ti"].xcom_push(key=VERDICT_KEY, value=gates_table(report, address))
        return release


class CheckOperator(RayJobOperator):
    """Measures what is live once more; `release` is the check's name, and its report is found under that."""

    operator_extra_links = (RayJobLink(), ReportLink(), CheckedReleaseLink())

    def __init__(self, *, live: str, **options: Any) -> None:
        super().__init__(stage="check", **options)
        self.live = live


class _MilvusOperator(_StageOperator):
    """Follows the Ray job that has taken the stage on; otherwise begins it, and waits for Milvus."""

    def execute(self, context: Context) -> str:
        services = hooks.services()
        files = self._files(services)
        if files.report(self.stage):
            return str(self.release)
        started_at = time.time()
        with recorded_failure(files, self.stage):
            job = self._taken_on(context, services)
            trigger = None if job else self._begin(services, files)
        if trigger is None:
            return self._follow(context, job, started_at=started_at)
        return self._await(context, trigger, started_at=started_at)

    @abstractmethod
    def _begin(self, services: hooks.Services, files: ReleaseFiles) -> MilvusTrigger:
        """Begin the stage, and return what waits for it."""

    def finish(self, context: Context, event: dict[str, Any], started_at: float) -> str:  # noqa: ARG002 - Airflow's signature
        if "job" in event:
            return self._followed(event)
        services = hooks.services()
        files = self._files(services)
        with recorded_failure(files, self.stage):
            _raise_failure(event)
            with services.milvus_store() as store:
                files.write_report(self.stage, started_at, self._finished(store, files))
        return str(self.release)

    @abstractmethod
    def _finished(self, store: VectorStore, files: ReleaseFiles) -> dict[str, Any]:
        """Finish the stage, and return what its report is to say."""


class BulkLoadOperator(_MilvusOperator):
    """Imports the release's files into a new collection. Whatever an earlier attempt left is dropped first."""

    def __init__(self, **options: Any) -> None:
        super().__init__(stage="load", **options)

    collection_id = 0

    def _begin(self, services: hooks.Services, files: ReleaseFiles) -> MilvusTrigger:
        corpus = files.corpus()
        with services.milvus_store() as store:
            # What is kept only to go back to leaves memory first: beside the live release there is room for one more.
            make_room(store, files, corpus.retention)
            importer = IMPORTERS[store.capabilities().importer](store)
            self.collection_id = begin_load(store, importer, files, corpus)
        return MilvusTrigger(stage="load", corpus=self.corpus, release=self.release, collection_id=self.collection_id)

    def on_kill(self) -> None:
        """Call the load off: the task was killed before it let go of its worker."""
        super().on_kill()
        if self.collection_id:
            call_off(hooks.services(), self.corpus, self.release, self.collection_id)

    def finish(self, context: Context, event: dict[str, Any], started_at: float) -> str:
        self.collection_id = 0  # from here on it is kept, whatever becomes of the task
        return super().finish(context, event, started_at)

    def _finished(self, store: VectorStore, files: ReleaseFiles) -> dict[str, Any]:
        return finish_load(store, files)


class BuildIndexOperator(_MilvusOperator):
    """Waits at the readiness barrier, then warms the collection up."""

    def __init__(self, **options: Any) -> None:
        super().__init__(stage="index", **options)

    def _begin(self, services: hooks.Services, files: ReleaseFiles) -> MilvusTrigger:  # noqa: ARG002 - as the other's
        return MilvusTrigger(stage="index", corpus=self.corpus, release=self.release)

    def _finished(self, store: VectorStore, files: ReleaseFiles) -> dict[str, Any]:
        return finish_index(store, files)


class ReloadOperator(_StageOperator):
    """Brings the collection of the release that is gone back to into memory, and waits for it."""

    template_fields = ("corpus", "release")

    def __init__(self, **options: Any) -> None:
        super().__init__(stage="reload", **options)

    def execute(self, context: Context) -> str:
        services = hooks.services()
        with services.milvus_store() as store:
            begin_reload(store, self._files(services))
        return self._await(context, MilvusTrigger(stage="reload", corpus=self.corpus, release=self.release))

    def finish(self, context: Context, event: dict[str, Any]) -> str:  # noqa: ARG002 - Airflow's signature
        _raise_failure(event)
        return str(self.release)


def tell_metrics(files: ReleaseFiles) -> None:
    """Give Airflow the release's metrics: they go wherever its configuration sends its own."""
    for metric in release_metrics(release_report(files)):
        stats.gauge(metric.name, metric.value, tags=metric.tags)


STAGE_DOCS = {
    "embed": (
        "Fetch, parse, chunk and embed what the plan asks for, on Ray, and write it to the embedding store.\n\n"
        "**Fails** when no document could be indexed; a single bad document only becomes a reject."
    ),
    "assemble": (
        "Merge the release's rows into import files that Milvus can take, and check every row.\n\n"
        "**Fails** on rows that Milvus would swallow silently: duplicate ids, vectors that are not finite, long texts."
    ),
    "load": (
        "Import the files into a new collection, its indexes declared first.\n\n"
        "**Retried** from an empty collection when Milvus gives an import up: rows never double."
    ),
    "index": (
        "Wait until every row is indexed and every segment is in memory, three polls in a row; then warm up.\n\n"
        "**Fails** when nothing has moved for too long."
    ),
    "reload": (
        "Load the collection of the release that is gone back to, and wait until it is in memory.\n\n"
        "**Fails** when the collection is gone, or nothing has moved for too long; the alias then stays where it is."
    ),
    "verify": (
        "Measure recall against exact search and draw the ledger.\n\n"
        "**Fails** when a count does not agree, too many documents were rejected, or recall is under its floor: "
        "the alias then stays where it is."
    ),
    "check": (
        "Measure what is live once more: recall as readers search, the ledger, the vectors, the latency.\n\n"
        "**Fails** when a gate that the release has passed is not passed any more. Readers still get it: roll back, or "
        "run the corpus again."
    ),
}


async def _first_event(trigger: BaseTrigger, seconds: float) -> dict[str, Any] | None:
    """Return what a trigger fires with, or None if it has not within so many seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            async for event in trigger.run():
                return dict(event.payload)
    return None


def _raise_failure(event: dict[str, Any]) -> None:
    if "error" in event:
        raise from_record(event)
