from __future__ import annotations

import json
import os
import subprocess
from datetime import datetime
from pathlib import Path

import pytest

from reindex import runs
from reindex.cli import app
from reindex.naming import release_name
from tests.conftest import REINDEX

COMMANDS = ["up", "down", "status", "corpora", "put", "run", "releases", "rejects", "rollback", "retire"]
COMMANDS += ["verify", "search", "explain", "erase", "eval"]


def reindex(home: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in an environment without a stack."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("REINDEX_")}
    known = {**clean, "REINDEX_HOME": str(home), **environment}
    return subprocess.run([REINDEX, *words], env=known, capture_output=True, text=True, check=False)


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    return done.stderr.strip()


def test_every_command_of_the_contract_is_there() -> None:
    assert {command.name or command.callback.__name__ for command in app.registered_commands} == set(COMMANDS)  # type: ignore[union-attr]


def test_judgements_that_cannot_be_read_are_refused_before_anything_is_asked(tmp_path: Path) -> None:
    queries, qrels = tmp_path / "queries.jsonl", tmp_path / "qrels.tsv"
    queries.write_text('{"_id": "1", "text": "how do I parse json"}\n')
    qrels.write_text("1\tlibrary/json\tvery\n")
    said = refusal(reindex(tmp_path, "eval", "python-docs", "--queries", str(queries), "--qrels", str(qrels)))
    assert said.startswith(f"reindex: {qrels}, line 1: has the grade 'very', which is no whole number; expected: ")


@pytest.mark.parametrize("option", [("--promote", "ask")])
def test_an_option_that_comes_later_is_not_ignored(tmp_path: Path, option: tuple[str, str]) -> None:
    assert "comes in a later version" in refusal(reindex(tmp_path, "run", "python-docs", *option))


@pytest.mark.parametrize(
    ("moment", "said"), [("yesterday", "'yesterday' is no moment; write it as"), ("2999-01-01", "has not come yet")]
)
def test_a_moment_that_cannot_be_is_refused_before_a_run_is_begun(tmp_path: Path, moment: str, said: str) -> None:
    assert said in refusal(reindex(tmp_path, "run", "python-docs", "--as-of", moment))


def test_a_group_that_cannot_be_one_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    said = refusal(reindex(tmp_path, "search", "python-docs", "text", "--as", "hr", "--as", "legal,board"))
    assert said.startswith("reindex: reindex search: --as: 'legal,board' is no name of a group")


def test_wrong_usage_is_status_2(tmp_path: Path) -> None:
    assert reindex(tmp_path, "run").returncode == 2
    assert reindex(tmp_path, "erase", "python-docs", "python-docs/a.md").returncode == 2
    assert reindex(tmp_path, "run", "python-docs", "--promote", "perhaps").returncode == 2
    assert reindex(tmp_path, "search", "python-docs", "text", "-k", "0").returncode == 2
    assert reindex(tmp_path, "eval", "python-docs", "--queries", "nowhere", "--qrels", "nowhere").returncode == 2


def test_a_stack_that_was_never_started_is_said_to_be(tmp_path: Path) -> None:
    assert "`reindex up` starts a stack" in refusal(reindex(tmp_path, "run", "python-docs"))
    status = reindex(tmp_path, "status", "--json")
    assert (status.returncode, json.loads(status.stdout)) == (1, [])


def test_an_unknown_corpus_and_an_unknown_key_are_refused_without_a_server(tmp_path: Path) -> None:
    (tmp_path / "typo.yaml").write_text("name: typo\nsource: {bucket: b}\ngaet: {}\n")
    corpora = {"REINDEX_CORPORA": str(tmp_path)}
    assert "no corpus is called 'other'" in refusal(reindex(tmp_path, "run", "other", **corpora))
    assert "typo.yaml: gaet: unknown key; allowed here: name" in refusal(reindex(tmp_path, "run", "typo", **corpora))


@pytest.mark.parametrize("command", ["rollback", "verify"])
def test_what_is_live_asks_for_a_corpus_that_is_known_and_not_for_what_its_file_says(
    tmp_path: Path, command: str
) -> None:
    (tmp_path / "typo.yaml").write_text("name: typo\nsource: {bucket: b}\ngaet: {}\n")
    corpora = {"REINDEX_CORPORA": str(tmp_path)}
    assert "no corpus is called 'other'" in refusal(reindex(tmp_path, command, "other", **corpora))
    assert "REINDEX_AIRFLOW_URL: is not set" in refusal(reindex(tmp_path, command, "typo", **corpora))


@pytest.mark.parametrize(
    ("conf", "named_from"),
    [({}, "2026-03-01T02:00:05Z"), ({"as_of": "2026-02-01T00:00:00+00:00"}, "2026-02-01T00:00:00Z")],
)
def test_a_run_s_release_is_named_as_its_snapshot_names_it(conf: dict[str, str], named_from: str) -> None:
    started = {
        "dag_run_id": "manual__1",
        "run_type": "manual",
        "logical_date": None,
        "run_after": "2026-03-01T02:00:05Z",
    }
    assert runs._name(started, conf) == release_name(datetime.fromisoformat(named_from), "manual__1")
