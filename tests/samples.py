"""One small document for each row of FORMATS, made here: the words "left" and "right" are in each."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from tests.outlook_sample import Folder

WORDS = ("left", "right")
TEXT = "left and right"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_SLIDE = "http://schemas.openxmlformats.org/presentationml/2006/main"
_DRAWING = "http://schemas.openxmlformats.org/drawingml/2006/main"
_OPEN = "urn:oasis:names:tc:opendocument:xmlns"
_OPEN_MIME_TYPE = "application/vnd.oasis.opendocument"


def packed(files: dict[str, str | bytes]) -> bytes:
    """Return a zip file; an entry called mimetype lies in it as it is."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data, zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED)
    return file.getvalue()


def package(main: str, main_type: str, files: dict[str, str | bytes], refers: dict[str, tuple[str, str]]) -> bytes:
    """Return an Office file: its main part, what that refers to by id, kind and target, and all the parts."""
    folder, _, name = main.rpartition("/")
    relations = "".join(
        f'<Relationship Id="{key}" Type="{_OFFICE}/{kind}" Target="{target}"/>'
        for key, (kind, target) in refers.items()
    )
    return packed(
        {
            "[Content_Types].xml": (
                f'<Types xmlns="{_PACKAGE}/content-types">'
                '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
                f'<Override PartName="/{main}" ContentType="application/vnd.{main_type}"/></Types>'
            ),
            "_rels/.rels": (
                f'<Relationships xmlns="{_PACKAGE}/relationships">'
                f'<Relationship Id="r1" Type="{_OFFICE}/officeDocument" Target="{main}"/></Relationships>'
            ),
            f"{folder}/_rels/{name}.rels": (
                f'<Relationships xmlns="{_PACKAGE}/relationships">{relations}</Relationships>'
            ),
            **files,
        }
    )


def paragraph(text: str, style: str = "") -> str:
    properties = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{properties}<w:r><w:t>{text}</w:t></w:r></w:p>"


def docx(body: str = paragraph(TEXT), **parts: str) -> bytes:
    """Return a Word file; `parts` are its other parts by kind: styles, footnotes."""
    root = f'xmlns:w="{_WORD}" xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
    others = {f"word/{kind}.xml": f"<w:{kind} {root}>{content}</w:{kind}>" for kind, content in parts.items()}
    return package(
        "word/document.xml",
        "openxmlformats-officedocument.wordprocessingml.document.main+xml",
        {"word/document.xml": f"<w:document {root}><w:body>{body}</w:body></w:document>", **others},
        {kind: (kind, f"{kind}.xml") for kind in parts},
    )


def xlsx(rows: str = f'<row><c t="inlineStr"><is><t>{TEXT}</t></is></c></row>', **parts: str) -> bytes:
    """Return an Excel file of one sheet, called Prices; `parts` are its other parts by kind: styles, sharedStrings."""
    others = {f"xl/{kind}.xml": content for kind, content in parts.items()}
    return package(
        "xl/workbook.xml",
        "openxmlformats-officedocument.spreadsheetml.sheet.main+xml",
        {
            "xl/workbook.xml": (
                f'<workbook xmlns="{_SHEET}" xmlns:r="{_OFFICE}">'
                '<sheets><sheet name="Prices" sheetId="1" r:id="s1"/></sheets></workbook>'
            ),
            "xl/worksheets/sheet1.xml": (f'<worksheet xmlns="{_SHEET}"><sheetData>{rows}</sheetData></worksheet>'),
            **others,
        },
        {"s1": ("worksheet", "worksheets/sheet1.xml"), **{kind: (kind, f"{kind}.xml") for kind in parts}},
    )


def shape(*lines: str, placeholder: str = "") -> str:
    holder = f'<p:nvPr><p:ph type="{placeholder}"/></p:nvPr>' if placeholder else "<p:nvPr/>"
    text = "".join(f"<a:p><a:r><a:t>{line}</a:t></a:r></a:p>" for line in lines)
    return f"<p:sp><p:nvSpPr>{holder}</p:nvSpPr><p:txBody>{text}</p:txBody></p:sp>"


