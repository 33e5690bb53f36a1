"""The DAGs and the plugin, loaded by Airflow itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from reindex.settings import PROJECT

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]

# In a process of its own: Airflow reads its settings when it is imported, and warns in ways that are not ours to mend.
LOOK = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
from reindex.errors import JobFailed, NotLive

def decision(task, error):
    return task.retry_policy.evaluate(error, 1, 3).action.value

bag = DagBag(dag_folder=sys.argv[1])
heavy = [name for name in ("torch", "ray", "pymilvus", "transformers", "kreuzberg") if name in sys.modules]
print("\\n" + json.dumps({
    "errors": bag.import_errors,
    "heavy": heavy,
    "dags": {name: {
        "schedule": getattr(dag.timetable, "expression", None),
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "params": {key: dag.params.get_param(key).schema for key in dag.params},
        "defaults": {key: dag.params.get_param(key).dump()["value"] for key in dag.params},
        "doc": dag.doc_md,
        "tags": sorted(dag.tags),
        "deadlines": [(alert.interval, alert.callback.path) for alert in dag.deadline or ()],
        "tasks": {task.task_id: {
            "upstream": sorted(task.upstream_task_ids),
            "doc": task.doc_md,
            "retries": task.retries,
            "pool": task.pool,
            "terminal": decision(task, NotLive("a")),
            "transient": decision(task, JobFailed("a", "b")),
            "outlets": [outlet.name for outlet in task.outlets],
            "trigger_rule": task.trigger_rule,
            "links": [link.name for link in task.operator_extra_links],
            "mapped": task.is_mapped,
            "index": getattr(task, "map_index_template", None),
        } for task in dag.tasks},
    } for name, dag in bag.dags.items()},
}))
"""
STAGES = ["snapshot", "plan", "embed", "assemble", "load", "index", "verify", "promote", "retire"]


def look(code: str, *arguments: str, corpora: Path, home: Path, **settings: str) -> Any:
    environment = {
        **settings,
        "PATH": os.environ["PATH"],
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
        "REINDEX_CORPORA": str(corpora),
        "PYTHONPATH": os.pathsep.join([str(PROJECT / "include"), str(PROJECT / "plugins"), str(PROJECT)]),
    }
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


_ASKED = "approval: {runs: manual, hours: 2}"


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Any:
    corpora = tmp_path_factory.mktemp("corpora")
    for name, rest in {
        "good": 'schedule: "30 1 * * *"\npromote: never\ndeadline_hours: 6',
        "manual": "",
        "bad": "typo: 1",
        "asked": _ASKED,
    }.items():
        (corpora / f"{name}.yaml").write_text(f"name: {name}\nsource: {{bucket: b}}\n{rest}\n")
    (corpora / "bad_name.yaml").write_text("name: bad_name\nsource: {bucket: b}\n")
    return look(LOOK, str(PROJECT / "dags"), corpora=corpora, home=tmp_path_factory.mktemp("airflow"))


def test_the_dags_load_without_an_error_and_without_torch_ray_or_pymilvus(bag: Any) -> None:
    assert bag["errors"] == {}
    assert bag["heavy"] == []


def test_every_corpus_file_is_a_dag_and_one_more_rolls_back_and_one_checks(bag: Any) -> None:
    corpora = {"reindex_asked", "reindex_good", "reindex_manual", "reindex_bad", "reindex_bad.name"}
    assert set(bag["dags"]) == corpora | {"reindex_roll_back", "reindex_verify_live"}


def test_the_rollback_chooses_waits_for_memory_and_switches(bag: Any) -> None:
    dag = bag["dags"]["reindex_roll_back"]
    upstream = {name: task["upstream"] for name, task in dag["tasks"].items()}
    assert upstream == {"choose": [], "reload": ["choose"], "roll_back": ["reload"]}
    assert (dag["schedule"], dag["tags"]) == (None, ["reindex", "rollback"])
    assert (dag["tasks"]["roll_back"]["pool"], dag["tasks"]["roll_back"]["outlets"]) == (
        "promotion",
        ["rolled_back_index"],
    )


