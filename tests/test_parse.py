from __future__ import annotations

import gzip
import random
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from reindex.parse import FORMATS, read_object, recognise, suffix_of
from reindex.parsers import Context, Inner, Rejected
from reindex.records import Block, ParsedDocument, Reading, RejectReason, text_bytes
from reindex.settings import Limits, Parsing
from tests.outlook_sample import Folder
from tests.samples import SAMPLES, TEXT, WORDS, docx, packed, pdf, picture

ALL = Parsing(ocr=True, archives=True, records=True)
# Nothing in these says more of them than that they are text.
NAMED = {"markdown", "rst", "csv", "code", "text"}


def read(name: str, data: bytes, parsing: Parsing = ALL, **limits: int) -> Reading:
    return read_object(name, data, parsing, Limits(**limits))


def texts(reading: Reading) -> dict[str, str]:
    return {document.member: document.laid_out()[0] for document in reading.documents}


def rejected(name: str, data: bytes, **limits: int) -> Rejected:
    with pytest.raises(Rejected) as caught:
        read(name, data, Parsing(), **limits)
    assert caught.value.detail
    assert "\n" not in caught.value.detail
    return caught.value


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_in_the_table_gives_its_text(kind: str) -> None:
    text = "".join(texts(read(*SAMPLES[kind])).values())
    assert all(word in text for word in WORDS)


@pytest.mark.parametrize("kind", sorted(set(FORMATS) - NAMED))
@pytest.mark.parametrize("name", ["a", "a.txt", "a.pdf", "folder.md/a.exe"])
def test_a_file_is_what_it_holds_whatever_its_name(kind: str, name: str) -> None:
    assert recognise(name, SAMPLES[kind].data) is FORMATS[kind]


@pytest.mark.parametrize("kind", sorted(NAMED))
def test_of_texts_the_suffix_says_which_kind_in_any_case(kind: str) -> None:
    name, data = SAMPLES[kind]
    assert recognise(name.upper(), data) is FORMATS[kind]
    assert recognise("README", data) is FORMATS["text"]


