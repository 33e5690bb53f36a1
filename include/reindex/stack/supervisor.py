"""The one supervisord of a stack: its configuration, its start, and what it is asked over its socket."""

from __future__ import annotations

import resource
import shlex
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reindex.errors import ProgramFailed, StackDown
from reindex.stack.programs import PROGRAMS, Program
from reindex.stack.state import StackState

_FILES = 65_536
_POLL_SECONDS = 0.1
_RPC_INTERFACE = "supervisor.rpcinterface:make_main_rpcinterface"
_ALIVE = {"STARTING", "RUNNING", "BACKOFF", "STOPPING"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramProcess:
    """What supervisord knows of a program: its word for the state, and the moment of the last start (since 1970)."""

    name: str
    state: str
    pid: int | None
    started: float

    @property
    def is_running(self) -> bool:
        return self.state in {"STARTING", "RUNNING"}

    def has_ended(self, *, once: bool) -> bool:
        """Say whether it stays down; what exited by itself is started again, unless it was to run only once."""
        return self.state in {"STOPPED", "FATAL"} or (once and self.state == "EXITED")


class Supervisor:
    """A supervisord that answers."""

    def __init__(self, proxy: Any) -> None:
        self._proxy = proxy

    def processes(self) -> dict[str, ProgramProcess]:
        return {known["name"]: _process(known) for known in self._proxy.getAllProcessInfo()}

    def start(self, name: str) -> None:
        self._proxy.startProcess(name, False)

    def stop(self, names: list[str]) -> list[str]:
        """Stop programs together, wait for the last of them, and return those that ran.

        Each is killed once its grace is over.
        """
        running = [name for name, process in self.processes().items() if name in names and process.state in _ALIVE]
        for name in running:
            self._proxy.stopProcess(name, False)
        while any(self.processes()[name].state in _ALIVE for name in running):
            time.sleep(_POLL_SECONDS)
        return running

    def shut_down(self) -> None:
        self._proxy.shutdown()


@contextmanager
def connected(state: StackState) -> Iterator[Supervisor]:
    """Yield the stack's supervisord; raise StackDown where it does not answer."""
    from supervisor.xmlrpc import SupervisorTransport

    transport = SupervisorTransport(None, None, f"unix://{_socket(state)}")
    with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as proxy:
        try:
            proxy.supervisor.getState()
        except OSError as error:
            raise StackDown(str(state.home)) from error
        yield Supervisor(proxy.supervisor)


def start_supervisor(state: StackState, environment: Mapping[str, str]) -> None:
    """Start supervisord as a daemon, which outlives the caller; it starts no program by itself."""
    config = state.home / "supervisord.conf"
    config.write_text(render_config(state), encoding="utf-8")
    (state.home / "logs").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(config)]
    begun = time.monotonic()
    ended = subprocess.run(command, cwd=state.home, env=dict(environment), capture_output=True, text=True, check=False)
    if ended.returncode:
        log = state.log("supervisord")
        raise ProgramFailed("supervisord", time.monotonic() - begun, str(log), ended.stderr.strip())


def render_config(state: StackState) -> str:
    """Return supervisord's configuration, to be read in the stack's home; it names no secret and no port."""
    sections = [
        _section("supervisord", _supervisord_keys(state)),
        _section("unix_http_server", {"file": _socket(state), "chmod": "0700"}),
        _section("rpcinterface:supervisor", {"supervisor.rpcinterface_factory": _RPC_INTERFACE}),
        *(_section(f"program:{name}", _program_keys(name, program)) for name, program in PROGRAMS.items()),
    ]
    return "\n".join(sections)


def _supervisord_keys(state: StackState) -> dict[str, object]:
    return {
        "logfile": "logs/supervisord.log",
        "pidfile": state.run / "supervisord.pid",
        "childlogdir": state.run,
        "umask": "077",
        "minfds": min(_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
    }


def _program_keys(name: str, program: Program) -> dict[str, object]:
    return {
        "command": shlex.join([sys.executable, "-m", "reindex.stack.launch", name]),
        "autostart": "false",
        "autorestart": "false" if program.once else "true",
        # Whatever dies earlier is started again with growing pauses, and given up after the fourth time.
        "startsecs": 0 if program.once else 10,
        "startretries": 3,
        "stopsignal": program.stop_signal,
        "stopwaitsecs": program.stop_seconds,
        "stopasgroup": "true",
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": f"logs/{name}.log",
        "stdout_logfile_maxbytes": "10MB",
        "stdout_logfile_backups": 2,
    }


def _section(name: str, keys: Mapping[str, object]) -> str:
    lines = [f"{key} = {str(value).replace('%', '%%')}" for key, value in keys.items()]
    return "\n".join([f"[{name}]", *lines, ""])


def _process(known: dict[str, Any]) -> ProgramProcess:
    return ProgramProcess(
        name=known["name"],
        state=known["statename"],
        pid=known["pid"] or None,
        started=known["start"],
    )


def _socket(state: StackState) -> Path:
    return state.run / "supervisor.sock"
