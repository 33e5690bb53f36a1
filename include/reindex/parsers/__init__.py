"""What the parsers of all formats share: what one is told, what it yields, how it says no."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from reindex.errors import ReindexError
from reindex.records import ParsedDocument, RejectedMember, RejectReason
from reindex.settings import Limits, Parsing


class Rejected(ReindexError):
    """A document that cannot be indexed: it costs only itself, and is named with its reason."""

    def __init__(self, reason: RejectReason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a parser is told beside the bytes; `name` is the object's key or an entry's name, whose suffix may help."""

    name: str
    parsing: Parsing
    limits: Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    """A file within the file: an attachment, an archive's entry; an empty `member` leaves the object one document."""

    member: str
    name: str
    data: bytes


Parser = Callable[[bytes, Context], Iterable[ParsedDocument | Inner | RejectedMember]]
