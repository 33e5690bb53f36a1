"""Whole releases through the real servers: SeaweedFS, Milvus, Ray and Airflow, in a stack of the tests' own."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from reindex.errors import ServiceUnavailable
from reindex.naming import alias_name, collection_name, job_name, release_name
from reindex.releases import ReleaseFiles, read_live, release_names
from reindex.runs import Airflow
from reindex.settings import Index, airflow_connection
from reindex.stack.state import load_state
from reindex.stack.supervisor import connected
from tests.conftest import REINDEX, LiveStack
from tests.samples import pdf, readable_samples

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]

TOPICS = ["tides", "volcanoes", "bridges", "orchids", "glaciers", "lighthouses", "looms", "comets"]


def write_documents(folder: Path, count: int = 24) -> None:
    """Write documents that each speak of their own number, enough for queries to tell apart."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        topic = TOPICS[number % len(TOPICS)]
        sentences = [
            f"Report {number} says in sentence {i} that the {topic} of station {number * 37 + i} were counted "
            f"{number * i + 3} times by observer {chr(65 + i % 26)}{number}."
            for i in range(40)
        ]
        (folder / f"report-{number:03d}.md").write_text(f"# Report {number} on {topic}\n\n" + " ".join(sentences))


def put_documents(stack: LiveStack, folder: Path, corpus: str) -> None:
    write_documents(folder)
    stack.answer("put", corpus, str(folder))


def live_collection(stack: LiveStack, corpus: str) -> str | None:
    with stack.milvus() as store:
        return store.resolve_alias(alias_name(corpus))


def wait_until(condition: Callable[[], Any], seconds: float = 120, *, pause: float = 0.2) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(pause)
    return found


@contextmanager
def api(stack: LiveStack) -> Iterator[httpx.Client]:
    with closing(Airflow(airflow_connection(stack.servers()))) as airflow:
        yield airflow._client


def alias_answers(stack: LiveStack, corpus: str) -> bool:
    """Return whether a reader gets an answer through the alias."""
    try:
        with stack.milvus() as store:
            vectors = store.sample_vectors(alias_name(corpus), 1)
            return bool(store.search(alias_name(corpus), vectors, k=3, params={"ef": 10})[0])
    except ServiceUnavailable:
        return False


