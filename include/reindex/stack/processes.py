"""The processes of a stack, known by the variable that each of them carries, and the memory they hold."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import psutil

# Every process of a stack inherits both: the stack's absolute home, and the program that it is a part of.
MARKER = "REINDEX_STACK"
PROGRAM_MARKER = "REINDEX_STACK_PROGRAM"
_GRACE_SECONDS = 3.0
_ROUNDS = 10


def stack_processes(home: Path, program: str | None = None) -> list[psutil.Process]:
    """Return the living processes of a stack, or of one of its programs; the caller and zombies are not among them."""
    markers = {MARKER: str(home.resolve())} | ({PROGRAM_MARKER: program} if program else {})
    return [process for process in psutil.process_iter() if _carries(process, markers)]


def end_leftovers(home: Path, program: str | None = None) -> None:
    """End what is left of a stack, or of one of its programs."""
    leftovers = stack_processes(home, program)
    _signal(leftovers, psutil.Process.terminate)
    psutil.wait_procs(leftovers, timeout=_GRACE_SECONDS)
    for _ in range(_ROUNDS):  # a process may start another one while it is being ended
        remaining = stack_processes(home, program)
        if not remaining:
            break
        _signal(remaining, psutil.Process.kill)
        psutil.wait_procs(remaining, timeout=_GRACE_SECONDS)


def resident_megabytes(pid: int) -> float:
    """Return what a process and its descendants hold in memory, pages they share counted once (PSS, else RSS)."""
    try:
        tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return 0.0
    return sum(_resident_bytes(process) for process in tree) / 1e6


def _carries(process: psutil.Process, markers: Mapping[str, str]) -> bool:
    if process.pid == os.getpid():
        return False
    try:
        return process.status() != psutil.STATUS_ZOMBIE and markers.items() <= dict(process.environ()).items()
    except psutil.Error:
        return False


def _signal(processes: Iterable[psutil.Process], send: Callable[[psutil.Process], None]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            send(process)


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.AccessDenied:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
