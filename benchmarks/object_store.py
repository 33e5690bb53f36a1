"""What benchmarks of one stage need of the embedded stack: an object store alone, and how Ray is to start beside it.

The store is empty at first, on ports that are free, and gone at the end.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reindex.errors import PortTaken
from reindex.stack.ports import PORTS, choose_ports, refuse_taken_ports, variable
from reindex.stack.programs import PROGRAMS
from reindex.stack.state import client_environment, new_state

_FIRST_PORTS = range(31_000, 40_000, 100)
_START_SECONDS = 60.0


@contextmanager
def object_store() -> Iterator[dict[str, str]]:
    """Start the object store with its buckets, and yield the variables by which clients find it."""
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
            yield client_environment(state)
        finally:
            server.terminate()
            server.wait()
            shutil.rmtree(state.run)


def local_ray() -> dict[str, str]:
    """Return the variables with which Ray starts on this machine for its caller alone."""
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        # Nodes then meet on 127.0.0.1, and listen nowhere else.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def _free_ports() -> dict[str, int]:
    for first in _FIRST_PORTS:
        ports = choose_ports({variable(name): str(first + place) for place, name in enumerate(PORTS)})
        with suppress(PortTaken):
            refuse_taken_ports(ports)
            return ports
    raise SystemExit("no block of ports is free")