def test_the_rollback_s_form_asks_for_a_corpus_however_broken_its_file_and_names_the_release_before(bag: Any) -> None:
    params = bag["dags"]["reindex_roll_back"]["params"]
    assert params["corpus"]["enum"] == ["asked", "bad", "bad_name", "good", "manual"]
    assert params["release"]["type"] == ["null", "string"]


def test_what_is_live_is_measured_every_morning_each_corpus_by_a_task_of_its_own(bag: Any) -> None:
    dag = bag["dags"]["reindex_verify_live"]
    assert (dag["schedule"], dag["catchup"], dag["max_active_runs"]) == ("0 6 * * *", False, 1)
    choose, check = dag["tasks"]["choose"], dag["tasks"]["check"]
    assert (choose["mapped"], check["mapped"], check["upstream"]) == (False, True, ["choose"])
    assert (check["pool"], check["index"], check["links"]) == (
        "ray",
        "{{ task.corpus }}",
        ["Ray job", "Report", "Release"],
    )


def test_the_form_of_the_check_begins_with_all_corpora_and_no_second_build(bag: Any) -> None:
    params = bag["dags"]["reindex_verify_live"]["params"]
    assert params["corpus"]["enum"] == [None, "asked", "bad", "bad_name", "good", "manual"]
    assert params["noise"]["type"] == "boolean"


FORMS = ("reindex_good", "reindex_roll_back", "reindex_verify_live")


def test_every_parameter_has_a_title_and_each_form_begins_open(bag: Any) -> None:
    for params in (bag["dags"][name]["params"] for name in FORMS):
        assert all(param["title"] for param in params.values())
        assert "section" not in next(iter(params.values()))
    good = bag["dags"]["reindex_good"]["params"]
    assert [name for name, param in good.items() if "section" in param] == ["rebuild", "max_deleted"]


def test_a_list_to_choose_from_has_a_text_for_each_value(bag: Any) -> None:
    """Airflow shows a value without one with the text of None."""
    for params in (bag["dags"][name]["params"] for name in FORMS):
        for param in params.values():
            shown = param.get("values_display")
            assert (
                shown is None
                or [json.loads(f'"{name}"') if name != "null" else None for name in shown] == param["enum"]
            )


TRIGGER = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.exceptions import ParamValidationError
from airflow.serialization.serialized_objects import DagSerialization
bag = DagBag(dag_folder=sys.argv[1])

def answer(name, conf):
    # As Airflow's server does it, which has not the DAG itself.
    params = DagSerialization.from_dict(DagSerialization.to_dict(bag.dags[name])).params
    try:
        return params.deep_merge(conf).validate()
    except ParamValidationError as error:
        return str(error).splitlines()[0]

