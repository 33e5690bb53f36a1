"""The programs of the stack: what each runs, needs, and must answer to count as healthy."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass

from reindex.stack import health
from reindex.stack.environment import (
    BIN,
    airflow_environment,
    milvus_environment,
    ray_environment,
    seaweedfs_environment,
)
from reindex.stack.preparation import prepare_airflow, prepare_milvus
from reindex.stack.state import StackState

_OBJECT_STORE_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One row of `PROGRAMS`; it runs in `folder` of the stack's home.

    `needs` names what must be healthy before it starts; a program that runs `once` ends when its work is done.

    `prepare` runs before each start. `finish` sets up what others need of a healthy program, returns whether it
    succeeded, and runs at each `up`.
    """

    folder: str
    command: Callable[[StackState], list[str]]
    environment: Callable[[StackState], dict[str, str]]
    is_healthy: Callable[[StackState, float], bool]
    prepare: Callable[[StackState], None] = lambda _: None
    finish: Callable[[StackState], bool] = lambda _: True
    needs: tuple[str, ...] = ()
    port: str | None = None
    stop_signal: str = "TERM"
    stop_seconds: int = 10
    # Readers are answered first: what serves them runs before everything else on the machine.
    niceness: int = 10
    once: bool = False


def stopping_waves() -> list[list[str]]:
    """Return the programs in the order of stopping: each wave is what nothing that still runs needs."""
    left, waves = dict(PROGRAMS), []
    while left:
        needed = {name for program in left.values() for name in program.needs}
        waves.append([name for name in left if name not in needed])
        left = {name: program for name, program in left.items() if name in needed}
    return waves


def _seaweedfs(state: StackState) -> list[str]:
    flags = {
        "dir": ".",
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "s3.port": state.ports["s3"],
        "s3.port.grpc": state.ports["s3_grpc"],
        "s3.localSocket": state.run / "s3.sock",
        "master.port": state.ports["s3_master"],
        "master.port.grpc": state.ports["s3_master_grpc"],
        "volume.port": state.ports["s3_volume"],
        "volume.port.grpc": state.ports["s3_volume_grpc"],
        "filer.port": state.ports["s3_filer"],
        "filer.port.grpc": state.ports["s3_filer_grpc"],
        "filer.localSocket": state.run / "filer.sock",
        "admin.port": state.ports["s3_admin"],
        "admin.port.grpc": state.ports["s3_admin_grpc"],
        "admin.ui": "false",
        "webdav": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "master.telemetry": "false",
    }
    return [str(BIN / "weed"), "-logtostderr", "mini", *(f"-{name}={value}" for name, value in flags.items())]


def _milvus(state: StackState) -> list[str]:
    # Milvus locks a file of the whole machine, which it names after its alias.
    alias = hashlib.sha256(str(state.home).encode()).hexdigest()[:12]
    return [str(state.home / "milvus" / "bin" / "milvus"), "run", "standalone", f"-alias={alias}"]


def _ray(state: StackState) -> list[str]:
    flags = {
        "port": state.ports["ray_gcs"],
        "ray-client-server-port": state.ports["ray_client"],
        "object-manager-port": state.ports["ray_object_manager"],
        "node-manager-port": state.ports["ray_node_manager"],
        "dashboard-host": "127.0.0.1",
        "dashboard-port": state.ports["ray"],
        "dashboard-agent-listen-port": state.ports["ray_agent"],
        "dashboard-agent-grpc-port": state.ports["ray_agent_grpc"],
        "runtime-env-agent-port": state.ports["ray_runtime_env"],
        "metrics-export-port": state.ports["ray_metrics"],
        "num-cpus": len(os.sched_getaffinity(0)),
        "object-store-memory": _OBJECT_STORE_BYTES,
        "include-log-monitor": "false",
        "temp-dir": state.run / "ray",
        "log-color": "false",
    }
    switches = ["--head", "--block", "--disable-usage-stats", "--no-monitor"]
    return [str(BIN / "ray"), "start", *switches, *(f"--{name}={value}" for name, value in flags.items())]


def _airflow(*arguments: str) -> Callable[[StackState], list[str]]:
    return lambda _: [str(BIN / "airflow"), *arguments]


def _airflow_component(component: str, *arguments: str, niceness: int = 10) -> Program:
    """Return a program that the API server reports on under the component's name."""
    return Program(
        folder="airflow",
        command=_airflow(*arguments),
        environment=airflow_environment,
        is_healthy=health.airflow_component(component),
        needs=("airflow-migrate",),
        niceness=niceness,
    )


def _migrate(state: StackState) -> list[str]:
    record = health.migration_record(state)
    return ["/bin/sh", "-c", '"$0" db migrate && touch "$1"', str(BIN / "airflow"), str(record)]


PROGRAMS = {
    "seaweedfs": Program(
        folder="seaweedfs",
        command=_seaweedfs,
        environment=seaweedfs_environment,
        is_healthy=health.seaweedfs_is_healthy,
        finish=health.create_buckets,
        port="s3",
    ),
    "ray": Program(
        folder="ray",
        command=_ray,
        environment=ray_environment,
        is_healthy=health.ray_is_healthy,
        port="ray",
        # Workers that start, in its session, import for seconds before they can stay behind themselves.
        niceness=19,
    ),
    "airflow-migrate": Program(
        folder="airflow",
        command=_migrate,
        environment=airflow_environment,
        is_healthy=health.is_migrated,
        once=True,
    ),
    "milvus": Program(
        folder="milvus",
        command=_milvus,
        environment=milvus_environment,
        is_healthy=health.milvus_is_healthy,
        prepare=prepare_milvus,
        needs=("seaweedfs",),
        port="milvus",
        # Asked to stop, Milvus panics or takes over a minute; killed, it loses nothing.
        stop_signal="KILL",
        niceness=0,
    ),
    "airflow-api": Program(
        folder="airflow",
        command=_airflow("api-server"),
        environment=airflow_environment,
        is_healthy=health.airflow_component("metadatabase"),
        prepare=prepare_airflow,
        finish=health.finish_airflow,
        needs=("airflow-migrate",),
        port="airflow",
    ),
    "airflow-scheduler": _airflow_component("scheduler", "scheduler", "--skip-serve-logs"),
    "airflow-dag-processor": _airflow_component("dag_processor", "dag-processor"),
    # It asks live search as readers do, who are no nicer: what it waited for a processor would count as theirs.
    "airflow-triggerer": _airflow_component(
        "triggerer", "triggerer", "--skip-serve-logs", "--capacity", "50", niceness=0
    ),
}
