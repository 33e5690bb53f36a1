from __future__ import annotations

import inspect
import json
import pickle

import pytest

from reindex import errors
from reindex.errors import ERRORS, JobFailed, ReindexError, TerminalError, TransientError, from_record

SAMPLES = {"str": "x", "float": 0.5, "int": 3, "list[str]": ["a", "b"]}
LEAVES = [error for error in ERRORS.values() if error not in {ReindexError, TransientError, TerminalError}]


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


def test_an_unknown_record_becomes_a_failed_job() -> None:
    assert isinstance(from_record({"error": "NoSuchError", "arguments": []}), JobFailed)
