"""An embedded stack for one benchmark: its own folder, its own ports, its own corpora; gone at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import psutil
import yaml

from reindex.errors import PortTaken
from reindex.releases import ReleaseFiles
from reindex.settings import s3_connection, state_bucket
from reindex.stack import stack_environment, stack_processes
from reindex.stack.ports import PORTS, choose_ports, refuse_taken_ports, variable
from reindex.storage import ObjectStore

REINDEX = Path(sys.executable).parent / "reindex"
FIRST_PORTS = range(20_000, 22_000, 100)
# What a process holds takes the system a while to count: more often, and it would slow what it measures by a tenth.
POLL_SECONDS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnStack:
    """A running stack, and the command line that talks to it."""

    home: Path
    environment: dict[str, str]

    def answer(self, *words: str) -> Any:
        """Return the JSON that a command prints; raise CalledProcessError if it fails, its reason is on stderr."""
        done = subprocess.run([REINDEX, *words, "--json"], env=self.environment, stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout)

    def servers(self) -> dict[str, str]:
        return stack_environment(self.home)

    def release(self, corpus: str, name: str) -> ReleaseFiles:
        return ReleaseFiles(ObjectStore(s3_connection(self.servers())), state_bucket(self.servers()), corpus, name)

    def workers(self) -> Callable[[], Iterable[psutil.Process]]:
        """Return what finds the processes that work on a run: Ray's workers, and whatever does not run by now."""
        at_rest = {process for process in stack_processes(self.home) if not _is_ray_worker(process)}
        return lambda: [process for process in stack_processes(self.home) if process not in at_rest]


@contextmanager
def own_stack(folder: Path, corpora: Iterable[dict[str, Any]]) -> Iterator[OwnStack]:
    """Start a stack in a folder with some corpora, each of the prefix of its name in the bucket `sources`."""
    home = folder / "home"
    (folder / "corpora").mkdir()
    for corpus in corpora:
        settings = {"source": {"bucket": "sources", "prefix": f"{corpus['name']}/"}, **corpus}
        (folder / "corpora" / f"{corpus['name']}.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    own = {"REINDEX_HOME": str(home), "REINDEX_CORPORA": str(folder / "corpora"), "HF_HUB_OFFLINE": "1"}
    running = OwnStack(home=home, environment={**os.environ, **own, **free_ports()})
    try:
        running.answer("up")
        yield running
    finally:
        subprocess.run([REINDEX, "down"], env=running.environment, stdout=subprocess.DEVNULL, check=False)


def free_ports() -> dict[str, str]:
    """Return the variables of a block of ports that nobody listens on."""
    for first in FIRST_PORTS:
        chosen = {variable(name): str(first + place) for place, name in enumerate(PORTS)}
        with suppress(PortTaken):
            refuse_taken_ports(choose_ports(chosen))
            return chosen
    raise SystemExit("no block of ports is free")


class PeakMemory(threading.Thread):
    """The most memory that some processes have held together, in MB, while the context lasted.

    Pages that several share are counted once. They are looked at every few seconds: a shorter peak may be missed.
    """

    def __init__(self, processes: Callable[[], Iterable[psutil.Process]]) -> None:
        super().__init__(daemon=True)
        self._processes, self._is_over = processes, threading.Event()
        self.megabytes = 0.0

    def run(self) -> None:
        while not self._is_over.wait(POLL_SECONDS):
            self.megabytes = max(self.megabytes, sum(map(_resident, self._processes())) / 1e6)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self.join()


def began(report: dict[str, Any]) -> float:
    """Return when a stage began, in seconds since 1970."""
    return datetime.fromisoformat(report["started_at"]).timestamp()


def ended(report: dict[str, Any]) -> float:
    return began(report) + float(report["seconds"])


def _is_ray_worker(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return any(word.startswith("ray::") for word in process.cmdline()[:1])
    return False


def _resident(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return int(process.memory_full_info().pss)
    return 0
