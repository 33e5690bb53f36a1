from __future__ import annotations

import io
import zipfile

import pytest

from reindex.parse import read_object
from reindex.parsers import Rejected
from reindex.records import Block, ParsedDocument, RejectReason, Shape
from reindex.settings import Limits, Parsing
from tests.samples import SAMPLES, TEXT, docx, open_document, packed, paragraph, pdf, pptx, shape, xlsx

_STYLES = """
    <w:style w:type="paragraph" w:styleId="berschrift2"><w:name w:val="heading 2"/></w:style>
    <w:style w:type="paragraph" w:styleId="Own"><w:basedOn w:val="berschrift2"/></w:style>
    <w:style w:type="paragraph" w:styleId="Contents1"><w:name w:val="toc 1"/></w:style>
    <w:style w:type="paragraph" w:styleId="Bullets"><w:pPr><w:numPr><w:numId w:val="1"/></w:numPr></w:pPr></w:style>
"""
_DATES = f"""<styleSheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">
    <numFmts><numFmt numFmtId="164" formatCode="[$-407]d. mmm yyyy"/><numFmt numFmtId="165" formatCode='0.0" Stück"'/>
    </numFmts><cellXfs>{"".join(f'<xf numFmtId="{number}"/>' for number in (0, 14, 164, 165, 10, 22))}</cellXfs>
    </styleSheet>"""


def read(name: str, data: bytes, **limits: int) -> ParsedDocument:
    (document,) = read_object(name, data, Parsing(), Limits(**limits)).documents
    return document


def texts(document: ParsedDocument) -> list[str]:
    return [block.text for block in document.blocks]


def rejected(name: str, data: bytes, **limits: int) -> Rejected:
    with pytest.raises(Rejected) as caught:
        read(name, data, **limits)
    return caught.value


def text_box(*lines: str) -> str:
    content = f"<w:txbxContent>{''.join(map(paragraph, lines))}</w:txbxContent>"
    return (
        f"<w:p><w:r><w:t>Beside a box</w:t></w:r><w:r><mc:AlternateContent><mc:Choice>{content}</mc:Choice>"
        f"<mc:Fallback>{content}</mc:Fallback></mc:AlternateContent></w:r></w:p>"
    )


def test_a_word_file_s_headings_are_known_by_style_in_any_language() -> None:
    body = (
        paragraph("First", "berschrift2") + paragraph("Second", "Own") + paragraph("Item", "Bullets") + paragraph("End")
    )
    document = read("a.docx", docx(body, styles=_STYLES))
    assert document.title == "First"
    assert document.blocks == (
        Block(text="First", level=2),
        Block(text="Second", level=2),
        Block(text="Item", shape=Shape.LINE),
        Block(text="End"),
    )


def test_of_a_word_file_what_was_struck_out_or_hidden_or_repeats_the_headings_is_no_text() -> None:
    body = (
        paragraph("First ........ 3", "Contents1")
        + "<w:p><w:del><w:r><w:delText>old</w:delText></w:r></w:del><w:ins><w:r><w:t>new</w:t></w:r></w:ins></w:p>"
        + "<w:p><w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r><w:r><w:t>shown</w:t></w:r></w:p>"
        + "<w:p><w:r><w:instrText>PAGE</w:instrText></w:r><w:r><w:t>Name:</w:t><w:tab/><w:t>Ann</w:t></w:r></w:p>"
    )
    assert texts(read("a.docx", docx(body, styles=_STYLES))) == ["new", "shown", "Name: Ann"]


def test_a_text_box_is_read_once_and_notes_come_last() -> None:
    notes = (
        f'<w:footnote w:type="separator">{paragraph("-")}</w:footnote><w:footnote>{paragraph("A note")}</w:footnote>'
    )
    body = text_box("boxed", "twice boxed") + paragraph("After")
    assert texts(read("a.docx", docx(body, footnotes=notes))) == [
        "Beside a box",
        "boxed",
        "twice boxed",
        "After",
        "A note",
    ]