def pptx(*slides: str) -> bytes:
    """Return a PowerPoint file of slides, each given by its shapes."""
    root = f'xmlns:p="{_SLIDE}" xmlns:a="{_DRAWING}" xmlns:r="{_OFFICE}"'
    numbers = range(1, len(slides) + 1)
    ids = "".join(f'<p:sldId id="{255 + number}" r:id="s{number}"/>' for number in numbers)
    return package(
        "ppt/presentation.xml",
        "openxmlformats-officedocument.presentationml.presentation.main+xml",
        {
            "ppt/presentation.xml": f"<p:presentation {root}><p:sldIdLst>{ids}</p:sldIdLst></p:presentation>",
            **{
                f"ppt/slides/slide{number}.xml": f"<p:sld {root}><p:cSld><p:spTree>{slide}</p:spTree></p:cSld></p:sld>"
                for number, slide in enumerate(slides, start=1)
            },
        },
        {f"s{number}": ("slide", f"slides/slide{number}.xml") for number in numbers},
    )


def _record(kind: int, content: bytes = b"") -> bytes:
    """Return a record of Excel's binary format, whose kind and length are written in groups of seven bits."""
    head = bytes([kind & 0x7F | 0x80, kind >> 7]) if kind > 0x7F else bytes([kind])
    return head + bytes([len(content)]) + content


def _wide(text: str) -> bytes:
    return struct.pack("<I", len(text)) + text.encode("utf-16-le")


def xlsb() -> bytes:
    sheet = _record(156, struct.pack("<II", 0, 1) + _wide("s1") + _wide("Prices"))
    workbook = _record(131) + _record(143) + sheet + _record(144) + _record(132)
    row = _record(0, struct.pack("<IIHBBBI", 0, 0, 300, 0, 0, 0, 0))
    cell = _record(6, struct.pack("<II", 0, 0) + _wide(TEXT))
    dimension = _record(148, struct.pack("<IIII", 0, 0, 0, 0))
    return package(
        "xl/workbook.bin",
        "ms-excel.sheet.binary.macroEnabled.main",
        {
            "xl/workbook.bin": workbook,
            "xl/worksheets/sheet1.bin": _record(129)
            + dimension
            + _record(145)
            + row
            + cell
            + _record(146)
            + _record(130),
        },
        {"s1": ("worksheet", "worksheets/sheet1.bin")},
    )


def xls() -> bytes:
    """Return a workbook of Excel 97: its one sheet holds one label."""

    def record(kind: int, content: bytes) -> bytes:
        return struct.pack("<HH", kind, len(content)) + content

    begin = [record(0x809, struct.pack("<HHHHII", 0x600, kind, 0, 0, 0, 6)) for kind in (5, 0x10)]
    name = b"\x06\x00Prices"
    place = len(begin[0]) + 4 + 6 + len(name) + 4
    workbook = begin[0] + record(0x85, struct.pack("<IH", place, 0) + name) + record(0x0A, b"")
    label = struct.pack("<HHHHB", 0, 0, 0, len(TEXT), 0) + TEXT.encode()
    sheet = begin[1] + record(0x200, struct.pack("<IIHHH", 0, 1, 0, 1, 0)) + record(0x204, label) + record(0x0A, b"")
    return Folder({"Workbook": workbook + sheet}).as_bytes()


def doc() -> bytes:
    """Return a document of Word 97: one piece of text, and the table that says where it lies."""
    text = f"{TEXT}\r".encode("cp1252")
    start = 2048
    header = bytearray(start)
    struct.pack_into("<HHHHHH", header, 0, 0xA5EC, 0xC1, 0, 0x409, 0, 0x0200)
    struct.pack_into("<H", header, 32, 14)
    struct.pack_into("<H", header, 62, 22)
    struct.pack_into("<I", header, 76, len(text))
    struct.pack_into("<H", header, 152, 93)
    pieces = struct.pack("<II", 0, len(text)) + struct.pack("<HIH", 0, start * 2 | 0x40000000, 0)
    table = b"\x02" + struct.pack("<I", len(pieces)) + pieces
    struct.pack_into("<II", header, 0x1A2, 0, len(table))
    return Folder({"WordDocument": bytes(header) + text, "1Table": table}).as_bytes()


