"""The embedded stack: its parts without a server, then a stack that runs."""

from __future__ import annotations

import configparser
import json
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from reindex.errors import PortTaken, ProgramFailed, SettingsError, StackDown
from reindex.stack import StackState, down, stack_environment, stack_processes, status, up
from reindex.stack.environment import airflow_environment, inherited_environment
from reindex.stack.ports import DERIVED, PORTS, choose_ports, refuse_taken_ports, variable
from reindex.stack.preparation import prepare_milvus
from reindex.stack.processes import MARKER, PROGRAM_MARKER, end_leftovers
from reindex.stack.programs import PROGRAMS, Program, stopping_waves
from reindex.stack.startup import bring_up, last_useful_line
from reindex.stack.state import SECRETS, load_state, new_state, save_state
from reindex.stack.supervisor import ProgramProcess, connected, render_config


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StackState]:
    made = new_state(tmp_path, ports=choose_ports({}), corpora=tmp_path / "corpora")
    yield made
    made.run.rmdir()


@contextmanager
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def sleeping(**markers: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"], env={"PATH": os.environ["PATH"], **markers}) as process:
        try:
            yield process
        finally:
            process.kill()


# Ports


def test_a_taken_port_is_refused_with_its_name_and_its_variable() -> None:
    with listening() as port:
        ports = choose_ports({"REINDEX_PORT_RAY_GCS": str(port)})
        with pytest.raises(PortTaken) as refused:
            refuse_taken_ports({"ray_gcs": ports["ray_gcs"]})
    assert refused.value.args == (port, "ray_gcs", "REINDEX_PORT_RAY_GCS")


def test_up_refuses_a_taken_port_before_it_starts_or_remembers_anything(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with listening() as port, pytest.raises(PortTaken, match="REINDEX_PORT_AIRFLOW=PORT"):
        up(home, _elsewhere() | {"REINDEX_PORT_AIRFLOW": str(port)}, _never)
    assert home.stat().st_mode & 0o777 == 0o700
    assert [file.name for file in home.iterdir()] == ["lock"]
    assert stack_processes(home) == []


@pytest.mark.parametrize("value", ["many", "0", "65536", "-1", ""])
def test_what_is_no_port_is_refused_with_its_variable(value: str) -> None:
    with pytest.raises(SettingsError, match="REINDEX_PORT_S3_FILER:"):
        choose_ports({"REINDEX_PORT_S3_FILER": value})


def test_two_programs_cannot_have_one_port() -> None:
    with pytest.raises(SettingsError, match="8080 is already the port of milvus"):
        choose_ports({"REINDEX_PORT_MILVUS": "8080"})


def test_a_derived_port_moves_with_its_source() -> None:
    ports = choose_ports({"REINDEX_PORT_S3_ADMIN": "9000"})
    assert ports["s3_admin_grpc"] == 19_000
    assert variable("s3_admin_grpc") == "REINDEX_PORT_S3_ADMIN"


def test_no_default_port_is_one_that_linux_gives_to_outgoing_connections() -> None:
    assert max(choose_ports({}).values()) < 32_768


def test_every_port_reaches_a_program(state: StackState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milvus._initialize_data_files", lambda _: None)
    prepare_milvus(state)
    configs = [file.read_text() for file in (state.home / "milvus" / "configs").iterdir()]
    settings = [str([*program.command(state), *program.environment(state).values()]) for program in PROGRAMS.values()]
    said = " ".join(configs + settings)
    assert [name for name, port in state.ports.items() if str(port) not in said] == []
    assert state.ports.keys() == PORTS.keys() | DERIVED.keys()


# What the stack remembers


def test_the_state_is_for_its_owner_only_and_its_secrets_stay(state: StackState) -> None:
    save_state(state)
    assert (state.home / "stack.json").stat().st_mode & 0o777 == 0o600
    again = new_state(state.home, ports={"s3": 1}, corpora=state.corpora)
    again.run.rmdir()
    assert again.secrets == state.secrets
    assert again.ports == {"s3": 1}
    assert again.run != state.run
    assert len(set(state.secrets.values())) == len(SECRETS)
    assert load_state(state.home) == state


def test_clients_learn_where_the_servers_are_and_nothing_that_would_make_them_part_of_the_stack(
    state: StackState,
) -> None:
    save_state(state)
    known = stack_environment(state.home)
    assert known["REINDEX_S3_ENDPOINT"] == "http://127.0.0.1:8333"
    assert known["REINDEX_MILVUS_TOKEN"] == f"root:{state.secrets['milvus_password']}"
    assert MARKER not in known


def test_a_stack_that_was_never_started_is_nothing(tmp_path: Path) -> None:
    home = tmp_path / "none"
    down(home, _never)
    assert (status(home), stack_environment(home), home.exists()) == ([], {}, False)


def test_a_stack_that_does_not_run_is_stopped_in_every_program(state: StackState) -> None:
    save_state(state)
    assert {program.state for program in status(state.home)} == {"stopped"}
    with pytest.raises(StackDown, match="reindex up"), connected(state):
        pass


# Environments and configuration


def test_a_stack_takes_little_from_the_shell_that_starts_it(tmp_path: Path) -> None:
    shell = {"PATH": "/bin", "REINDEX_X": "1", "RAY_ADDRESS": "far", "OMP_NUM_THREADS": "1", "PYTHONPATH": "/x"}
    kept = inherited_environment(tmp_path, shell)
    assert kept["PATH"] == f"{Path(sys.executable).parent}:/bin"
    assert kept["REINDEX_X"] == "1"
    assert kept[MARKER] == str(tmp_path)
    assert not {"RAY_ADDRESS", "OMP_NUM_THREADS"} & kept.keys()
    assert "/x" not in kept["PYTHONPATH"]


def test_airflow_gets_its_connections_and_ray_does_not_get_airflows_thread_limit(state: StackState) -> None:
    connection = json.loads(airflow_environment(state)["AIRFLOW_CONN_REINDEX_S3"])
    assert connection["login"] == state.secrets["s3_access_key"]
    assert connection["extra"]["state_bucket"] == "reindex"
    assert "OMP_NUM_THREADS" not in PROGRAMS["ray"].environment(state)


def test_the_configuration_survives_percent_signs_and_spaces_and_holds_no_secret(
    state: StackState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/all of it 100%/python")
    text = render_config(state)
    config = configparser.RawConfigParser()
    config.read_string(text)
    command = config["program:milvus"]["command"]
    assert "100%%" in command
    assert shlex.split(command % {}) == [sys.executable, "-m", "reindex.stack.launch", "milvus"]
    assert not [secret for secret in state.secrets.values() if secret in text]


def test_what_others_need_starts_before_them_and_stops_after_them() -> None:
    order = [name for wave in stopping_waves() for name in wave]
    assert sorted(order) == sorted(PROGRAMS)
    for name, program in PROGRAMS.items():
        for needed in program.needs:
            assert order.index(name) < order.index(needed)


# Starting


class ScriptedSupervisor:
    """Goes through the states that it is given, one a look, and stays in the last."""

    def __init__(self, *states: str) -> None:
        self.states = list(states)
        self.started: list[str] = []

    def processes(self) -> dict[str, ProgramProcess]:
        known = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return {"store": ProgramProcess(name="store", state=known, pid=None, started=0.0)}

    def start(self, name: str) -> None:
        self.started.append(name)


@pytest.fixture
def only_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Program(
        folder="store", command=lambda _: ["store"], environment=lambda _: {}, is_healthy=lambda _, __: True
    )
    monkeypatch.setattr("reindex.stack.startup.PROGRAMS", {"store": store})


def test_what_is_healthy_is_neither_started_nor_reported(state: StackState, only_a_store: None) -> None:
    supervisor: Any = ScriptedSupervisor("RUNNING")
    bring_up(state, supervisor, _never)
    assert supervisor.started == []


def test_what_is_stopped_is_started_once_and_reported(state: StackState, only_a_store: None) -> None:
    supervisor: Any = ScriptedSupervisor("STOPPED", "STARTING")
    reported: list[str] = []
    bring_up(state, supervisor, reported.append)
    assert supervisor.started == ["store"]
    assert reported == ["store: healthy after 0 s"]


def test_what_exited_is_left_to_supervisord_which_starts_it_again(state: StackState, only_a_store: None) -> None:
    supervisor: Any = ScriptedSupervisor("EXITED", "BACKOFF", "RUNNING")
    bring_up(state, supervisor, lambda _: None)
    assert supervisor.started == []


def test_a_program_that_keeps_crashing_fails_with_the_line_that_says_why(state: StackState, only_a_store: None) -> None:
    (state.home / "logs").mkdir()
    state.log("store").write_text("starting\nError: the disk is full\nbye\n")
    supervisor: Any = ScriptedSupervisor("STOPPED", "BACKOFF", "FATAL")
    with pytest.raises(ProgramFailed, match=r"store did not come up .* Error: the disk is full"):
        bring_up(state, supervisor, _never)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("all is well\nlast words\n\n", "last words"),
        ("panic: no space\ngoroutine 1\n", "panic: no space"),
        ("", "it wrote nothing"),
    ],
)
def test_the_last_useful_line_tells_of_a_problem_where_one_does(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "log").write_text(text)
    assert last_useful_line(tmp_path / "log") == line
    assert last_useful_line(tmp_path / "absent") == "it wrote nothing"


# Processes


def test_only_processes_that_carry_exactly_this_home_belong_to_the_stack(tmp_path: Path) -> None:
    mine, other = tmp_path / "home", tmp_path / "home2"
    with sleeping(**{MARKER: str(mine)}) as process, sleeping(**{MARKER: str(other)}), sleeping():
        assert [found.pid for found in stack_processes(mine)] == [process.pid]


def test_leftovers_are_ended_and_others_live(tmp_path: Path) -> None:
    mine, other = tmp_path / "home", tmp_path / "home2"
    with sleeping(**{MARKER: str(mine)}) as process, sleeping(**{MARKER: str(other)}) as neighbour:
        end_leftovers(mine)
        assert process.poll() is not None
        assert neighbour.poll() is None


def test_one_programs_leftovers_are_ended_without_the_others(tmp_path: Path) -> None:
    ray = {MARKER: str(tmp_path), PROGRAM_MARKER: "ray"}
    milvus = {MARKER: str(tmp_path), PROGRAM_MARKER: "milvus"}
    with sleeping(**ray) as process, sleeping(**milvus) as neighbour:
        end_leftovers(tmp_path, "ray")
        assert process.poll() is not None
        assert neighbour.poll() is None


def test_a_zombie_does_not_count_as_a_process_of_the_stack(tmp_path: Path) -> None:
    with sleeping(**{MARKER: str(tmp_path)}) as process:
        process.kill()
        _wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE, seconds=10)
        assert stack_processes(tmp_path) == []


# A stack that runs


@pytest.mark.live
def test_a_second_up_changes_nothing(stack: Any) -> None:
    before = _pids(stack)
    up(stack.home, stack.environment, _never)
    assert _pids(stack) == before


@pytest.mark.live
@pytest.mark.parametrize("program", ["airflow-scheduler", "milvus"])
def test_a_killed_program_comes_back_healthy(stack: Any, program: str) -> None:
    victim = psutil.Process(_pids(stack)[program])
    children = victim.children(recursive=True)
    victim.kill()
    _wait_until(lambda: _is_healthy(stack, program, unlike=victim.pid), seconds=90)
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.live
def test_milvus_which_answers_readers_runs_before_every_other_program(stack: Any) -> None:
    niceness = {name: psutil.Process(pid).nice() for name, pid in _pids(stack).items()}
    # The triggerer asks as readers do; Ray's workers start as nice as Ray is.
    nicer_by = {"milvus": 0, "airflow-triggerer": 0, "ray": 19}
    for name, level in niceness.items():
        assert level == min(niceness["milvus"] + nicer_by.get(name, 10), 19), name
    for name, pid in _pids(stack).items():
        assert os.getsid(pid) == pid
        assert Path(f"/proc/{pid}/autogroup").read_text().split()[-1] == str(niceness[name])


@pytest.mark.live
def test_the_object_store_refuses_strangers_and_wrong_secrets(stack: Any) -> None:
    known = stack_environment(stack.home)
    ports = load_state(stack.home).ports  # type: ignore[union-attr]
    assert httpx.get(f"{known['REINDEX_S3_ENDPOINT']}/sources").status_code == httpx.codes.FORBIDDEN
    assert httpx.get(f"http://127.0.0.1:{ports['s3_filer']}/buckets/").status_code == httpx.codes.UNAUTHORIZED
    with pytest.raises(Exception, match="SignatureDoesNotMatch"):
        _s3(known | {"REINDEX_S3_SECRET_KEY": "wrong"}).list_buckets()


@pytest.mark.live
def test_sources_keep_versions_and_the_state_does_not(stack: Any) -> None:
    client = _s3(stack_environment(stack.home))
    assert client.get_bucket_versioning(Bucket="sources").get("Status") == "Enabled"
    assert client.get_bucket_versioning(Bucket="reindex").get("Status") is None


@pytest.mark.live
def test_milvus_takes_no_factory_password_and_no_call_on_its_metrics_port(stack: Any) -> None:
    from pymilvus import MilvusClient, MilvusException

    known = stack_environment(stack.home)
    ports = load_state(stack.home).ports  # type: ignore[union-attr]
    with pytest.raises(MilvusException):
        MilvusClient(known["REINDEX_MILVUS_URI"], token="root:Milvus", timeout=5, dedicated=True)
    answer = httpx.get(f"http://127.0.0.1:{ports['milvus_metrics']}/api/v1/collections")
    assert answer.status_code == httpx.codes.NOT_FOUND


@pytest.mark.live
def test_ray_runs_jobs_for_nobody_without_the_token(stack: Any) -> None:
    known = stack_environment(stack.home)
    jobs = f"{known['REINDEX_RAY_URL']}/api/jobs/"
    assert httpx.get(jobs).status_code == httpx.codes.UNAUTHORIZED
    assert httpx.post(jobs, json={"entrypoint": "true"}).status_code == httpx.codes.UNAUTHORIZED
    bearer = {"Authorization": f"Bearer {known['REINDEX_RAY_TOKEN']}"}
    assert httpx.get(jobs, headers=bearer).status_code == httpx.codes.OK


@pytest.mark.live
def test_promotions_have_a_pool_with_one_slot_and_strangers_see_none(stack: Any) -> None:
    known = stack_environment(stack.home)
    login = {"username": known["REINDEX_AIRFLOW_USERNAME"], "password": known["REINDEX_AIRFLOW_PASSWORD"]}
    with httpx.Client(base_url=known["REINDEX_AIRFLOW_URL"]) as client:
        assert client.get("/api/v2/pools/promotion").status_code == httpx.codes.UNAUTHORIZED
        token = client.post("/auth/token", json=login).json()["access_token"]
        pool = client.get("/api/v2/pools/promotion", headers={"Authorization": f"Bearer {token}"}).json()
    assert pool["slots"] == 1


def _elsewhere() -> dict[str, str]:
    return {variable(name): str(21_500 + i) for i, name in enumerate(PORTS)}


def _never(line: str) -> None:
    pytest.fail(f"nothing should have been reported, but: {line}")


def _pids(stack: Any) -> dict[str, int]:
    return {program.name: program.pid or 0 for program in status(stack.home)}


def _is_healthy(stack: Any, name: str, *, unlike: int) -> bool:
    program = next(program for program in status(stack.home) if program.name == name)
    return program.state == "healthy" and program.pid != unlike


def _s3(known: dict[str, str]) -> Any:
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=known["REINDEX_S3_ENDPOINT"],
        aws_access_key_id=known["REINDEX_S3_ACCESS_KEY"],
        aws_secret_access_key=known["REINDEX_S3_SECRET_KEY"],
        region_name="us-east-1",
    )


def _wait_until(is_so: Any, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)
