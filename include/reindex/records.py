"""What the stages hand to each other: frozen records, and the tables' Arrow schemas.

One field of `Passage` or `Chunk` is one column of the parts, of the import files and of the collection.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any

import pyarrow as pa

from reindex.groups import MAX_GROUP_BYTES, MAX_GROUPS

VECTOR_COLUMN = "vector"
ID_COLUMN = "id"
ACL_COLUMN = "acl"


def _text(max_bytes: int) -> Any:
    return field(metadata={"max_bytes": max_bytes})


@dataclass(frozen=True, slots=True, kw_only=True)
class TextsLimit:
    """The most texts that a list may hold, and the most UTF-8 bytes of each."""

    count: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """One piece of a document, as the chunker cuts it: a field here is a column everywhere.

    `member` says which document of its object it belongs to, where an object holds several: a message of a mailbox, a
    record of a file of records, an attachment; empty: the object is the document. The title is empty where the document
    has none: readers then get the name of its file. Page 0 means that the format has no pages; `time` is the time code
    at which a recording says it, as `00:01:07`; `language` is a code of ISO 639-3, or empty. `start` counts characters
    from the beginning of the document's text.
    """

    member: str = _text(1024)
    title: str = _text(1024)
    section: str = _text(2048)
    language: str = _text(16)
    page: int
    time: str = _text(16)
    position: int
    start: int
    text: str = _text(16_384)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPassage(Passage):
    """A passage as parts hold it: under its document's content, not its key, so that a rename changes nothing.

    `occurrence` counts earlier passages of the same member with the same text, from 0.
    """

    content: str
    occurrence: int
    vector: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk(Passage):
    """A passage as readers find it: with an id, the key of its document, and its vector.

    `modified` is when the object was, in whole seconds since 1970, UTC. `acl` names the groups that may find it: `*`
    alone is everyone, none at all nobody, since it is not known who may.
    """

    id: str = _text(32)
    document: str = _text(1024)
    modified: int
    acl: list[str] = field(metadata={"max_texts": TextsLimit(count=MAX_GROUPS, bytes=MAX_GROUP_BYTES)})
    vector: list[float]


def text_bytes(column: str) -> int:
    """Return the most UTF-8 bytes that a text column of `Chunk` may hold."""
    return int(Chunk.__dataclass_fields__[column].metadata["max_bytes"])


def text_columns() -> dict[str, int]:
    """Return the text columns of `Chunk` with the most UTF-8 bytes each may hold."""
    return {f.name: f.metadata["max_bytes"] for f in dataclasses.fields(Chunk) if "max_bytes" in f.metadata}


@cache  # a search asks for them with each hit
def texts_columns() -> dict[str, TextsLimit]:
    """Return the columns of `Chunk` that are lists of texts, with what each may hold."""
    return {f.name: f.metadata["max_texts"] for f in dataclasses.fields(Chunk) if "max_texts" in f.metadata}


def integer_columns() -> list[str]:
    return [f.name for f in dataclasses.fields(Chunk) if f.type == "int"]


def stored_columns() -> list[str]:
    """Return the columns that a search can give back: all but the vector."""
    return [f.name for f in dataclasses.fields(Chunk) if f.name != VECTOR_COLUMN]


_TEXTS = pa.list_(pa.string())


def _schema(record: type[Passage]) -> pa.Schema:
    """Return the Arrow schema of a record: plain types only, the ones that Milvus reads."""
    arrow = {"str": pa.string(), "int": pa.int64(), "list[float]": pa.list_(pa.float32()), "list[str]": _TEXTS}
    return pa.schema([pa.field(f.name, arrow[str(f.type)], nullable=False) for f in dataclasses.fields(record)])


def chunk_schema() -> pa.Schema:
    """Return the schema of import files."""
    return _schema(Chunk)


def part_schema() -> pa.Schema:
    """Return the schema of parts."""
    return _schema(StoredPassage)


def passage_columns() -> list[str]:
    """Return the columns that parts and import files share, but for the vector."""
    return [f.name for f in dataclasses.fields(Passage)]


_OBJECT = [
    ("key", pa.string()),
    ("version", pa.string()),
    ("etag", pa.string()),
    ("bytes", pa.int64()),
    ("modified", pa.timestamp("us", tz="UTC")),
]

# Who may find the documents of an object, as `Chunk.acl` says it.
_ACL = (ACL_COLUMN, _TEXTS)

# `metadata` is for whoever reads the snapshot: no later table carries it on. It is null where it could not be asked.
SNAPSHOT_SCHEMA = pa.schema([*_OBJECT, ("metadata", pa.string()), _ACL])

# What is known of a document once it has been read: its content, and the part that holds its passages or why none does.
_FINDING = [
    ("content", pa.string()),
    ("chunks", pa.int64()),
    ("tokens", pa.int64()),
    ("part", pa.string()),
    ("reason", pa.string()),
    ("detail", pa.string()),
]

PLAN_SCHEMA = pa.schema([*_OBJECT, ("action", pa.string()), *_FINDING, _ACL])

# The documents that a release indexes; `action` says how it came by them: embed, reuse or withhold.
DOCUMENT_SCHEMA = pa.schema([*_OBJECT, ("action", pa.string()), *_FINDING[:4], _ACL])

# A member that was rejected alone, as an attachment, has a row of its own; its object counts as indexed all the same.
REJECT_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("member", pa.string()),
        ("version", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("seconds", pa.float64()),
        ("bytes", pa.int64()),
    ]
)

MEMBERS = pa.list_(pa.struct([("member", pa.string()), ("reason", pa.string()), ("detail", pa.string())]))

# `digest` is what the document's passages and their vectors add up to (`naming.passage_digest`). `embedded` and
# `embedded_tokens` count the chunks whose vectors were computed for this row: not those that an earlier version of the
# document had already. `members` are those of its documents that were rejected, `seconds` what reading
# it took, `limits` the fingerprint of the limits that it was read within.
CATALOG_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("version", pa.string()),
        ("etag", pa.string()),
        ("bytes", pa.int64()),
        *_FINDING,
        ("digest", pa.int64()),
        ("embedded", pa.int64()),
        ("embedded_tokens", pa.int64()),
        ("members", MEMBERS),
        ("seconds", pa.float64()),
        ("limits", pa.string()),
    ]
)


class Action(StrEnum):
    """What the plan says of one object, or of a document that is live and no longer listed.

    `embed`: nothing is known of it, read it. `reuse`: the embedding space holds it. `reject`: it was rejected before,
    and has not changed. `withdraw`: it leaves the index. `withhold`: too many would leave at once, so it stays.
    """

    EMBED = "embed"
    REUSE = "reuse"
    REJECT = "reject"
    WITHDRAW = "withdraw"
    WITHHOLD = "withhold"


class RejectReason(StrEnum):
    """Why a document could not be indexed: a closed list."""

    UNSUPPORTED = "unsupported-format"
    ARCHIVE = "archive"
    BROKEN = "cannot-be-parsed"
    ENCRYPTED = "encrypted"
    EMPTY = "no-text"
    TOO_LARGE = "too-many-bytes"
    TOO_MANY_PAGES = "too-many-pages"
    TOO_LONG = "too-many-characters"
    TOO_DEEP = "nested-too-deep"
    TOO_DENSE = "expands-too-far"
    TOO_SLOW = "too-slow"
    TOO_MUCH_MEMORY = "too-much-memory"
    CRASHED = "crashed-the-parser"
    DUPLICATE = "duplicate"
    LOCKED = "cannot-be-read"
    GONE = "gone-since-the-snapshot"


# Reasons that lie in the document: as long as it, the parser and the corpus's limits are the same, so is the answer.
LASTING_REASONS = frozenset(set(RejectReason) - {RejectReason.LOCKED, RejectReason.GONE, RejectReason.DUPLICATE})


class Shape(StrEnum):
    """How a block stands in its document: a paragraph, a line of a list or a table, or code as it is written."""

    PARAGRAPH = "paragraph"
    LINE = "line"
    CODE = "code"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A piece of a document's text that a chunk had best not break, in reading order, with nothing of the format's own.

    A level from 1 says that a section begins here, and how deep it lies: it is called `label`, or else as the text is.
    """

    text: str
    shape: Shape = Shape.PARAGRAPH
    level: int = 0
    label: str = ""
    page: int = 0
    time: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedDocument:
    """What a parser has read: one of an object's documents, `member` saying which where there are several."""

    title: str
    blocks: tuple[Block, ...]
    language: str = ""
    member: str = ""

    def laid_out(self) -> tuple[str, list[int]]:
        """Return the document's text, and where each of its blocks begins in it."""
        pieces: list[str] = []
        starts: list[int] = []
        length, before = 0, ""
        for block in self.blocks:
            between = _between(before, block) if pieces else ""
            starts.append(length + len(between))
            pieces += [between, block.text]
            length, before = starts[-1] + len(block.text), block.text
        return "".join(pieces), starts


def _between(before: str, block: Block) -> str:
    # Code is given piece by piece and must come out as it was.
    if block.shape is Shape.CODE and before.endswith("\n"):
        return ""
    return "\n" if block.shape is Shape.LINE else "\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedMember:
    """One document of several in an object that could not be read: it costs only itself."""

    member: str
    reason: RejectReason
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What an object was found to hold: at least one document, and those of its members that were rejected."""

    documents: tuple[ParsedDocument, ...]
    rejected: tuple[RejectedMember, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """One object of the source bucket; `version` is empty where the bucket keeps none.

    `metadata` is a JSON object: of the user metadata, what the corpus asks for; None if the object could not be asked.
    """

    key: str
    version: str
    etag: str
    bytes: int
    modified: datetime
    metadata: str | None = "{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionInfo:
    """What identifies a collection and decides whether readers can stay: its id, dimension and metric.

    `index` is how the server describes its index: type, metric and build parameters, as text.
    """

    name: str
    id: int
    dimension: int
    metric: str
    index: dict[str, str] = field(default_factory=dict)


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
class Memory:
    """What the server's query side may hold and holds: everything that is loaded, what is live included."""

    limit_bytes: int
    used_bytes: int


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
