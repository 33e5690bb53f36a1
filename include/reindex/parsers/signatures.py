"""A file's bytes in, the name of its format out: by what it holds first, and by its suffix only among kinds of text."""

from __future__ import annotations

import re
import zipfile
from pathlib import PurePosixPath

from reindex.parsers import Rejected
from reindex.parsers.encodings import as_text
from reindex.parsers.zips import open_zip
from reindex.records import RejectReason

# How much of a file says what kind of text it is.
_HEAD_BYTES = 16_384
_BEGINNINGS: list[tuple[int, bytes, str]] = [
    (0, b"PK\x03\x04", "zip"),
    (0, b"PK\x05\x06", "zip"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "ole"),
    (0, b"{\\rtf", "rtf"),
    (0, b"\x1f\x8b\x08", "gzip"),
    (0, b"\x89PNG\r\n\x1a\n", "picture"),
    (0, b"\xff\xd8\xff", "picture"),
    (0, b"GIF8", "picture"),
    (0, b"II*\0", "picture"),
    (0, b"MM\0*", "picture"),
    (8, b"WEBP", "picture"),
    (6, b"\0\0\0\0", "bitmap"),
    (0, b"7z\xbc\xaf\x27\x1c", "archive"),
    (0, b"Rar!\x1a\x07", "archive"),
    (0, b"BZh", "archive"),
    (0, b"\xfd7zXZ\0", "archive"),
    (0, b"\x28\xb5\x2f\xfd", "archive"),
    (257, b"ustar", "archive"),
]
# What is no document, and what to call it.
_OTHERS: list[tuple[int, bytes, str]] = [
    (0, b"MZ", "a Windows program"),
    (0, b"\x7fELF", "a Linux program"),
    (0, b"\xcf\xfa\xed\xfe", "a macOS program"),
    (0, b"\xca\xfe\xba\xbe", "a Java class"),
    (0, b"\0asm", "a WebAssembly program"),
    (0, b"SQLite format 3\0", "an SQLite database"),
    (0, b"\0\1\0\0Standard ", "an Access database"),
    (0, b"PAR1", "a Parquet file"),
    (0, b"!BDN", "an Outlook data file"),
    (0, b"%!PS", "a PostScript file"),
    (0, b"AC10", "an AutoCAD drawing"),
    (0, b"8BPS", "a Photoshop image"),
    (0, b"wOF", "a font"),
    (0, b"OTTO", "a font"),
    (0, b"\0\1\0\0\0", "a font"),
    (0, b"ID3", "an audio file"),
    (0, b"\xff\xfb", "an audio file"),
    (0, b"\xff\xf3", "an audio file"),
    (0, b"fLaC", "an audio file"),
    (0, b"OggS", "an audio file"),
    (0, b"MThd", "an audio file"),
    (8, b"WAVE", "an audio file"),
    (4, b"ftypM4A", "an audio file"),
    (4, b"ftyphei", "a HEIC picture"),
    (4, b"ftypavif", "an AVIF picture"),
    (4, b"ftyp", "a video file"),
    (8, b"AVI ", "a video file"),
    (0, b"\x1aE\xdf\xa3", "a video file"),
    (0, b"\0\0\1\xba", "a video file"),
    (0, b"FLV", "a video file"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "a video file"),
]
_ZIP_FOLDERS = [
    ("word/", "docx"),
    ("ppt/", "pptx"),
    ("xl/workbook.bin", "xlsb"),
    ("xl/", "xlsx"),
]
_ZIP_OTHERS = [
    ("visio/", "a Visio drawing"),
    ("Index/Document.iwa", "an iWork document"),
    ("Index/Metadata.iwa", "an iWork document"),
    ("AndroidManifest.xml", "an Android program"),
    ("META-INF/MANIFEST.MF", "a Java archive"),
]
_ZIP_MIME_TYPES = [
    (b"application/epub+zip", "epub"),
    (b"application/vnd.oasis.opendocument.text", "odt"),
    (b"application/vnd.oasis.opendocument.spreadsheet", "ods"),
    (b"application/vnd.oasis.opendocument.presentation", "odp"),
]
_OLE_STREAMS = [
    ("__properties_version1.0", "msg"),
    ("WordDocument", "doc"),
    ("Workbook", "xls"),
    ("Book", "xls"),
    ("PowerPoint Document", "ppt"),
]
_HTML = re.compile(
    r"\s*(<\?xml[^>]*>\s*)?(?>(?:<!--.*?-->\s*)*+)(<!doctype html|<(html|head|body|title|meta)[\s>])",
    re.IGNORECASE | re.DOTALL,
)
_XML = re.compile(
    r"\s*(<\?xml\s|<!DOCTYPE\s|<([A-Za-z_][\w.-]*:)?[A-Za-z_][\w.-]*(\s+[\w:.-]+\s*=|\s*/?>).*>\s*\Z)", re.DOTALL
)
_MBOX = re.compile(r"From \S{1,200}[^\n]{0,100}?\d{4}[^\n]{0,100}\n[!-9;-~]+:")
_HEADERS = re.compile(r"\A(?:[!-9;-~]+:[^\n]*\n(?:[ \t][^\n]*\n)*)+")
_MAIL_HEADER = re.compile(
    r"^(from|to|date|subject|received|message-id|mime-version|return-path|delivered-to|content-type):",
    re.IGNORECASE | re.MULTILINE,
)
_MAIL_HEADERS = 3
_CUES = [
    ("vtt", re.compile(r"WEBVTT([ \t].*)?\r?\n")),
    ("srt", re.compile(r"\s*\d+\s*\r?\n\d\d?:\d\d:\d\d[,.]\d{1,3}\s+-->\s")),
    ("sbv", re.compile(r"\s*\d+:\d\d:\d\d\.\d{3},\d+:\d\d:\d\d\.\d{3}\s*\r?\n")),
]
_JSON_LINES = re.compile(r"\s*\{.*\}\s*\r?\n\s*\{")
_JSON = re.compile(r'\s*(\{\s*["}]|\[\s*[\[{"\]])')


