"""An Outlook message in, its documents out: it is a file system of its own, with a stream for every property.

Properties by their numbers: Microsoft's MS-OXPROPS; where they lie: MS-OXMSG.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from reindex.parsers import Context, Inner, Rejected
from reindex.parsers.encodings import as_text
from reindex.parsers.mail import attachment_name, heading
from reindex.parsers.members import Names
from reindex.parsers.text import paragraphs
from reindex.parsers.web import blocks_of_html
from reindex.records import Block, ParsedDocument, RejectedMember, RejectReason

_SUBJECT, _SENDER, _TO, _CC = "0037", "0C1A", "0E04", "0E03"
_ADDRESSES = ("5D01", "0C1F")
_BODY, _HTML = "1000", "1013"
_SENT = (0x0039, 0x0E06)
_TIME = 0x0040
_DATA, _CONTENT_ID, _NAMES = "3701", "3712", ("3707", "3704", "3001")
_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".bmp")
_ATTACHMENT = "__attach_version1.0_#"
# As they are counted, in tenths of a microsecond.
_FIRST_DAY = datetime(1601, 1, 1, tzinfo=UTC)


def read_outlook(data: bytes, context: Context) -> Iterator[ParsedDocument | Inner | RejectedMember]:
    """Yield the message, then what is attached to it."""
    import olefile

    try:
        file = olefile.OleFileIO(io.BytesIO(data))
    except OSError as error:
        raise Rejected(RejectReason.BROKEN, f"Outlook: {error}") from error
    yield from _documents(_Folder(file, ()), context, context.limits.nesting)


class _Folder:
    """One message or attachment of the file."""

    def __init__(self, file: Any, path: tuple[str, ...]) -> None:
        self._file, self._path = file, path

    def folders(self) -> list[_Folder]:
        """Return the attachments."""
        depth = len(self._path)
        inside = [entry for entry in self._file.listdir(storages=True, streams=False) if len(entry) == depth + 1]
        own = [entry for entry in inside if tuple(entry[:depth]) == self._path and entry[-1].startswith(_ATTACHMENT)]
        return [_Folder(self._file, tuple(entry)) for entry in sorted(own)]

    def message(self) -> _Folder | None:
        """Return the message that is attached, if the attachment is one."""
        path = (*self._path, f"__substg1.0_{_DATA}000D")
        return _Folder(self._file, path) if self._file.exists([*path, "__properties_version1.0"]) else None

    def data(self, number: str, kind: str = "0102") -> bytes:
        path = [*self._path, f"__substg1.0_{number}{kind}"]
        return bytes(self._file.openstream(path).read()) if self._file.exists(path) else b""

    def text(self, *numbers: str) -> str:
        """Return the first of the properties that is there."""
        for number in numbers:
            text = self.data(number, "001F").decode("utf-16-le", errors="replace") or as_text(self.data(number, "001E"))
            if text and text.strip("\0 "):
                return text.rstrip("\0").replace("\r\n", "\n")
        return ""

    def sent(self) -> str:
        times = dict(self._times())
        first = next((times[number] for number in _SENT if number in times), 0)
        try:
            return f"{_FIRST_DAY + timedelta(microseconds=first // 10):%a, %d %b %Y %H:%M:%S +0000}" if first else ""
        except OverflowError:
            return ""

    def _times(self) -> Iterator[tuple[int, int]]:
        path = [*self._path, "__properties_version1.0"]
        data = self._file.openstream(path).read() if self._file.exists(path) else b""
        # The properties of the message itself stand behind a longer beginning than those of one attached to it.
        start = 24 if self._path else 32
        whole = data[start : start + (len(data) - start) // 16 * 16]
        for kind, number, _, value in struct.iter_unpack("<HHIQ", whole):
            if kind == _TIME:
                yield number, value


def _documents(message: _Folder, context: Context, nesting: int) -> Iterator[ParsedDocument | Inner | RejectedMember]:
    subject = message.text(_SUBJECT).strip()
    lines = {
        "From": _sender(message),
        "To": message.text(_TO),
        "Cc": message.text(_CC),
        "Date": message.sent(),
        "Subject": subject,
    }
    yield ParsedDocument(title=subject, blocks=(*heading(lines), *_body(message)))
    names = Names()
    for number, attachment in enumerate(message.folders(), start=1):
        inner = attachment.message()
        name = attachment_name(attachment.text(*_NAMES), "message/rfc822" if inner else "", number)
        if inner:
            yield from _attached(inner, names.free(name), context, nesting)
        elif context.parsing.ocr or not _is_within_text(attachment, name):
            yield Inner(member=names.free(name), name=name, data=attachment.data(_DATA))


def _attached(
    message: _Folder, member: str, context: Context, nesting: int
) -> Iterator[ParsedDocument | Inner | RejectedMember]:
    if not nesting:
        detail = f"limits.nesting allows {context.limits.nesting}"
        yield RejectedMember(member=member, reason=RejectReason.TOO_DEEP, detail=detail)
        return
    for found in _documents(message, context, nesting - 1):
        yield replace(found, member=f"{member}/{found.member}" if found.member else member)


def _sender(message: _Folder) -> str:
    name, address = message.text(_SENDER), message.text(*_ADDRESSES)
    return f"{name} <{address}>" if name and "@" in address and name != address else name or address


def _body(message: _Folder) -> tuple[Block, ...]:
    plain = tuple(paragraphs(message.text(_BODY)))
    return plain or blocks_of_html(message.text(_HTML) or as_text(message.data(_HTML)) or "")


def _is_within_text(attachment: _Folder, name: str) -> bool:
    # As in other mail, such a picture is nearly always a logo.
    return bool(attachment.text(_CONTENT_ID)) and name.lower().endswith(_PICTURES)
