"""Two processes' worth of writers on one SQLite database, as Airflow's are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reindex.stack.preparation import prepare_airflow
from reindex.stack.state import new_state

# The first writer opens a savepoint and reads; the second one writes, or waits; then the first one writes.
WRITERS = """
import sys, threading
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session
from reindex.stack.sqlite import write_from_savepoints_on

if sys.argv[2] == "mended":
    write_from_savepoints_on()
first, second = (create_engine(f"sqlite:///{sys.argv[1]}?timeout=60") for _ in range(2))
with first.begin() as connection:
    connection.execute(text("PRAGMA journal_mode=WAL"))
    connection.execute(text("create table runs (name text)"))

def write_too():
    with Session(second) as other:
        other.execute(text("insert into runs values ('second')"))
        other.commit()

with Session(first) as session:
    session.begin_nested()
    session.execute(text("select * from runs")).all()
    writer = threading.Thread(target=write_too)
    writer.start()
    writer.join(3)
    session.execute(text("insert into runs values ('first')"))
    session.commit()
writer.join()
with first.connect() as connection:
    print(sorted(name for (name,) in connection.execute(text("select name from runs"))))
"""


def write(database: Path, how: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", WRITERS, str(database), how]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)


def test_a_savepoint_waits_for_its_turn_instead_of_being_refused(tmp_path: Path) -> None:
    done = write(tmp_path / "airflow.db", "mended")
    assert done.stdout.strip() == "['first', 'second']", done.stderr


def test_without_that_a_savepoint_that_has_read_is_refused(tmp_path: Path) -> None:
    """Why the module is there; once this fails, it can go."""
    assert "database is locked" in write(tmp_path / "airflow.db", "as it is").stderr


@pytest.mark.airflow
def test_airflow_s_own_processes_do_so(tmp_path: Path) -> None:
    state = new_state(tmp_path, ports={}, corpora=tmp_path)
    prepare_airflow(state)
    state.run.rmdir()
    ask = (
        "import airflow.settings as settings; settings.initialize(); from sqlalchemy import Engine, event; "
        "from reindex.stack.sqlite import _begin; print(event.contains(Engine, 'savepoint', _begin))"
    )
    known = {**os.environ, "AIRFLOW_HOME": str(tmp_path / "airflow")}
    done = subprocess.run(
        [sys.executable, "-c", ask], env=known, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.splitlines()[-1] == "True", done.stderr
