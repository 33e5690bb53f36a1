"""The live tests' stack: its own home, its own ports, its own corpora; started once, gone at the end."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from reindex import stack as embedded_stack
from reindex.milvus import MilvusStore
from reindex.settings import milvus_connection, s3_connection
from reindex.stack.ports import PORTS, choose_ports, variable
from reindex.storage import ObjectStore

REINDEX = Path(sys.executable).parent / "reindex"
# Written before the stack starts: Airflow looks for new corpora twice a minute only.
CORPORA: dict[str, dict[str, Any]] = {
    "docs": {"schedule": "0 2 1 1 *", "gate": {"max_rejected_share": 0.1}},
    "mismatch": {},
    "empty": {"deadline_hours": 0.01},
    "nights": {},
    "erasing": {},
    "nobucket": {"source": {"bucket": "nowhere"}},
    "rolled": {},
    "readers": {},
    "judged": {},
    "drifting": {},
    "approved": {"approval": {"runs": "manual"}, "schedule": "0 2 1 * *"},
    "documented": {},
}
_FIRST_PORTS = range(22_000, 30_000, 100)


# What the bucket of the corpus `history` holds on each of three nights: edited, removed, renamed, added.
HISTORY = [
    {"a.md": "the tide tables of the harbour", "b.md": "the looms of the old mill", "c.md": "a comet was seen"},
    {"a.md": "the tide tables of the harbour", "b.md": "the looms were sold", "d.md": "orchids in the glasshouse"},
    {
        "e.md": "the tide tables of the harbour",
        "b.md": "the looms of the old mill",
        "d.md": "orchids in the glasshouse",
    },
]


class History:
    """Makes three nights of a bucket, a minute apart, while other tests run: versions are dated by the store."""

    def __init__(self) -> None:
        self._nights: list[datetime] = []
        self._thread = threading.Thread()
        self._is_over = threading.Event()

    def begin(self, objects: ObjectStore) -> None:
        self._thread = threading.Thread(target=self._make, args=(objects,), daemon=True)
        self._thread.start()

    def _make(self, objects: ObjectStore) -> None:
        before: dict[str, str] = {}
        for held in HISTORY:
            for name in before.keys() - held.keys():
                objects.delete("sources", f"history/{name}")
            for name, text in held.items():
                if before.get(name) != text:
                    objects.write("sources", f"history/{name}", text.encode())
            before = held
            minute = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
            # Two seconds more, so that what comes next is of the new minute by any clock.
            if self._is_over.wait((minute - datetime.now(UTC)).total_seconds() + 2):
                return
            self._nights.append(minute)

    def end(self) -> None:
        """Stop, wherever it is: the stack is about to go down."""
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join()

    def nights(self) -> list[datetime]:
        """Return the minute after each change, once the last is over."""
        self._thread.join()
        return self._nights


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveStack:
    """A running stack of the tests' own, and the command line that talks to it."""

    home: Path
    environment: dict[str, str]
    history: History = field(default_factory=History)

    def command(self, *words: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run `reindex` with these words, and with some variables changed."""
        environment = {**os.environ, **self.environment, **changes}
        return subprocess.run([REINDEX, *words], env=environment, capture_output=True, text=True, check=False)

    def answer(self, *words: str) -> Any:
        """Return the JSON that a command prints; it must succeed."""
        done = self.command(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def refusal(self, *words: str, **changes: str) -> str:
        """Return the one line with which a command fails."""
        done = self.command(*words, **changes)
        assert done.returncode == 1, done.stdout
        lines = [line for line in done.stderr.splitlines() if line]
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("reindex: ")
        return lines[0].removeprefix("reindex: ")

    def servers(self) -> dict[str, str]:
        return embedded_stack.stack_environment(self.home)

    def objects(self) -> ObjectStore:
        return ObjectStore(s3_connection(self.servers()))

    def milvus(self) -> MilvusStore:
        return MilvusStore(milvus_connection(self.servers()))

    def write_corpus(self, name: str, **changes: Any) -> None:
        """Write a corpus file anew; the next run reads it."""
        corpus = {"name": name, "source": {"bucket": "sources", "prefix": f"{name}/"}, **changes}
        file = Path(self.environment["REINDEX_CORPORA"]) / f"{name}.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(yaml.safe_dump(corpus), encoding="utf-8")


def free_ports() -> dict[str, str]:
    """Return the variables of a block of ports that nobody listens on."""
    for first in _FIRST_PORTS:
        chosen = {variable(name): str(first + place) for place, name in enumerate(PORTS)}
        with ExitStack() as probes:
            try:
                for port in choose_ports(chosen).values():
                    probe = probes.enter_context(socket.socket())
                    probe.bind(("0.0.0.0", port))  # noqa: S104 - bound for an instant, never listened on
            except OSError:
                continue
            return chosen
    raise AssertionError("no block of ports is free")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStack]:
    home = tmp_path_factory.mktemp("stack") / "home"
    corpora = tmp_path_factory.mktemp("corpora")
    environment = {"REINDEX_HOME": str(home), "REINDEX_CORPORA": str(corpora), "HF_HUB_OFFLINE": "1", **free_ports()}
    live = LiveStack(home=home, environment=environment)
    for name, settings in CORPORA.items():
        live.write_corpus(name, **settings)
    try:
        started = live.command("up")
        assert started.returncode == 0, started.stderr
        live.history.begin(live.objects())
        yield live
    finally:
        live.history.end()
        live.command("down")
    assert embedded_stack.stack_processes(home) == []
