"""What must lie on disk before a program starts; each step may run again at every start."""

from __future__ import annotations

import json

from reindex.stack.state import StackState

# Airflow takes what this file names for settings of its own: nothing.
_LOCAL_SETTINGS = """\
from reindex.stack.sqlite import write_from_savepoints_on

__all__ = []
write_from_savepoints_on()
"""
_MILVUS_PORTS = ("root_coord", "query_coord", "query_node", "index_node", "data_coord", "data_node")


def prepare_milvus(state: StackState) -> None:
    """Unpack the server from its wheel, about 5 s the first time, and write its configuration.

    The wheel's own launcher would stay as a second process, and leave the server behind when it is stopped.
    """
    import milvus

    folder = str(state.home / "milvus")
    config = milvus.MilvusServerConfig(data_dir=folder)
    # Not `resolve`: it wants to bind every port itself, and fails for a minute after the server was killed.
    config.resolve_storage()
    for name in _MILVUS_PORTS:
        config.set(f"{name}_port", state.ports[f"milvus_{name}"])
    config.set("proxy_port", state.ports["milvus"])
    config.set("proxy_internal_port", state.ports["milvus_internal"])
    config.set("etcd_port", state.ports["milvus_etcd"])
    config.set("etcd_log_level", "warn")
    config.set("etcd_log_path", "stderr")
    config.write_config()
    milvus._initialize_data_files(folder)  # noqa: SLF001 - the wheel offers no other way to its binary
    _write_etcd_config(state)


def prepare_airflow(state: StackState) -> None:
    passwords = {user: state.secrets[f"airflow_{user}_password"] for user in ("admin", "viewer")}
    folder = state.home / "airflow"
    folder.mkdir(exist_ok=True)
    (folder / "passwords.json").write_text(json.dumps(passwords), encoding="utf-8")
    (folder / "config").mkdir(exist_ok=True)
    (folder / "config" / "airflow_local_settings.py").write_text(_LOCAL_SETTINGS, encoding="utf-8")


def _write_etcd_config(state: StackState) -> None:
    client, peer = state.url("milvus_etcd"), state.url("milvus_etcd_peer")
    config = {
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"default={peer}",
    }
    # JSON is YAML too.
    (state.home / "milvus" / "configs" / "etcd.yaml").write_text(json.dumps(config), encoding="utf-8")
