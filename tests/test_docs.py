"""The pages: each command that they show can be given as it stands, and is run by a test; each link leads somewhere."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from reindex import sample_corpus
from reindex.cli import app
from reindex.settings import PROJECT
from tests.conftest import LiveStack
from tests.test_errors import LEAVES, an_error
from tests.test_live import write_documents

PAGES = {path: path.read_text("utf-8") for path in [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]}
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]

_FENCED = re.compile(r"^```.*?\n(.*?)^```", re.MULTILINE | re.DOTALL)
_BEGINS = re.compile(r"\s*(\w+=\S+ +)*(reindex|make|airflow|python|\.venv/bin/\w+)\s")
_OPTIONAL = re.compile(r" *\[([^]]*)\]")

HERE = "here"
_BENCHMARK = "measures for minutes, on a machine with nothing else to do"
# Each command, and each of its options, with the test that gives it or why none does.
COVERED = {
    "reindex up": "tests/test_live.py::test_after_down_and_up_the_alias_still_answers",
    "reindex down": "tests/test_live.py::test_after_down_and_up_the_alias_still_answers",
    "reindex status": HERE,
    "reindex corpora": HERE,
    "reindex put": HERE,
    "reindex run": HERE,
    "reindex run --as-of": HERE,
    "reindex run --max-deleted": HERE,
    "reindex run --promote": HERE,
    "reindex run --rebuild": HERE,
    "reindex releases": HERE,
    "reindex releases --json": HERE,
    "reindex rejects": HERE,
    "reindex rejects --release": HERE,
    "reindex search": HERE,
    "reindex search -k": HERE,
    "reindex search --filter": HERE,
    "reindex search --as": HERE,
    "reindex search --json": HERE,
    "reindex explain": HERE,
    "reindex eval --queries": HERE,
    "reindex eval --qrels": HERE,
    "reindex retire": HERE,
    "reindex retire --dry-run": HERE,
    "reindex verify": "tests/test_live_check.py::test_rows_that_vanish_from_what_is_live_are_an_alarm_with_the_reason",
    "reindex verify --noise": (
        "tests/test_live_check.py::test_what_is_live_passes_as_it_did_and_two_builds_of_it_hardly_differ"
    ),
    "reindex rollback": (
        "tests/test_live_rollback.py::test_a_rollback_by_command_brings_the_release_before_back_and_says_what_is_live"
    ),
    "reindex rollback --to": (
        "tests/test_live_rollback.py::test_a_collection_that_was_unloaded_comes_back_into_memory_first"
    ),
    "reindex erase --reason": HERE,
    "airflow backfill create": "tests/test_live_backfill.py::test_each_night_has_exactly_its_own_texts",
    "make help": "tests/test_docs.py::test_make_lists_its_targets",
    "make demo": "what it gives is in this table",
    "make demo DOCS": "the same",
    "make setup": "installs what the tests run with",
    "make test": "runs this test",
    "make check": "runs this test",
    "make bench": "an hour and a half",
    "make compose-test": "a quarter of an hour, with Docker: by itself",
    "make format": "changes the code",
    "make reference": "tests/test_corpus_reference.py::test_the_page_is_what_the_settings_say",
    "python -m reindex.sample_corpus": "tests/test_docs.py::test_the_sample_corpus_is_written",
    "python benchmarks/snapshot_scale.py": _BENCHMARK,
    "python benchmarks/cost_model.py": "tests/test_scaling_doc.py::test_the_page_shows_what_the_model_computes",
    **{
        f"python benchmarks/{name}.py": _BENCHMARK
        for name in ("all", "assemble_scale", "embedding", "nodes_scale", "overheads", "parse", "plan_scale", "verify")
    },
}
# In the order in which they make sense; what needs no corpus comes where it is interesting.
ORDER = ["put", "run", "corpora", "releases", "rejects", "search", "explain", "eval", "retire", "erase", "status"]


def commands_in(text: str) -> Iterator[list[str]]:
    """Yield the words of each command in a page; one with optional words without them, and with all of them."""
    fenced = [line for block in _FENCED.findall(text) for line in block.splitlines()]
    for shown in [*fenced, *re.findall(r"`([^`]+)`", _FENCED.sub("", text))]:
        if _BEGINS.match(shown):
            # In a table a pipe is escaped; of alternatives the first is taken.
            usage = re.sub(r"\\?\|\w+", "", shown)
            for written in {_OPTIONAL.sub("", usage), _OPTIONAL.sub(r" \1", usage)}:
                words = shlex.split(re.sub(r"(?<=[A-Z])…", "", written), comments=True)
                while "=" in words[0]:
                    words.pop(0)
                yield [Path(words[0]).name, *words[1:]]


def make(*words: str) -> str:
    """Return what `make` prints."""
    done = subprocess.run(["make", *words], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


SHOWN = {" ".join(words): words for text in PAGES.values() for words in commands_in(text)}
# As if everything were installed.
DEMO = make("--dry-run", "--old-file", ".venv/installed", "demo")
GIVEN = SHOWN | {" ".join(words): words for words in commands_in(f"```\n{DEMO}```")}
SAID = {" ".join(words): words for kind in LEAVES for words in commands_in(str(an_error(kind)))}


def is_mention(words: list[str]) -> bool:
    """Return whether a command is only named, without what it needs."""
    return words[0] == "reindex" and len(words) == 2 and any(param.required for param in COMMANDS[words[1]].params)


def forms(words: list[str]) -> set[str]:
    """Return what a command takes to be covered: its name if it stands alone, else its name with each option."""
    match words[0]:
        case "reindex":
            options = [word for word in words[2:] if word.startswith("-")]
            return {f"reindex {words[1]} {option}" for option in options} or {f"reindex {words[1]}"}
        case "make":
            return {" ".join(["make", words[1], *(word.split("=")[0] for word in words[2:])])}
        case "airflow":
            return {" ".join(words[:3])}
    return {" ".join(words[:3] if words[1] == "-m" else words[:2])}


@pytest.fixture
def golden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the files that the pages' commands read, and go where they are."""
    monkeypatch.chdir(tmp_path)
    Path("queries.jsonl").write_text('{"_id": "1", "text": "how often were the volcanoes counted?"}\n')
    Path("qrels.tsv").write_text("1\treport-001\t1\n")


