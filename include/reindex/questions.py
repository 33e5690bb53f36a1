"""What a release is measured with: questions of people where there are some, and sampled ones that do not cheat.

A sampled question is a passage, whose own neighbours are looked for without itself, or a heading, which is shorter than
what it stands above, as questions are.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pyarrow as pa

from reindex.naming import chunk_id
from reindex.records import ID_COLUMN, VECTOR_COLUMN

# What a sampled row must tell: the question that it becomes, and what its vector was made of.
SAMPLED_COLUMNS = (ID_COLUMN, "document", "title", "section", "text", VECTOR_COLUMN)
_HEADINGS = " > "


class Kind(StrEnum):
    """Where a question comes from."""

    GOLDEN = "golden"
    LOG = "log"
    PASSAGES = "passages"
    HEADINGS = "headings"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One query: its text, and the id of the passage that it is, which does not count as an answer to itself.

    A report calls it by its `name`, which is no text of a document: documents may have to be erased.
    """

    kind: Kind
    text: str
    name: str
    own: str = ""


def sample_rows(batches: Iterable[pa.RecordBatch], count: int) -> pa.Table:
    """Return up to `count` rows, the same ones every time: ids are hashes, so the smallest are a fair sample."""
    held: pa.Table | None = None
    for batch in batches:
        rows = pa.Table.from_batches([batch]).select(SAMPLED_COLUMNS)
        held = smallest_ids([held, rows] if held else [rows], count)
    if held is None:
        raise ValueError("an import file without rows")
    return held


def smallest_ids(tables: Sequence[pa.Table], count: int) -> pa.Table:
    return pa.concat_tables(tables).sort_by(ID_COLUMN).slice(0, count).combine_chunks()


def draw_questions(
    sampled: Sequence[dict[str, Any]], golden: Iterable[str], log: Iterable[str], count: int
) -> list[Question]:
    """Return up to `count` questions: golden ones first, then of the log, then as many passages as headings.

    Where there are too few headings there are more passages. None is asked twice.
    """
    asked = dict.fromkeys(golden)
    chosen = [Question(kind=Kind.GOLDEN, text=text, name=text) for text in asked][:count]
    logged = heapq.nsmallest(count - len(chosen), set(log) - asked.keys(), key=_shuffled)
    chosen += [Question(kind=Kind.LOG, text=text, name=text) for text in logged]
    chosen += _headings(sampled, (count - len(chosen)) // 2)
    return chosen + [
        Question(kind=Kind.PASSAGES, text=row["text"], name=_name("passage", row), own=row[ID_COLUMN])
        for row in sampled[: count - len(chosen)]
    ]


def _headings(sampled: Sequence[dict[str, Any]], count: int) -> list[Question]:
    rows: dict[str, dict[str, Any]] = {}
    for row in sampled:
        rows.setdefault(heading_of(row), row)
    rows.pop("", None)
    return [
        Question(kind=Kind.HEADINGS, text=heading, name=_name("heading above the passage", row))
        for heading, row in list(rows.items())[:count]
    ]


def _name(what: str, row: dict[str, Any]) -> str:
    return f"{row['document']}, {what} {row[ID_COLUMN]}"


def heading_of(row: dict[str, Any]) -> str:
    """Return the innermost heading above a passage, or else its document's title."""
    section: str = row["section"]
    return section.rsplit(_HEADINGS, 1)[-1].strip() or str(row["title"]).strip()


def _shuffled(text: str) -> str:
    """Return a hash: the order of a log must not decide what is asked of it."""
    return chunk_id("", text, 0)
