"""An executor with which the scheduler rests until there is something for it to do.

Airflow's scheduler looks at its tables at intervals, by some twenty statements: shorter ones take a processor from the
work on a release, longer ones are lost between any two of its tasks. A scheduler calls `sync` once in each of its
rounds. Here that returns when a run or a task has changed, which one statement tells. For SQLite alone.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import Any

from airflow.configuration import conf
from airflow.executors.local_executor import LocalExecutor
from sqlalchemy.engine import make_url

_LOOK_SECONDS = 0.05
# What is due at a moment changes nothing before: schedules, retries and deadlines come so much later at most.
_LONGEST_REST_SECONDS = 2.0
# A run that waits for its moment should not wait for ours: to SQLite, Airflow's moments are whole seconds.
_LONGEST_REST_BEFORE_A_RUN_SECONDS = 0.25
_CHANGES = """
    select 0 as kind, dag_run.id, dag_run.state from dag_run where state in ('queued', 'running')
    union all
    select 1, task_instance.id, task_instance.state from task_instance join dag_run using (dag_id, run_id)
    where dag_run.state in ('queued', 'running')
"""


class RestingExecutor(LocalExecutor):  # type: ignore[misc] # airflow has no types here
    """Runs tasks as LocalExecutor does."""

    _seen: set[tuple[Any, ...]] | None = None

    def sync(self) -> None:
        """Take note of tasks that have ended; if none has, wait until something else has changed, or for a while."""
        super().sync()
        if not self.event_buffer:
            self._rest()

    def _rest(self) -> None:
        began = time.monotonic()
        with closing(sqlite3.connect(make_url(conf.get("database", "sql_alchemy_conn")).database)) as tables:
            while (found := set(tables.execute(_CHANGES))) == self._seen and self.result_queue.empty():
                is_awaited = any(state == "queued" for kind, _, state in found if kind == 0)
                longest = _LONGEST_REST_BEFORE_A_RUN_SECONDS if is_awaited else _LONGEST_REST_SECONDS
                if time.monotonic() - began >= longest:
                    break
                time.sleep(_LOOK_SECONDS)
        # What the scheduler does about it changes them again, and is then looked at once more.
        self._seen = found
