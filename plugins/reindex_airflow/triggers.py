"""The waits of the long stages, in the triggerer. Each may run more than once; none cancels anything in `cleanup`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from reindex.bulk_load import drop_green, poll_load
from reindex.errors import ReindexError, ServiceUnavailable, Stalled
from reindex.importers import IMPORTERS
from reindex.index import ReadinessBarrier
from reindex.naming import collection_name
from reindex.records import Progress
from reindex.releases import ReleaseFiles
from reindex_airflow import hooks

_RAY_POLL_SECONDS = 2.0
_MILVUS_POLL_SECONDS = 2.0
# A server that is restarted comes back within this; one that does not has died.
_OUTAGE_SECONDS = 60.0
_STALL_SECONDS = 1800.0


class RayJobTrigger(BaseTrigger):
    """Fires when a Ray job has ended, however it did."""

    def __init__(self, *, job: str, corpus: str, release: str, stage: str) -> None:
        super().__init__()
        self.job, self.corpus, self.release, self.stage = job, corpus, release, stage

    def serialize(self) -> tuple[str, dict[str, Any]]:
        arguments = {"job": self.job, "corpus": self.corpus, "release": self.release, "stage": self.stage}
        return "reindex_airflow.triggers.RayJobTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        services = await hooks.services_for_trigger()
        jobs, files = hooks.RayJobs(services.ray), services.files(self.corpus, self.release)
        answered_at, shown = time.monotonic(), ""
        while True:
            try:
                status = await asyncio.to_thread(jobs.status, self.job)
                answered_at = time.monotonic()
            except ServiceUnavailable as error:
                status, detail = "UNREACHABLE", str(error)
                if time.monotonic() - answered_at > _OUTAGE_SECONDS:
                    yield TriggerEvent({"job": self.job, "status": status, "detail": detail})
                    return
            if status not in {"PENDING", "RUNNING", "UNREACHABLE"}:
                yield TriggerEvent({"job": self.job, "status": status})
                return
            shown = await asyncio.to_thread(self._log_progress, files, shown)
            await asyncio.sleep(_RAY_POLL_SECONDS)

    async def on_kill(self) -> None:
        """Stop the job: a person has ended the task."""
        services = await hooks.services_for_trigger()
        await asyncio.to_thread(hooks.RayJobs(services.ray).stop, self.job)

    def _log_progress(self, files: ReleaseFiles, shown: str) -> str:
        progress = files.progress() or {}
        text = ", ".join(f"{count} {name}" for name, count in progress.get("counts", {}).items())
        if progress.get("stage") == self.stage and text != shown:
            self.log.info("%s: %s", self.stage, text)
        return text


class MilvusTrigger(BaseTrigger):
    """Fires when Milvus has imported a release's files (`load`) or its collection is ready (`index`), or has failed."""

    def __init__(self, *, stage: str, corpus: str, release: str) -> None:
        super().__init__()
        self.stage, self.corpus, self.release = stage, corpus, release

    def serialize(self) -> tuple[str, dict[str, Any]]:
        arguments = {"stage": self.stage, "corpus": self.corpus, "release": self.release}
        return "reindex_airflow.triggers.MilvusTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        services = await hooks.services_for_trigger()
        files = services.files(self.corpus, self.release)
        patience, look = _Patience(self.stage), None
        while True:
            progress = None
            try:
                look = look or await asyncio.to_thread(_WAITS[self.stage], services, files)
                progress = await asyncio.to_thread(look)
                patience.check(progress)
            except ServiceUnavailable as error:
                look = None
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
                await asyncio.to_thread(files.show_progress, self.stage, progress.counts)
            await asyncio.sleep(_MILVUS_POLL_SECONDS)

    async def on_kill(self) -> None:
        """Call a load off by dropping its collection: a person has ended the task."""
        if self.stage == "load":
            services = await hooks.services_for_trigger()
            await asyncio.to_thread(_call_off, services, self.corpus, self.release)


class _Patience:
    """How long a wait may go on without an answer, or without a change in the answers."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._answered_at = self._moved_at = time.monotonic()
        self._counts: dict[str, int] = {}

    def check(self, progress: Progress) -> None:
        """Take note of an answer; raise Stalled if it has been the same for too long."""
        now = time.monotonic()
        self._answered_at = now
        if progress.counts != self._counts:
            self._counts, self._moved_at = progress.counts, now
        if now - self._moved_at > _STALL_SECONDS:
            raise Stalled(self._stage, now - self._moved_at, progress.message)

    def is_over(self) -> bool:
        """Return whether there has been no answer for longer than a restart takes."""
        return time.monotonic() - self._answered_at > _OUTAGE_SECONDS


def _wait_for_import(services: hooks.Services, files: ReleaseFiles) -> Callable[[], Progress]:
    store = services.milvus_store()
    importer = IMPORTERS[store.capabilities().importer](store)
    return lambda: poll_load(importer, files)


def _wait_for_index(services: hooks.Services, files: ReleaseFiles) -> Callable[[], Progress]:
    loaded = files.needed_report("load")
    return ReadinessBarrier(services.milvus_store(), loaded["collection"], loaded["rows"]).poll


def _call_off(services: hooks.Services, corpus: str, release: str) -> None:
    with services.milvus_store() as store:
        drop_green(store, collection_name(corpus, release))


_WAITS = {"load": _wait_for_import, "index": _wait_for_index}
