"""What readers get, measured again by command and through Airflow: as it was promoted, and after rows have vanished."""

from __future__ import annotations

from typing import Any

import pytest

from reindex.naming import CHECK_DAG, alias_name, noise_key, twin_name
from tests.conftest import LiveStack
from tests.test_live import api, live_collection, put_documents

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]

CORPUS = "drifting"


@pytest.fixture(scope="module")
def release(stack: LiveStack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the report of a release that is live."""
    put_documents(stack, tmp_path_factory.mktemp(CORPUS), CORPUS)
    return dict(stack.answer("run", CORPUS))


def test_what_was_never_promoted_cannot_be_checked(stack: LiveStack) -> None:
    assert "failed in choose: nothing has been promoted to the alias mismatch yet" in stack.refusal(
        "verify", "mismatch"
    )


def test_what_is_live_passes_as_it_did_and_two_builds_of_it_hardly_differ(
    stack: LiveStack, release: dict[str, Any]
) -> None:
    check = stack.answer("verify", CORPUS, "--noise")
    assert (check["release"], check["rows"]) == (release["release"], release["rows"])
    passed = {row["gate"] for row in check["gates"] if row["passed"]}
    assert {"ledger", "vectors"} <= passed
    assert not any(row["passed"] is False for row in check["gates"])
    assert check["drift"]["p99_now"] > 0
    assert check["drift"]["segments_changed"] is False
    noise = stack.objects().read_json("reindex", noise_key(CORPUS))
    assert noise == check["noise"]
    assert 0 <= check["noise"]["recall"] <= 0.05
    with stack.milvus() as store:
        assert twin_name(release["collection"]) not in store.collections()


def test_the_check_s_task_is_named_after_its_corpus_and_leads_to_its_report(
    stack: LiveStack, release: dict[str, Any]
) -> None:
    with api(stack) as airflow:
        runs = airflow.get(f"/api/v2/dags/{CHECK_DAG}/dagRuns", params={"order_by": "-run_after"}).json()["dag_runs"]
        run = next(run["dag_run_id"] for run in runs if run["conf"].get("noise"))
        task = f"/api/v2/dags/{CHECK_DAG}/dagRuns/{run}/taskInstances/check/0"
        assert airflow.get(task).json()["rendered_map_index"] == CORPUS
        links = airflow.get(f"{task.removesuffix('/0')}/links", params={"map_index": 0}).json()["extra_links"]
        assert f"/reindex/releases/{CORPUS}/check-" in links["Report"]
        assert links["Release"].endswith(f"/reindex/corpora/{CORPUS}/releases/{release['release']}")
        page = airflow.get(links["Report"])
    assert page.status_code == 200
    assert release["release"] in page.text


def test_rows_that_vanish_from_what_is_live_are_an_alarm_with_the_reason(
    stack: LiveStack, release: dict[str, Any]
) -> None:
    collection = live_collection(stack, CORPUS)
    assert collection == release["collection"]
    with stack.milvus() as store:
        rows = store.fetch(alias_name(CORPUS), "language", ["eng"], ["id"])
        store.delete_rows(collection, [row["id"] for row in rows[: len(rows) // 4]])
    said = stack.refusal("verify", CORPUS)
    assert f"failed in check: the live index of {CORPUS}, {release['release']}, has drifted: the ledger" in said
    assert said.endswith(f"readers still get it: roll back (`reindex rollback {CORPUS}`) or run again")
    assert live_collection(stack, CORPUS) == collection
