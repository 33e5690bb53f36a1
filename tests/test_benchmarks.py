"""What the benchmarks decide: whether a claim holds, and what a slow way to the store makes of a request."""

from __future__ import annotations

import importlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from reindex.settings import PROJECT

BENCHMARKS = PROJECT / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what imports a benchmark by its name, as the scripts import each other."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(BENCHMARKS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_a_claim_holds_at_its_bound_and_not_beyond_it(benchmark: Any) -> None:
    claims = benchmark("figures").CLAIMS
    fast, short = claims["end_to_end"], claims["unchanged"]
    assert [fast.holds(value, fast.bound) for value in (4.99, 5, 7)] == [False, True, True]
    assert [short.holds(value, short.bound) for value in (19, 20, 20.1)] == [True, True, False]
    assert fast.wanted(2.5) == "at least 2.50 times"
    assert short.wanted(short.bound) == "at most 20.0 s"


def test_a_figure_is_stated_to_the_runner_alone(benchmark: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = benchmark("figures")
    monkeypatch.delenv(figures.FILE, raising=False)
    figures.state("unchanged", 12.0)
    monkeypatch.setenv(figures.FILE, str(tmp_path / "figures.jsonl"))
    figures.state("unchanged", 12.0)
    figures.state("end_to_end", 3.0, bound=2.5, note="no bfloat16")
    first, second = map(json.loads, (tmp_path / "figures.jsonl").read_text().splitlines())
    assert first == {"name": "unchanged", "value": 12.0, "bound": 20, "note": ""}
    assert second["bound"] == 2.5


def test_every_claim_is_one_script_s_and_what_was_not_measured_does_not_hold(benchmark: Any) -> None:
    runner, claims = benchmark("all"), benchmark("figures").CLAIMS
    stated = [name for names in runner.SCRIPTS.values() for name in names]
    assert sorted(stated) == sorted(claims)
    assert all((BENCHMARKS / f"{script}.py").exists() for script in runner.SCRIPTS)
    assert runner.row("unchanged", None)[1:4] == ["not measured", "at most 20.0 s", "no"]
    found = {"value": 31.0, "bound": 45, "note": "12 tokens changed"}
    assert runner.row("one_edit", found)[1:] == ["31.0 s", "at most 45.0 s", "yes", "12 tokens changed"]


class _Store(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(b"x" * 200_000)

    def do_PUT(self) -> None:
        self._answer(self.headers["Host"].encode() + b" " + self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


@pytest.fixture
def store() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Store)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_through_the_slow_proxy_a_get_waits_and_everything_arrives(benchmark: Any, store: str) -> None:
    slow = benchmark("slow_proxy")
    with slow.slow_proxy(store) as (address, proxy), httpx.Client(base_url=address) as client:
        started = time.monotonic()
        bodies = [client.get("/a").content for _ in range(3)]
        seconds = time.monotonic() - started
        answer = client.put("/a", content=b"y" * 50_000).content
    assert bodies == [b"x" * 200_000] * 3
    assert seconds >= 3 * (slow.GET_SECONDS + 200_000 / slow.BYTES_A_SECOND)
    # The host that the client has signed is the one that the store sees.
    assert answer == address.removeprefix("http://").encode() + b" " + b"y" * 50_000
    assert proxy.gets == 3