@pytest.mark.parametrize("words", [words for words in (GIVEN | SAID).values() if words[0] != "airflow"], ids=" ".join)
def test_a_command_can_be_given_as_it_stands(words: list[str], golden: None) -> None:
    if words[0] == "reindex":
        command = COMMANDS[words[1]]
        if not is_mention(words):
            command.make_context(words[1], ["5" if word == "N" else word for word in words[2:]])
    elif words[0] == "make":
        make("--dry-run", *words[1:])
    elif words[0] == "python":
        assert find_spec(words[2]) if words[1] == "-m" else (PROJECT / words[1]).exists()


def test_every_command_is_in_the_table_and_the_table_has_no_other() -> None:
    assert {form for words in GIVEN.values() if not is_mention(words) for form in forms(words)} == COVERED.keys()


@pytest.mark.parametrize("where", sorted({where for where in COVERED.values() if "::" in where}))
def test_the_test_that_covers_a_command_is_there(where: str) -> None:
    file, name = where.split("::")
    assert f"def {name}(" in (PROJECT / file).read_text("utf-8")


def test_make_lists_its_targets() -> None:
    listed = {line.split(":")[0] for line in make("help").splitlines()}
    assert {words[1] for words in GIVEN.values() if words[0] == "make"} <= listed


def test_the_sample_corpus_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules: list[ModuleType] = [json, shlex, re]
    monkeypatch.setattr(sample_corpus, "standard_modules", lambda: modules)
    sample_corpus.write_sample_corpus(tmp_path)
    begins = {
        "topics/lambda.md": "# Lambdas",
        "modules/json.html": "<!DOCTYPE html",
        "modules/shlex.txt": "Python Library",
    }
    assert {path: (tmp_path / path).read_text("utf-8")[: len(text)] for path, text in begins.items()} == begins


def slug(title: str) -> str:
    """Return the name by which GitHub links to a heading."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", _FENCED.sub("", PAGES[page]))
    for name, anchor in links:
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), name
        if anchor:
            assert anchor in {
                slug(title) for title in re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
            }


def live_commands() -> list[list[str]]:
    """Return the commands that are to be run here, each only if an option of it has not been run before."""
    mine = [words for words in GIVEN.values() if not is_mention(words) and {COVERED[f] for f in forms(words)} == {HERE}]
    chosen: list[list[str]] = []
    # A command with all its options comes first: what is as of a moment is not to come after what is of now.
    for words in sorted(mine, key=lambda words: (ORDER.index(words[1]), -len(words))):
        if not forms(words) <= {form for earlier in chosen for form in forms(earlier)}:
            chosen.append(words)
    return chosen


@pytest.mark.live
@pytest.mark.timeout(600)
def test_the_commands_of_the_pages_run(stack: LiveStack, golden: None) -> None:
    corpus = "documented"
    write_documents(Path("documents"))
    values: dict[str, Callable[[], str]] = {
        "CORPUS": lambda: corpus,
        "python-docs": lambda: corpus,
        "PATH": lambda: "documents",
        ".reindex/sample": lambda: "documents",
        "T": lambda: datetime.now(UTC).isoformat(),
        "N": lambda: "5",
        "RELEASE": lambda: str(stack.answer("releases", corpus)[-1]["release"]),
        "EXPR": lambda: f"document like '{corpus}/%'",
        "ID": lambda: str(stack.answer("search", corpus, "looms")[0]["id"]),
        "KEY": lambda: f"{corpus}/report-000.md",
    }
    for words in live_commands():
        done = stack.command(*(values[word]() if word in values else word for word in words[1:]))
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        assert done.stdout
