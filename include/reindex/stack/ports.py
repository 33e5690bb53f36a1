"""Every port that a program of the stack opens at a fixed number: its default, its variable, and whether it is free."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from reindex.errors import PortTaken, SettingsError

# `REINDEX_PORT_<NAME>` moves one. All lie below 32768, where Linux begins to give ports to outgoing connections.
PORTS = {
    "s3": 8333,
    "s3_grpc": 8334,
    "s3_master": 8335,
    "s3_master_grpc": 8336,
    "s3_volume": 8337,
    "s3_volume_grpc": 8338,
    "s3_filer": 8339,
    "s3_filer_grpc": 8340,
    "s3_admin": 8341,
    "milvus": 19530,
    "milvus_internal": 19531,
    "milvus_root_coord": 19532,
    "milvus_query_coord": 19533,
    "milvus_query_node": 19534,
    "milvus_index_node": 19535,
    "milvus_data_coord": 19536,
    "milvus_data_node": 19537,
    "milvus_etcd": 19538,
    "milvus_etcd_peer": 19539,
    "milvus_metrics": 19540,
    "ray": 8265,
    "ray_gcs": 8266,
    "ray_client": 8267,
    "ray_object_manager": 8268,
    "ray_node_manager": 8269,
    "ray_agent": 8270,
    "ray_agent_grpc": 8271,
    "ray_runtime_env": 8272,
    "ray_metrics": 8273,
    "ray_dashboard_metrics": 8274,
    "airflow": 8080,
}
# SeaweedFS's own worker looks for its admin server's gRPC port there, whatever the flags say.
DERIVED = {"s3_admin_grpc": ("s3_admin", 10_000)}
_HIGHEST = 65_535


def variable(name: str) -> str:
    """Return the environment variable that moves a port; a derived port moves with the one it derives from."""
    source, _ = DERIVED.get(name, (name, 0))
    return f"REINDEX_PORT_{source.upper()}"


def choose_ports(environment: Mapping[str, str]) -> dict[str, int]:
    """Return every port by name; raise SettingsError where a variable is no port or names another's."""
    ports = {name: _port(environment, name, default) for name, default in PORTS.items()}
    ports |= {name: ports[source] + offset for name, (source, offset) in DERIVED.items()}
    owners: dict[int, str] = {}
    for name, port in ports.items():
        if not 0 < port <= _HIGHEST:
            raise SettingsError("the environment", variable(name), f"{port} ({name}) is not a port")
        if port in owners:
            raise SettingsError("the environment", variable(name), f"{port} is already the port of {owners[port]}")
        owners[port] = name
    return ports


def refuse_taken_ports(ports: Mapping[str, int]) -> None:
    """Raise PortTaken for the first port that something else listens on; changes nothing."""
    for name, port in ports.items():
        if not _is_free(port):
            raise PortTaken(port, name, variable(name))


def _port(environment: Mapping[str, str], name: str, default: int) -> int:
    value = environment.get(variable(name), str(default))
    if not value.isdecimal():
        raise SettingsError("the environment", variable(name), f"{value!r} is not a port")
    return int(value)


def _is_free(port: int) -> bool:
    # On every interface, since Milvus listens on all of them. SO_REUSEADDR: a port that a stopped stack has just left
    # waits out old connections for a minute, and the servers, which set it too, take it all the same.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))  # noqa: S104 - bound for an instant, never listened on
        except OSError:
            return False
    return True
