"""Whether a program of the stack does its work, and what remains to be set up in it once it does.

A check gets the moment (seconds since 1970) at which the program was started, and waits some seconds for an answer.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from reindex.settings import MilvusConnection, S3Connection, airflow_connection, milvus_connection, s3_connection
from reindex.stack import provision
from reindex.stack.state import StackState, client_environment

_RECOVERY_SECONDS = 60.0
# Airflow's API server answers nobody while it gets ready for its first task: seven seconds, on a slow machine.
_ANSWER_SECONDS = 20.0


def seaweedfs_is_healthy(state: StackState, _started: float) -> bool:
    return provision.succeeds_on_s3(_s3(state), lambda client: client.list_buckets())


def create_buckets(state: StackState) -> bool:
    return provision.create_buckets(_s3(state))


def milvus_is_healthy(state: StackState, started: float) -> bool:
    """Answer whether authenticated calls succeed and collections that were loaded before a restart are so again."""
    if _get(f"{state.url('milvus_metrics')}/healthz") is None:
        return False
    from pymilvus import MilvusException

    try:
        with provision.milvus_client(_milvus(state)) as client:
            return not _is_recovering(client, started)
    except MilvusException:
        provision.replace_factory_password(_milvus(state))
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


def finish_airflow(state: StackState) -> bool:
    """Create the pools, and have the API server get ready for its first task, which would wait for it otherwise."""
    is_ready = _get(f"{state.url('airflow')}/execution/health") is not None
    return provision.create_pools(airflow_connection(client_environment(state))) and is_ready


def _get(url: str, headers: dict[str, str] | None = None) -> httpx.Response | None:
    """Return the answer if it is one of success."""
    try:
        # Not through a proxy that the environment names: every address is this machine's.
        return httpx.get(url, headers=headers, trust_env=False, timeout=_ANSWER_SECONDS).raise_for_status()
    except httpx.HTTPError:
        return None


def _s3(state: StackState) -> S3Connection:
    return s3_connection(client_environment(state))


def _milvus(state: StackState) -> MilvusConnection:
    return milvus_connection(client_environment(state))


def _is_recovering(client: Any, started: float) -> bool:
    collections = client.list_collections(timeout=provision.CALL_SECONDS)
    # Later, a collection that is being loaded is a new release.
    is_young = time.time() - started < _RECOVERY_SECONDS
    return is_young and any(
        client.get_load_state(collection, timeout=provision.CALL_SECONDS)["state"].name == "Loading"
        for collection in collections
    )
