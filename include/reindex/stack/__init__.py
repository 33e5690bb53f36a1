"""The embedded stack: object store, Milvus, Ray and Airflow on one machine, under one supervisord.

`up` starts it, `down` stops it, `status` looks at it, and `stack_environment` says how to reach it. All that it keeps
lies in one folder, its home; all its processes carry that folder's name in their environment.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reindex.errors import StackDown
from reindex.settings import corpora_folder, milvus_memory_bytes
from reindex.stack.environment import inherited_environment
from reindex.stack.ports import choose_ports, refuse_taken_ports
from reindex.stack.processes import end_leftovers, resident_megabytes, stack_processes
from reindex.stack.programs import PROGRAMS, Program, stopping_waves
from reindex.stack.startup import bring_up
from reindex.stack.state import StackState, client_environment, load_state, new_state, save_state
from reindex.stack.supervisor import ProgramProcess, connected, start_supervisor

__all__ = ["ProgramStatus", "StackState", "down", "stack_environment", "stack_processes", "status", "up"]

Report = Callable[[str], None]
State = Literal["healthy", "starting", "restarting", "stopping", "stopped", "failed"]
_STATES: Mapping[str, State] = {
    "STARTING": "starting",
    "RUNNING": "starting",
    "BACKOFF": "restarting",
    "STOPPING": "stopping",
    "FATAL": "failed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramStatus:
    """`address` is empty for a program that nobody connects to; `resident_mb` covers its children, in 10**6 bytes."""

    name: str
    state: State
    pid: int | None
    address: str
    log: Path
    resident_mb: float


def up(home: Path, environment: Mapping[str, str], report: Report) -> StackState:
    """Start whatever does not run, and return once every program is healthy.

    Raises SettingsError or PortTaken before anything is started, and ProgramFailed for a program that does not come up.
    A stack that runs keeps the ports, the corpora and Milvus's memory that it was started with.
    """
    home = home.resolve()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(home):
        state = _running_state(home) or _start_cold(home, environment)
        with connected(state) as supervisor:
            bring_up(state, supervisor, report)
    return state


def down(home: Path, report: Report) -> None:
    """Stop every program, those first that no other needs, and end whatever is left of the stack."""
    home = home.resolve()
    if not home.is_dir():
        return
    with _locked(home):
        state = load_state(home)
        if state:
            with suppress(StackDown):
                _stop(state, report)
        _clear(home)


def status(home: Path) -> list[ProgramStatus]:
    """Return every program that stays running, healthy or not; empty if the stack was never started."""
    state = load_state(home.resolve())
    if state is None:
        return []
    processes: dict[str, ProgramProcess] = {}
    with suppress(StackDown), connected(state) as supervisor:
        processes = supervisor.processes()
    return [
        _status(state, name, program, processes.get(name)) for name, program in PROGRAMS.items() if not program.once
    ]


def stack_environment(home: Path) -> dict[str, str]:
    """Return the variables by which clients find the servers; empty if the stack was never started."""
    state = load_state(home.resolve())
    return client_environment(state) if state else {}


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Let one `up` or `down` at a time work on a stack."""
    with (home / "lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _running_state(home: Path) -> StackState | None:
    state = load_state(home)
    try:
        with connected(state) if state else nullcontext():
            return state
    except StackDown:
        return None


def _start_cold(home: Path, environment: Mapping[str, str]) -> StackState:
    """Start supervisord, once everything that an unclean end left behind is gone."""
    ports, memory_bytes = choose_ports(environment), milvus_memory_bytes(environment)
    _clear(home)
    refuse_taken_ports(ports)
    corpora = corpora_folder(environment).absolute()
    state = new_state(home, ports=ports, corpora=corpora, milvus_memory_bytes=memory_bytes)
    save_state(state)
    start_supervisor(state, inherited_environment(home, environment))
    return state


def _clear(home: Path) -> None:
    end_leftovers(home)
    if state := load_state(home):
        shutil.rmtree(state.run, ignore_errors=True)


def _stop(state: StackState, report: Report) -> None:
    with connected(state) as supervisor:
        for wave in stopping_waves():
            for name in supervisor.stop(wave):
                report(f"{name}: stopped")
        supervisor.shut_down()


def _status(state: StackState, name: str, program: Program, process: ProgramProcess | None) -> ProgramStatus:
    pid = process.pid if process else None
    return ProgramStatus(
        name=name,
        state=_state(state, program, process),
        pid=pid,
        address=state.address(program.port) if program.port else "",
        log=state.log(name),
        resident_mb=resident_megabytes(pid) if pid else 0.0,
    )


def _state(state: StackState, program: Program, process: ProgramProcess | None) -> State:
    known = _STATES.get(process.state, "stopped") if process else "stopped"
    if process and process.is_running and program.is_healthy(state, process.started):
        return "healthy"
    return known
