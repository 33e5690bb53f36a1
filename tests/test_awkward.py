"""Documents made to hurt: each costs only itself, within its limits, and the next good one is read."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from reindex.parsers import Rejected
from reindex.prepare import PENDING_SCHEMA, EmbedTask, content_beginnings, prepare_documents
from reindex.reading import Reader
from reindex.records import RejectReason
from reindex.sandbox import MEGABYTE, Sandbox
from reindex.settings import Chunks, Limits, Parsing
from tests.fakes import STATE_BUCKET, MemoryObjectStore, a_corpus
from tests.nights import MODEL
from tests.samples import SAMPLES, docx, pdf

pytestmark = pytest.mark.timeout(240)
LIMITS = Limits(megabytes=300, seconds=60, memory_megabytes=1_024)
# Pages of programs and libraries are counted as held, too, but are no data.
_PROGRAM_MEGABYTES = 128
_SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def long_pdf() -> bytes:
    return pdf(*(f"page {number} on left and right" for number in range(1, 4_001)))


def endless_pdf() -> bytes:
    """Return a PDF whose tree of pages holds itself."""
    return pdf("left and right").replace(b"/Kids [4 0 R]", b"/Kids [2 0 R]")


def encrypted_pdf() -> bytes:
    """Return a PDF that opens with a password alone: its keys are none that the empty one gives."""
    keys = f"/O <{'41' * 32}> /U <{'42' * 32}>"
    trailer = f"/Encrypt << /Filter /Standard /V 2 /R 3 /Length 128 /P -4 {keys} >> /ID [<{'43' * 16}> <{'43' * 16}>]"
    return pdf("left and right").replace(b"/Root 1 0 R", f"/Root 1 0 R {trailer}".encode())


def packed(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def bomb() -> bytes:
    """Return a DOCX of a megabyte whose text is a gigabyte."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(docx())) as good, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in good.namelist():
            with archive.open(name, "w", force_zip64=True) as entry:
                before, after = good.read(name).partition(b"left")[::2]
                entry.write(before)
                for _ in range(1_024 if name == "word/document.xml" else 0):
                    entry.write(bytes(MEGABYTE))
                entry.write(after)
    return file.getvalue()


def boundless_xlsx() -> bytes:
    """Return a sheet of two cells that says it is a billion rows long, with one of the two at its end."""
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    return packed(
        {
            "[Content_Types].xml": (
                f'<Types xmlns="{_PACKAGE}/content-types">'
                '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
                f'<Override PartName="/xl/workbook.xml" ContentType="{kind}.sheet.main+xml"/>'
                f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{kind}.worksheet+xml"/></Types>'
            ).encode(),
            "_rels/.rels": (
                f'<Relationships xmlns="{_PACKAGE}/relationships">'
                f'<Relationship Id="r1" Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>'
            ).encode(),
            "xl/workbook.xml": (
                f'<workbook xmlns="{_SHEET}" xmlns:r="{_OFFICE}">'
                '<sheets><sheet name="One" sheetId="1" r:id="r1"/></sheets></workbook>'
            ).encode(),
            "xl/_rels/workbook.xml.rels": (
                f'<Relationships xmlns="{_PACKAGE}/relationships">'
                f'<Relationship Id="r1" Type="{_OFFICE}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>'
            ).encode(),
            "xl/worksheets/sheet1.xml": (
                f'<worksheet xmlns="{_SHEET}"><dimension ref="A1:XFD1000000000"/><sheetData>'
                '<row r="1"><c r="A1" t="inlineStr"><is><t>left</t></is></c></row>'
                '<row r="1000000000"><c r="XFD1000000000" t="inlineStr"><is><t>right</t></is></c></row>'
                "</sheetData></worksheet>"
            ).encode(),
        }
    )


def deep_html() -> bytes:
    return b"<div>" * 100_000 + b"left and right" + b"</div>" * 100_000


