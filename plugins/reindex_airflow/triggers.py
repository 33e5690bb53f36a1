"""The waits of the long stages, in the triggerer. Each may run more than once; none cancels anything in `cleanup`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from reindex.bulk_load import call_off_load, poll_load
from reindex.errors import ReindexError, ServiceUnavailable, Stalled
from reindex.importers import IMPORTERS
from reindex.index import ReadinessBarrier
from reindex.live_search import LiveProbe
from reindex.records import Progress
from reindex.releases import ReleaseFiles
from reindex.rollback import ReloadBarrier
from reindex_airflow import hooks

if TYPE_CHECKING:
    from reindex.milvus import MilvusStore

# At first so often, and then less: what takes long may be seen to have ended a little late.
_FIRST_POLL_SECONDS, _LONGEST_POLL_SECONDS, _POLL_SHARE = 0.5, 5.0, 0.01
# How often a job is asked how it is: that it is done its report says, which is looked for more often.
_LOOK_SECONDS = 2.0
# A server that is restarted comes back within this; one that does not has died.
_OUTAGE_SECONDS = 60.0
_STALL_SECONDS = 1800.0
# What a job may go on to that was asked for the first, until it verifies: the tasks of these names would begin too late
# to ask how quick live search is meanwhile.
_FOLLOWED = {"embed": ("embed", "assemble", "load", "index")}


class RayJobTrigger(BaseTrigger):
    """Fires when a Ray job has ended, however it did, or has left the report of the last stage that is waited for."""

    probe: LiveProbe | None = None

    def __init__(self, *, job: str, corpus: str, release: str, stage: str) -> None:
        super().__init__()
        self.job, self.corpus, self.release, self.stage = job, corpus, release, stage

    def serialize(self) -> tuple[str, dict[str, Any]]:
        arguments = {"job": self.job, "corpus": self.corpus, "release": self.release, "stage": self.stage}
        return "reindex_airflow.triggers.RayJobTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        services = await hooks.services_for_trigger()
        files, jobs = services.files(self.corpus, self.release), hooks.RayJobs(services.ray)
        for stage in _FOLLOWED.get(self.stage, (self.stage,)):
            self.probe = LiveProbe(services.milvus_store, files, stage)
            with self.probe:
                event = await self._ended(stage, jobs, files)
            if event.get("status") not in hooks.UNFINISHED_JOB:
                break
        yield TriggerEvent({"job": self.job, **event})

    async def _ended(self, stage: str, jobs: hooks.RayJobs, files: ReleaseFiles) -> dict[str, Any]:
        """Return the job's status once it has left the stage's report or ended, or why that cannot be waited for."""
        patience, shown, look_at = _Patience(stage), "", 0.0
        while True:
            try:
                has_report = bool(await asyncio.to_thread(files.report, stage))
                if has_report or time.monotonic() >= look_at:
                    status = await asyncio.to_thread(jobs.status, self.job)
                    if has_report or status not in hooks.UNFINISHED_JOB:
                        return {"status": status}
                    counts = await asyncio.to_thread(files.progress, stage)
                    patience.check(Progress(done=False, message=f"the Ray job {self.job} is {status}", counts=counts))
                    shown = self._log_progress(stage, counts, shown)
                    look_at = time.monotonic() + _LOOK_SECONDS
            except Stalled as error:
                await asyncio.to_thread(jobs.stop, self.job)
                return error.to_record()
            except ReindexError as error:
                if patience.is_over() or not isinstance(error, ServiceUnavailable):
                    return error.to_record()
            await asyncio.sleep(patience.poll_seconds())

    async def on_kill(self) -> None:
        """Stop the job: a person has ended the task."""
        services = await hooks.services_for_trigger()
        await asyncio.to_thread(hooks.RayJobs(services.ray).stop, self.job)

    def _log_progress(self, stage: str, counts: dict[str, int], shown: str) -> str:
        text = ", ".join(f"{count} {name}" for name, count in counts.items())
        if text != shown:
            self.log.info("%s: %s", stage, text)
        return text


class MilvusTrigger(BaseTrigger):
    """Fires when Milvus has imported a release's files (`load`), its collection is ready (`index`) or in memory again
    (`reload`), or when it has failed.
    """

    probe: LiveProbe | None = None

    def __init__(self, *, stage: str, corpus: str, release: str, collection_id: int = 0) -> None:
        super().__init__()
        self.stage, self.corpus, self.release, self.collection_id = stage, corpus, release, collection_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        arguments = {"stage": self.stage, "corpus": self.corpus, "release": self.release}
        return "reindex_airflow.triggers.MilvusTrigger", {**arguments, "collection_id": self.collection_id}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        services = await hooks.services_for_trigger()
        files = services.files(self.corpus, self.release)
        patience = _Patience(self.stage)
        self.probe = LiveProbe(services.milvus_store, files, self.stage)
        with self.probe, closing(_Watch(self.stage, services, files)) as watch:
            while True:
                progress = None
                try:
                    progress = await asyncio.to_thread(watch.look)
                    patience.check(progress)
                except ServiceUnavailable as error:
                    if patience.is_over():
                        yield TriggerEvent(error.to_record())
                        return
                except ReindexError as error:
                    yield TriggerEvent(error.to_record())
                    return
                if progress and progress.done:
                    yield TriggerEvent({"stage": self.stage})
                    return
                if progress:
                    self.log.info("%s: %s", self.stage, progress.message)
                await asyncio.sleep(patience.poll_seconds())

    async def on_kill(self) -> None:
        """Call a load off: a person has ended the task."""
        if self.stage == "load":
            services = await hooks.services_for_trigger()
            await asyncio.to_thread(call_off, services, self.corpus, self.release, self.collection_id)


class _Watch:
    """One stage's wait: a connection to Milvus that is opened when needed, and again after an outage."""

    def __init__(self, stage: str, services: hooks.Services, files: ReleaseFiles) -> None:
        self._stage, self._services, self._files = stage, services, files
        self._store: MilvusStore | None = None
        self._poll: Callable[[], Progress]

    def look(self) -> Progress:
        """Ask once how far the stage is, and tell whoever watches the release."""
        try:
            if self._store is None:
                self._store = self._services.milvus_store()
                self._poll = _WAITS[self._stage](self._store, self._files)
            progress = self._poll()
        except ServiceUnavailable:
            self.close()
            raise
        self._files.show_progress(self._stage, progress.counts)
        return progress

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None


