"""The environment of every program: what all share, and what each server reads its settings from."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from reindex.settings import PROJECT
from reindex.stack.processes import MARKER
from reindex.stack.state import STATE_BUCKET, StackState, client_environment

BIN = Path(sys.executable).parent
# The rest of the caller's environment stays outside, so that a stack is the same from whichever shell it is started.
_INHERITED = {"HOME", "LANG", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "TZ", "USER"}
_INHERITED_PREFIXES = ("CUDA_", "HF_", "LC_", "NVIDIA_", "REINDEX_")
_MILVUS_COMPONENTS = ("DATACOORD", "DATANODE", "INDEXNODE", "PROXY", "QUERYCOORD", "QUERYNODE", "ROOTCOORD")


def inherited_environment(home: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return what supervisord, and through it every program, starts with."""
    kept = {
        name: value for name, value in environment.items() if name in _INHERITED or name.startswith(_INHERITED_PREFIXES)
    }
    return {
        "HF_HUB_OFFLINE": "1",
        **kept,
        "PATH": f"{BIN}:{kept.get('PATH', os.defpath)}",
        "PYTHONPATH": f"{PROJECT / 'include'}:{PROJECT / 'plugins'}",
        "SPT_NOENV": "1",  # setproctitle would otherwise write its title over the marker
        "TOKENIZERS_PARALLELISM": "false",
        MARKER: str(home),
    }


def seaweedfs_environment(state: StackState) -> dict[str, str]:
    key = state.secrets["s3_internal_key"]
    return {
        "AWS_ACCESS_KEY_ID": state.secrets["s3_access_key"],
        "AWS_SECRET_ACCESS_KEY": state.secrets["s3_secret_key"],
        "GOGC": "50",  # a third less memory; the store waits for disks, not for its collector
        # Without them, whoever reaches the filer or a volume reads and writes every object past the S3 identities.
        "WEED_JWT_FILER_SIGNING_KEY": key,
        "WEED_JWT_FILER_SIGNING_READ_KEY": key,
        "WEED_JWT_SIGNING_KEY": key,
        "WEED_JWT_SIGNING_READ_KEY": key,
    }


def milvus_environment(state: StackState) -> dict[str, str]:
    """Return settings by their key in Milvus's configuration file, dots as underscores."""
    here = {f"{component}_IP": "127.0.0.1" for component in _MILVUS_COMPONENTS}
    return here | {
        "COMMON_SECURITY_AUTHORIZATIONENABLED": "true",
        "COMMON_SESSION_TTL": "5",  # seconds for which a killed server's components count as alive
        "COMMON_STORAGETYPE": "minio",
        "DEPLOY_MODE": "STANDALONE",
        "ETCD_CONFIG_PATH": str(state.home / "milvus" / "configs" / "etcd.yaml"),
        "LD_LIBRARY_PATH": str(state.home / "milvus" / "bin"),
        "METRICS_PORT": str(state.ports["milvus_metrics"]),
        "MINIO_ACCESSKEYID": state.secrets["s3_access_key"],
        "MINIO_ADDRESS": "127.0.0.1",
        "MINIO_BUCKETNAME": STATE_BUCKET,
        "MINIO_PORT": str(state.ports["s3"]),
        "MINIO_ROOTPATH": "milvus",
        "MINIO_SECRETACCESSKEY": state.secrets["s3_secret_key"],
        "PROXY_HTTP_ENABLED": "false",  # it would answer every call, unauthenticated, on the metrics port
        "INDEXCOORD_SCHEDULER_INTERVAL": "200",  # milliseconds, as below: waits of the usual 1000 add up
        "QUERYCOORD_CHECKCHANNELINTERVAL": "200",
        "QUERYCOORD_CHECKSEGMENTINTERVAL": "200",
        "QUERYCOORD_DISTPULLINTERVAL": "100",
        "ROOTCOORD_IMPORTTASKEXPIRATION": "21600",  # seconds; a large import file outlives the default of 900
    }


