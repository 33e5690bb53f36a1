"""Where the limit of Milvus's memory comes from: its own metrics, or whoever says otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reindex.errors import SettingsError
from reindex.milvus import query_memory
from reindex.records import Memory
from reindex.settings import milvus_connection
from reindex.stack.environment import airflow_environment
from reindex.stack.ports import choose_ports
from reindex.stack.state import StackState, client_environment, load_state, new_state, save_state
from tests.fakes import exact_store, release_files

ADDRESS = {"REINDEX_MILVUS_URI": "http://127.0.0.1:19530"}
VARIABLE = "REINDEX_MILVUS_MEMORY_BYTES"


def node(kind: str, memory: int, usage: int) -> dict[str, Any]:
    return {"infos": {"type": kind, "hardware_infos": {"memory": memory, "memory_usage": usage}}}


def metrics(*nodes: dict[str, Any]) -> dict[str, Any]:
    return {"nodes_info": [node("rootcoord", 8, 8), *nodes, node("proxy", 8, 8)]}


def test_the_memory_is_that_of_all_query_nodes_together() -> None:
    read = metrics(node("querynode", 1000, 10), node("querynode", 2000, 20))
    assert query_memory(read, configured_bytes=None) == Memory(limit_bytes=3000, used_bytes=30)


def test_a_configured_limit_wins_over_the_one_that_is_read() -> None:
    read = metrics(node("querynode", 1000, 10))
    assert query_memory(read, configured_bytes=500) == Memory(limit_bytes=500, used_bytes=10)


def test_a_server_that_names_no_query_node_has_an_unknown_memory() -> None:
    assert query_memory(metrics(), configured_bytes=None) is None
    assert query_memory(metrics(), configured_bytes=500) == Memory(limit_bytes=500, used_bytes=0)


def test_the_exact_store_says_what_it_is_told_to_say() -> None:
    store = exact_store(release_files())
    assert store.memory() is None
    store.room = Memory(limit_bytes=2, used_bytes=1)
    assert store.memory() == store.room


@pytest.mark.parametrize(("value", "limit"), [("8589934592", 8_589_934_592), ("", None), (None, None)])
def test_the_environment_says_what_milvus_may_take(value: str | None, limit: int | None) -> None:
    environment = ADDRESS if value is None else {**ADDRESS, VARIABLE: value}
    assert milvus_connection(environment).memory_bytes == limit


@pytest.mark.parametrize("value", ["8G", "0", "-1", "1.5", "much"])
def test_what_is_no_number_of_bytes_is_refused_with_its_variable(value: str) -> None:
    with pytest.raises(SettingsError, match=f"{VARIABLE}: '{value}' is no number of bytes"):
        milvus_connection({**ADDRESS, VARIABLE: value})


@pytest.mark.parametrize("limit", [None, 8_589_934_592])
def test_a_stack_passes_on_what_it_was_started_with(tmp_path: Path, limit: int | None) -> None:
    state = a_state(tmp_path, limit)
    assert milvus_connection(client_environment(state)).memory_bytes == limit
    connection = json.loads(airflow_environment(state)["AIRFLOW_CONN_REINDEX_MILVUS"])
    assert connection["extra"] == ({"memory_bytes": limit} if limit else {})
    save_state(state)
    assert load_state(state.home) == state


def test_a_stack_of_before_is_one_that_nobody_told(tmp_path: Path) -> None:
    save_state(a_state(tmp_path, None))
    file = tmp_path / "stack.json"
    known = json.loads(file.read_text())
    del known["milvus_memory_bytes"]
    file.write_text(json.dumps(known))
    state = load_state(tmp_path)
    assert state is not None
    assert state.milvus_memory_bytes is None


def a_state(home: Path, limit: int | None) -> StackState:
    state = new_state(home, ports=choose_ports({}), corpora=home, milvus_memory_bytes=limit)
    state.run.rmdir()
    return state
