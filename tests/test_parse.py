from __future__ import annotations

import pytest

from reindex.parse import PARSERS, Rejected, parse_document
from reindex.records import RejectReason
from tests.samples import SAMPLES, WORDS, pdf


@pytest.mark.parametrize("suffix", PARSERS)
def test_every_format_in_the_table_gives_its_text(suffix: str) -> None:
    document = parse_document(f"folder/a{suffix}", SAMPLES[suffix])
    text = document.laid_out()[0]
    assert all(word in text for word in WORDS)


@pytest.mark.parametrize(
    ("key", "data", "reason"),
    [
        ("a.exe", b"MZ", RejectReason.UNSUPPORTED),
        ("README", b"text", RejectReason.UNSUPPORTED),
        ("a.pdf", b"%PDF-1.4 and then nothing", RejectReason.BROKEN),
        ("a.docx", b"not an archive", RejectReason.BROKEN),
        ("a.txt", b"", RejectReason.EMPTY),
        ("a.md", b"\n \n", RejectReason.EMPTY),
        ("a.html", b"<html><body></body></html>", RejectReason.EMPTY),
    ],
)
def test_what_cannot_be_indexed_is_rejected_with_its_reason(key: str, data: bytes, reason: RejectReason) -> None:
    with pytest.raises(Rejected) as caught:
        parse_document(key, data)
    assert caught.value.reason == reason
    assert caught.value.detail
    assert "\n" not in caught.value.detail


class Panic(BaseException):
    """As the Rust core's panics are."""


@pytest.mark.parametrize("error", [Panic("index out of bounds"), RecursionError("too deep")])
def test_a_parser_that_breaks_in_a_way_of_its_own_costs_only_its_document(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def breaks(data: bytes) -> None:
        raise error

    monkeypatch.setitem(PARSERS, ".md", breaks)
    with pytest.raises(Rejected, match=f"cannot-be-parsed: {type(error).__name__}"):
        parse_document("a.md", b"text")


def test_a_suffix_is_read_in_any_case() -> None:
    assert parse_document("A.TXT", b"left and right").blocks[0].text == "left and right"


def test_a_pdf_s_text_is_kept_by_page() -> None:
    document = parse_document("a.pdf", pdf("first page", "second page"))
    assert [(block.page, block.text.strip()) for block in document.blocks] == [(1, "first page"), (2, "second page")]


def test_the_metadata_of_a_page_is_no_text_of_it() -> None:
    html = (
        b"<html><head><title>A title</title><meta name='description' content='of: this page'></head>"
        b"<body><p>Note: left and right</p></body></html>"
    )
    document = parse_document("a.html", html)
    assert document.title == "A title"
    assert document.blocks[0].text.strip() == "Note: left and right"


def test_a_markdown_title_is_its_first_heading() -> None:
    assert parse_document("a.md", SAMPLES[".md"]).title == "A heading"