def ray_environment(state: StackState) -> dict[str, str]:
    return {
        "DASHBOARD_METRIC_PORT": str(state.ports["ray_dashboard_metrics"]),
        # Seconds, or milliseconds where it says so, between two looks at how the node is: each is taken from the work.
        "METRICS_RECORD_INTERVAL_S": "60",
        "NODE_STATS_UPDATE_INTERVAL_SECONDS": "60",
        "REPORTER_UPDATE_INTERVAL_MS": "30000",
        # What prepares documents has nothing to do for that long, and would have to start again after a second of it.
        "RAY_idle_worker_killing_time_threshold_ms": "120000",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": state.secrets["ray_token"],
        # A node that stands alone binds to 127.0.0.1; one of a cluster, to every interface.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # Seconds for which a head that was asked to stop waits for its work to move to other nodes: there are none.
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        "RAY_JOB_STOP_WAIT_TIME_S": "10",
    }


def airflow_environment(state: StackState) -> dict[str, str]:
    folder = state.home / "airflow"
    url = state.url("airflow")
    sections = {
        "API": {"HOST": "127.0.0.1", "PORT": str(state.ports["airflow"]), "WORKERS": "1", "BASE_URL": url}
        | {"SECRET_KEY": state.secrets["airflow_secret_key"]},
        "API_AUTH": {"JWT_SECRET": state.secrets["airflow_jwt_secret"]},
        "CORE": {
            "DAGS_ARE_PAUSED_AT_CREATION": "False",  # a schedule in the corpus file is the wish
            "DAGS_FOLDER": str(PROJECT / "dags"),
            "EXECUTION_API_SERVER_URL": f"{url}/execution/",
            "EXECUTOR": "reindex_airflow.executor.RestingExecutor",
            "FERNET_KEY": state.secrets["airflow_fernet_key"],
            "LAZY_LOAD_PLUGINS": "False",  # tasks are forked from the scheduler, and then have what the plugin imports
            "LOAD_EXAMPLES": "False",
            "MAX_ACTIVE_TASKS_PER_DAG": "3",
            # More than a DAG may have: Airflow may hold one's place for five seconds after its task has ended.
            "PARALLELISM": "6",
            "PLUGINS_FOLDER": str(PROJECT / "plugins"),
            "SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(folder / "passwords.json"),
            "SIMPLE_AUTH_MANAGER_USERS": "admin:admin,viewer:viewer",
        },
        "DAG_PROCESSOR": {"MIN_FILE_PROCESS_INTERVAL": "30", "PARSING_PROCESSES": "1", "REFRESH_INTERVAL": "30"},
        # Seconds for which a writer waits for another: on a busy machine the usual 5 are not enough. (See sqlite.py.)
        "DATABASE": {"SQL_ALCHEMY_CONN": f"sqlite:///{folder / 'airflow.db'}?timeout=60"},
        "SCHEDULER": {"SCHEDULER_IDLE_SLEEP_TIME": "0"},  # the executor rests
    }
    settings = {
        f"AIRFLOW__{section}__{key}": value for section, keys in sections.items() for key, value in keys.items()
    }
    return settings | _connections(state) | {"AIRFLOW_HOME": str(folder), "OMP_NUM_THREADS": "1"}


def _connections(state: StackState) -> dict[str, str]:
    """Return the Airflow connections `reindex_s3`, `reindex_milvus` and `reindex_ray`."""
    known = client_environment(state)
    connections: dict[str, dict[str, object]] = {
        "S3": {
            "host": known["REINDEX_S3_ENDPOINT"],
            "login": known["REINDEX_S3_ACCESS_KEY"],
            "password": known["REINDEX_S3_SECRET_KEY"],
            "extra": {"region_name": "us-east-1", "state_bucket": STATE_BUCKET},
        },
        "MILVUS": {
            "host": known["REINDEX_MILVUS_URI"],
            "password": known["REINDEX_MILVUS_TOKEN"],
            "extra": {"memory_bytes": state.milvus_memory_bytes} if state.milvus_memory_bytes else {},
        },
        "RAY": {"host": known["REINDEX_RAY_URL"], "password": known["REINDEX_RAY_TOKEN"]},
    }
    return {
        f"AIRFLOW_CONN_REINDEX_{name}": json.dumps({"conn_type": "generic"} | connection)
        for name, connection in connections.items()
    }