def name_of(name: str, data: bytes, suffixes: dict[str, str]) -> str:
    """Return the format of a file; `suffixes` says which kind of text each means. Raise Rejected for what is none."""
    head = data[:_HEAD_BYTES]
    if _is_pdf(data):
        return "pdf"
    for offset, beginning, found in _BEGINNINGS:
        if head.startswith(beginning, offset) and _holds(found, head):
            return _resolved(found, data)
    for offset, beginning, kind in _OTHERS:
        if head.startswith(beginning, offset) and not _reads_as_text(head):
            raise Rejected(RejectReason.UNSUPPORTED, f"looks like {kind}")
    if not _reads_as_text(head):
        raise Rejected(RejectReason.UNSUPPORTED, "binary data of no format that is known")
    return _kind_of_text(name, head, data, suffixes)


def _is_pdf(data: bytes) -> bool:
    # Some programs put a line of their own before it; a text about PDFs has no trailer.
    start = data.find(b"%PDF-", 0, 1_024)
    return start == 0 or (start > 0 and b"startxref" in data[-2_048:])


def _holds(found: str, head: bytes) -> bool:
    """Return whether a weak mark is borne out by what follows it."""
    return found != "bitmap" or (head.startswith(b"BM") and not _reads_as_text(head))


def _resolved(found: str, data: bytes) -> str:
    if found == "zip":
        return _kind_of_zip(data)
    if found == "ole":
        return _kind_of_ole(data)
    return "picture" if found == "bitmap" else found


def _kind_of_zip(data: bytes) -> str:
    with open_zip(data) as archive:
        names = archive.namelist()
        declared = _declared_type(archive, names)
    for mime_type, kind in _ZIP_MIME_TYPES:
        if declared.startswith(mime_type):
            return kind
    if "[Content_Types].xml" in names:
        for folder, kind in _ZIP_FOLDERS:
            if any(name.startswith(folder) for name in names):
                return kind
    for marker, what in _ZIP_OTHERS:
        if any(name.startswith(marker) for name in names):
            raise Rejected(RejectReason.UNSUPPORTED, f"looks like {what}")
    return "archive"


def _declared_type(archive: zipfile.ZipFile, names: list[str]) -> bytes:
    if "mimetype" not in names:
        return b""
    try:
        with archive.open("mimetype") as entry:
            return entry.read(128).strip()
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError):
        return b""


def _kind_of_ole(data: bytes) -> str:
    names = _ole_names(data)
    if {"EncryptedPackage", "EncryptionInfo"} & names:
        raise Rejected(RejectReason.ENCRYPTED, "the document is protected by a password")
    for stream, kind in _OLE_STREAMS:
        if stream in names:
            return kind
    raise Rejected(
        RejectReason.UNSUPPORTED, "looks like an OLE file that is neither Word, Excel, PowerPoint nor Outlook"
    )


def _ole_names(data: bytes) -> set[str]:
    """Return the names at the root of an OLE file: what is embedded in a document has such names too, further down."""
    import olefile

    try:
        with olefile.OleFileIO(data) as file:
            return {path[0] for path in file.listdir(streams=True, storages=True)}
    except OSError as error:
        raise Rejected(RejectReason.BROKEN, f"the OLE file is damaged: {error}") from error


def _reads_as_text(head: bytes) -> bool:
    return as_text(head) is not None


def _kind_of_text(name: str, head: bytes, data: bytes, suffixes: dict[str, str]) -> str:
    text = (as_text(head) or "").removeprefix("\ufeff")
    by_suffix = suffixes.get(PurePosixPath(name).suffix.lower(), "text")
    if _HTML.match(text):
        return "html"
    for kind, pattern in _CUES:
        if pattern.match(text):
            return kind
    if by_suffix != "text":
        return by_suffix
    if _MBOX.match(text):
        return "mbox"
    if _is_mail(text):
        return "eml"
    return _kind_of_data(text, data)


def _is_mail(text: str) -> bool:
    headers = _HEADERS.match(text.replace("\r\n", "\n"))
    known = {found.lower() for found in _MAIL_HEADER.findall(headers[0])} if headers else set()
    return len(known) >= _MAIL_HEADERS


def _kind_of_data(text: str, data: bytes) -> str:
    ending = data.rstrip()[-1:]
    if _JSON_LINES.match(text) and ending == b"}":
        return "jsonl"
    if _JSON.match(text) and ending in {b"}", b"]"}:
        return "json"
    if text.lstrip().startswith(("<?xml ", "<!DOCTYPE ")) or (ending == b">" and _XML.match(text)):
        return "xml"
    return "text"
