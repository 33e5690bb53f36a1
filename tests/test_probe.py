"""What the health checks of containers ask, against a server that answers as Airflow does."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

HEALTH = {"scheduler": {"status": "healthy"}, "triggerer": {"status": "unhealthy"}, "dag_processor": {"status": None}}


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 503)
        self.end_headers()
        self.wfile.write(json.dumps(HEALTH).encode())

    def log_message(self, *_: object) -> None:
        """Keep the tests' output to itself."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Health) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def probe(*words: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-m", "reindex.probe", *words], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_a_server_that_answers_is_healthy(address: str) -> None:
    assert probe(f"{address}/health") == (0, "")


def test_an_answer_that_is_an_error_is_not(address: str) -> None:
    code, said = probe(f"{address}/other")
    assert code == 1
    assert "503" in said


def test_nor_is_silence() -> None:
    code, said = probe("http://127.0.0.1:1/health")
    assert code == 1
    assert "refused" in said


@pytest.mark.parametrize(("component", "code"), [("scheduler", 0), ("triggerer", 1), ("dag_processor", 1)])
def test_a_component_is_as_healthy_as_the_api_server_says(address: str, component: str, code: int) -> None:
    assert probe(f"{address}/health", component) == (code, "")


def test_an_environment_that_names_a_proxy_changes_nothing(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert probe(f"{address}/health") == (0, "")