def ppt() -> bytes:
    """Return a presentation of PowerPoint 97 that is one text on one slide."""

    def record(kind: int, content: bytes, *, is_container: bool = False) -> bytes:
        return struct.pack("<HHI", 0xF if is_container else 0, kind, len(content)) + content

    slide = record(1011, struct.pack("<IIIII", 2, 0, 0, 256, 0)) + record(3999, struct.pack("<I", 0))
    text = record(4080, slide + record(4000, TEXT.encode("utf-16-le")), is_container=True)
    document = record(1000, text, is_container=True)
    persisted = record(6002, struct.pack("<II", 1 << 20 | 1, 0))
    edit = record(4085, struct.pack("<IIIIIIHH", 256, 0x3000000, 0, len(document), 1, 1, 1, 0))
    user = record(4086, struct.pack("<IIIHHBBH", 20, 0xE391C05F, len(document) + len(persisted), 0, 1012, 3, 0, 0))
    return Folder({"PowerPoint Document": document + persisted + edit, "Current User": user}).as_bytes()


def open_document(kind: str, body: str) -> bytes:
    """Return a file of OpenDocument: text, spreadsheet or presentation."""
    names = ("office", "text", "table", "drawing", "presentation")
    prefixes = " ".join(f'xmlns:{"draw" if name == "drawing" else name}="{_OPEN}:{name}:1.0"' for name in names)
    entry = f'<manifest:file-entry manifest:media-type="{_OPEN_MIME_TYPE}.{kind}" manifest:full-path="/"/>'
    return packed(
        {
            "mimetype": f"{_OPEN_MIME_TYPE}.{kind}",
            "content.xml": (
                f"<office:document-content {prefixes}><office:body><office:{kind}>{body}</office:{kind}></office:body>"
                "</office:document-content>"
            ),
            "META-INF/manifest.xml": (
                f'<manifest:manifest xmlns:manifest="{_OPEN}:manifest:1.0">{entry}</manifest:manifest>'
            ),
        }
    )


def epub() -> bytes:
    return packed(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": (
                '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0"><rootfiles>'
                '<rootfile full-path="book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
            ),
            "book.opf": (
                '<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata '
                'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>A book</dc:title></metadata><manifest>'
                '<item id="c1" href="c1.xhtml" media-type="application/xhtml+xml"/></manifest>'
                '<spine><itemref idref="c1"/></spine></package>'
            ),
            "c1.xhtml": f'<html xmlns="http://www.w3.org/1999/xhtml"><body><h1>One</h1><p>{TEXT}</p></body></html>',
        }
    )


def pdf(*pages: str) -> bytes:
    """Return a PDF of one text a page; its lines stand one below the other."""
    count = len(pages)
    kids = " ".join(f"{4 + 2 * i} 0 R" for i in range(count))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {count} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for i, text in enumerate(pages):
        lines = " 0 -14 Td ".join(f"({line}) Tj" for line in text.split("\n"))
        drawing = f"BT /F1 11 Tf 72 700 Td {lines} ET"
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * i} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>",
            f"<< /Length {len(drawing)} >>\nstream\n{drawing}\nendstream",
        ]
    body, places = "%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        places.append(len(body))
        body += f"{number} 0 obj\n{content}\nendobj\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    trailer = f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(body)}\n%%EOF\n"
    return f"{body}xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}{trailer}".encode()


def picture(kind: str = "PNG") -> bytes:
    """Return a picture of the text; a PDF, too, can be nothing but one."""
    page = Image.new("RGB", (600, 120), "white")
    ImageDraw.Draw(page).text((30, 30), TEXT, fill="black", font=ImageFont.load_default(32))
    file = io.BytesIO()
    page.save(file, kind)
    return file.getvalue()


