"""Airflow's connections in, the library's clients out. Only here are connections read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
from airflow.sdk import BaseHook, Connection

from reindex.errors import AccessRefused, ServiceUnavailable
from reindex.releases import ReleaseFiles
from reindex.settings import MilvusConnection, RayConnection, S3Connection, byte_count, corpora_folder
from reindex.storage import ObjectStore

if TYPE_CHECKING:
    from pathlib import Path

    from reindex.milvus import MilvusStore

S3_CONNECTION = "reindex_s3"
MILVUS_CONNECTION = "reindex_milvus"
RAY_CONNECTION = "reindex_ray"
UNFINISHED_JOB = {"PENDING", "RUNNING"}
_RAY_TIMEOUT_SECONDS = 30.0
# A task asks a few times in all, and its process is then over, or forgets who asked.
_NOTHING_LEFT_OPEN = httpx.Limits(max_keepalive_connections=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The servers as Airflow's connections name them."""

    s3: S3Connection
    milvus: MilvusConnection
    ray: RayConnection
    state_bucket: str

    def objects(self) -> ObjectStore:
        return ObjectStore(self.s3)

    def files(self, corpus: str, release: str) -> ReleaseFiles:
        return ReleaseFiles(self.objects(), self.state_bucket, corpus, release)

    def milvus_store(self) -> MilvusStore:
        """Open a connection to Milvus; use it as a context manager."""
        # Here, because a gRPC channel that is open when Airflow forks a task hangs the child.
        from reindex.milvus import MilvusStore

        return MilvusStore(self.milvus)


def services() -> Services:
    """Read the connections, from a task."""
    return _services(*(BaseHook.get_connection(name) for name in _NAMES))


async def services_for_trigger() -> Services:
    """Read the connections, from a trigger: the synchronous way can lock the triggerer's loop."""
    return _services(*[await BaseHook.aget_connection(name) for name in _NAMES])


def corpora() -> Path:
    return corpora_folder(os.environ)


class RayJobs:
    """Ray's Jobs API over HTTP. Raises ServiceUnavailable and AccessRefused; knows nothing of Ray's own client."""

    def __init__(self, connection: RayConnection) -> None:
        self._address = connection.url
        # One for all requests: to make one takes as long as several searches, and whoever asks in this process waits.
        self._client = httpx.Client(
            base_url=connection.url,
            headers={"Authorization": f"Bearer {connection.token}"},
            timeout=_RAY_TIMEOUT_SECONDS,
            limits=_NOTHING_LEFT_OPEN,
        )

    def submit(self, job: str, entrypoint: str) -> None:
        self._send("POST", "/api/jobs/", json={"submission_id": job, "entrypoint": entrypoint})

    def status(self, job: str) -> str:
        """Return PENDING, RUNNING, STOPPED, SUCCEEDED, FAILED, or LOST for a job that the head does not know."""
        answer = self._send("GET", f"/api/jobs/{job}", missing_is_fine=True)
        return str(answer["status"]) if answer else "LOST"

    def last_log_line(self, job: str) -> str:
        answer = self._send("GET", f"/api/jobs/{job}/logs", missing_is_fine=True)
        lines = str(answer.get("logs") or "").strip().splitlines()
        return lines[-1] if lines else "it left no log"

    def stop(self, job: str) -> None:
        self._send("POST", f"/api/jobs/{job}/stop", missing_is_fine=True)

    def _send(self, method: str, path: str, *, missing_is_fine: bool = False, **options: Any) -> dict[str, Any]:
        try:
            answer = self._client.request(method, path, **options)
        except httpx.HTTPError as error:
            raise ServiceUnavailable("Ray", self._address, f"{type(error).__name__}: {error}") from error
        if answer.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            raise AccessRefused("Ray", self._address, f"HTTP {answer.status_code}")
        if answer.status_code == httpx.codes.NOT_FOUND and missing_is_fine:
            return {}
        if answer.is_error:
            raise ServiceUnavailable("Ray", self._address, f"HTTP {answer.status_code}: {answer.text[:200]}")
        content = answer.json()
        return content if isinstance(content, dict) else {}


_NAMES = (S3_CONNECTION, MILVUS_CONNECTION, RAY_CONNECTION)


def _services(s3: Connection, milvus: Connection, ray: Connection) -> Services:
    return Services(
        s3=S3Connection(
            endpoint=s3.host or "",
            access_key=s3.login or "",
            secret_key=s3.password or "",
            region=s3.extra_dejson.get("region_name", "us-east-1"),
        ),
        milvus=MilvusConnection(uri=milvus.host or "", token=milvus.password or "", memory_bytes=_memory_bytes(milvus)),
        ray=RayConnection(url=ray.host or "", token=ray.password or ""),
        state_bucket=s3.extra_dejson.get("state_bucket", "reindex"),
    )


def _memory_bytes(milvus: Connection) -> int | None:
    value = milvus.extra_dejson.get("memory_bytes")
    return byte_count(str(value), where=f"the connection {MILVUS_CONNECTION}", key="memory_bytes") if value else None
