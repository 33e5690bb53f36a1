"""Whether a program of the stack does its work, and what remains to be set up in it once it does.

A check gets the moment (seconds since 1970) at which the program was started, and answers within seconds.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from reindex.stack.state import BUCKETS, StackState

_CALL_SECONDS = 5.0
_RECOVERY_SECONDS = 60.0
_FACTORY_PASSWORD = "Milvus"  # noqa: S105 - every Milvus is born with it
_POOLS = (
    {"name": "promotion", "slots": 1, "description": "One promotion at a time.", "include_deferred": False},
    {"name": "ray", "slots": 1, "description": "Ray jobs at a time on this machine.", "include_deferred": True},
)


def seaweedfs_is_healthy(state: StackState, _started: float) -> bool:
    return _succeeds_on_s3(lambda: _s3_client(state).list_buckets())


def create_buckets(state: StackState) -> bool:
    """Create the buckets that are missing, and make those keep versions that should; return whether it succeeded."""
    return _succeeds_on_s3(lambda: _create_buckets(_s3_client(state)))


def milvus_is_healthy(state: StackState, started: float) -> bool:
    """Answer whether authenticated calls succeed and collections that were loaded before a restart are so again."""
    if _get(f"{state.url('milvus_metrics')}/healthz") is None:
        return False
    from pymilvus import MilvusException

    try:
        with _milvus_client(state, state.secrets["milvus_password"]) as client:
            return not _is_recovering(client, started)
    except MilvusException:
        _replace_factory_password(state)
    return False


def ray_is_healthy(state: StackState, _started: float) -> bool:
    """Answer whether the Jobs API takes the token and a node is there to run jobs on."""
    headers = {"Authorization": f"Bearer {state.secrets['ray_token']}"}
    nodes = _get(f"{state.url('ray')}/api/v0/nodes", headers)
    jobs = _get(f"{state.url('ray')}/api/jobs/", headers)
    if nodes is None or jobs is None:
        return False
    return any(node["state"] == "ALIVE" for node in nodes.json()["data"]["result"]["result"])


def migration_record(state: StackState) -> Path:
    """Return the file that says that Airflow's database fits this version of it; seconds are saved by believing it."""
    return state.home / "airflow" / f"migrated-{importlib.metadata.version('apache-airflow-core')}"


def is_migrated(state: StackState, _started: float) -> bool:
    return migration_record(state).exists() and (state.home / "airflow" / "airflow.db").exists()


def airflow_component(name: str) -> Callable[[StackState, float], bool]:
    """Return the check of one Airflow component, as the API server sees it.

    A heartbeat older than the process is its predecessor's.
    """

    def is_healthy(state: StackState, started: float) -> bool:
        answer = _get(f"{state.url('airflow')}/api/v2/monitor/health")
        if answer is None:
            return False
        component = answer.json().get(name, {})
        heartbeat = component.get(f"latest_{name}_heartbeat")
        is_fresh = heartbeat is None or datetime.datetime.fromisoformat(heartbeat).timestamp() >= started
        return component.get("status") == "healthy" and is_fresh

    return is_healthy


def create_pools(state: StackState) -> bool:
    """Create the pools through which promotions and Ray jobs go one at a time; return whether it succeeded."""
    login = {"username": "admin", "password": state.secrets["airflow_admin_password"]}
    try:
        with httpx.Client(base_url=state.url("airflow"), trust_env=False, timeout=_CALL_SECONDS) as client:
            token = client.post("/auth/token", json=login).raise_for_status().json()["access_token"]
            client.headers["Authorization"] = f"Bearer {token}"
            for pool in _POOLS:
                if client.get(f"/api/v2/pools/{pool['name']}").status_code == httpx.codes.NOT_FOUND:
                    client.post("/api/v2/pools", json=pool).raise_for_status()
    except httpx.HTTPError:
        return False
    return True


def _get(url: str, headers: dict[str, str] | None = None) -> httpx.Response | None:
    """Return the answer if it is one of success."""
    try:
        # Not through a proxy that the environment names: every address is this machine's.
        return httpx.get(url, headers=headers, trust_env=False, timeout=_CALL_SECONDS).raise_for_status()
    except httpx.HTTPError:
        return None


def _s3_client(state: StackState) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=state.url("s3"),
        aws_access_key_id=state.secrets["s3_access_key"],
        aws_secret_access_key=state.secrets["s3_secret_key"],
        region_name="us-east-1",
        config=Config(
            connect_timeout=_CALL_SECONDS,
            read_timeout=_CALL_SECONDS,
            retries={"total_max_attempts": 1},
            proxies={},
            s3={"addressing_style": "path"},
        ),
    )


def _succeeds_on_s3(act: Callable[[], object]) -> bool:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        act()
    except (BotoCoreError, ClientError):
        return False
    return True


def _create_buckets(client: Any) -> None:
    known = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
    for bucket, is_versioned in BUCKETS.items():
        if bucket not in known:
            client.create_bucket(Bucket=bucket)
        if is_versioned:
            client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})


def _is_recovering(client: Any, started: float) -> bool:
    collections = client.list_collections(timeout=_CALL_SECONDS)
    # Later, a collection that is being loaded is a new release.
    is_young = time.time() - started < _RECOVERY_SECONDS
    return is_young and any(
        client.get_load_state(collection, timeout=_CALL_SECONDS)["state"].name == "Loading"
        for collection in collections
    )


def _replace_factory_password(state: StackState) -> None:
    from pymilvus import MilvusException

    with suppress(MilvusException), _milvus_client(state, _FACTORY_PASSWORD) as client:
        password = state.secrets["milvus_password"]
        client.update_password("root", _FACTORY_PASSWORD, password, timeout=_CALL_SECONDS)


@contextmanager
def _milvus_client(state: StackState, password: str) -> Iterator[Any]:
    from pymilvus import MilvusClient

    logger = logging.getLogger("pymilvus")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # it would print every refusal, and being refused is a normal answer here
    try:
        client = MilvusClient(state.url("milvus"), token=f"root:{password}", timeout=_CALL_SECONDS, dedicated=True)
        with closing(client):
            yield client
    finally:
        logger.setLevel(level)
