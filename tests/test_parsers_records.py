from __future__ import annotations

import json

import pytest

from reindex.parsers import Context, Rejected
from reindex.parsers.records import read_json, read_json_lines
from reindex.records import ParsedDocument, RejectedMember, RejectReason
from reindex.settings import Limits, Parsing


def context(*, records: bool) -> Context:
    return Context(name="a.json", parsing=Parsing(records=records), limits=Limits())


def read(data: bytes, *, records: bool = False) -> list[ParsedDocument]:
    return list(read_json(data, context(records=records)))


def read_lines(*lines: object, records: bool = True) -> list[ParsedDocument | RejectedMember]:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    return list(read_json_lines(text.encode(), context(records=records)))


def documents(*lines: object) -> list[tuple[str, str, str]]:
    found = (one for one in read_lines(*lines) if isinstance(one, ParsedDocument))
    return [(one.member, one.title, one.laid_out()[0]) for one in found]


def test_json_reads_as_paths_and_what_they_say() -> None:
    value = (
        b'{"title": "Plan", "version": 1.10, "open": true, "owner": null, "note": "", "address": {"city": "Paris"},'
        b' "tags": ["a", 2], "steps": [{"name": "dig"}, {"name": "fill"}]}'
    )
    (document,) = read(value)
    assert document.title == "Plan"
    assert document.laid_out()[0].splitlines() == [
        "title: Plan",
        "version: 1.10",
        "open: true",
        "address.city: Paris",
        "tags: a, 2",
        "steps[0].name: dig",
        "steps[1].name: fill",
    ]


def test_prose_in_a_field_is_prose() -> None:
    (document,) = read(json.dumps({"id": "1", "text": "One paragraph.\n\nAnd another."}).encode())
    assert document.laid_out()[0] == "id: 1\n\nOne paragraph.\n\nAnd another."


def test_a_list_of_objects_is_one_document_in_which_each_stands_apart() -> None:
    (document,) = read(b'[{"a": "left", "b": "1"}, {"a": "right"}]')
    assert document.laid_out()[0] == "a: left\nb: 1\n\na: right"


def test_a_list_of_objects_is_one_document_each_where_the_corpus_asks_for_records() -> None:
    found = read(b'[{"id": 7, "name": "left"}, {"name": "right"}]', records=True)
    assert [(one.member, one.title) for one in found] == [("7", "left"), ("2", "right")]


@pytest.mark.parametrize("data", [b'{"a": "left"}', b'"left"', b'["left", 1]'])
def test_what_is_no_list_of_objects_is_one_document_all_the_same(data: bytes) -> None:
    assert [one.member for one in read(data, records=True)] == [""]


def test_half_a_character_in_an_escape_does_no_harm() -> None:
    (document,) = read(b'{"a": "left \\ud800"}')
    assert document.laid_out()[0].encode() == b"a: left ?"


@pytest.mark.parametrize(("data", "reason"), [(b'{"a": ', "cannot-be-parsed"), (b"[" * 90_000, "nested-too-deep")])
def test_broken_json_is_rejected_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(Rejected, match=f"{reason}: JSON"):
        read(data)


def test_a_record_is_named_by_its_id_or_its_key_if_no_other_has_it() -> None:
    assert documents(
        {"id": "a", "subject": "One"},
        {"id": "twice", "summary": "Two"},
        "",
        {"id": "twice", "text": "Three"},
        {"key": 2, "id": None},
        {"id": {"not": "a scalar"}},
        {"id": "x" * 201},
        {"id": "two\nlines"},
    ) == [
        ("a", "One", "id: a\nsubject: One"),
        ("2 (2)", "Two", "id: twice\nsummary: Two"),
        ("4", "", "id: twice\ntext: Three"),
        ("2", "", "key: 2"),
        ("6", "", "id.not: a scalar"),
        ("7", "", "x" * 201),
        ("8", "", "two\nlines"),
    ]


def test_a_broken_line_costs_only_itself() -> None:
    rejected, document = read_lines('{"id": ', {"id": "a"})
    assert rejected == RejectedMember(
        member="1", reason=RejectReason.BROKEN, detail="JSON: Expecting value (line 1, column 8)"
    )
    assert isinstance(document, ParsedDocument)


def test_lines_are_one_document_where_the_corpus_asks_for_no_records() -> None:
    (document,) = read_lines({"id": "a"}, {"id": "b"}, records=False)
    assert isinstance(document, ParsedDocument)
    assert (document.member, document.laid_out()[0]) == ("", "id: a\n\nid: b")
