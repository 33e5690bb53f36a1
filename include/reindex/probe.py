"""Whether a server does its work, for health checks of containers: `python -m reindex.probe URL [COMPONENT]`.

Exit status 0 if the URL answers and, where a component of Airflow is named, the answer calls it healthy. Imports
nothing but the standard library: it runs every few seconds, in every container.
"""

from __future__ import annotations

import json
import sys
from urllib.request import ProxyHandler, build_opener

_CALL_SECONDS = 5.0


def is_healthy(url: str, component: str | None = None) -> bool:
    # Not through a proxy that the environment names: what is asked is beside it.
    with build_opener(ProxyHandler({})).open(url, timeout=_CALL_SECONDS) as answer:
        content = answer.read()
    return component is None or json.loads(content)[component]["status"] == "healthy"


def main() -> int:
    """Return the exit status that a health check gives."""
    try:
        return 0 if is_healthy(*sys.argv[1:]) else 1
    except OSError as error:  # no connection, or an answer that is an error
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
