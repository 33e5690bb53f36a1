"""Two files in, golden queries and how relevant each judged document is to them out: as BEIR writes them, or TREC."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from reindex.errors import BadJudgements

QUERIES_SHAPE = '{"_id": "7", "text": "what is asked"} on each line, or "id" in place of "_id"'
GRADES_SHAPE = (
    "query id, document id and grade on each line, or with TREC's 0 in second place, tabs or spaces between them"
)
_GRADE = re.compile(r"-?\d{1,9}", re.ASCII)
# What files that have a heading call their last column.
_HEADINGS = {"score", "grade", "relevance"}
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgements:
    """What is asked, by query id, and the grade of each judged document, by query and document id: above 0 is relevant.

    `unjudged` counts the queries that are left out, since no document is judged relevant to them.
    """

    queries: dict[str, str]
    grades: dict[str, dict[str, int]]
    unjudged: int

    def judged_ids(self) -> set[str]:
        return {document for judged in self.grades.values() for document in judged}

    def relevant_ids(self) -> set[str]:
        return {document for judged in self.grades.values() for document, grade in judged.items() if grade > 0}


def read_judgements(queries: bytes, qrels: bytes, *, queries_file: str, qrels_file: str) -> Judgements:
    """Return what the two files say, in the order of the queries; judgements of other queries are passed over.

    The names of the files are for BadJudgements, which says the file, the line and what is expected there.
    """
    texts, grades = _read_queries(queries, queries_file), _read_grades(qrels, qrels_file)
    judged = [query for query in texts if any(grade > 0 for grade in grades.get(query, {}).values())]
    if not judged:
        problem = (
            f"grades no document above 0 for any query of {queries_file}, the first of which is {next(iter(texts))!r}"
        )
        raise BadJudgements(qrels_file, 0, problem, GRADES_SHAPE)
    return Judgements(
        queries={query: texts[query] for query in judged},
        grades={query: grades[query] for query in judged},
        unjudged=len(texts) - len(judged),
    )


def _read_queries(data: bytes, where: str) -> dict[str, str]:
    queries: dict[str, str] = {}
    for number, line in _lines(data, where, QUERIES_SHAPE):
        found = _json(line)
        if not isinstance(found, dict):
            raise BadJudgements(where, number, "is no JSON object", QUERIES_SHAPE)
        query, text = _text(found.get("_id", found.get("id"))), _text(found.get("text"))
        if not query or not text:
            raise BadJudgements(where, number, f"has no {'text' if query else 'id'}", QUERIES_SHAPE)
        if query in queries:
            raise BadJudgements(where, number, f"has the id {_shown(query)} of an earlier query", QUERIES_SHAPE)
        queries[query] = text
    if not queries:
        raise BadJudgements(where, 0, "holds no queries", QUERIES_SHAPE)
    return queries


def _read_grades(data: bytes, where: str) -> dict[str, dict[str, int]]:
    grades: dict[str, dict[str, int]] = {}
    for number, line in _lines(data, where, GRADES_SHAPE):
        query, document, grade = _columns(line, where, number)
        if not grades and grade.lower() in _HEADINGS:
            continue
        if not _GRADE.fullmatch(grade):
            raise BadJudgements(where, number, f"has the grade {_shown(grade)}, which is no whole number", GRADES_SHAPE)
        if grades.setdefault(query, {}).setdefault(document, int(grade)) != int(grade):
            problem = f"grades {_shown(document)} otherwise than an earlier line does, for the query {_shown(query)}"
            raise BadJudgements(where, number, problem, "one grade of each document for each query")
    if not grades:
        raise BadJudgements(where, 0, "holds no judgements", GRADES_SHAPE)
    return grades


def _columns(line: str, where: str, number: int) -> list[str]:
    """Return query id, document id and grade; between tabs an id may hold spaces."""
    columns = [column.strip() for column in line.split("\t")]
    if len(columns) not in {3, 4}:
        columns = line.split()
    if len(columns) not in {3, 4} or not all(columns):
        problem = f"has {sum(map(bool, columns))} columns"
        raise BadJudgements(where, number, problem, GRADES_SHAPE)
    return [columns[0], *columns[-2:]]


def _lines(data: bytes, where: str, shape: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that say something, with their numbers; not `splitlines`: a JSON string may hold such ends."""
    for number, line in enumerate(data.removeprefix(codecs.BOM_UTF8).split(b"\n"), start=1):
        try:
            text = line.decode().strip()
        except UnicodeDecodeError as error:
            raise BadJudgements(where, number, "is not UTF-8 text", shape) from error
        if text:
            yield number, text


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _text(value: Any) -> str:
    """Return a text, or a number as one; nothing for what is neither. No tokenizer takes half a surrogate pair."""
    is_text = isinstance(value, str | int) and not isinstance(value, bool)
    return str(value).encode(errors="ignore").decode().strip() if is_text else ""


def _shown(value: str) -> str:
    return repr(value[:_SHOWN_CHARACTERS])
