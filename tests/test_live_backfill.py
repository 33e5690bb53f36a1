"""Past nights over a bucket that keeps versions: each release holds the texts of its own night."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reindex.naming import collection_name, dag_id, release_name
from reindex.releases import ReleaseFiles
from reindex.stack.environment import BIN, airflow_environment, inherited_environment
from reindex.stack.state import load_state
from tests.conftest import HISTORY, LiveStack
from tests.test_live import api, live_collection, wait_until

pytestmark = [pytest.mark.live, pytest.mark.timeout(1200)]
CORPUS = "history"


def airflow(stack: LiveStack, *words: str) -> None:
    """Run Airflow's own command line, as an operator would."""
    state = load_state(stack.home)
    assert state is not None
    environment = {**inherited_environment(stack.home, stack.environment), **airflow_environment(state)}
    done = subprocess.run([BIN / "airflow", *words], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def runs(stack: LiveStack) -> list[dict[str, Any]]:
    with api(stack) as client:
        path = f"/api/v2/dags/{dag_id(CORPUS)}/dagRuns?order_by=logical_date&limit=50"
        found: list[dict[str, Any]] = client.get(path).json()["dag_runs"]
    return found


def schedule(ticks: list[datetime]) -> str:
    """Return a cron expression with these ticks in it."""
    minutes, hours = ({getattr(tick, unit) for tick in ticks} for unit in ("minute", "hour"))
    return f"{','.join(map(str, sorted(minutes)))} {','.join(map(str, sorted(hours)))} * * *"


@pytest.fixture(scope="module")
def releases(stack: LiveStack) -> list[ReleaseFiles]:
    """Return the releases of three backfilled nights, none of them promoted."""
    nights = stack.history.nights()
    # A new DAG runs for its latest tick at once, which is to be none of the nights.
    latest = nights[-1] + timedelta(minutes=1)
    wait_until(lambda: datetime.now(UTC) > latest)
    stack.write_corpus(CORPUS, schedule=schedule([*nights, latest]), promote="never")
    with api(stack) as client:
        wait_until(lambda: client.get(f"/api/v2/dags/{dag_id(CORPUS)}").is_success)
    period = ["--from-date", nights[0].isoformat(), "--to-date", nights[-1].isoformat()]
    airflow(stack, "backfill", "create", "--dag-id", dag_id(CORPUS), *period, "--max-active-runs", "3")
    wait_until(lambda: len(runs(stack)) == len(nights) + 1)
    wait_until(lambda: all(run["state"] in {"success", "failed"} for run in runs(stack)), 900)
    assert {run["state"] for run in runs(stack)} == {"success"}
    backfilled = [run for run in runs(stack) if run["run_type"] == "backfill"]
    names = [release_name(datetime.fromisoformat(run["logical_date"]), run["dag_run_id"]) for run in backfilled]
    return [ReleaseFiles(stack.objects(), "reindex", CORPUS, name) for name in names]


def texts(stack: LiveStack, files: ReleaseFiles) -> set[tuple[str, str]]:
    """Return what the release's collection holds: document and text of every row."""
    collection = collection_name(CORPUS, files.release)
    with stack.milvus() as store:
        store.load(collection)
        wait_until(lambda: store.load_state(collection).loaded)
        rows = store._client.query(collection, filter="", limit=1000, output_fields=["document", "text"])
    return {(row["document"].removeprefix(f"{CORPUS}/"), row["text"]) for row in rows}


def test_each_night_has_exactly_its_own_texts(stack: LiveStack, releases: list[ReleaseFiles]) -> None:
    assert [texts(stack, files) for files in releases] == [set(held.items()) for held in HISTORY]
    as_of = [datetime.fromisoformat(files.needed_report("snapshot")["as_of"]) for files in releases]
    assert as_of == stack.history.nights()


def test_the_nights_share_their_embedding(stack: LiveStack, releases: list[ReleaseFiles]) -> None:
    """Whichever of them came first, and the run of the latest tick beside them: each text was embedded once."""
    different = {text for held in HISTORY for text in held.values()}
    reports = [releases[0].of(row["release"]).needed_report("embed") for row in stack.answer("releases", CORPUS)]
    assert len(reports) == len(releases) + 1
    assert sum(report["chunks_embedded"] for report in reports) == len(different)


def test_nothing_was_promoted(stack: LiveStack, releases: list[ReleaseFiles]) -> None:
    assert live_collection(stack, CORPUS) is None
    assert {row["state"] for row in stack.answer("releases", CORPUS)} == {"green"}


def test_a_run_as_of_the_second_night_is_promoted_forward_only(stack: LiveStack, releases: list[ReleaseFiles]) -> None:
    second, third = stack.history.nights()[1:]
    report = stack.answer("run", CORPUS, "--as-of", third.isoformat(), "--promote", "auto")
    assert (report["promoted"], report["chunks_embedded"]) == (True, 0)
    assert report["release"].startswith(third.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ"))
    said = stack.refusal("run", CORPUS, "--as-of", second.isoformat(), "--promote", "auto")
    assert "promotion goes forward only" in said
    assert live_collection(stack, CORPUS) == report["collection"]


def test_a_moment_to_come_is_refused(stack: LiveStack, releases: list[ReleaseFiles]) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    assert "has not come yet" in stack.refusal("run", CORPUS, "--as-of", tomorrow)
