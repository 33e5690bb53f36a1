"""Bring every program of a stack to health, each as soon as what it needs is healthy."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from reindex.errors import ProgramFailed
from reindex.stack.programs import PROGRAMS, Program
from reindex.stack.state import StackState
from reindex.stack.supervisor import ProgramProcess, Supervisor

_PATIENCE_SECONDS = 180.0
_POLL_SECONDS = 0.25
_LOG_TAIL_BYTES = 20_000
_TELLING = re.compile(r"error|exception|fatal|panic|refused|denied|cannot|failed", re.IGNORECASE)


def bring_up(state: StackState, supervisor: Supervisor, report: Callable[[str], None]) -> None:
    """Return once every program is healthy, having reported those that were not; raise ProgramFailed."""
    startup = _Startup(state=state, supervisor=supervisor, report=report)
    while startup.advance():
        time.sleep(_POLL_SECONDS)


def last_useful_line(log: Path) -> str:
    """Return the last line that tells of a problem, else the last line at all."""
    if not log.is_file():
        return "it wrote nothing"
    tail = log.read_bytes()[-_LOG_TAIL_BYTES:].decode("utf-8", errors="replace")
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    telling = [line for line in lines if _TELLING.search(line)]
    return (telling or lines or ["it wrote nothing"])[-1]


@dataclass(slots=True, kw_only=True)
class _Startup:
    state: StackState
    supervisor: Supervisor
    report: Callable[[str], None]
    healthy: set[str] = field(default_factory=set)
    begun: dict[str, float] = field(default_factory=dict)  # since when a program has been waited for
    started: set[str] = field(default_factory=set)

    def advance(self) -> bool:
        """Look at every program once, and return whether any is still missing."""
        processes = self.supervisor.processes()
        for name, program in PROGRAMS.items():
            if name not in self.healthy and self.healthy.issuperset(program.needs):
                self._advance(name, program, processes[name])
        return len(self.healthy) < len(PROGRAMS)

    def _advance(self, name: str, program: Program, process: ProgramProcess) -> None:
        may_be_healthy = process.is_running or program.once
        if may_be_healthy and program.is_healthy(self.state, process.started) and program.finish(self.state):
            self._welcome(name)
            return
        waited = time.monotonic() - self.begun.setdefault(name, time.monotonic())
        has_ended = process.has_ended(once=program.once)
        if (has_ended and name in self.started) or waited > _PATIENCE_SECONDS:
            log = self.state.log(name)
            raise ProgramFailed(name, waited, str(log), last_useful_line(log))
        if has_ended:
            self.supervisor.start(name)
            self.started.add(name)

    def _welcome(self, name: str) -> None:
        self.healthy.add(name)
        if name in self.begun:
            self.report(f"{name}: healthy after {time.monotonic() - self.begun[name]:.0f} s")