print("\\n" + json.dumps([answer(name, conf) for name, conf in json.loads(sys.argv[2])]))
"""
_NOBODY_ASKED = {"promote": None, "as_of": None, "rebuild": False, "max_deleted": None}
_ASKED_OF_A_FORM = [
    ("reindex_good", {}, _NOBODY_ASKED),
    ("reindex_good", {"as_of": "2026-03-01"}, {**_NOBODY_ASKED, "as_of": "2026-03-01"}),
    ("reindex_good", {"as_of": "2026-03-01T02:00:00.000Z"}, {**_NOBODY_ASKED, "as_of": "2026-03-01T02:00:00.000Z"}),
    ("reindex_good", {"as_of": "yesterday"}, "param as_of: 'yesterday' does not match"),
    ("reindex_good", {"as_of": ""}, "param as_of: '' does not match"),
    ("reindex_good", {"promote": "ask"}, "param promote: 'ask' is not one of [None, 'auto', 'never']"),
    ("reindex_good", {"rebuild": "yes"}, "param rebuild: 'yes' is not of type 'boolean'"),
    ("reindex_good", {"max_deleted": 0}, {**_NOBODY_ASKED, "max_deleted": 0}),
    ("reindex_good", {"max_deleted": -1}, "param max_deleted: -1 is less than the minimum of 0"),
    ("reindex_good", {"max_deleted": 1.5}, "param max_deleted: 1.5 is not of type 'null', 'integer'"),
    ("reindex_roll_back", {}, "param corpus: No value passed"),
    ("reindex_roll_back", {"corpus": "good"}, {"corpus": "good", "release": None}),
    ("reindex_roll_back", {"corpus": "other"}, "param corpus: 'other' is not one of ['good']"),
    ("reindex_roll_back", {"corpus": "good", "release": "last"}, "param release: 'last' does not match"),
    ("reindex_verify_live", {}, {"corpus": None, "noise": False}),
    ("reindex_verify_live", {"corpus": "other"}, "param corpus: 'other' is not one of [None, 'good']"),
]


def test_a_wrong_value_is_refused_when_it_is_asked_for_with_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text("name: good\nsource: {bucket: b}\n")
    asked = json.dumps([[name, conf] for name, conf, _ in _ASKED_OF_A_FORM])
    answers = look(TRIGGER, str(PROJECT / "dags"), asked, corpora=tmp_path, home=tmp_path)
    for answer, (_, _, expected) in zip(answers, _ASKED_OF_A_FORM, strict=True):
        assert answer == expected if isinstance(expected, dict) else answer.startswith(f"Invalid input for {expected}")


MOMENT = """
import json, sys
from datetime import UTC, datetime
from types import SimpleNamespace
from reindex.errors import ReindexError
from reindex_airflow import tasks
from tests.fakes import release_files

files, pushed = release_files(), {}
tasks.hooks.services = lambda: SimpleNamespace(files=lambda corpus, release: files.of(release))
tasks.take_snapshot = lambda files, settings, as_of, is_past: {"as_of": as_of.isoformat(), "is_past": is_past}

def moment(run_type, logical_date, asked, conf=None):
    run = SimpleNamespace(
        run_type=SimpleNamespace(value=run_type),
        logical_date=logical_date and datetime.fromisoformat(logical_date),
        run_after=datetime(2026, 3, 1, 6, tzinfo=UTC),
        run_id=f"{run_type} {logical_date} {asked}",
        conf=conf,
    )
    ti = SimpleNamespace(xcom_push=lambda key, value: pushed.update({key: value}))
    # Of a run without a logical date Airflow's context has neither that nor any date made of it.
    params = {"as_of": asked}
    dag = SimpleNamespace(params={"promote": None, "as_of": None})
    tasks.get_current_context = lambda: {"params": params, "dag_run": run, "dag": dag, "ti": ti}
    try:
        release = tasks.snapshot_corpus.function("docs")
    except ReindexError as error:
        return f"{type(error).__name__}: {error}"
    report = files.of(release).report("snapshot")
    return [report["as_of"], report["is_past"], pushed["release_page"].endswith(release)]