class _Patience:
    """How often a wait asks, and how long it may go on without an answer, or without a change in the answers."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._began = self._answered_at = self._moved_at = time.monotonic()
        self._counts: dict[str, int] = {}

    def check(self, progress: Progress) -> None:
        """Take note of an answer; raise Stalled if it has been the same for too long."""
        now = time.monotonic()
        self._answered_at = now
        if progress.counts != self._counts:
            self._counts, self._moved_at = progress.counts, now
        if now - self._moved_at > _STALL_SECONDS:
            raise Stalled(self._stage, now - self._moved_at, progress.message)

    def poll_seconds(self) -> float:
        share = _POLL_SHARE * (time.monotonic() - self._began)
        return min(_LONGEST_POLL_SECONDS, max(_FIRST_POLL_SECONDS, share))

    def is_over(self) -> bool:
        """Return whether there has been no answer for longer than a restart takes."""
        return time.monotonic() - self._answered_at > _OUTAGE_SECONDS


def _wait_for_import(store: MilvusStore, files: ReleaseFiles) -> Callable[[], Progress]:
    importer = IMPORTERS[store.capabilities().importer](store)
    return lambda: poll_load(importer, files)


def _wait_for_index(store: MilvusStore, files: ReleaseFiles) -> Callable[[], Progress]:
    loaded = files.needed_report("load")
    return ReadinessBarrier(store, loaded["collection"], loaded["rows"]).poll


def _wait_for_memory(store: MilvusStore, files: ReleaseFiles) -> Callable[[], Progress]:
    return ReloadBarrier(store, files).poll


def call_off(services: hooks.Services, corpus: str, release: str, collection_id: int) -> None:
    """Drop what one attempt at a load has made."""
    with services.milvus_store() as store:
        call_off_load(store, services.files(corpus, release), collection_id)


_WAITS = {"load": _wait_for_import, "index": _wait_for_index, "reload": _wait_for_memory}
