"""A DAG triggered and followed through Airflow's REST API, without Airflow's own packages."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from reindex.errors import AccessRefused, RunFailed, RunRefused, ServiceUnavailable
from reindex.naming import CHECK_PREFIX, release_name
from reindex.releases import STAGES
from reindex.settings import AirflowConnection
from reindex.snapshot import choose_moment

_TIMEOUT_SECONDS = 30.0
_POLL_SECONDS = 1.0
# A run is looked at this often at first, then less and less: an end is seen late by a hundredth of the run at most.
_FIRST_POLL_SECONDS, _LONGEST_POLL_SECONDS, _POLL_SHARE = 0.5, 5.0, 0.01
_STAGES_SECONDS = 2.0
_NEW_DAG_SECONDS = 90.0
_OUTAGE_SECONDS = 60.0
_ENDED = {"success", "failed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunKind:
    """What a DAG makes, in a word, its tasks in their order, and how the names of what it makes begin."""

    word: str
    stages: tuple[str, ...]
    prefix: str = ""


RELEASE = RunKind(word="release", stages=STAGES)
ROLLBACK = RunKind(word="rollback", stages=("choose", "reload", "roll_back"))
CHECK = RunKind(word="verification", stages=("choose", "check"), prefix=CHECK_PREFIX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a DAG; `name` is that of the release, the rollback or the check that it makes."""

    dag: str
    id: str
    name: str
    kind: RunKind


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """Where a run stands: Airflow's state of the run and of each of its tasks, in their order."""

    state: str
    stages: dict[str, str]

    @property
    def current(self) -> str:
        """Return the first stage that is not over, or the last."""
        open_stages = (stage for stage, state in self.stages.items() if state not in {"success", "skipped"})
        return next(open_stages, list(self.stages)[-1])


class Airflow:
    """Airflow's API as one user. Raises ServiceUnavailable, AccessRefused and RunRefused."""

    def __init__(self, connection: AirflowConnection) -> None:
        self._address = connection.url
        self._client = httpx.Client(base_url=connection.url, timeout=_TIMEOUT_SECONDS)
        login = {"username": connection.username, "password": connection.password}
        token = self._send("POST", "/auth/token", json=login).json()["access_token"]
        self._client.headers["Authorization"] = f"Bearer {token}"

    def close(self) -> None:
        self._client.close()

    def trigger(self, dag: str, *, conf: dict[str, Any], kind: RunKind = RELEASE) -> Run:
        """Start a run of now; wait for a DAG whose corpus file is new. Raises RunRefused, with Airflow's reason."""
        self._wait_for_dag(dag)
        answer = self._send(
            "POST", f"/api/v2/dags/{dag}/dagRuns", json={"logical_date": None, "conf": conf}, refusal_of=dag
        ).json()
        return Run(dag=dag, id=answer["dag_run_id"], name=kind.prefix + _name(answer, conf), kind=kind)

    def follow(self, run: Run, *, is_shown: bool = True) -> Iterator[RunState]:
        """Yield where the run stands, again and again until it has ended; its stages only where they are shown."""
        began = answered_at = time.monotonic()
        stages, stages_at = dict.fromkeys(run.kind.stages, "waiting"), -math.inf
        while True:
            now = time.monotonic()
            try:
                state = self._send("GET", f"/api/v2/dags/{run.dag}/dagRuns/{run.id}").json()["state"]
                # They take the API server as long as several answers, and the release waits for the same processors.
                if state in _ENDED or (is_shown and now - stages_at >= _STAGES_SECONDS):
                    stages, stages_at = stages | self._stages(run), now
                answered_at = time.monotonic()
                yield RunState(state=state, stages=stages)
                if state in _ENDED:
                    return
            except ServiceUnavailable:
                # The run goes on while the API server is started again.
                if time.monotonic() - answered_at > _OUTAGE_SECONDS:
                    raise
            share = _POLL_SHARE * (time.monotonic() - began)
            time.sleep(min(_LONGEST_POLL_SECONDS, max(_FIRST_POLL_SECONDS, share)))

    def _stages(self, run: Run) -> dict[str, str]:
        tasks = self._send("GET", f"/api/v2/dags/{run.dag}/dagRuns/{run.id}/taskInstances").json()["task_instances"]
        return {task["task_id"]: task["state"] or "waiting" for task in tasks}

    def failure(self, run: Run) -> RunFailed:
        """Return why a failed run failed: the reason that its stage gave, from the task's log."""
        path = f"/api/v2/dags/{run.dag}/dagRuns/{run.id}/taskInstances"
        tasks = self._send("GET", path).json()["task_instances"]
        failed = next((task for task in tasks if task["state"] == "failed"), None)
        reason = self._reason(path, failed) if failed else ""
        reason = reason or f"see the task's log in Airflow at {self._address}"
        return RunFailed(f"{run.kind.word} {run.name}", failed["task_id"] if failed else "the run", reason)

    def _reason(self, path: str, task: dict[str, Any]) -> str:
        """Return what ended a task, one of several that it was mapped to, or a single one, whose index is -1."""
        asked = {"full_content": True, "map_index": task["map_index"]}
        log_path = f"{path}/{task['task_id']}/logs/{task['try_number']}"
        log = self._send("GET", log_path, missing_is_fine=True, params=asked).json()
        return _last_exception(log.get("content", []))

    def _wait_for_dag(self, dag: str) -> None:
        deadline = time.monotonic() + _NEW_DAG_SECONDS
        while (found := self._send("GET", f"/api/v2/dags/{dag}", missing_is_fine=True)).is_error:
            if time.monotonic() > deadline:
                raise RunRefused(dag, "it has no such DAG; see the dag-processor's log for the error in dags/")
            time.sleep(_POLL_SECONDS)
        if found.json()["is_paused"]:
            raise RunRefused(dag, "it is paused: unpause it in Airflow's web interface")

    def _send(
        self, method: str, path: str, *, missing_is_fine: bool = False, refusal_of: str = "", **options: Any
    ) -> httpx.Response:
        try:
            answer = self._client.request(method, path, **options)
        except httpx.HTTPError as error:
            raise ServiceUnavailable("Airflow", self._address, type(error).__name__) from error
        if answer.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            raise AccessRefused("Airflow", self._address, f"HTTP {answer.status_code}")
        if answer.is_client_error and refusal_of:
            # The first line says which parameter, what it was given and what it takes; its whole schema follows.
            raise RunRefused(refusal_of, str(answer.json().get("detail", answer.text)).partition("\n")[0])
        if answer.is_error and not (missing_is_fine and answer.status_code == httpx.codes.NOT_FOUND):
            raise ServiceUnavailable("Airflow", self._address, f"HTTP {answer.status_code} for {path}")
        return answer


def _name(run: dict[str, Any], conf: dict[str, Any]) -> str:
    """Return the release that a run makes, as its snapshot names it."""
    moment = choose_moment(
        asked=conf.get("as_of"),
        run_type=run["run_type"],
        logical_date=datetime.fromisoformat(run["logical_date"]) if run["logical_date"] else None,
        run_after=datetime.fromisoformat(run["run_after"]),
    )
    return release_name(moment.as_of, run["dag_run_id"])


def _last_exception(events: list[Any]) -> str:
    """Return the message of the last exception in a task's structured log, on one line."""
    for event in reversed(events):
        details = event.get("error_detail") if isinstance(event, dict) else None
        if details:
            last = details[0] if isinstance(details, list) else details
            return " ".join(str(last.get("exc_value", "")).split())
    return ""