misspelt = moment("manual", None, None, {"airflow/task_span_detail_level": 2, "promot": "never"})
print("\\n" + json.dumps([misspelt, *(moment(*case) for case in json.loads(sys.argv[1]))]))
"""
_NIGHT, _MORNING = "2026-03-01T02:00:00+00:00", "2026-03-01T06:00:00+00:00"
_MOMENTS: list[tuple[str, str | None, str | None, Any]] = [
    ("scheduled", _NIGHT, None, [_NIGHT, False, True]),
    ("manual", None, None, [_MORNING, False, True]),
    ("manual", _MORNING, None, [_MORNING, False, True]),
    ("manual", None, "2026-02-01", ["2026-02-01T00:00:00+00:00", True, True]),
    ("backfill", _NIGHT, None, [_NIGHT, True, True]),
    ("manual", None, "2026-02-30", "InvalidMoment: as_of '2026-02-30' is no moment"),
    ("backfill", _NIGHT, "2026-02-01", "BackfillMoment: as_of '2026-02-01' was given to a backfill"),
]


def test_a_run_of_any_kind_knows_its_moment_and_says_why_it_has_none(tmp_path: Path) -> None:
    (tmp_path / "docs.yaml").write_text("name: docs\nsource: {bucket: b}\n")
    misspelt, *found = look(MOMENT, json.dumps([case[:3] for case in _MOMENTS]), corpora=tmp_path, home=tmp_path)
    assert misspelt == "SettingsError: the run's parameters: promot: unknown; allowed here: promote, as_of"
    for answer, (*_, expected) in zip(found, _MOMENTS, strict=True):
        assert answer == expected if isinstance(expected, list) else answer.startswith(expected)


UNMAP = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(dag_folder=sys.argv[1])
mapped = bag.dags["reindex_verify_live"].task_dict["check"]
task = mapped.unmap({"corpus": "good", "release": "check-1", "live": "R"})
links = {link.name: link.get_link(task, ti_key=None) for link in task.operator_extra_links if link.name != "Ray job"}
print("\\n" + json.dumps([task.task_id, task.stage, task.corpus, task.release, task.pool, task.doc_md[:7], links]))
"""


