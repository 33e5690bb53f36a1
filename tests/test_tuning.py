from __future__ import annotations

import pytest

from reindex.index_types import INDEX_TYPES, at_least
from reindex.latency import percentiles
from reindex.questions import Kind, draw_questions
from reindex.settings import Corpus, GateSlice, Index, Source
from reindex.slices import slice_of
from reindex.tuning import production_params, settings_to_try
from tests.fakes import a_corpus, release_files


@pytest.mark.parametrize("name", INDEX_TYPES)
@pytest.mark.parametrize("k", [1, 10, 300])
def test_a_ladder_goes_from_quick_to_thorough_and_sets_what_a_search_may_set(name: str, k: int) -> None:
    kind = INDEX_TYPES[name]
    ladder = kind.ladder(k, dict.fromkeys(kind.build, 100))
    assert all(set(rung) == set(kind.search) for rung in ladder)
    assert all(value in kind.search[key] for rung in ladder for key, value in rung.items())
    assert [list(rung.values()) for rung in ladder] == sorted(list(rung.values()) for rung in ladder)
    assert ladder[-1] == kind.thorough(k, dict.fromkeys(kind.build, 100))


@pytest.mark.parametrize(("asked", "given"), [
    ({"ef": 16}, {"ef": 50}),
    ({"ef": 64}, {"ef": 64}),
    ({"search_list": 10}, {"search_list": 50}),
    ({"nprobe": 4, "reorder_k": 20}, {"nprobe": 4, "reorder_k": 50}),
    ({}, {}),
])  # fmt: skip
def test_a_list_of_candidates_is_never_shorter_than_the_answer(asked: dict[str, int], given: dict[str, int]) -> None:
    assert at_least(asked, 50) == given


def test_a_pinned_setting_is_tried_in_its_place() -> None:
    index = Index(search={"ef": 100})
    assert [rung["ef"] for rung in settings_to_try(index, 10)] == [16, 32, 64, 100, 128, 256, 512]
    assert [rung["ef"] for rung in settings_to_try(Index(search={"ef": 64}), 10)] == [16, 32, 64, 128, 256, 512]


def test_production_searches_with_what_was_found_or_pinned_or_else_with_the_most_thorough() -> None:
    files = release_files()
    assert production_params(files, 10) == {"ef": 512}
    files.freeze_corpus(a_corpus(index={"search": {"ef": 33}}))
    assert production_params(files, 10) == {"ef": 33}
    files.write_report("verify", 0, {"search_params": {"ef": 64}})
    assert production_params(files, 10) == {"ef": 64}
    assert production_params(files, 100) == {"ef": 100}


@pytest.mark.parametrize(("slice_", "name", "expression"), [
    ({"language": "deu"}, "language deu", 'language == "deu"'),
    ({"group": 'h"r'}, 'group h"r', 'array_contains_any(acl, ["*", "h\\"r"])'),
    ({"prefix": "a_%/"}, "prefix a_%/", 'document >= "docs/a_%/" and document < "docs/a_%/\U0010ffff"'),
])  # fmt: skip
def test_a_slice_is_asked_for_in_milvus_s_words(slice_: dict[str, str], name: str, expression: str) -> None:
    made = slice_of(GateSlice.model_validate(slice_), Source(bucket="b", prefix="docs"))
    assert (made.name, made.expression()) == (name, expression)


@pytest.mark.parametrize("slice_", [{}, {"language": "deu", "group": "hr"}, {"group": ""}, {"language": None}])
def test_a_slice_is_one_thing(slice_: dict[str, str | None]) -> None:
    with pytest.raises(ValueError, match=r"gate\.slices\.0|exactly one of|no name of a group"):
        GateSlice.model_validate(slice_)


def test_slices_survive_being_frozen_with_a_release() -> None:
    corpus = a_corpus(gate={"slices": [{"group": "hr"}, {"prefix": "a/"}]})
    assert Corpus.model_validate_json(corpus.model_dump_json()) == corpus


@pytest.mark.parametrize(("index", "problem"), [
    ({"search": {"nprobe": 1}}, "index.search of HNSW are exactly: ef"),
    ({"search": {"ef": 0}}, "index.search of HNSW: ef lies between 1 and"),
    ({"type": "FLAT", "params": {}, "search": {"ef": 1}}, "index.search of FLAT are exactly: none"),
    ({"type": "SCANN", "params": {"nlist": 8}, "search": {"nprobe": 1}}, "are exactly: nprobe, reorder_k"),
])  # fmt: skip
def test_a_search_setting_that_the_index_does_not_know_is_refused(index: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        a_corpus(index=index)


def test_percentiles_are_in_milliseconds() -> None:
    found = percentiles([number / 1000 for number in range(1, 101)], seconds=4)
    assert (found.p50, found.per_second) == (50.5, 25.0)
    assert 95 <= found.p95 < found.p99 <= 100


def rows(count: int, section: str = "Part {0} > Chapter {0}") -> list[dict[str, str]]:
    return [
        {
            "id": f"{number:032x}",
            "document": f"{number % 3}.md",
            "title": "T",
            "section": section.format(number),
            "text": f"text {number}",
        }
        for number in range(count)
    ]


def test_a_heading_is_the_innermost_one_or_else_the_title_and_is_asked_once() -> None:
    drawn = draw_questions(rows(10), (), (), 8)
    assert [question.text for question in drawn][:4] == [f"Chapter {number}" for number in range(4)]
    untitled = draw_questions(rows(10, section=""), (), (), 8)
    assert [question.kind for question in untitled] == [Kind.HEADINGS] + [Kind.PASSAGES] * 7
    assert untitled[0].text == "T"


def test_golden_queries_come_before_the_log_and_both_before_samples() -> None:
    drawn = draw_questions(rows(10), ["g1", "g2", "g1"], ["l1", "l2", "g2", "l1"], 6)
    kinds = [question.kind for question in drawn]
    assert kinds == [Kind.GOLDEN] * 2 + [Kind.LOG] * 2 + [Kind.HEADINGS, Kind.PASSAGES]
    assert len(draw_questions(rows(10), [f"g{i}" for i in range(9)], ["l"], 6)) == 6


def test_a_question_s_name_is_no_text_of_a_document() -> None:
    drawn = draw_questions(rows(4), ["why?"], (), 5)
    assert [question.name for question in drawn] == [
        "why?",
        "0.md, heading above the passage 00000000000000000000000000000000",
        "1.md, heading above the passage 00000000000000000000000000000001",
        "0.md, passage 00000000000000000000000000000000",
        "1.md, passage 00000000000000000000000000000001",
    ]
