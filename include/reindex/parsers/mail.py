"""A message or a mailbox in, its documents out: every message with who wrote it to whom, and what is attached to it."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage, Message
from typing import cast

from reindex.parsers import Context, Inner, Rejected
from reindex.parsers.encodings import as_text
from reindex.parsers.members import Names, named_by_id
from reindex.parsers.text import paragraphs
from reindex.parsers.web import blocks_of_html
from reindex.records import Block, ParsedDocument, RejectedMember, RejectReason

_HEADERS = ("From", "To", "Cc", "Date", "Subject")
# What signs a message says nothing to a reader.
_SIGNATURES = frozenset({"application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature"})
# The line before a message: a time and a year tell it from a sentence that begins with the same word.
_FROM_LINE = re.compile(rb"(?:\A|(?<=\n\n)|(?<=\n\r\n))From [^\n]{0,200}\d:\d\d[^\n]{0,40}\b\d{4}\b[^\n]*\n")
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)
_MESSAGE_ID = re.compile(rb"^message-id:\s*<([^<>\s]+)>", re.IGNORECASE | re.MULTILINE)
_END_OF_HEADERS = re.compile(rb"\r?\n\r?\n")


def read_message(data: bytes, context: Context) -> Iterator[ParsedDocument | Inner | RejectedMember]:
    """Yield the message, then what is attached to it."""
    message = message_from_bytes(data, policy=policy.default)
    blocks = (*heading({name: _header(message, name) for name in _HEADERS}), *_body(message))
    yield ParsedDocument(title=_header(message, "Subject"), blocks=blocks)
    names = Names()
    for number, part in enumerate(_attachments(message, context), start=1):
        name = attachment_name(_file_name(part), part.get_content_type(), number)
        yield _attachment(part, names.free(name), name)


def read_mailbox(data: bytes, context: Context) -> Iterator[Inner]:  # noqa: ARG001 - as all parsers are called
    """Yield the messages, each under its Message-ID if no other has it."""
    lines = list(_FROM_LINE.finditer(data))
    if not lines or data[: lines[0].start()].strip():
        raise Rejected(RejectReason.BROKEN, "a mailbox begins with the word From, a sender and a date")
    ends = [*(line.start() for line in lines[1:]), len(data)]
    spans = [(line.end(), end) for line, end in zip(lines, ends, strict=True)]
    members = named_by_id({place: _message_id(data, *span) for place, span in enumerate(spans, start=1)})
    for member, (start, end) in zip(members, spans, strict=True):
        yield Inner(member=member, name="message.eml", data=_QUOTED_FROM.sub(rb"\1", data[start:end]))


def heading(headers: dict[str, str]) -> Iterator[Block]:
    """Yield who wrote what to whom and when, as readers see it above a message."""
    lines = [f"{name}: {value}" for name, value in headers.items() if value]
    if lines:
        yield Block(text="\n".join(lines))


def attachment_name(name: str, content_type: str, number: int) -> str:
    """Return what an attachment is called; without a name of its own, by its place and its kind."""
    own = " ".join(name.split()).rpartition("/")[2]
    return own or f"attachment-{number}{_SUFFIXES.get(content_type) or mimetypes.guess_extension(content_type) or ''}"


def _message_id(data: bytes, start: int, end: int) -> str:
    ends = _END_OF_HEADERS.search(data, start, end)
    found = _MESSAGE_ID.search(data, start, ends.start() if ends else end)
    return found[1].decode(errors="replace") if found else ""


def _header(message: EmailMessage, name: str) -> str:
    try:
        value = str(message[name] or "")
    except Exception:  # noqa: BLE001 - what the library cannot take apart is shown as it stands
        value = next(raw for key, raw in message.raw_items() if key.lower() == name.lower())
    return " ".join(_clean(value).split())


def _clean(text: str) -> str:
    """Return a text without the bytes that were in it as they came, of an encoding that nobody names."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


def _body(part: EmailMessage) -> tuple[Block, ...]:
    """Return what a message shows when it is opened."""
    if part.get_content_type() == "multipart/alternative":
        children = sorted(_children(part), key=lambda child: child.get_content_type() != "text/plain")
        return next((body for body in map(_body, children) if body), ())
    if part.get_content_maintype() == "multipart":
        return tuple(block for child in _children(part) for block in _body(child))
    if not _is_shown(part):
        return ()
    if part.get_content_type() == "text/plain":
        return tuple(paragraphs(_text(part)))
    return blocks_of_html(_text(part))


def _attachments(part: EmailMessage, context: Context) -> Iterator[EmailMessage]:
    for child in _children(part):
        yield from _attachments(child, context)
    kind = part.get_content_maintype()
    if kind == "multipart" or _is_shown(part) or part.get_content_type() in _SIGNATURES:
        return
    # Reports of delivery and the like are messages to programs.
    if kind == "message" and part.get_content_type() != "message/rfc822":
        return
    # A picture within the text is nearly always a logo.
    if kind == "image" and not _is_attached(part) and not context.parsing.ocr:
        return
    yield part


def _is_shown(part: EmailMessage) -> bool:
    is_text = part.get_content_type() in {"text/plain", "text/html"}
    return is_text and not _is_attached(part) and not _file_name(part)


def _is_attached(part: EmailMessage) -> bool:
    try:
        return part.is_attachment()
    except (LookupError, ValueError):  # of parameters that cannot be taken apart
        return _header(part, "content-disposition").lower().startswith("attachment")


def _file_name(part: EmailMessage) -> str:
    try:
        return _clean(part.get_filename() or "")
    except (LookupError, ValueError):  # of parameters that cannot be taken apart
        return ""


def _children(part: EmailMessage) -> list[EmailMessage]:
    is_container = part.get_content_maintype() == "multipart" and part.is_multipart()
    return cast("list[EmailMessage]", part.get_payload()) if is_container else []


def _text(part: EmailMessage) -> str:
    data = _content(part)
    try:
        text = data.decode(part.get_content_charset() or "ascii")
    except (LookupError, ValueError):
        text = as_text(data) or data.decode("ascii", errors="replace")
    return text.replace("\r\n", "\n")


def _content(part: EmailMessage) -> bytes:
    return cast("bytes", part.get_payload(decode=True) or b"")


def _attachment(part: EmailMessage, member: str, name: str) -> Inner | RejectedMember:
    if part.get_content_type() != "message/rfc822":
        return Inner(member=member, name=name, data=_content(part))
    try:
        data = cast("list[Message]", part.get_payload())[0].as_bytes()
    except Exception as error:  # noqa: BLE001 - a message that cannot be written out again costs only itself
        detail = " ".join(f"{type(error).__name__}: {error}".split())
        return RejectedMember(member=member, reason=RejectReason.BROKEN, detail=detail)
    return Inner(member=member, name=name, data=data)


# Which the machine's own table of types need not know.
_SUFFIXES = {"message/rfc822": ".eml", "text/calendar": ".ics"}