def test_a_mapped_check_becomes_the_job_of_its_corpus(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text("name: good\nsource: {bucket: b}\n")
    found = look(UNMAP, str(PROJECT / "dags"), corpora=tmp_path, home=tmp_path)
    *facts, links = found
    assert facts == ["check", "check", "good", "check-1", "ray", "Measure"]
    assert links["Report"].endswith("/reindex/releases/good/check-1/report")
    assert links["Release"].endswith("/reindex/corpora/good/releases/R")


CHOOSE = """
import json, sys
from contextlib import nullcontext
from datetime import UTC, datetime
from types import SimpleNamespace
from airflow.sdk.exceptions import AirflowSkipException
from reindex.errors import NotLive
from reindex.settings import Index
from reindex_airflow import tasks
from tests.fakes import exact_store, release_files

asked, live = json.loads(sys.argv[1]), json.loads(sys.argv[2])
run = SimpleNamespace(logical_date=None, run_after=datetime(2026, 3, 1, 6, tzinfo=UTC), run_id="r", conf=None)
params = {"corpus": asked, "noise": False}
tasks.get_current_context = lambda: {"params": params, "dag_run": run, "dag": SimpleNamespace(params=params)}
files = release_files()
store = exact_store(files)
for corpus in live:
    collection = f"{corpus}__{files.release}"
    store.create_collection(collection, dimension=4, index=Index())
    store.point_alias(corpus, collection)
of = lambda corpus, release: type(files)(files.store, files.bucket, corpus, release)
tasks.hooks.services = lambda: SimpleNamespace(files=of, milvus_store=lambda: nullcontext(store))
try:
    print("\\n" + json.dumps([chosen["corpus"] for chosen in tasks.choose_checks.function()]))
except (AirflowSkipException, NotLive) as error:
    print("\\n" + json.dumps(f"{type(error).__name__}: {error}"))
"""


@pytest.mark.parametrize(
    ("asked", "live", "chosen"),
    [
        (None, ["docs", "notes", "strange"], ["docs", "notes"]),
        ("notes", ["docs", "notes"], ["notes"]),
        (None, [], "AirflowSkipException: nothing is live yet"),
        ("notes", ["docs"], "NotLive: nothing has been promoted to the alias notes yet; run the corpus first"),
    ],
)
def test_what_is_live_is_chosen_to_be_checked(asked: str | None, live: list[str], chosen: Any, tmp_path: Path) -> None:
    for name in ("docs", "notes", "other", "bad_name"):
        (tmp_path / f"{name}.yaml").write_text(f"name: {name}\nsource: {{bucket: b}}\n")
    found = look(CHOOSE, json.dumps(asked), json.dumps(live), corpora=tmp_path, home=tmp_path)
    assert found == chosen if isinstance(chosen, list) else found.startswith(chosen)


def test_the_stages_follow_each_other(bag: Any) -> None:
    tasks = bag["dags"]["reindex_good"]["tasks"]
    upstream = {name: task["upstream"] for name, task in tasks.items()}
    assert all(before in upstream[name] for before, name in pairwise(STAGES))
    assert set(upstream) == set(STAGES)


def test_the_schedule_is_the_corpus_s_and_nothing_is_caught_up(bag: Any) -> None:
    good, manual = bag["dags"]["reindex_good"], bag["dags"]["reindex_manual"]
    assert (good["schedule"], good["catchup"], good["max_active_runs"]) == ("30 1 * * *", False, 1)
    assert manual["schedule"] is None


def test_a_corpus_with_a_deadline_has_what_tells_that_a_run_is_late(bag: Any) -> None:
    # In seconds: see deadline.py.
    assert bag["dags"]["reindex_good"]["deadlines"] == [[6 * 3600, "reindex_airflow.deadline.tell_late"]]
    assert bag["dags"]["reindex_manual"]["deadlines"] == []


def test_every_task_is_documented(bag: Any) -> None:
    for dag in (bag["dags"][name] for name in ("reindex_good", "reindex_roll_back", "reindex_verify_live")):
        assert dag["doc"]
        assert [name for name, task in dag["tasks"].items() if not task["doc"]] == []


def test_a_terminal_error_fails_at_once_and_any_other_is_tried_again(bag: Any) -> None:
    for dag in ("reindex_good", "reindex_roll_back", "reindex_verify_live"):
        for task in bag["dags"][dag]["tasks"].values():
            assert (task["terminal"], task["transient"], task["retries"]) == ("fail", "default", 2)


def test_only_one_run_promotes_at_a_time_and_tells_other_dags(bag: Any) -> None:
    promote = bag["dags"]["reindex_good"]["tasks"]["promote"]
    assert (promote["pool"], promote["outlets"]) == ("promotion", ["live_index_good"])


PROMOTE = """
import json, sys
from types import SimpleNamespace
from airflow.sdk.exceptions import AirflowSkipException
from reindex.errors import OlderThanLive, ReindexError
from reindex_airflow import tasks
from tests.fakes import release_files

run_type, asked = sys.argv[1], json.loads(sys.argv[2])
run = SimpleNamespace(run_type=SimpleNamespace(value=run_type), run_id="r")
answer = {"responded_by_user": {"name": "ann"}}
ti = SimpleNamespace(xcom_pull=lambda task_ids: answer if task_ids == "approve" else None)
tasks.get_current_context = lambda: {"params": {"promote": asked}, "dag_run": run, "ti": ti}
files = release_files("R")
tasks.hooks.services = lambda: SimpleNamespace(files=lambda corpus, release: files, milvus_store=None)

def older(connect, files, by):
    raise OlderThanLive("R", by)

tasks.promote = older
try:
    tasks.promote_release.function("R", "docs")
except (AirflowSkipException, ReindexError) as outcome:
    print("\\n" + json.dumps([type(outcome).__name__, str(outcome), files.failure() is not None]))
"""


@pytest.mark.parametrize(
    ("run_type", "asked", "outcome", "reason", "failure"),
    [
        ("manual", "never", "AirflowSkipException", "was not asked to promote it", False),
        ("backfill", None, "AirflowSkipException", "was not asked to promote it", False),
        ("backfill", "auto", "AirflowSkipException", "promotion goes forward only", False),
        ("scheduled", None, "OlderThanLive", "promotion goes forward only", True),
        ("scheduled", None, "OlderThanLive", "scheduled run r, approved by ann", True),
    ],
)
def test_a_promotion_that_is_not_wanted_is_skipped_and_one_that_is_refused_fails(
    run_type: str, asked: str | None, outcome: str, reason: str, failure: bool, tmp_path: Path
) -> None:
    kind, said, is_recorded = look(PROMOTE, run_type, json.dumps(asked), corpora=tmp_path, home=tmp_path)
    assert (kind, is_recorded) == (outcome, failure)
    assert reason in said


def test_a_run_whose_promotion_is_skipped_retires_all_the_same(bag: Any) -> None:
    assert bag["dags"]["reindex_good"]["tasks"]["retire"]["trigger_rule"] == "none_failed"


def test_a_corpus_that_wants_approval_waits_for_a_person_between_verdict_and_promotion(bag: Any) -> None:
    tasks = bag["dags"]["reindex_asked"]["tasks"]
    upstream = {name: tasks[name]["upstream"] for name in ("ask", "approve", "promote")}
    assert upstream == {"ask": ["verify"], "approve": ["ask"], "promote": ["approve", "verify"]}
    # One that was rejected skips what comes next; one that nobody has to approve does not hold it up.
    assert tasks["promote"]["trigger_rule"] == "none_failed_min_one_success"
    assert bag["dags"]["reindex_good"]["tasks"]["promote"]["trigger_rule"] == "all_success"
    assert "approve" not in bag["dags"]["reindex_good"]["tasks"]


def test_ray_jobs_wait_for_each_other(bag: Any) -> None:
    tasks = bag["dags"]["reindex_good"]["tasks"]
    assert {name for name, task in tasks.items() if task["pool"] == "ray"} == {"embed", "assemble", "verify"}


LINKS = """
import json, sys
from types import SimpleNamespace
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
from reindex_airflow import links
pushed = {"reindex_asked": ("snapshot", "page of R"), "reindex_roll_back": ("choose", "page of S")}

class XCom:
    @staticmethod
    def get_one(key, dag_id, run_id, task_id):
        named_by, page = pushed[dag_id]
        return page if (key, run_id, task_id) == ("release_page", "run", named_by) else None

links.XCom = XCom
bag = DagBag(dag_folder=sys.argv[1])
found = {}
for name in pushed:
    dag = bag.dags[name]
    served = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    key = SimpleNamespace(dag_id=name, run_id="run")
    found[name] = {task.task_id: [
        [link.name for link in task.operator_extra_links],
        served.get_task(task.task_id).extra_links,
        [link.get_link(task, ti_key=key) for link in task.operator_extra_links if link.name == "Release"],
    ] for task in dag.tasks}
print("\\n" + json.dumps(found))
"""


def test_every_task_links_to_its_release_ray_jobs_to_ray_and_the_verification_to_its_report(tmp_path: Path) -> None:
    (tmp_path / "asked.yaml").write_text(f"name: asked\nsource: {{bucket: b}}\n{_ASKED}\n")
    found = look(LINKS, str(PROJECT / "dags"), corpora=tmp_path, home=tmp_path)
    others = {"embed": ["Ray job"], "assemble": ["Ray job"], "verify": ["Ray job", "Report"]}
    for dag, tasks, page in (
        ("reindex_asked", [*STAGES, "ask", "approve"], "page of R"),
        ("reindex_roll_back", ["choose", "reload", "roll_back"], "page of S"),
    ):
        assert set(found[dag]) == set(tasks)
        for name, (links, served, pages) in found[dag].items():
            assert links == [*others.get(name, ()), "Release"]
            assert (served, pages) == (sorted(links), [page])


def test_the_form_begins_with_what_the_corpus_says(bag: Any) -> None:
    params = bag["dags"]["reindex_good"]["params"]
    assert params["promote"]["enum"] == [None, "auto", "never"]
    assert "as the corpus file says (never)" in params["promote"]["values_display"]["null"]
    assert (params["as_of"]["type"], params["as_of"]["format"]) == (["null", "string"], "date-time")


def test_a_broken_corpus_file_fails_alone_every_night(bag: Any) -> None:
    broken = bag["dags"]["reindex_bad"]
    assert broken["tags"] == ["broken", "reindex"]
    assert list(broken["tasks"]) == ["snapshot"]
    assert broken["schedule"] == "0 0 * * *"


def test_the_plugin_loads_and_a_trigger_comes_back_as_it_went(tmp_path: Path) -> None:
    code = """
import json
from airflow import plugins_manager
from airflow.sdk.module_loading import import_string
from reindex_airflow.triggers import MilvusTrigger, RayJobTrigger
names = [plugin.name for plugin in plugins_manager._get_plugins()[0]]
round_trips = []
for trigger in (
    RayJobTrigger(job="j", corpus="c", release="r", stage="embed"), MilvusTrigger(stage="load", corpus="c", release="r")
):
    path, arguments = trigger.serialize()
    round_trips.append(import_string(path)(**arguments).serialize() == (path, arguments))
import sys
bare = [name for name in ("hooks", "tasks", "operators", "links", "triggers", "assets") if name in sys.modules]
paged = "airflow.api_fastapi.core_api.security" in sys.modules
print("\\n" + json.dumps({"plugins": names, "round_trips": round_trips, "bare": bare, "paged": paged}))
"""
    found = look(code, corpora=tmp_path, home=tmp_path)
    assert "reindex" in found["plugins"]
    assert found["round_trips"] == [True, True]
    # Loaded by their file names too, they would be other modules than those that the DAGs import.
    assert found["bare"] == []
    # Every task loads the plugin; the pages are for the API server alone.
    assert not found["paged"]


def test_a_scheduler_that_loads_plugins_at_once_has_what_its_tasks_need_and_no_thread_that_a_fork_would_lose(
    tmp_path: Path,
) -> None:
    code = """
import json, os, sys, threading
os.environ["AIRFLOW__CORE__LAZY_LOAD_PLUGINS"] = "False"
import airflow
there = {name: name in sys.modules for name in ("reindex_airflow.tasks", "pymilvus", "torch", "ray")}
print("\\n" + json.dumps({"there": there, "threads": [thread.name for thread in threading.enumerate()]}))
"""
    found = look(code, corpora=tmp_path, home=tmp_path)
    assert found["there"] == {"reindex_airflow.tasks": True, "pymilvus": True, "torch": False, "ray": False}
    assert found["threads"] == ["MainThread"]


TAKEN_ON = """
import json
from types import SimpleNamespace
from reindex.naming import job_name
from reindex_airflow import hooks, operators
from tests.fakes import release_files

made = {
    "load": operators.BulkLoadOperator, "index": operators.BuildIndexOperator, "verify": operators.VerifyOperator,
}
found = []
for stage, operator in made.items():
    for is_claimed, status in ((False, ""), (True, "RUNNING"), (True, "FAILED"), (True, "LOST")):
        files = release_files()
        if is_claimed:
            files.claim(stage, "the job that embedded")
        hooks.RayJobs = lambda _: SimpleNamespace(status=lambda _: status)
        services = SimpleNamespace(files=lambda *_: files, ray=None)
        context = {"ti": SimpleNamespace(try_number=1)}
        found.append(operator(corpus="docs", release="R")._taken_on(context, services))
print("\\n" + json.dumps(found))
"""


def test_a_stage_is_followed_where_a_job_that_runs_has_taken_it_on_and_else_done(tmp_path: Path) -> None:
    assert look(TAKEN_ON, corpora=tmp_path, home=tmp_path) == ["", "the job that embedded", "", ""] * 3


VERIFIED_BY = """
import json
from types import SimpleNamespace
from reindex_airflow import hooks, operators
from tests.fakes import release_files

found = []
for is_claimed in (False, True):
    files, kept, submitted = release_files(), {}, []
    if is_claimed:
        files.claim("verify", "the job that embedded")
    jobs = SimpleNamespace(status=lambda _: "RUNNING", submit=lambda job, command: submitted.append((job, command)))
    hooks.services, hooks.RayJobs = lambda: SimpleNamespace(files=lambda *_: files, ray=None), lambda _: jobs
    context = {"ti": SimpleNamespace(try_number=1), "task_state_store": SimpleNamespace(set=kept.__setitem__)}
    job = operators.VerifyOperator(corpus="docs", release="R")._submit(context, jobs)
    assert kept == {"ray_job": job}
    found.append([job, [command for _, command in submitted]])
print("\\n" + json.dumps(found))
"""


def test_a_release_is_verified_by_the_job_that_has_taken_it_on_or_else_by_one_of_its_own(tmp_path: Path) -> None:
    own = "docs-R-verify-1"
    submitted = [own, [f"python -m reindex.jobs verify --corpus docs --release R --job {own}"]]
    assert look(VERIFIED_BY, corpora=tmp_path, home=tmp_path) == [submitted, ["the job that embedded", []]]


def test_the_connection_to_milvus_may_say_what_it_may_take(tmp_path: Path) -> None:
    code = """
import json
from airflow.sdk import Connection
from reindex.errors import SettingsError
from reindex_airflow.hooks import _services
def limit(extra):
    named = lambda name, **rest: Connection(conn_id=name, conn_type="generic", host="h", **rest)
    try:
        return _services(named("s3"), named("milvus", extra=extra), named("ray")).milvus.memory_bytes
    except SettingsError as error:
        return str(error)
print("\\n" + json.dumps([limit(extra) for extra in (None, "{}", '{"memory_bytes": 8}', '{"memory_bytes": "8G"}')]))
"""
    *limits, refusal = look(code, corpora=tmp_path, home=tmp_path)
    assert limits == [None, None, 8]
    assert refusal.startswith("the connection reindex_milvus: memory_bytes: '8G' is no number of bytes")


RESTS = """
import json, sqlite3, sys
from multiprocessing import SimpleQueue
from reindex_airflow import executor as module

class Clock:
    now, meanwhile = 0.0, None

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        if self.meanwhile and self.now > 0.39:
            self.meanwhile()
            self.meanwhile = None

tables = sqlite3.connect(sys.argv[1], isolation_level=None)
tables.execute("create table dag_run (id integer primary key, dag_id text, run_id text, state text)")
tables.execute("create table task_instance (id text, dag_id text, run_id text, state text)")
tables.execute("insert into dag_run values (1, 'd', 'old', 'success'), (2, 'd', 'r', 'running')")
tables.execute("insert into task_instance values ('a', 'd', 'r', 'running'), ('b', 'd', 'old', 'success')")

executor = module.RestingExecutor(parallelism=1)
executor.result_queue, executor.workers = SimpleQueue(), {}
executor._check_workers = lambda: None

def rest(meanwhile=None):
    module.time = clock = Clock()
    clock.meanwhile = meanwhile
    executor.sync()
    return round(clock.now, 2)

found = {"first": rest(), "nothing": rest()}
found["task"] = rest(lambda: tables.execute("update task_instance set state = 'success' where id = 'a'"))
found["old"] = rest(lambda: tables.execute("update task_instance set state = 'failed' where id = 'b'"))
found["result"] = rest(lambda: executor.result_queue.put(("key", "success", None)))
executor.change_state = lambda *_: executor.event_buffer.update(done=("success", None))
found["taken"] = rest()
executor.event_buffer.clear()
found["run"] = rest(lambda: tables.execute("insert into dag_run values (3, 'e', 'r', 'queued')"))
found["awaited"] = rest()
print("\\n" + json.dumps(found))
"""


def test_the_scheduler_rests_until_a_task_or_a_run_has_changed(tmp_path: Path) -> None:
    base = tmp_path / "airflow.db"
    found = look(
        RESTS,
        str(base),
        corpora=tmp_path,
        home=tmp_path,
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{base}?timeout=60",
    )
    assert found == {
        # What was before is not known yet; and what has ended is dealt with first.
        "first": 0,
        "taken": 0,
        "task": 0.4,
        "result": 0.4,
        "run": 0.4,
        "nothing": 2,
        "old": 2,
        "awaited": 0.25,
    }
