from __future__ import annotations

import json

import pytest

from reindex.errors import BadJudgements
from reindex.judgements import Judgements, read_judgements

QUERIES = b'{"_id": "1", "text": "how wide is the harbour"}\n{"_id": "2", "text": "who counts the comets"}\n'
BEIR = b"query-id\tcorpus-id\tscore\n1\ta\t2\n1\tb\t0\n2\tc\t1\n"


def read(queries: bytes = QUERIES, qrels: bytes = BEIR) -> Judgements:
    return read_judgements(queries, qrels, queries_file="queries.jsonl", qrels_file="qrels.tsv")


def refusal(queries: bytes = QUERIES, qrels: bytes = BEIR) -> str:
    with pytest.raises(BadJudgements) as refused:
        read(queries, qrels)
    said = str(refused.value)
    assert "\n" not in said
    assert "; expected: " in said
    return said


def test_files_as_beir_has_them_are_read() -> None:
    judgements = read()
    assert judgements.queries == {"1": "how wide is the harbour", "2": "who counts the comets"}
    assert judgements.grades == {"1": {"a": 2, "b": 0}, "2": {"c": 1}}
    assert (judgements.judged_ids(), judgements.relevant_ids()) == ({"a", "b", "c"}, {"a", "c"})
    assert judgements.unjudged == 0


@pytest.mark.parametrize(
    "qrels",
    [
        b"1\ta\t2\n1\tb\t0\n2\tc\t1",
        b"1 a 2\n1 b 0\n2 c 1\n",
        b"1 0 a 2\n1 0 b 0\n2 0 c 1\n",
        b"1\tQ0\ta\t2\r\n1\tQ0\tb\t0\r\n\r\n2\tQ0\tc\t1\r\n",
        b"1   0\ta 2\n1 0 b\t0\n 2 0  c 1\n",
        b"\xef\xbb\xbfquery_id\tdocument\tRelevance\n1\ta\t2\n1\ta\t2\n1\tb\t0\n2\tc\t1\n",
    ],
    ids=["no-heading", "spaces", "trec", "trec-tabs-windows", "trec-mixed", "byte-order-mark-other-heading-twice"],
)
def test_judgements_are_read_with_or_without_heading_in_three_columns_or_trec_s_four(qrels: bytes) -> None:
    assert read(qrels=qrels) == read()


def test_queries_are_read_with_id_in_place_of_beir_s_name_for_it_and_with_numbers_for_ids() -> None:
    rows = [{"id": 1, "text": " how wide is the harbour ", "more": []}, {"id": "2", "text": "who counts the comets"}]
    assert read(b"\xef\xbb\xbf\r\n" + "\r\n".join(map(json.dumps, rows)).encode()) == read()


def test_between_tabs_an_id_may_hold_spaces() -> None:
    assert read(qrels=b"1\tannual report (final).pdf\t1\n").grades == {"1": {"annual report (final).pdf": 1}}


def test_a_text_may_hold_whatever_json_allows_in_a_line() -> None:
    line = '{"_id": "1", "text": "one\u2028two \\ud800three"}'.encode()
    assert read(line, b"1 a 1").queries == {"1": "one\u2028two three"}


def test_queries_without_a_relevant_document_are_left_out_and_counted() -> None:
    judgements = read(qrels=b"1\ta\t0\n2\tc\t1\n2\td\t-1\n")
    assert judgements.queries == {"2": "who counts the comets"}
    assert (judgements.grades, judgements.unjudged) == ({"2": {"c": 1, "d": -1}}, 1)


def test_judgements_of_queries_that_are_not_asked_are_passed_over() -> None:
    assert read(qrels=BEIR + b"3\td\t1\n") == read()


def test_queries_stay_in_their_order() -> None:
    rows = [{"_id": str(number), "text": f"query {number}"} for number in (9, 10, 1)]
    qrels = b"1 a 1\n9 a 1\n10 a 1"
    assert list(read("\n".join(map(json.dumps, rows)).encode(), qrels).queries) == ["9", "10", "1"]


@pytest.mark.parametrize(
    ("queries", "said"),
    [
        (b"", "queries.jsonl: holds no queries"),
        (b"\n \n", "queries.jsonl: holds no queries"),
        (QUERIES + b"\nwhat is asked\n", "queries.jsonl, line 4: is no JSON object"),
        (b"[" * 100_000, "queries.jsonl, line 1: is no JSON object"),
        (b'["1", "what is asked"]', "queries.jsonl, line 1: is no JSON object"),
        (QUERIES + b'{"text": "what is asked"}', "queries.jsonl, line 3: has no id"),
        (b'{"_id": " ", "text": "what is asked"}', "queries.jsonl, line 1: has no id"),
        (b'{"_id": true, "text": "what is asked"}', "queries.jsonl, line 1: has no id"),
        (QUERIES + b'{"_id": "3", "text": null}', "queries.jsonl, line 3: has no text"),
        (QUERIES + b'{"_id": "3", "text": "  "}', "queries.jsonl, line 3: has no text"),
        (QUERIES + b'{"id": 2, "text": "again"}', "queries.jsonl, line 3: has the id '2' of an earlier query"),
        (QUERIES + b'{"_id": "3", "text": "\xe9"}', "queries.jsonl, line 3: is not UTF-8 text"),
    ],
)
def test_queries_that_cannot_be_read_are_refused_with_file_line_and_what_is_expected(queries: bytes, said: str) -> None:
    refused = refusal(queries)
    assert refused.startswith(said + '; expected: {"_id": "7", "text": ')


@pytest.mark.parametrize(
    ("qrels", "said"),
    [
        (b"", "qrels.tsv: holds no judgements"),
        (b"query-id\tcorpus-id\tscore\n", "qrels.tsv: holds no judgements"),
        (b"1,a,1\n", "qrels.tsv, line 1: has 1 columns"),
        (BEIR + b"2\tc\n", "qrels.tsv, line 5: has 2 columns"),
        (BEIR + b"2\t\t1\n", "qrels.tsv, line 5: has 2 columns"),
        (b"1 annual report.pdf 1 0\n1 annual report (final).pdf 1\n", "qrels.tsv, line 1: "),
        (BEIR + b"2\td\t0.5\n", "qrels.tsv, line 5: has the grade '0.5', which is no whole number"),
        (b"1\ta\tyes\n", "qrels.tsv, line 1: has the grade 'yes', which is no whole number"),
        (BEIR + b"query-id\tcorpus-id\tscore\n", "qrels.tsv, line 5: has the grade 'score'"),
        (b"1\ta\t" + b"9" * 5000, "qrels.tsv, line 1: has the grade '999"),
        (BEIR + b"2\tc\t2\n", "qrels.tsv, line 5: grades 'c' otherwise than an earlier line does, for the query '2'"),
        (BEIR + b"2\t\xff\t2\n", "qrels.tsv, line 5: is not UTF-8 text"),
        (b"1\ta\t0\n2\tb\t-1\n", "qrels.tsv: grades no document above 0 for any query of queries.jsonl, the first"),
        (
            b"7\ta\t1\n",
            "qrels.tsv: grades no document above 0 for any query of queries.jsonl, the first of which is '1'",
        ),
    ],
)
def test_judgements_that_cannot_be_read_are_refused_with_file_line_and_what_is_expected(
    qrels: bytes, said: str
) -> None:
    assert refusal(qrels=qrels).startswith(said)
