"""What Reindex needs of servers once they answer, whoever starts them: buckets, pools, a password of Milvus's own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import httpx

from reindex.settings import (
    AirflowConnection,
    MilvusConnection,
    S3Connection,
    airflow_connection,
    milvus_connection,
    s3_connection,
)
from reindex.stack.state import BUCKETS

CALL_SECONDS = 5.0
_PATIENCE_SECONDS = 120.0
_POLL_SECONDS = 1.0
_FACTORY_PASSWORD = "Milvus"  # noqa: S105 - every Milvus is born with it
_POOLS = (
    {"name": "promotion", "slots": 1, "description": "One promotion at a time.", "include_deferred": False},
    {"name": "ray", "slots": 1, "description": "Ray jobs at a time on this machine.", "include_deferred": True},
)


def provision(environment: Mapping[str, str]) -> list[str]:
    """Set up the servers that the environment names; return what did not succeed within two minutes."""
    left: dict[str, Callable[[], bool]] = {
        "buckets": partial(create_buckets, s3_connection(environment)),
        "Milvus's password": partial(set_password, milvus_connection(environment)),
        "pools": partial(create_pools, airflow_connection(environment)),
    }
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while (left := {name: act for name, act in left.items() if not act()}) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return list(left)


def create_buckets(connection: S3Connection) -> bool:
    """Create the buckets that are missing, and make those keep versions that should; return whether it succeeded."""
    return succeeds_on_s3(connection, _create_buckets)


def create_pools(connection: AirflowConnection) -> bool:
    """Create the pools through which promotions and Ray jobs go one at a time; return whether it succeeded."""
    login = {"username": connection.username, "password": connection.password}
    try:
        with httpx.Client(base_url=connection.url, trust_env=False, timeout=CALL_SECONDS) as client:
            token = client.post("/auth/token", json=login).raise_for_status().json()["access_token"]
            client.headers["Authorization"] = f"Bearer {token}"
            for pool in _POOLS:
                if client.get(f"/api/v2/pools/{pool['name']}").status_code == httpx.codes.NOT_FOUND:
                    client.post("/api/v2/pools", json=pool).raise_for_status()
    except httpx.HTTPError:
        return False
    return True


def set_password(connection: MilvusConnection) -> bool:
    """Make Milvus take the connection's password, instead of the one it was born with; return whether it does."""
    if _takes_password(connection):
        return True
    replace_factory_password(connection)
    return _takes_password(connection)


def replace_factory_password(connection: MilvusConnection) -> None:
    """Give `root` the connection's password, where it still has the one that it was born with."""
    from pymilvus import MilvusException

    user, _, password = connection.token.partition(":")
    with suppress(MilvusException), milvus_client(replace(connection, token=f"{user}:{_FACTORY_PASSWORD}")) as client:
        client.update_password(user, _FACTORY_PASSWORD, password, timeout=CALL_SECONDS)


@contextmanager
def milvus_client(connection: MilvusConnection) -> Iterator[Any]:
    """Connect to Milvus without a word in the log where it refuses."""
    from pymilvus import MilvusClient

    logger = logging.getLogger("pymilvus")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # it would print every refusal, and being refused is a normal answer here
    try:
        client = MilvusClient(connection.uri, token=connection.token, timeout=CALL_SECONDS, dedicated=True)
        with closing(client):
            yield client
    finally:
        logger.setLevel(level)


def succeeds_on_s3(connection: S3Connection, act: Callable[[Any], object]) -> bool:
    """Do something with a client of the store that does not try for long; return whether it succeeded."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        act(_s3_client(connection))
    except (BotoCoreError, ClientError):
        return False
    return True


def _s3_client(connection: S3Connection) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=connection.endpoint,
        aws_access_key_id=connection.access_key,
        aws_secret_access_key=connection.secret_key,
        region_name=connection.region,
        config=Config(
            connect_timeout=CALL_SECONDS,
            read_timeout=CALL_SECONDS,
            retries={"total_max_attempts": 1},
            proxies={},
            s3={"addressing_style": "path"},
        ),
    )


def _create_buckets(client: Any) -> None:
    known = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
    for bucket, is_versioned in BUCKETS.items():
        if bucket not in known:
            client.create_bucket(Bucket=bucket)
        if is_versioned:
            client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})


def _takes_password(connection: MilvusConnection) -> bool:
    from pymilvus import MilvusException

    try:
        with milvus_client(connection) as client:
            client.list_collections(timeout=CALL_SECONDS)
    except MilvusException:
        return False
    return True
