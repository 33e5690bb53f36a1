"""Night after night on the real servers: what a night costs, and what a night survives."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from reindex.naming import alias_name, dag_id, release_name
from reindex.parts import EmbeddingStore
from reindex.records import CATALOG_SCHEMA
from reindex.releases import ReleaseFiles
from reindex.stack.processes import stack_processes
from reindex.tables import Tables
from tests.conftest import LiveStack
from tests.test_live import TOPICS, api, live_collection, started_run

pytestmark = [pytest.mark.live, pytest.mark.timeout(1200)]
CORPUS = "nights"
DOCUMENTS = 300
# Among the long ones.
EDITED = 7


def paragraph(number: int, part: int) -> str:
    topic = TOPICS[(number + part) % len(TOPICS)]
    return " ".join(
        f"Note {number} counts {number * 31 + part * 7 + i} {topic} in year {1900 + (number * part + i) % 100}."
        for i in range(6)
    )


def write_document(folder: Path, number: int, *, name: str = "note", edited: str = "") -> None:
    """Write a note of one chunk; every hundredth is as long as ten."""
    count = 30 if number % 100 == EDITED else 3
    parts = [f"## Part {part} of note {number}\n\n{paragraph(number, part)}" for part in range(count)]
    if edited:
        parts[1] += f" {edited}"
    (folder / f"{name}-{number:03d}.md").write_text(f"# Note {number}\n\n" + "\n\n".join(parts))


class Night:
    """The corpus's bucket as a folder, and a run over it."""

    def __init__(self, stack: LiveStack, folder: Path) -> None:
        self.stack, self.folder = stack, folder

    def put(self) -> None:
        """Make the bucket hold exactly what the folder does."""
        self.stack.answer("put", CORPUS, str(self.folder))
        objects = self.stack.objects()
        for key in list(objects.keys("sources", f"{CORPUS}/")):
            if not (self.folder / key.removeprefix(f"{CORPUS}/")).exists():
                objects.delete("sources", key)

    def run(self, *words: str) -> dict[str, Any]:
        self.put()
        report: dict[str, Any] = self.stack.answer("run", CORPUS, *words)
        return report