@pytest.mark.parametrize(
    ("data", "looks_like"),
    [
        (b"MZ\x90\0\3\0\0\0\4\0\0\0\xff\xff", "a Windows program"),
        (b"\x7fELF\2\1\1\0\0\0\0\0\0\0\0\0", "a Linux program"),
        (b"ID3\4\0\0\0\0\0\x23TSSE\0", "an audio file"),
        (b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0", "an audio file"),
        (b"\0\0\0\x20ftypisom\0\0\2\0", "a video file"),
        (b"\x1aE\xdf\xa3\x01\0\0\0", "a video file"),
        (b"SQLite format 3\0\x10\0\1\1", "an SQLite database"),
        (packed({"visio/document.xml": "", "[Content_Types].xml": ""}), "a Visio drawing"),
        (Folder({"VisioDocument": b"left"}).as_bytes(), "an OLE file that is neither"),
        (bytes(1_000), "binary data"),
        (random.Random(1).randbytes(5_000), "binary data"),
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.docx", "a"])
def test_what_is_no_document_is_named(data: bytes, looks_like: str, name: str) -> None:
    found = rejected(name, data)
    assert found.reason == RejectReason.UNSUPPORTED
    assert looks_like in found.detail


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.pdf", b"%PDF-1.4 and then nothing", RejectReason.BROKEN),
        ("a.docx", docx()[:-200], RejectReason.BROKEN),
        ("a.doc", SAMPLES["doc"].data[:600], RejectReason.BROKEN),
        ("a.docx", Folder({"EncryptedPackage": b"x", "EncryptionInfo": b"x"}).as_bytes(), RejectReason.ENCRYPTED),
        ("a.txt", b"", RejectReason.EMPTY),
        ("a.md", b"\n \n", RejectReason.EMPTY),
        ("a.html", b"<html><body></body></html>", RejectReason.EMPTY),
        ("a.png", picture(), RejectReason.UNSUPPORTED),
        ("a.zip", SAMPLES["archive"].data, RejectReason.ARCHIVE),
    ],
)
def test_what_cannot_be_indexed_is_rejected_with_its_reason(name: str, data: bytes, reason: RejectReason) -> None:
    assert rejected(name, data).reason == reason


def test_some_programs_put_a_line_of_their_own_before_a_pdf() -> None:
    assert texts(read("a.pdf", b"@PJL ENTER LANGUAGE=PDF\n" + pdf(TEXT))) == {"": TEXT}
    assert recognise("a.txt", b"The mark is %PDF-1.4, they say.") is FORMATS["text"]


def test_a_pdf_s_page_that_is_a_picture_is_read_where_the_corpus_asks_for_it() -> None:
    assert rejected("a.pdf", picture("PDF")).reason == RejectReason.EMPTY
    (document,) = read("a.pdf", picture("PDF"), Parsing(ocr=True)).documents
    assert [(block.page, block.text) for block in document.blocks] == [(1, TEXT)]


def test_a_limit_names_what_it_allows() -> None:
    found = rejected("a.txt", bytes(3 * 2**20), megabytes=2)
    assert (found.reason, found.detail) == (RejectReason.TOO_LARGE, "3.0 MB; limits.megabytes allows 2")
    found = rejected("a.txt", b"word " * 1_000, characters=100)
    assert (found.reason, found.detail) == (RejectReason.TOO_LONG, "4,999 characters; limits.characters allows 100")


def test_a_document_within_others_is_named_by_its_way_and_a_broken_one_costs_only_itself() -> None:
    inner = packed({"a.txt": TEXT, "broken.docx": docx()[:-200]})
    found = read("a.zip", packed({"folder/inner.zip": inner, "b.txt.gz": gzip.compress(b"back", mtime=0)}))
    assert texts(found) == {"folder/inner.zip/a.txt": TEXT, "b.txt.gz": "back"}
    assert [(member.member, member.reason) for member in found.rejected] == [
        ("folder/inner.zip/broken.docx", RejectReason.BROKEN)
    ]


def test_documents_lie_in_each_other_no_deeper_than_the_corpus_allows() -> None:
    data = packed({"c.txt": TEXT})
    for name in ("b", "a"):
        data = packed({f"{name}.zip": data, f"{name}.txt": name})
    assert texts(read("x.zip", data, nesting=3)) == {"a.zip/b.zip/c.txt": TEXT, "a.zip/b.txt": "b", "a.txt": "a"}
    found = read("x.zip", data, nesting=2)
    assert set(texts(found)) == {"a.zip/b.txt", "a.txt"}
    assert [(member.reason, member.detail) for member in found.rejected] == [
        (RejectReason.TOO_DEEP, "3 deep; limits.nesting allows 2")
    ]


class Panic(BaseException):
    """As the Rust core's panics are."""


@pytest.fixture
def broken_parser(monkeypatch: pytest.MonkeyPatch) -> type[BaseException]:
    """Have Markdown read by a parser that breaks once it has given one document."""

    def breaks(data: bytes, context: Context) -> Iterator[ParsedDocument | Inner]:
        if data != b"at once":
            yield ParsedDocument(title="", blocks=(Block(text="the first"),), member="1")
        raise Panic("index out\nof bounds")

    module = ModuleType("reindex.parsers.broken")
    module.__dict__["breaks"] = breaks
    monkeypatch.setitem(sys.modules, "reindex.parsers.broken", module)
    monkeypatch.setitem(
        FORMATS, "markdown", type(FORMATS["markdown"])(name="broken", parser="broken.breaks", suffixes=(".md",))
    )
    return Panic


@pytest.mark.usefixtures("broken_parser")
def test_a_parser_that_breaks_in_a_way_of_its_own_costs_only_its_document() -> None:
    with pytest.raises(Rejected, match="cannot-be-parsed: Panic: index out of bounds"):
        read("a.md", b"at once")


@pytest.mark.usefixtures("broken_parser")
def test_what_a_parser_gave_before_it_broke_stays() -> None:
    found = read("a.md", b"later")
    assert texts(found) == {"1": "the first"}
    assert [member.reason for member in found.rejected] == [RejectReason.BROKEN]


def test_what_no_text_means_is_left_out() -> None:
    (document,) = read("a.txt", f"{'and ' * 200}left \x01and\x1f right".encode()).documents
    assert document.laid_out()[0].endswith(TEXT)


@pytest.mark.parametrize(
    ("name", "text", "language"),
    [
        ("a.txt", "Der schnelle braune Fuchs springt über den faulen Hund und freut sich sehr darüber.", "deu"),
        ("a.txt", "これは日本語の文章です。解析を試験するために書かれました。東京都は大きいです。", "jpn"),
        ("a.txt", "1 2 3 4 5", ""),
        ("a.html", "<html lang='de-AT'><body><p>Ja.</p></body></html>", "deu"),
        # A template's language is not its author's.
        (
            "a.html",
            "<html lang='en'><body><p>Der schnelle braune Fuchs springt über den faulen Hund und freut sich sehr.</p>",
            "deu",
        ),
    ],
)
def test_a_document_s_language_is_what_its_text_shows_or_else_what_it_says(name: str, text: str, language: str) -> None:
    (document,) = read(name, text.encode()).documents
    assert document.language == language


def test_the_documents_of_an_object_hold_no_more_together_than_one_may() -> None:
    entries = {f"{number}.txt": b"left and right" * 10 for number in range(9)}
    found = read("a.zip", packed(entries), characters=500)
    assert len(found.documents) == 3
    assert [(member.member, member.reason) for member in found.rejected] == [("(the rest)", RejectReason.TOO_LONG)]


def test_a_member_s_name_is_cut_to_its_column_and_stays_its_own() -> None:
    entries = {f"{'d/' * 700}{name}.txt": b"left and right" for name in "ab"}
    members = [document.member for document in read("a.zip", packed(entries)).documents]
    assert len(set(members)) == 2
    assert all(len(member.encode()) <= text_bytes("member") for member in members)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("text", ["<!-- c -->\n" * 200 + "# Title\n\ntext", "From " + "1" * 5_000 + "\n\ntext"])
def test_no_beginning_of_a_text_takes_its_reader_long(text: str) -> None:
    assert "text" in texts(read("a.md", text.encode()))[""]


def test_what_decides_the_parser_decides_the_content() -> None:
    assert [suffix_of(key) for key in ("a.md.gz", "a.txt.GZ", "b/a.gz", "a.md", "a")] == [
        ".md.gz",
        ".txt.gz",
        ".gz",
        ".md",
        "",
    ]
