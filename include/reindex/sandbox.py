"""A document in, what was read of it out: in a process that may hang, crash or eat memory without harm to the worker.

A nursery, started once, loads what reading needs and forks a child; the child reads one document after another. One
that fails is killed, and the next document goes to a new child, within milliseconds. A plain `multiprocessing` server
would run the `__main__` of a Ray worker in each child; a fork of the worker itself would copy its threads' locks.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, Pipe
from multiprocessing.reduction import send_handle
from typing import Any

from reindex.errors import SandboxFailed
from reindex.nursery import DETAIL_CHARACTERS, NO_MEMORY, Work
from reindex.parsers import Rejected
from reindex.records import RejectReason
from reindex.settings import Limits

MEGABYTE = 2**20
# As Rust and C++ say it before they abort.
_NO_MEMORY_SAID = (b"memory allocation of", b"bad_alloc", b"out of memory")
_NEARLY_ALL = 0.9
_LOG_BYTES = 4096
_GRACE_SECONDS = 5.0
# Many sandboxes share a machine, and a nursery must have no threads when it forks.
_THREADS = {
    "RAYON_NUM_THREADS": "1",
    "TOKIO_WORKER_THREADS": "2",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class Sandbox:
    """Runs the work that `make_work` returns on one document at a time, in a child process within limits.

    `make_work` is called once, in the nursery, and must start no threads.
    """

    def __init__(self, make_work: Callable[[], Work], limits: Limits) -> None:
        self._make_work, self._limits = make_work, limits
        self._nursery: _Nursery | None = None
        self._child: _Child | None = None

    def run(self, key: str, data: bytes) -> Any:
        """Return what the work makes of a document; raise Rejected where it rejects it, fails or is over a limit.

        Raises SandboxFailed where no process can be had.
        """
        was_used = self._child is not None
        try:
            return self._run_once(key, data)
        except Rejected as rejected:
            has_died = self._child is None
            if not (was_used and has_died) or rejected.reason == RejectReason.TOO_SLOW:
                raise
        # It may have died of what an earlier document had left behind.
        return self._run_once(key, data)

    def close(self) -> None:
        if self._nursery:
            self._nursery.close()
        self._nursery = self._child = None

    def _run_once(self, key: str, data: bytes) -> Any:
        try:
            self._nursery = self._nursery or _Nursery(self._make_work, self._limits)
            self._child = self._child or self._nursery.fork()
            self._nursery.clear_log()
            with _killed_after(self._limits.seconds, self._child.pid) as is_over:
                answer = self._child.ask(key, data)
            if answer is None or is_over.is_set():
                ended, self._child = self._child, None
                status, peak_bytes = self._nursery.bury(ended)
                raise _too_slow(self._limits) if is_over.is_set() else self._verdict(status, peak_bytes)
        except SandboxFailed:
            self.close()
            raise
        return _opened(answer)

    def _verdict(self, status: int, peak_bytes: int) -> Rejected:
        said = self._nursery.last_words() if self._nursery else b""
        allowed = self._limits.memory_megabytes
        is_full = peak_bytes >= allowed * MEGABYTE * _NEARLY_ALL or any(words in said for words in _NO_MEMORY_SAID)
        if status == NO_MEMORY or is_full:
            return Rejected(RejectReason.TOO_MUCH_MEMORY, f"over {allowed:,} MB; limits.memory_megabytes")
        if status == -signal.SIGKILL:
            detail = f"the system ended it at {peak_bytes / MEGABYTE:,.0f} MB (signal 9)"
            return Rejected(RejectReason.TOO_MUCH_MEMORY, detail)
        how = f"signal {-status} ({signal.strsignal(-status)})" if status < 0 else f"exit status {status}"
        return Rejected(RejectReason.CRASHED, f"{how}: {_last_line(said)}".removesuffix(": "))


class _Child:
    """A process that reads documents, seen from the worker."""

    def __init__(self, pid: int, connection: Connection) -> None:
        self.pid, self._connection = pid, connection

    def ask(self, key: str, data: bytes) -> bytes | None:
        """Return the child's answer, or None if it died over it."""
        try:
            self._connection.send(key)
            self._connection.send_bytes(data)
            return self._connection.recv_bytes()
        except (EOFError, OSError):
            return None

    def end(self) -> None:
        self._connection.close()
        os.kill(self.pid, signal.SIGKILL)


class _Nursery:
    """The process that forks children, seen from the worker; it dies with the worker, and its children with it."""

    def __init__(self, make_work: Callable[[], Work], limits: Limits) -> None:
        # In memory: nothing is left on disk, and nobody has to read it for a child to go on writing.
        self._log = os.memfd_create("sandbox-log")
        fcntl.fcntl(self._log, fcntl.F_SETFL, os.O_APPEND)
        self._control, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "reindex.nursery", str(theirs.fileno())],
                env={**os.environ, **_THREADS, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        # Also when nobody closes it: a worker keeps its sandbox as long as it lives.
        self.close = weakref.finalize(self, _end, self._process, self._control, self._log)
        self._tell((make_work, limits.memory_megabytes * MEGABYTE))
        self._heard()

    def fork(self) -> _Child:
        ours, theirs = Pipe()
        with theirs:
            with suppress(OSError):
                self._control.send(None)
                send_handle(self._control, theirs.fileno(), self._process.pid)
            return _Child(self._heard(), ours)

    def bury(self, child: _Child) -> tuple[int, int]:
        """Return a dead child's exit status, below zero for a signal, and the most memory that it held, in bytes."""
        child.end()
        self._tell(child.pid)
        status, peak_bytes = self._heard()
        return os.waitstatus_to_exitcode(status), peak_bytes

    def clear_log(self) -> None:
        os.ftruncate(self._log, 0)

    def last_words(self) -> bytes:
        size = os.fstat(self._log).st_size
        return os.pread(self._log, _LOG_BYTES, max(0, size - _LOG_BYTES))

    def _tell(self, message: Any) -> None:
        # What it dies of is heard in the answer.
        with suppress(OSError):
            self._control.send(message)

    def _heard(self) -> Any:
        try:
            return self._control.recv()
        except (EOFError, OSError) as error:
            raise SandboxFailed(_last_line(self.last_words())) from error


def _end(process: subprocess.Popen[bytes], control: Connection, log: int) -> None:
    control.close()
    try:
        process.wait(timeout=_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    os.close(log)


@contextmanager
def _killed_after(seconds: float, pid: int) -> Iterator[threading.Event]:
    """Kill a process when its time is up, whether it is being written to, works or answers."""
    is_over = threading.Event()

    def kill() -> None:
        is_over.set()
        os.kill(pid, signal.SIGKILL)

    timer = threading.Timer(seconds, kill)
    timer.daemon = True
    timer.start()
    try:
        yield is_over
    finally:
        timer.cancel()
        timer.join()


def _opened(answer: bytes) -> Any:
    found = json.loads(answer)
    if "reason" in found:
        raise Rejected(RejectReason(found["reason"]), found["detail"])
    return found["result"]


def _too_slow(limits: Limits) -> Rejected:
    return Rejected(RejectReason.TOO_SLOW, f"over {limits.seconds:,} s; limits.seconds")


def _last_line(said: bytes) -> str:
    lines = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
    return " ".join(lines[-1].split())[:DETAIL_CHARACTERS] if lines else ""
