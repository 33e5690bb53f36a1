"""What runs beside a worker, `python -m reindex.nursery`: a process that forks children, each to read documents.

It loads what reading needs once, starts no threads of its own, and dies with the worker, as the children die with it.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from pathlib import Path
from typing import Any

from reindex.parsers import Rejected
from reindex.priority import session_stays_behind
from reindex.records import RejectReason

# Reads a document by its key and bytes; what it returns is written as JSON: nothing of a child's is ever unpickled.
Work = Callable[[str, bytes], Any]
# What a child exits with when Python has no memory left.
NO_MEMORY = 77
DETAIL_CHARACTERS = 200
# A child that needed more for a document goes, because what it has taken it may not give back.
_KEPT_SHARE = 0.25
_PR_SET_PDEATHSIG = 1


def _nurse(control: Connection) -> None:
    """Fork a child when told nothing, say how a child ended when told which; at the worker's end, end them all."""
    make_work, memory_bytes = control.recv()
    work = make_work()
    control.send(None)
    living: set[int] = set()
    try:
        while True:
            dead = control.recv()
            if dead is None:
                living.add(_fork(control, work, memory_bytes))
            else:
                living.remove(dead)
                _, status, used = os.wait4(dead, 0)
                control.send((status, used.ru_maxrss * 1024))
    finally:
        for pid in living:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _fork(control: Connection, work: Work, memory_bytes: int) -> int:
    handle = recv_handle(control)
    nursery = os.getpid()
    pid = os.fork()
    if not pid:
        control.close()
        _live(Connection(handle), work, nursery, memory_bytes)
    os.close(handle)
    control.send(pid)
    return pid


def _live(connection: Connection, work: Work, nursery: int, memory_bytes: int) -> None:
    """Be a child: answer until the nursery or the memory is at its end."""
    status = 1
    try:
        _confine(nursery, memory_bytes)
        at_birth = _peak_bytes()
        while _peak_bytes() - at_birth < memory_bytes * _KEPT_SHARE:
            key, data = connection.recv(), connection.recv_bytes()
            connection.send_bytes(_answer(work, key, data))
            del data
        status = 0
    except MemoryError:
        status = NO_MEMORY
    finally:
        # Past every handler that a library has registered.
        os._exit(status)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _confine(nursery: int, memory_bytes: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != nursery:
        os._exit(0)
    # Not the address space: libraries reserve far more of it than they use.
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Where the machine's memory ends all the same, this is what should go.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _answer(work: Work, key: str, data: bytes) -> bytes:
    try:
        return json.dumps({"result": work(key, data)}).encode()
    except MemoryError:
        raise
    except Rejected as rejected:
        return json.dumps({"reason": rejected.reason, "detail": rejected.detail}).encode()
    except BaseException as error:  # noqa: BLE001 - a panic of a Rust library is no Exception
        detail = f"{type(error).__name__}: {' '.join(str(error).split())}"[:DETAIL_CHARACTERS]
        return json.dumps({"reason": RejectReason.CRASHED, "detail": detail}).encode()


if __name__ == "__main__":
    session_stays_behind()
    with suppress(EOFError):
        _nurse(Connection(int(sys.argv[1])))