def test_a_table_s_rows_are_lines_and_one_of_a_single_column_is_text() -> None:
    def table(*rows: tuple[str, ...]) -> str:
        cells = ("".join(f"<w:tc>{cell}</w:tc>" for cell in row) for row in rows)
        return f"<w:tbl>{''.join(f'<w:tr>{row}</w:tr>' for row in cells)}</w:tbl>"

    inner = table((paragraph("inner"), paragraph("cell")))
    body = table((paragraph("A"), paragraph("B")), (inner, paragraph("1") + paragraph("2"))) + table(
        (paragraph("Alone"),)
    )
    assert read("a.docx", docx(body)).blocks == (
        Block(text="A | B", shape=Shape.LINE),
        Block(text="inner cell | 1 2", shape=Shape.LINE),
        Block(text="Alone"),
    )


def test_a_word_file_s_pages_are_those_that_word_noted() -> None:
    body = paragraph("one") + "<w:p><w:r><w:t>on two</w:t><w:lastRenderedPageBreak/></w:r></w:p>" + paragraph("two")
    assert [block.page for block in read("a.docx", docx(body)).blocks] == [1, 1, 2]


def test_a_slide_is_a_section_with_its_title_and_number() -> None:
    first = (
        shape("1", placeholder="sldNum")
        + shape("point", "another", placeholder="body")
        + shape("Plan", placeholder="title")
    )
    document = read("a.pptx", pptx(first, shape("Only words")))
    assert document.title == "Plan"
    assert document.blocks == (
        Block(text="Plan", level=1, label="Plan", page=1),
        Block(text="point", page=1),
        Block(text="another", shape=Shape.LINE, page=1),
        Block(text="Only words", level=1, label="Only words", page=2),
    )


def test_a_sheet_s_rows_read_alone_and_its_numbers_as_they_are_shown() -> None:
    def row(*cells: str) -> str:
        return f"<row>{''.join(cells)}</row>"

    def words(*texts: str) -> list[str]:
        return [f'<c t="inlineStr"><is><t>{text}</t></is></c>' for text in texts]

    def number(value: float, style: int = 0) -> str:
        return f'<c s="{style}"><v>{value}</v></c>'

    data = xlsx(
        row(*words("All prices"))
        + row(*words("Thing", "Since", "Until", "Count", "Share", "Read"))
        + row(*words("Loom"), number(45000, 1), number(45001, 2), number(3, 3), number(0.25, 4), number(45000.5, 5))
        + '<row><c r="A9" t="b"><v>1</v></c><c r="D9"><v>0.1</v></c></row>',
        styles=_DATES,
    )
    assert read("a.xlsx", data).blocks == (
        Block(text="All prices", shape=Shape.LINE, level=1, label="Prices", page=1),
        Block(
            text="Thing: Loom; Since: 2023-03-15; Until: 2023-03-16; Count: 3; Share: 25%; Read: 2023-03-15 12:00:00",
            shape=Shape.LINE,
            page=1,
        ),
        Block(text="Thing: TRUE; Count: 0.1", shape=Shape.LINE, page=1),
    )


def test_a_sheet_that_claims_a_billion_cells_gives_the_few_that_it_has() -> None:
    last = '<row r="1048576"><c r="XFD1048576" t="inlineStr"><is><t>right</t></is></c></row>'
    data = xlsx(f'<row r="1"><c r="A1" t="inlineStr"><is><t>left</t></is></c></row>{last}')
    assert texts(read("a.xlsx", data)) == ["left", "right"]
    repeated = "".join(
        f'<table:table-row table:number-rows-repeated="1048576"><table:table-cell '
        f'table:number-columns-repeated="16384"/>{cell}</table:table-row>'
        for cell in ("", "<table:table-cell><text:p>left</text:p></table:table-cell>")
    )
    assert texts(read("a.ods", open_document("spreadsheet", f"<table:table>{repeated}</table:table>"))) == ["left"]


def test_an_open_document_has_headings_lists_tables_and_notes() -> None:
    body = """<text:tracked-changes><text:p>old</text:p></text:tracked-changes>
    <text:h text:outline-level="2">Head</text:h>
    <text:p>One<text:s/>two<text:tab/>three<text:note><text:note-citation>1</text:note-citation><text:note-body>
    <text:p>A note</text:p></text:note-body></text:note> and <text:span>on</text:span>.</text:p>
    <text:list><text:list-item><text:p>item</text:p></text:list-item></text:list>
    <table:table><table:table-row><table:table-cell><text:p>a</text:p></table:table-cell><table:table-cell>
    <text:p>b</text:p></table:table-cell></table:table-row></table:table>"""
    assert read("a.odt", open_document("text", body)).blocks == (
        Block(text="Head", level=2),
        Block(text="One two three and on."),
        Block(text="A note"),
        Block(text="item", shape=Shape.LINE),
        Block(text="a | b", shape=Shape.LINE),
    )


