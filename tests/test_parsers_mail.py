from __future__ import annotations

from email.message import EmailMessage

import pytest

from reindex.parsers import Context, Inner, Rejected
from reindex.parsers.mail import read_mailbox, read_message
from reindex.records import ParsedDocument
from reindex.settings import Limits, Parsing

CONTEXT = Context(name="a.eml", parsing=Parsing(), limits=Limits())


def message(body: str = "Hello Bob,\n\nsee you there.\n") -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"] = "Ann <ann@example.org>", "bob@example.org"
    mail["Date"], mail["Subject"] = "Mon, 02 Nov 2026 10:00:00 +0000", "The Größe of things"
    mail.set_content(body)
    return mail


def read(data: bytes, context: Context = CONTEXT) -> tuple[ParsedDocument, list[Inner]]:
    document, *inner = read_message(data, context)
    assert isinstance(document, ParsedDocument)
    return document, [found for found in inner if isinstance(found, Inner)]


def test_a_message_begins_with_who_wrote_it_and_is_called_by_its_subject() -> None:
    document, inner = read(message().as_bytes())
    assert document.title == "The Größe of things"
    assert [block.text for block in document.blocks] == [
        "From: Ann <ann@example.org>\nTo: bob@example.org\n"
        "Date: Mon, 02 Nov 2026 10:00:00 +0000\nSubject: The Größe of things",
        "Hello Bob,",
        "see you there.",
    ]
    assert inner == []


def test_of_two_alternatives_the_plain_one_is_read() -> None:
    mail = message()
    mail.add_alternative("<p>Hello <b>in colours</b></p>", subtype="html")
    assert "colours" not in read(mail.as_bytes())[0].laid_out()[0]


def test_html_is_read_where_there_is_nothing_else() -> None:
    mail = message(" \n")
    mail.add_alternative("<p>Hello in colours</p>", subtype="html")
    assert read(mail.as_bytes())[0].blocks[-1].text == "Hello in colours"


def test_attachments_are_files_of_their_own_with_names_that_differ() -> None:
    mail = message()
    mail.add_attachment(b"one", maintype="application", subtype="pdf", filename="plan.pdf")
    mail.add_attachment(b"two", maintype="application", subtype="pdf", filename="plan.pdf")
    mail.add_attachment(b"three", maintype="application", subtype="pdf")
    mail.add_attachment("four", subtype="plain", filename="notes.txt")
    _, inner = read(mail.as_bytes())
    assert [(found.member, found.name, found.data.strip()) for found in inner] == [
        ("plan.pdf", "plan.pdf", b"one"),
        ("plan.pdf (2)", "plan.pdf", b"two"),
        ("attachment-3.pdf", "attachment-3.pdf", b"three"),
        ("notes.txt", "notes.txt", b"four"),
    ]


def test_a_message_within_a_message_is_attached_to_it() -> None:
    mail = message("As I said")
    mail.add_attachment(message("The first one"))
    document, inner = read(mail.as_bytes())
    assert "The first one" not in document.laid_out()[0]
    assert inner[0].name == "attachment-1.eml"
    assert "The first one" in read(inner[0].data)[0].laid_out()[0]


def test_signatures_and_logos_are_no_attachments() -> None:
    mail = message()
    mail.add_related(b"\x89PNG", maintype="image", subtype="png", cid="<logo>")
    mail.make_mixed()
    mail.add_attachment(b"sig", maintype="application", subtype="pgp-signature", filename="a.asc")
    assert read(mail.as_bytes())[1] == []


def test_pictures_within_the_text_are_given_where_pictures_are_read() -> None:
    mail = message()
    mail.add_related(b"\x89PNG", maintype="image", subtype="png", cid="<logo>")
    context = Context(name="a.eml", parsing=Parsing(ocr=True), limits=Limits())
    assert [found.data for found in read(mail.as_bytes(), context)[1]] == [b"\x89PNG"]


@pytest.mark.parametrize(
    "data",
    [
        b"Subject: caf\xe9\n\ncaf\xe9 au lait",
        b"Subject: a\nContent-Type: text/plain; charset=x-unheard-of\n\ncaf\xe9 au lait",
        b"Subject: a\nContent-Type: text/plain; charset=utf-8\n\ncaf\xe9 au lait",
        b"Subject: a\nContent-Transfer-Encoding: base64\n\n!Y2Fm6SBhdSBsYWl0=",
        b"Subject: =?utf-8?q?broken=ZZ?= =?nope?x?y?=\nFrom: <<<>\nDate: never\n\ncaf\xe9 au lait",
        b"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\ncaf\xe9 au lait",
    ],
)
def test_a_message_in_a_broken_encoding_is_read_all_the_same(data: bytes) -> None:
    document, _ = read(data)
    assert document.blocks[-1].text.strip("\n").endswith("café au lait")
    assert (document.title + document.laid_out()[0]).encode()


def mailbox(*messages: bytes) -> bytes:
    return b"".join(b"From ann@example.org Mon Nov  2 10:00:00 2026\n" + one + b"\n" for one in messages)


def test_a_mailbox_holds_messages_under_their_ids() -> None:
    data = mailbox(
        b"Message-ID: <a@x>\nSubject: one\n\nFrom here on:\n\nFrom now\n>From then\n",
        b"message-id: <twice@x>\n\ntwo\n",
        b"Message-Id: <twice@x>\n\nthree\n",
        b"Subject: four\n\nMessage-ID: <no@header>\n",
        b"Message-ID: <%s@x>\n\nfive\n" % (b"a" * 200),
    )
    found = list(read_mailbox(data, CONTEXT))
    assert [inner.member for inner in found] == ["a@x", "2", "3", "4", "5"]
    assert found[0].data.endswith(b"\n\nFrom here on:\n\nFrom now\nFrom then\n\n")
    assert read(found[2].data)[0].blocks[-1].text == "three"


def test_a_mailbox_with_lines_as_windows_ends_them_is_read() -> None:
    data = mailbox(b"Subject: one\n\nfirst\n", b"Subject: two\n\nsecond\n").replace(b"\n", b"\r\n")
    assert [read(inner.data)[0].title for inner in read_mailbox(data, CONTEXT)] == ["one", "two"]


def test_what_is_no_mailbox_is_rejected() -> None:
    with pytest.raises(Rejected, match="cannot-be-parsed: a mailbox begins"):
        list(read_mailbox(b"From time to time\n", CONTEXT))
