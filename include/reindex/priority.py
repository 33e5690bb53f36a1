"""Who waits for whom: the work on a release runs behind what answers readers on the same machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import psutil

T = TypeVar("T")

_SESSION = Path("/proc/self/autogroup")


def stay_behind() -> None:
    """Give the calling thread, and what it starts, the lowest priority for processor and disk: search comes first."""
    os.nice(19)
    # Neither is there on every system, or allowed in every container.
    with suppress(AttributeError, OSError):
        # What is merely nice keeps a processor to the end of its slice, some milliseconds for each step of a search.
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with suppress(AttributeError, OSError, psutil.Error):
        psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)


def done_behind(work: Callable[[], T]) -> T:
    """Do some work at the lowest priority, in a thread of its own: the caller's could not come back from there."""
    with ThreadPoolExecutor(1, initializer=stay_behind) as pool:
        return pool.submit(work).result()


def worker_stays_behind() -> None:
    """Do the same in a worker of Ray's, which shares a session with all that its node has started."""
    stay_behind()
    lead_session()


def session_stays_behind() -> None:
    """Give a session of one's own the priority of the caller: niceness counts among the processes of a session alone.

    Linux schedules sessions as groups, which without this have equal shares, whatever is in them.
    """
    with suppress(OSError):
        _SESSION.write_text(str(os.getpriority(os.PRIO_PROCESS, 0)))


def lead_session() -> None:
    """Begin a session of one's own, as nice as the caller. What is ended by its group must not: that is left, too."""
    with suppress(PermissionError):
        # Whoever leads a group must leave it first; whoever leads a session may not, and need not.
        os.setpgid(0, os.getpgid(os.getppid()))
        os.setsid()
    if os.getsid(0) == os.getpid():
        session_stays_behind()