@pytest.fixture(scope="module")
def night(stack: LiveStack, tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Return the night after a first release of three hundred documents."""
    folder = tmp_path_factory.mktemp(CORPUS)
    for number in range(DOCUMENTS):
        write_document(folder, number)
    first = Night(stack, folder)
    report = first.run()
    assert (report["embedded"], report["reused"]) == (DOCUMENTS, 0)
    return first


def ids(stack: LiveStack) -> set[str]:
    with stack.milvus() as store:
        collection = store.resolve_alias(alias_name(CORPUS))
        assert collection
        pages = store._client.query_iterator(collection, batch_size=10_000, output_fields=["id"])
        found: list[str] = []
        while page := pages.next():
            found += [row["id"] for row in page]
    assert len(found) == len(set(found))
    return set(found)


def test_a_night_without_a_change_builds_nothing(stack: LiveStack, night: Night) -> None:
    before = live_collection(stack, CORPUS)
    report = night.run()
    assert (report["outcome"], report["chunks_embedded"], report["collection"]) == ("unchanged", None, None)
    assert live_collection(stack, CORPUS) == before
    assert stack.answer("releases", CORPUS)[0]["state"] == "unchanged"
    with api(stack) as airflow:
        runs = airflow.get(f"/api/v2/dags/{dag_id(CORPUS)}/dagRuns?order_by=-run_after&limit=1").json()["dag_runs"]
        path = f"/api/v2/dags/{dag_id(CORPUS)}/dagRuns/{runs[0]['dag_run_id']}"
        tasks = airflow.get(f"{path}/taskInstances").json()["task_instances"]
    skipped = {task["task_id"] for task in tasks if task["state"] == "skipped"}
    assert runs[0]["state"] == "success"
    assert skipped == {"embed", "assemble", "load", "index", "verify", "promote"}


def test_an_edit_of_one_paragraph_embeds_three_chunks_at_most(stack: LiveStack, night: Night) -> None:
    write_document(night.folder, EDITED, edited="The lighthouse keeper corrected this sentence by hand.")
    report = night.run()
    assert (report["embedded"], report["reused"]) == (1, DOCUMENTS - 1)
    assert 1 <= report["chunks_embedded"] <= 3
    assert report["chunks_reused"] == report["rows"] - report["chunks_embedded"]
    hits = stack.answer("search", CORPUS, "which keeper corrected a sentence by hand?", "-k", "1")
    assert (hits[0]["document"], "lighthouse keeper" in hits[0]["text"]) == (f"{CORPUS}/note-007.md", True)


def test_a_rename_of_fifty_documents_embeds_nothing(stack: LiveStack, night: Night) -> None:
    for number in range(100, 150):
        (night.folder / f"note-{number:03d}.md").unlink()
        write_document(night.folder, number, name="renamed")
    report = night.run()
    assert (report["chunks_embedded"], report["withdrawn"], report["warning"]) == (0, 50, "")
    found = ids(stack)
    assert len(found) == report["rows"]
    hits = stack.answer("search", CORPUS, "note 120", "--filter", 'document like "nights/renamed-120%"', "-k", "1")
    assert hits[0]["document"] == f"{CORPUS}/renamed-120.md"


def test_the_deletion_of_half_of_the_documents_is_withheld(stack: LiveStack, night: Night, tmp_path: Path) -> None:
    kept_aside = tmp_path / "aside"
    kept_aside.mkdir()
    for number in range(100):
        shutil.move(night.folder / f"note-{number:03d}.md", kept_aside)
    for number in range(100, 150):
        shutil.move(night.folder / f"renamed-{number:03d}.md", kept_aside)
    before = ids(stack)
    report = night.run()
    assert report["outcome"] == "unchanged"
    assert report["warning"].startswith("150 documents are no longer listed, more than gate.max_deleted_share allows")
    assert len(report["withheld_keys"]) == 150
    assert ids(stack) == before
    for file in kept_aside.iterdir():
        shutil.move(file, night.folder)


@dataclass(slots=True)
class Blow:
    """One kill: what it strikes, and the moment for it."""

    name: str
    is_time: Callable[[], Any]
    strike: Callable[[Any], None]
    is_struck: bool = False


class Killer(threading.Thread):
    """Strikes each blow once, in order, as a run reaches its moment."""

    def __init__(self, blows: list[Blow]) -> None:
        super().__init__(daemon=True)
        self.blows, self.is_over = blows, False

    def run(self) -> None:
        for blow in self.blows:
            while not (found := blow.is_time()):
                if self.is_over:
                    return
                time.sleep(0.01)
            blow.strike(found)
            blow.is_struck = True

    def end(self) -> None:
        self.is_over = True
        self.join()


class Kills:
    """What can be killed of the next run of the corpus, at its moments."""

    def __init__(self, stack: LiveStack, airflow: Any) -> None:
        self.stack, self.airflow, self.objects = stack, airflow, stack.objects()
        self.before, self.path, self.release = self.newest_run()["dag_run_id"], "", ""
        scheduler = next(row for row in stack.answer("status") if row["name"] == "airflow-scheduler")
        self.scheduler = psutil.Process(scheduler["pid"])
        self.killed: set[int] = set()

    def newest_run(self) -> dict[str, Any]:
        runs = self.airflow.get(f"/api/v2/dags/{dag_id(CORPUS)}/dagRuns?order_by=-run_after&limit=1").json()["dag_runs"]
        return dict(runs[0])

    def state_of(self, stage: str) -> dict[str, Any]:
        """Return Airflow's record of a stage's task, empty before there is one."""
        if not self.path:
            run = self.newest_run()
            if run["dag_run_id"] == self.before:
                return {}
            self.path = f"/api/v2/dags/{dag_id(CORPUS)}/dagRuns/{run['dag_run_id']}/taskInstances"
            self.release = release_name(datetime.fromisoformat(run["run_after"]), run["dag_run_id"])
        with suppress(httpx.HTTPError):
            answer = self.airflow.get(f"{self.path}/{stage}")
            return dict(answer.json()) if answer.is_success else {}
        return {}

    def task(self, stage: str) -> list[psutil.Process]:
        """Return the process that runs a stage's task, once it does: some live for a second only."""
        title = f"airflow worker -- {self.state_of(stage).get('id')}"
        with suppress(psutil.Error):
            tasks = self.scheduler.children(recursive=True)
            return self.wanted(tasks, lambda words: " ".join(words).strip() == title)
        return []

    def job_after(self, parts: int) -> list[psutil.Process]:
        """Return the driver of the embedding once it has completed so many parts."""
        keys = self.objects.keys("reindex", f"reindex/{CORPUS}/spaces/")
        complete = [key for key in keys if f"/catalog/{self.release}-" in key]
        return self.job("embed") if len(complete) >= parts else []

    def job_going_on(self) -> list[psutil.Process]:
        """Return the driver of the embedding once it has done that, and assembles."""
        files = self.files()
        return self.job("embed") if files.report("embed") and not files.report("assemble") else []

    def job_loading(self) -> list[psutil.Process]:
        """Return the driver of the embedding once it has handed the release's files to Milvus."""
        files = self.files()
        is_given = (files.read_json("load_jobs.json") or {}).get("jobs")
        return self.job("embed") if self.state_of("embed") and is_given and not files.report("load") else []

    def files(self) -> ReleaseFiles:
        return ReleaseFiles(self.objects, "reindex", CORPUS, self.release)

    def job(self, stage: str) -> list[psutil.Process]:
        """Return the driver of a stage's Ray job, once it works."""
        return self.running(lambda words: words[1:4] == ["-m", "reindex.jobs", stage])

    def milvus_while(self, stage: str) -> list[psutil.Process]:
        """Return Milvus, once a stage waits for it: in its task or, after a while, in the triggerer."""
        is_given = stage != "load" or (self.files().read_json("load_jobs.json") or {}).get("jobs")
        if not is_given or self.state_of(stage).get("state") not in {"running", "deferred"}:
            return []
        return self.running(lambda words: words[1:3] == ["run", "standalone"] and words[0].endswith("milvus"))

    def running(self, is_wanted: Callable[[list[str]], bool]) -> list[psutil.Process]:
        """Return the stack's processes with such a command line, but for those that were killed."""
        return self.wanted(stack_processes(self.stack.home), is_wanted)

    def wanted(self, processes: list[psutil.Process], is_wanted: Callable[[list[str]], bool]) -> list[psutil.Process]:
        found = []
        for process in processes:
            with suppress(psutil.Error):
                if process.pid not in self.killed and is_wanted(process.cmdline()):
                    found.append(process)
        return found

    def kill(self, processes: list[psutil.Process]) -> None:
        for process in processes:
            self.killed.add(process.pid)
            with suppress(psutil.NoSuchProcess):
                process.kill()


def test_a_run_that_is_killed_at_ten_points_ends_as_an_undisturbed_one(stack: LiveStack, night: Night) -> None:
    """A rebuild, so that everything is embedded: the ids are those of the release before, over the same documents."""
    undisturbed = ids(stack)
    night.put()
    with api(stack) as airflow:
        kills = Kills(stack, airflow)
        blows = [
            Blow("the task of plan", lambda: kills.task("plan"), kills.kill),
            Blow("the task of embed", lambda: kills.task("embed"), kills.kill),
            Blow("the job of embed, two parts written", lambda: kills.job_after(2), kills.kill),
            Blow("the job of embed, gone on to assemble", kills.job_going_on, kills.kill),
            Blow("the task of load", lambda: kills.task("load"), kills.kill),
            Blow("Milvus while it imports", lambda: kills.milvus_while("load"), kills.kill),
            Blow("Milvus while it builds the index", lambda: kills.milvus_while("index"), kills.kill),
            Blow("the job of verify", lambda: kills.job("verify"), kills.kill),
            Blow("Milvus while it is measured", lambda: kills.milvus_while("verify"), kills.kill),
            Blow("the task of promote", lambda: kills.task("promote"), kills.kill),
        ]
        rebuild_under(stack, blows)
    files = ReleaseFiles(stack.objects(), "reindex", CORPUS, kills.release)
    assert ids(stack) == undisturbed
    embed = files.needed_report("embed")
    assert (embed["embedded"], embed["reused"]) == (DOCUMENTS, 0)
    assert embedded_documents(stack, files) == DOCUMENTS


def test_a_job_that_dies_while_it_loads_leaves_the_rest_to_the_tasks(stack: LiveStack) -> None:
    undisturbed = ids(stack)
    with api(stack) as airflow:
        kills = Kills(stack, airflow)
        rebuild_under(stack, [Blow("the job that loads", kills.job_loading, kills.kill)])
    assert ids(stack) == undisturbed


def rebuild_under(stack: LiveStack, blows: list[Blow]) -> None:
    """Rebuild the corpus while the blows strike: each does, and the run succeeds all the same."""
    killer = Killer(blows)
    killer.start()
    try:
        with started_run(stack, CORPUS, "--rebuild", "--json") as run:
            said, complaint = run.communicate(timeout=1100)
    finally:
        killer.end()
    assert run.returncode == 0, (complaint, [blow.name for blow in blows if blow.is_struck])
    assert [blow.name for blow in blows if not blow.is_struck] == [], said


def embedded_documents(stack: LiveStack, files: ReleaseFiles) -> int:
    """Return how many times a document was embedded into a complete part of the release: once each, if all is well."""
    space = files.needed_report("embed")["space"]
    parts = EmbeddingStore(stack.objects(), "reindex", CORPUS, space)
    with Tables() as tables:
        keys = [parts.catalog_key(files.release)]
        tables.add("mine", stack.objects(), "reindex", keys, CATALOG_SCHEMA)
        return int(tables.row("select count(*) as rows from mine where embedded > 0")["rows"])