@pytest.fixture(scope="module")
def docs(stack: LiveStack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the report of a first release of the corpus `docs`, which holds one document that cannot be parsed."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "formats").mkdir()
    for name, data in readable_samples():
        (folder / "formats" / name).write_bytes(data)
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 and then nothing")
    (folder / "manual.pdf").write_bytes(pdf("how to start the engine", "how to stop the engine safely"))
    put_documents(stack, folder, "docs")
    report: dict[str, Any] = stack.answer("run", "docs")
    return report


def test_a_release_accounts_for_every_document_and_is_verified(docs: dict[str, Any]) -> None:
    assert docs["listed"] == 24 + len(readable_samples()) + 2 == docs["indexed"] + docs["rejected"]
    assert {row["gate"]: row["passed"] for row in docs["gates"]} == {
        "ledger": True,
        "rejects": True,
        "vectors": True,
        "recall": None,
        "relevance": None,
        "latency": None,
    }
    assert docs["recall"] is None
    assert docs["recall_note"].startswith("recall is meaningless below 1,024 rows a segment")
    assert docs["promoted"]
    assert list(docs["seconds"]) == [
        "snapshot", "plan", "embed", "assemble", "load", "index", "verify", "promote", "retire",
    ]  # fmt: skip


def test_one_ray_job_sees_a_small_release_through(stack: LiveStack, docs: dict[str, Any]) -> None:
    files = ReleaseFiles(stack.objects(), "reindex", "docs", docs["release"])
    embedding = job_name("docs", docs["release"], "embed", 1)
    assert files.claim("verify", "whoever asks") == embedding
    with httpx.Client(headers={"Authorization": f"Bearer {stack.servers()['REINDEX_RAY_TOKEN']}"}) as ray:
        jobs = ray.get(f"{stack.servers()['REINDEX_RAY_URL']}/api/jobs/").json()
    of_release = {job["submission_id"]: job["status"] for job in jobs if docs["release"] in job["submission_id"]}
    assert of_release == {embedding: "SUCCEEDED"}


def test_a_document_that_cannot_be_parsed_is_counted_and_named(stack: LiveStack, docs: dict[str, Any]) -> None:
    assert docs["rejected_by_reason"] == {"cannot-be-parsed": 1}
    files = ReleaseFiles(stack.objects(), "reindex", "docs", docs["release"])
    assert files.read_column("rejects.parquet", "key") == ["docs/broken.pdf"]
    assert "PDF" in files.read_column("rejects.parquet", "detail")[0]


def test_a_search_through_the_alias_finds_the_document_that_says_it(stack: LiveStack, docs: dict[str, Any]) -> None:
    hits = stack.answer("search", "docs", "how often were the volcanoes counted in report 9?", "-k", "5")
    assert len(hits) == 5
    assert all("volcanoes" in hit["text"] for hit in hits)
    assert hits[0].keys() >= {"document", "section", "page", "score", "text", "id"}
    filtered = stack.answer("search", "docs", "stop the engine safely", "--filter", 'document like "docs/manual%"')
    assert [(hit["document"], hit["page"]) for hit in filtered] == [("docs/manual.pdf", 1)]


def test_the_rows_of_the_collection_are_those_of_the_ledger(stack: LiveStack, docs: dict[str, Any]) -> None:
    with stack.milvus() as store:
        assert store.count_rows("docs") == store.count_distinct_ids("docs") == docs["rows"]


def test_the_dag_stands_in_airflow_with_schedule_form_and_documented_tasks(
    stack: LiveStack, docs: dict[str, Any]
) -> None:
    with api(stack) as airflow:
        details = airflow.get("/api/v2/dags/reindex_docs/details").json()
        tasks = airflow.get("/api/v2/dags/reindex_docs/tasks").json()["tasks"]
    assert details["timetable_summary"] == "0 2 1 1 *"
    assert not details["is_paused"]
    assert details["params"]["promote"]["schema"]["enum"] == [None, "auto", "never"]
    assert len(tasks) == 9
    assert all(task["doc_md"] for task in tasks)


def test_every_task_leads_to_the_page_of_its_release(stack: LiveStack, docs: dict[str, Any]) -> None:
    with api(stack) as airflow:
        runs = airflow.get("/api/v2/dags/reindex_docs/dagRuns", params={"run_type": "manual"}).json()["dag_runs"]
        path = f"/api/v2/dags/reindex_docs/dagRuns/{runs[0]['dag_run_id']}/taskInstances"
        links = {stage: airflow.get(f"{path}/{stage}/links").json()["extra_links"] for stage in docs["seconds"]}
        assert {found["Release"] for found in links.values()} == {links["snapshot"]["Release"]}
        assert links["verify"]["Report"]
        assert docs["release"] in airflow.get(links["snapshot"]["Release"]).text


def started_run(stack: LiveStack, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [REINDEX, "run", *words],
        env={**stack.environment, "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_load(stack: LiveStack, corpus: str) -> str:
    """Return the collection of the corpus's newest release as soon as Milvus has been handed a file for it."""
    objects = stack.objects()

    def collection_in_load() -> str | None:
        newest = ReleaseFiles(objects, "reindex", corpus, max(release_names(objects, "reindex", corpus)))
        begun = newest.read_json("load_jobs.json") or {}
        return str(begun["collection"]) if begun.get("jobs") and not newest.report("load") else None

    # Often: a small import is over within a second.
    return str(wait_until(collection_in_load, 300, pause=0.02))


def test_a_trigger_over_rest_with_a_logical_date_replaces_the_release_before(
    stack: LiveStack, docs: dict[str, Any]
) -> None:
    """And does so though Milvus is killed in mid-load: whether it goes on or starts anew, no row is doubled."""
    now = datetime.now(UTC)
    milvus = next(row for row in stack.answer("status") if row["name"] == "milvus")
    with api(stack) as airflow:
        body = {"logical_date": now.isoformat(), "conf": {"rebuild": True}}
        run = airflow.post("/api/v2/dags/reindex_docs/dagRuns", json=body).json()
        collection = wait_for_load(stack, "docs")
        subprocess.run(["kill", "-KILL", str(milvus["pid"])], check=True)
        release = release_name(now, run["dag_run_id"])
        files = ReleaseFiles(stack.objects(), "reindex", "docs", release)
        assert (files.report("load"), collection) == (None, collection_name("docs", release))
        path = f"/api/v2/dags/reindex_docs/dagRuns/{run['dag_run_id']}"
        wait_until(lambda: airflow.get(path).json()["state"] in {"success", "failed"}, 600)
        assert airflow.get(path).json()["state"] == "success"
        events = airflow.get("/api/v2/assets/events?source_dag_id=reindex_docs").json()["asset_events"]
    assert live_collection(stack, "docs") == collection
    live, _ = read_live(stack.objects(), "reindex", "docs")
    assert live is not None
    assert (live.release, live.replaced) == (release, docs["release"])
    assert docs["live_search"]["note"] == "nothing was live"
    searched = files.needed_report("verify")["live_search"]
    assert (searched["live"], searched["idle"]["searches"]) == (docs["release"], 200)
    assert searched["stages"]["embed"]["searches"] > 10
    # Whether one of them fails is chance: Milvus may be back before the wait for it begins, and its probe with it.
    assert searched["stages"]["load"]["searches"] > 0
    assert [event["extra"].get("release") for event in events] == [docs["release"], release]
    states = {row["release"]: row["state"] for row in stack.answer("releases", "docs")}
    assert states == {release: "live", docs["release"]: "retained"}
    with stack.milvus() as store:
        assert store.count_rows("docs") == store.count_distinct_ids("docs") == docs["rows"]


def test_a_gate_that_fails_says_so_and_leaves_the_alias_where_it_was(stack: LiveStack, docs: dict[str, Any]) -> None:
    before = live_collection(stack, "docs")
    stack.write_corpus("docs", gate={"max_p99_ms": 0.001, "max_rejected_share": 0.1})
    said = stack.refusal("run", "docs", "--rebuild")
    assert re.search(r"failed in verify: the 99th percentile of a search is .* ms, over", said), said
    assert live_collection(stack, "docs") == before
    newest = stack.answer("releases", "docs")[0]
    assert newest["state"] == "failed"
    assert "over gate.max_p99_ms 0.001" in newest["failed"]
    with stack.milvus() as store:
        assert not store.load_state(collection_name("docs", newest["release"])).loaded
    assert alias_answers(stack, "docs")


def test_a_milvus_that_dies_in_mid_load_fails_the_run_and_the_alias_answers_afterwards(
    stack: LiveStack, docs: dict[str, Any]
) -> None:
    before = live_collection(stack, "docs")
    stack.write_corpus("docs", gate={"max_rejected_share": 0.1})
    state = load_state(stack.home)
    assert state is not None
    with started_run(stack, "docs", "--rebuild") as run:
        wait_for_load(stack, "docs")
        with connected(state) as supervisor:
            supervisor.stop(["milvus"])
        try:
            _, said = run.communicate(timeout=900)
        finally:
            stack.answer("up")
    assert run.returncode == 1
    assert re.search(r"failed in load: Milvus does not answer at http://127\.0\.0\.1:\d+ ", said), said
    wait_until(lambda: alias_answers(stack, "docs"))
    assert live_collection(stack, "docs") == before


# Every mistake is one clear line and a non-zero exit, and changes nothing.


def test_an_unknown_corpus_is_refused(stack: LiveStack) -> None:
    assert stack.refusal("run", "nothing").startswith("no corpus is called 'nothing'")


def test_an_unknown_key_is_refused(stack: LiveStack) -> None:
    stack.write_corpus("typo", gaet={})
    assert "typo.yaml: gaet: unknown key; allowed here: name, source" in stack.refusal("run", "typo")
    (Path(stack.environment["REINDEX_CORPORA"]) / "typo.yaml").unlink()


def test_a_missing_bucket_is_refused(stack: LiveStack) -> None:
    assert stack.refusal("run", "nobucket").startswith("there is no bucket 'nowhere'")
    assert stack.answer("releases", "nobucket") == []


def test_an_empty_prefix_is_refused_by_the_snapshot(stack: LiveStack) -> None:
    assert "failed in snapshot: s3://sources/empty/ holds no object" in stack.refusal("run", "empty")
    assert live_collection(stack, "empty") is None


def test_a_run_that_misses_its_deadline_is_told_and_can_be_cleared_before(stack: LiveStack) -> None:
    with api(stack) as airflow:
        dag = "/api/v2/dags/reindex_empty"
        run = airflow.post(f"{dag}/dagRuns", json={"logical_date": None}).json()["dag_run_id"]
        wait_until(lambda: airflow.get(f"{dag}/dagRuns/{run}").json()["state"] == "failed")
        cleared = airflow.post(f"{dag}/clearTaskInstances", json={"dry_run": False, "dag_run_id": run})
        assert cleared.status_code == 200, cleared.text
    log = stack.home / "logs" / "airflow-triggerer.log"
    wait_until(lambda: re.search(rf"empty is late: {re.escape(run)}, .* after more than 0.01 hours", log.read_text()))


def test_a_live_collection_of_another_dimension_is_refused_before_anything_is_embedded(
    stack: LiveStack, tmp_path: Path
) -> None:
    put_documents(stack, tmp_path, "mismatch")
    with stack.milvus() as store:
        store.create_collection("mismatch_old", dimension=8, index=Index())
        store.point_alias("mismatch", "mismatch_old")
    said = stack.refusal("run", "mismatch")
    assert "failed in plan: the live collection mismatch_old has dimension 8, the corpus makes 384" in said
    assert live_collection(stack, "mismatch") == "mismatch_old"
    assert list(stack.objects().keys("reindex", "reindex/mismatch/spaces/")) == []


@pytest.mark.parametrize(
    ("command", "variable", "service"),
    [
        (("run", "docs"), "REINDEX_S3_SECRET_KEY", "the object store"),
        (("run", "docs"), "REINDEX_AIRFLOW_PASSWORD", "Airflow"),
        (("releases", "docs"), "REINDEX_MILVUS_TOKEN", "Milvus"),
    ],
)
def test_wrong_credentials_are_refused_by_name(
    stack: LiveStack, docs: dict[str, Any], command: tuple[str, ...], variable: str, service: str
) -> None:
    before = stack.answer("releases", "docs")
    said = stack.refusal(*command, **{variable: "root:wrong"})
    assert re.match(rf"{service} at http://127\.0\.0\.1:\d+ refuses these credentials", said), said
    assert stack.answer("releases", "docs") == before


def test_a_stack_that_is_down_is_said_to_be(stack: LiveStack, docs: dict[str, Any], tmp_path: Path) -> None:
    stopped = {"REINDEX_S3_ENDPOINT": "http://127.0.0.1:9"}
    assert "the object store does not answer at http://127.0.0.1:9" in stack.refusal("run", "docs", **stopped)
    assert "`reindex up`" in stack.refusal("run", "docs", REINDEX_HOME=str(tmp_path))


def test_a_taken_port_is_refused_with_its_name_and_variable(stack: LiveStack, tmp_path: Path) -> None:
    port = stack.environment["REINDEX_PORT_S3"]
    said = stack.refusal("up", REINDEX_HOME=str(tmp_path / "other"))
    assert said == (
        f"port {port} (s3) is taken by another program; free it or choose another with REINDEX_PORT_S3=PORT"
    )


def test_after_down_and_up_the_alias_still_answers(stack: LiveStack, docs: dict[str, Any]) -> None:
    from reindex.stack import stack_processes

    assert stack.command("down").returncode == 0
    assert stack_processes(stack.home) == []
    stack.answer("up")
    wait_until(lambda: alias_answers(stack, "docs"), 60)
