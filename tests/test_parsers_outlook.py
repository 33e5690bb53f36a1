from __future__ import annotations

from datetime import UTC, datetime

import pytest

from reindex.parsers import Context, Inner, Rejected
from reindex.parsers.outlook import read_outlook
from reindex.records import ParsedDocument, RejectedMember, RejectReason
from reindex.settings import Limits, Parsing
from tests.outlook_sample import Folder

MOMENT = int((datetime(2026, 11, 2, 10, tzinfo=UTC) - datetime(1601, 1, 1, tzinfo=UTC)).total_seconds()) * 10_000_000


def message(*, before: int = 32) -> Folder:
    mail = Folder().put("0037", "The plan").put("0C1A", "Ann").put("5D01", "ann@example.org").put("0E04", "Bob")
    return mail.put("1000", "Hello Bob,\r\n\r\nsee you there.\r\n").put_time(0x0039, MOMENT, before=before)


def attached(name: str, content: bytes) -> Folder:
    return Folder().put("3707", name).put("3701", content)


def forwarded(mail: Folder) -> Folder:
    return Folder({"__substg1.0_3701000D": mail})


def read(mail: Folder, *, ocr: bool = False, nesting: int = 3) -> list[ParsedDocument | Inner | RejectedMember]:
    context = Context(name="a.msg", parsing=Parsing(ocr=ocr), limits=Limits(nesting=nesting))
    return list(read_outlook(mail.as_bytes(), context))


def test_a_message_begins_with_who_wrote_it_and_is_called_by_its_subject() -> None:
    (document,) = read(message())
    assert isinstance(document, ParsedDocument)
    assert document.title == "The plan"
    assert [block.text for block in document.blocks] == [
        "From: Ann <ann@example.org>\nTo: Bob\nDate: Mon, 02 Nov 2026 10:00:00 +0000\nSubject: The plan",
        "Hello Bob,",
        "see you there.",
    ]


def test_html_is_read_where_there_is_no_other_text() -> None:
    (document,) = read(Folder().put("0037", "A").put("1013", b"<p>Hello in colours</p>"))
    assert isinstance(document, ParsedDocument)
    assert document.blocks[-1].text == "Hello in colours"


def test_attachments_are_files_of_their_own() -> None:
    logo = attached("logo.png", b"logo").put("3712", "logo@example.org")
    mail = message().attach(attached("plan.pdf", b"left" * 2000)).attach(attached("", b"right")).attach(logo)
    files = [Inner(member="plan.pdf", name="plan.pdf", data=b"left" * 2000)]
    files += [Inner(member="attachment-2", name="attachment-2", data=b"right")]
    assert read(mail)[1:] == files
    assert read(mail, ocr=True)[1:] == [*files, Inner(member="logo.png", name="logo.png", data=b"logo")]


def test_a_message_within_a_message_is_a_document_with_attachments_of_its_own() -> None:
    inner = message(before=24).attach(attached("plan.pdf", b"left"))
    document, first, file = read(message().attach(forwarded(inner)))
    assert isinstance(first, ParsedDocument)
    assert isinstance(document, ParsedDocument)
    assert first.member == "attachment-1.eml"
    assert first.blocks == document.blocks
    assert file == Inner(member="attachment-1.eml/plan.pdf", name="plan.pdf", data=b"left")


def test_messages_nest_no_deeper_than_the_corpus_allows() -> None:
    mail = message().attach(forwarded(message(before=24).attach(forwarded(message(before=24)))))
    *_, rejected = read(mail, nesting=1)
    assert rejected == RejectedMember(
        member="attachment-1.eml/attachment-1.eml", reason=RejectReason.TOO_DEEP, detail="limits.nesting allows 1"
    )


@pytest.mark.parametrize("data", [b"no message", message().as_bytes()[:700]])
def test_what_is_no_message_is_rejected(data: bytes) -> None:
    with pytest.raises(Rejected, match="cannot-be-parsed: Outlook"):
        list(read_outlook(data, Context(name="a.msg", parsing=Parsing(), limits=Limits())))