def long_text() -> bytes:
    return b"left and right, and then on.\n" * (200 * MEGABYTE // 29)


def one_word() -> bytes:
    return b"a" * (MEGABYTE // 4)


def not_utf8() -> bytes:
    return b"left \xff\xfe\xc3\x28 and \x80 right"


# With the reason for which it is rejected; None: it is read.
AWKWARD: dict[str, tuple[Callable[[], bytes], RejectReason | None]] = {
    "long.pdf": (long_pdf, None),
    "endless.pdf": (endless_pdf, RejectReason.BROKEN),
    "encrypted.pdf": (encrypted_pdf, RejectReason.ENCRYPTED),
    "bomb.docx": (bomb, RejectReason.TOO_DENSE),
    "boundless.xlsx": (boundless_xlsx, None),
    "deep.html": (deep_html, None),
    "long.txt": (long_text, RejectReason.TOO_LONG),
    "one_word.txt": (one_word, None),
    "not_utf8.txt": (not_utf8, None),
    "empty.txt": (bytes, RejectReason.EMPTY),
    "empty.pdf": (bytes, RejectReason.EMPTY),
    "zeros.docx": (partial(bytes, 1_000), RejectReason.UNSUPPORTED),
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    made = Sandbox(partial(Reader, Chunks(), MODEL.tokenizer_file, "", Parsing(), LIMITS), LIMITS)
    yield made
    made.close()


@pytest.fixture
def peaks(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the most megabytes that each child has held, once it is dead."""
    sandbox.run("good.txt", SAMPLES["text"].data)
    nursery = sandbox._nursery
    assert nursery
    found: list[float] = []
    bury = nursery.bury

    def measured(child: Any) -> tuple[int, int]:
        status, peak_bytes = bury(child)
        found.append(peak_bytes / MEGABYTE)
        return status, peak_bytes

    monkeypatch.setattr(nursery, "bury", measured)
    return found


def living_peak(sandbox: Sandbox) -> list[float]:
    """Return the most megabytes that the child has held that reads now, where there is one."""
    if sandbox._child is None:
        return []
    status = Path(f"/proc/{sandbox._child.pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return [int(found[1]) / 1024] if found else []


def outcome(sandbox: Sandbox, key: str, data: bytes) -> dict[str, Any] | Rejected:
    try:
        found: dict[str, Any] = sandbox.run(key, data)
    except Rejected as rejected:
        return rejected
    return found


def is_good(found: dict[str, Any]) -> bool:
    return [passage["text"] for passage in found["passages"]] == ["left and right"]


@pytest.mark.parametrize("key", AWKWARD)
def test_an_awkward_document_costs_only_itself_and_no_more_memory_than_it_may(
    sandbox: Sandbox, peaks: list[float], key: str
) -> None:
    make, reason = AWKWARD[key]
    found = outcome(sandbox, key, make())
    held = living_peak(sandbox)
    assert is_good(sandbox.run("good.txt", SAMPLES["text"].data))
    if isinstance(found, Rejected):
        assert found.detail
        assert "\n" not in found.detail
        assert found.reason == reason
    else:
        assert reason is None
        assert len(found["tokens"]) == len(found["passages"]) > 0
    assert max([*peaks, *held]) < LIMITS.memory_megabytes + _PROGRAM_MEGABYTES


def test_four_thousand_pages_are_read(sandbox: Sandbox) -> None:
    found = sandbox.run("long.pdf", long_pdf())
    assert found["passages"][-1]["text"].endswith("page 4000 on left and right")


def test_what_is_no_utf_8_is_read_as_far_as_it_goes(sandbox: Sandbox) -> None:
    text = sandbox.run("a.txt", not_utf8())["passages"][0]["text"]
    assert text.startswith("left ")
    assert text.endswith(" right")


@pytest.mark.parametrize(
    "name", ["two\nlines", "emoji 🧭", "a" * 1_000, "../up", "nul\x00byte", "half \udcff a letter"]
)
def test_a_document_is_read_whatever_its_name(sandbox: Sandbox, name: str) -> None:
    assert is_good(sandbox.run(f"{name}.txt", SAMPLES["text"].data))


class CountingStore(MemoryObjectStore):
    """Counts the bytes that are read of it."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []

    def read(self, bucket: str, key: str, *, version: str = "", etag: str = "") -> bytes | None:
        self.fetched.append(key)
        return super().read(bucket, key, version=version, etag=etag)


def prepared(store: MemoryObjectStore, documents: dict[str, bytes], **limits: int) -> dict[str, dict[str, Any]]:
    """Put documents into a bucket and prepare them as a worker does."""
    rows = []
    for key, data in documents.items():
        store.write("sources", key, data)
        row = {"key": key, "version": "", "etag": store.etag("sources", key), "bytes": len(data)}
        rows.append({**row, "earlier_part": "", "earlier_content": ""})
    task = EmbedTask(
        corpus=a_corpus(limits={"memory_megabytes": 512, **limits}),
        model=MODEL,
        precision="float32",
        store=store,
        state_bucket=STATE_BUCKET,
        release=f"{datetime.now(UTC):%Y}",
        space="space",
        threads=1,
    )
    table = prepare_documents(pa.Table.from_pylist(rows, schema=PENDING_SCHEMA), task, content_beginnings([]))
    return {row["key"]: row for row in table.to_pylist()}


def test_an_object_that_is_too_large_is_not_even_fetched() -> None:
    store = CountingStore()
    found = prepared(store, {"large.txt": bytes(MEGABYTE + 1), "good.txt": SAMPLES["text"].data}, megabytes=1)
    assert store.fetched == ["good.txt"]
    assert (found["large.txt"]["reason"], found["large.txt"]["detail"]) == (
        RejectReason.TOO_LARGE,
        "1.0 MB; limits.megabytes allows 1",
    )
    assert is_good(found["good.txt"])


def test_of_large_objects_a_worker_fetches_no_more_than_it_can_hold() -> None:
    from reindex.prepare import _fetched_at_once

    sizes = [1, 40, 30, 200, 10, 10]
    groups = _fetched_at_once([{"bytes": size * MEGABYTE} for size in sizes])
    assert [[row["bytes"] // MEGABYTE for row in group] for group in groups] == [[1, 40], [30], [200], [10, 10]]


def test_a_worker_says_how_long_reading_took_and_reads_on_after_a_crash() -> None:
    documents = {"good.txt": SAMPLES["text"].data, "bad.pdf": b"%PDF-", "better.md": SAMPLES["markdown"].data}
    found = prepared(MemoryObjectStore(), documents)
    assert [found[key]["reason"] for key in documents] == ["", RejectReason.BROKEN, ""]
    assert all(row["seconds"] > 0 for row in found.values())
