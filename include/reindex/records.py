"""What the stages hand to each other: frozen records, and the tables' Arrow schemas.

One field of `Passage` or `Chunk` is one column of the parts, of the import files and of the collection.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import pyarrow as pa

VECTOR_COLUMN = "vector"
ID_COLUMN = "id"


def _text(max_bytes: int) -> Any:
    return field(metadata={"max_bytes": max_bytes})


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """One piece of a document, as the chunker cuts it: a field here is a column everywhere.

    Page 0 means that the format has no pages; `start` counts characters from the beginning of the page, or of the
    document's text where there are none.
    """

    id: str = _text(32)
    title: str = _text(1024)
    section: str = _text(2048)
    page: int
    position: int
    start: int
    text: str = _text(16_384)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk(Passage):
    """A passage as readers find it: with the key of its document, and its vector."""

    document: str = _text(1024)
    vector: list[float]


def text_bytes(column: str) -> int:
    """Return the most UTF-8 bytes that a text column of `Chunk` may hold."""
    return int(Chunk.__dataclass_fields__[column].metadata["max_bytes"])


def text_columns() -> dict[str, int]:
    """Return the text columns of `Chunk` with the most UTF-8 bytes each may hold."""
    return {f.name: f.metadata["max_bytes"] for f in dataclasses.fields(Chunk) if "max_bytes" in f.metadata}


def integer_columns() -> list[str]:
    return [f.name for f in dataclasses.fields(Chunk) if f.type == "int"]


def stored_columns() -> list[str]:
    """Return the columns that a search can give back: all but the vector."""
    return [f.name for f in dataclasses.fields(Chunk) if f.name != VECTOR_COLUMN]


def chunk_schema() -> pa.Schema:
    """Return the Arrow schema of parts and import files: plain types only, the ones that Milvus reads."""
    arrow = {"str": pa.string(), "int": pa.int64(), "list[float]": pa.list_(pa.float32())}
    return pa.schema([pa.field(f.name, arrow[str(f.type)], nullable=False) for f in dataclasses.fields(Chunk)])


SNAPSHOT_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("version", pa.string()),
        ("etag", pa.string()),
        ("bytes", pa.int64()),
        ("modified", pa.timestamp("us", tz="UTC")),
    ]
)

PLAN_SCHEMA = SNAPSHOT_SCHEMA.append(pa.field("action", pa.string()))

REJECT_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("version", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("bytes", pa.int64()),
    ]
)

CATALOG_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("version", pa.string()),
        ("etag", pa.string()),
        ("content", pa.string()),
        ("chunks", pa.int64()),
        ("tokens", pa.int64()),
        ("part", pa.string()),
    ]
)


class Action(StrEnum):
    """What the plan says of one object."""

    EMBED = "embed"


class RejectReason(StrEnum):
    """Why a document could not be indexed: a closed list."""

    UNSUPPORTED = "unsupported-format"
    BROKEN = "cannot-be-parsed"
    EMPTY = "no-text"
    LOCKED = "cannot-be-read"
    GONE = "gone-since-the-snapshot"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Text of one page, or of the whole document under the number 0."""

    number: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedDocument:
    title: str
    pages: tuple[Page, ...]
    is_markdown: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """One object of the source bucket; `version` is empty where the bucket keeps none."""

    key: str
    version: str
    etag: str
    bytes: int
    modified: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionInfo:
    """What identifies a collection and decides whether readers can stay: its id, dimension and metric."""

    name: str
    id: int
    dimension: int
    metric: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportJob:
    """One import the server has taken: its id there, the file's key and the rows the file holds."""

    id: str
    file: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportState:
    state: str
    rows: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexState:
    """Rows of one index: what the server has, has indexed and has still to index."""

    name: str
    state: str
    total_rows: int
    indexed_rows: int
    pending_rows: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadState:
    """Whether a collection can be searched: its state, and the rows of segments on disk and in memory."""

    loaded: bool
    persistent_segments: int
    loaded_segments: int
    loaded_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One answer of a search: the stored columns of a chunk and its score."""

    score: float
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a stage stands, for people: counts by name, and whether it is over."""

    done: bool
    message: str
    counts: dict[str, int]