class Sample(NamedTuple):
    name: str
    data: bytes


_MAIL = (
    f"From: Ann <ann@example.com>\r\nTo: Bob <bob@example.com>\r\nSubject: Ways\r\nMIME-Version: 1.0\r\n\r\n{TEXT}\r\n"
)
_CELL = f'<table:table table:name="Prices"><table:table-row><table:table-cell><text:p>{TEXT}</text:p>'
_PAGE = f'<draw:page draw:name="One"><draw:frame><draw:text-box><text:p>{TEXT}</text:p></draw:text-box>'
SAMPLES = {
    "pdf": Sample("a.pdf", pdf(TEXT)),
    "docx": Sample("a.docx", docx()),
    "pptx": Sample("a.pptx", pptx(shape(TEXT))),
    "xlsx": Sample("a.xlsx", xlsx()),
    "xlsb": Sample("a.xlsb", xlsb()),
    "doc": Sample("a.doc", doc()),
    "ppt": Sample("a.ppt", ppt()),
    "xls": Sample("a.xls", xls()),
    "odt": Sample("a.odt", open_document("text", f"<text:p>{TEXT}</text:p>")),
    "ods": Sample("a.ods", open_document("spreadsheet", f"{_CELL}</table:table-cell></table:table-row></table:table>")),
    "odp": Sample("a.odp", open_document("presentation", f"{_PAGE}</draw:frame></draw:page>")),
    "rtf": Sample("a.rtf", rb"{\rtf1\ansi\deff0{\fonttbl{\f0 Arial;}}\f0 left and right\par}"),
    "epub": Sample("a.epub", epub()),
    "html": Sample("a.html", f"<html><head><title>A title</title></head><body><h1>Top</h1><p>{TEXT}</p>".encode()),
    "text": Sample("a.txt", TEXT.encode()),
    "markdown": Sample("a.md", f"# A heading\n\n{TEXT}\n".encode()),
    "rst": Sample("a.rst", f"A heading\n=========\n\n{TEXT}\n".encode()),
    "eml": Sample("a.eml", _MAIL.encode()),
    "msg": Sample(
        "a.msg", Folder({"__properties_version1.0": bytes(32)}).put("0037", "Ways").put("1000", TEXT).as_bytes()
    ),
    "mbox": Sample("a.mbox", f"From ann@example.com Thu Jan  1 00:00:00 2026\n{_MAIL}".encode()),
    "json": Sample("a.json", f'{{"way": "{TEXT}"}}'.encode()),
    "jsonl": Sample("a.jsonl", f'{{"way": "{TEXT}"}}\n{{"way": "back"}}\n'.encode()),
    "xml": Sample("a.xml", f'<?xml version="1.0"?><ways><way>{TEXT}</way></ways>'.encode()),
    "csv": Sample("a.csv", f"way,length\n{TEXT},3\n".encode()),
    "vtt": Sample("a.vtt", f"WEBVTT\n\n00:00:01.000 --> 00:00:02.000\n{TEXT}\n".encode()),
    "srt": Sample("a.srt", f"1\n00:00:01,000 --> 00:00:02,000\n{TEXT}\n".encode()),
    "sbv": Sample("a.sbv", f"0:00:01.000,0:00:02.000\n{TEXT}\n".encode()),
    "code": Sample("a.py", f"def way():\n    return '{TEXT}'\n".encode()),
    "gzip": Sample("a.txt.gz", gzip.compress(TEXT.encode(), mtime=0)),
    "archive": Sample("a.zip", packed({"inside/a.txt": TEXT})),
    "picture": Sample("a.png", picture()),
}


def readable_samples() -> list[Sample]:
    """Return the samples of what is read without asking."""
    return [sample for kind, sample in SAMPLES.items() if kind not in {"archive", "picture"}]
