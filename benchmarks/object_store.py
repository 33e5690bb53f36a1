"""What benchmarks of one stage need of the embedded stack: an object store alone, and the settings of its Ray.

The store is empty at first, on ports that are free, and gone at the end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reindex.errors import PortTaken
from reindex.stack.environment import ray_environment
from reindex.stack.ports import PORTS, choose_ports, refuse_taken_ports, variable
from reindex.stack.programs import PROGRAMS
from reindex.stack.state import client_environment, new_state

_FIRST_PORTS = range(31_000, 40_000, 100)
_START_SECONDS = 60.0
# What the embedded stack says elsewhere: on the command line of Ray, and to every program.
_ALONE = {"RAY_USAGE_STATS_ENABLED": "0", "TOKENIZERS_PARALLELISM": "false"}


@contextmanager
def object_store() -> Iterator[dict[str, str]]:
    """Start the object store with its buckets. Yield the variables by which it is found, and which Ray's nodes have."""
    weed = PROGRAMS["seaweedfs"]
    with tempfile.TemporaryDirectory(prefix="object-store-") as folder:
        state = new_state(Path(folder), ports=_free_ports(), corpora=Path(folder))
        environment = {**os.environ, **weed.environment(state)}
        with (state.home / "log").open("wb") as log:
            server = subprocess.Popen(weed.command(state), cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not (weed.is_healthy(state, 0) and weed.finish(state)):
                if server.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit((state.home / "log").read_text(encoding="utf-8"))
                time.sleep(0.5)
            yield client_environment(state) | ray_environment(state) | _ALONE
        finally:
            server.terminate()
            server.wait()
            shutil.rmtree(state.run)


def _free_ports() -> dict[str, int]:
    for first in _FIRST_PORTS:
        ports = choose_ports({variable(name): str(first + place) for place, name in enumerate(PORTS)})
        with suppress(PortTaken):
            refuse_taken_ports(ports)
            return ports
    raise SystemExit("no block of ports is free")