def test_a_pdf_s_lines_are_paragraphs_again_and_know_their_page() -> None:
    first = (
        "This line is as long as the page is wide and so it goes on in the very next one,\n"
        "which ends here.\n"
        "Another paragraph begins on a line of its own, and it is long enough to go on, in-\n"
        "deed it does."
    )
    document = read("a.pdf", pdf(first, "Total 12\nTax 3"))
    assert [(block.page, block.text) for block in document.blocks] == [
        (1, first.split("\nAnother")[0].replace("\n", " ")),
        (1, "Another" + first.split("\nAnother")[1].replace("-\n", "")),
        (2, "Total 12\nTax 3"),
    ]


def test_what_runs_along_a_pdf_s_pages_is_kept_once() -> None:
    pages = [f"Annual Report\nWhat page {number * 7} says is its own.\nPage {number} of 5" for number in range(1, 6)]
    text = read("a.pdf", pdf(*pages)).laid_out()[0]
    assert [text.count(words) for words in ("Annual Report", "is its own", "of 5")] == [1, 5, 1]


def test_pages_that_differ_only_in_their_number_are_all_kept() -> None:
    assert len(read("a.pdf", pdf(*(f"{TEXT} {number}" for number in range(1, 9)))).blocks) == 8


def test_a_pdf_of_too_many_pages_or_of_none_with_text_says_so() -> None:
    found = rejected("a.pdf", pdf(*[TEXT] * 12), pages=11)
    assert (found.reason, found.detail) == (RejectReason.TOO_MANY_PAGES, "12 pages; limits.pages allows 11")
    found = rejected("a.pdf", pdf("", ""))
    assert (found.reason, found.detail) == (RejectReason.EMPTY, "no text on its 2 pages; parsing.ocr reads pictures")


def lying(data: bytes) -> bytes:
    """Return a package whose directory says that everything in it is a byte long."""
    file = bytearray(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        place = archive.start_dir
        for entry in archive.infolist():
            file[place + 24 : place + 28] = (1).to_bytes(4, "little")
            file[entry.header_offset + 22 : entry.header_offset + 26] = (1).to_bytes(4, "little")
            place += 46 + len(entry.filename) + len(entry.extra) + len(entry.comment)
    return bytes(file)


PACKAGES = ["docx", "pptx", "xlsx", "xlsb", "odt", "ods", "odp", "epub"]


def inflated(kind: str, size: int) -> tuple[str, bytes]:
    """Return a sample in which something lies that is nothing but large."""
    name, data = SAMPLES[kind]
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return name, packed({**{entry: archive.read(entry) for entry in archive.namelist()}, "extra": bytes(size)})


@pytest.mark.parametrize("kind", PACKAGES)
def test_a_package_may_unpack_only_so_far(kind: str) -> None:
    assert TEXT in read(*inflated(kind, 2**20)).laid_out()[0]
    found = rejected(*inflated(kind, 100 * 2**20))
    assert found.reason == RejectReason.TOO_DENSE
    assert "limits.expansion allows 200" in found.detail
    found = rejected(*inflated(kind, 300 * 2**20), memory_megabytes=256, expansion=10_000)
    assert (found.reason, found.detail) == (
        RejectReason.TOO_DENSE, "300 MB when unpacked; limits.memory_megabytes allows 256"
    )  # fmt: skip


@pytest.mark.parametrize("kind", PACKAGES)
def test_a_package_whose_directory_lies_is_broken(kind: str) -> None:
    name, data = SAMPLES[kind]
    assert rejected(name, lying(data)).reason in {RejectReason.BROKEN, RejectReason.ARCHIVE, RejectReason.EMPTY}


def test_entities_do_not_multiply() -> None:
    bomb = '<!DOCTYPE w [<!ENTITY a "aaaaaaaaaa">]>'
    with zipfile.ZipFile(io.BytesIO(docx())) as archive:
        entries: dict[str, str | bytes] = {name: archive.read(name) for name in archive.namelist()}
    entries["word/document.xml"] = f"{bomb}<w>{'&a;' * 100}</w>"
    assert rejected("a.docx", packed(entries)).reason == RejectReason.BROKEN
