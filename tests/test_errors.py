from __future__ import annotations

import inspect
import json
import pickle
import re

import pytest

from reindex import errors
from reindex.errors import ERRORS, JobFailed, ReindexError, TerminalError, TransientError, from_record
from reindex.settings import PROJECT

SAMPLES = {"str": "x", "float": 0.5, "int": 3, "list[str]": ["a", "b"]}
LEAVES = [error for error in ERRORS.values() if error not in {ReindexError, TransientError, TerminalError}]

# The rows of docs/alarms.md that are about errors: their names, what they say, and what to do.
ALARMS = re.findall(
    r"^\| (`[A-Z].*?`) \| (.*?) \| (.*) \|$", (PROJECT / "docs" / "alarms.md").read_text("utf-8"), re.MULTILINE
)


def an_error(kind: type[ReindexError]) -> ReindexError:
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    return kind(*(SAMPLES[str(parameter.annotation)] for parameter in parameters))


@pytest.mark.parametrize("kind", LEAVES)
def test_every_error_survives_pickling_with_its_message(kind: type[ReindexError]) -> None:
    error = an_error(kind)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 - our own bytes


@pytest.mark.parametrize("kind", LEAVES)
def test_every_error_survives_the_trip_as_json(kind: type[ReindexError]) -> None:
    error = an_error(kind)
    back = from_record(json.loads(json.dumps(error.to_record())))
    assert type(back) is kind
    assert str(back) == str(error)


@pytest.mark.parametrize("kind", LEAVES)
def test_every_error_is_one_line(kind: type[ReindexError]) -> None:
    assert "\n" not in str(an_error(kind))


@pytest.mark.parametrize("kind", LEAVES)
def test_every_error_stands_in_the_tree_that_the_docstring_draws(kind: type[ReindexError]) -> None:
    assert f"── {kind.__name__} " in (errors.__doc__ or "")


def test_every_error_has_its_row_among_the_alarms() -> None:
    named = [name for names, _, _ in ALARMS for name in re.findall(r"`(\w+)`", names)]
    assert sorted(named) == sorted(kind.__name__ for kind in LEAVES)


@pytest.mark.parametrize(("names", "says", "remedy"), ALARMS, ids=[names for names, _, _ in ALARMS])
def test_an_alarm_s_row_quotes_its_error_and_says_what_to_do(names: str, says: str, remedy: str) -> None:
    kinds = [ERRORS[name] for name in re.findall(r"`(\w+)`", names)]
    for kind, quoted in zip(kinds, says.split(" / "), strict=True):
        # Capitals stand for what differs, as … does.
        words = [re.escape(word.strip()) for word in re.split(r"…|\b[A-Z]{3,}\b", quoted)]
        assert re.search(".*".join(words), str(an_error(kind)))
    assert remedy.strip()


def test_an_unknown_record_becomes_a_failed_job() -> None:
    assert isinstance(from_record({"error": "NoSuchError", "arguments": []}), JobFailed)
