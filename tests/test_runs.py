from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from reindex.runs import CHECK, ROLLBACK, Airflow, Run, RunState
from reindex.settings import AirflowConnection


@pytest.mark.parametrize(
    ("states", "current"),
    [
        ({}, "choose"),
        ({"choose": "success", "reload": "deferred"}, "reload"),
        ({"choose": "success", "reload": "skipped", "roll_back": "failed"}, "roll_back"),
        ({"choose": "success", "reload": "success", "roll_back": "success"}, "roll_back"),
    ],
)
def test_a_run_stands_at_the_first_task_that_is_not_over(states: dict[str, str], current: str) -> None:
    stages = dict.fromkeys(ROLLBACK.stages, "waiting") | states
    assert RunState(state="running", stages=stages).current == current


RUN = "/api/v2/dags/d/dagRuns/r/taskInstances"
TASKS = [
    {"task_id": "choose", "map_index": -1, "state": "success", "try_number": 1},
    {"task_id": "check", "map_index": 0, "state": "success", "try_number": 1},
    {"task_id": "check", "map_index": 1, "state": "failed", "try_number": 3},
]


class Answers(BaseHTTPRequestHandler):
    """Answers as Airflow does: the log of a mapped task is found by its index alone."""

    def do_POST(self) -> None:
        self._answer({"access_token": "t"})

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        if asked.path == RUN:
            self._answer({"task_instances": TASKS})
        elif asked.path == f"{RUN}/check/logs/3" and parse_qs(asked.query)["map_index"] == ["1"]:
            self._answer({"content": [{"error_detail": [{"exc_value": "the live index\nhas drifted"}]}]})
        else:
            self.send_error(404)

    def _answer(self, content: object) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def airflow() -> Iterator[Airflow]:
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        yield Airflow(AirflowConnection(url=address, username="u", password="p"))
        server.shutdown()


def test_the_reason_of_a_mapped_task_comes_from_its_own_log(airflow: Airflow) -> None:
    failed = airflow.failure(Run(dag="d", id="r", name="check-1", kind=CHECK))
    assert str(failed) == "verification check-1 failed in check: the live index has drifted"
