from __future__ import annotations

import io
import socket

import pytest
from PIL import Image, ImageDraw, ImageFont

from reindex.parsers import Context, Rejected
from reindex.parsers.pictures import read_picture, recognise_page
from reindex.settings import Limits, Parsing


def picture(*lines: str) -> Image.Image:
    page = Image.new("RGB", (600, 60 + 60 * len(lines)), "white")
    for number, line in enumerate(lines):
        ImageDraw.Draw(page).text((30, 30 + 60 * number), line, fill="black", font=ImageFont.load_default(32))
    return page


def saved(kind: str, *pages: Image.Image) -> bytes:
    file = io.BytesIO()
    more = {"save_all": True, "append_images": pages[1:]} if pages[1:] else {}
    pages[0].save(file, kind, **more)
    return file.getvalue()


def read(data: bytes, *, ocr: bool = True, **limits: int) -> list[tuple[int, str]]:
    (document,) = read_picture(data, Context(name="a.png", parsing=Parsing(ocr=ocr), limits=Limits(**limits)))
    return [(block.page, block.text) for block in document.blocks]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise AssertionError("a model was looked for elsewhere")

    monkeypatch.setattr(socket.socket, "connect", refuses)


def test_a_picture_s_lines_are_read_from_the_top_and_from_nowhere_else(
    no_network: None, capfd: pytest.CaptureFixture[str]
) -> None:
    assert read(saved("PNG", picture("Left and right", "Above and below"))) == [
        (0, "Left and right"),
        (0, "Above and below"),
    ]
    assert "".join(capfd.readouterr()) == ""


@pytest.mark.parametrize("kind", ["JPEG", "GIF", "BMP", "WEBP", "TIFF"])
def test_pictures_of_all_common_kinds_are_read(kind: str) -> None:
    assert read(saved(kind, picture("Left and right"))) == [(0, "Left and right")]


def test_a_tiff_may_have_pages_but_no_more_than_the_corpus_allows() -> None:
    data = saved("TIFF", picture("First page"), picture("Second page"))
    assert read(data) == [(1, "First page"), (2, "Second page")]
    with pytest.raises(Rejected, match=r"too-many-pages: 2 pages; limits\.pages allows 1"):
        read(data, pages=1)


def test_a_page_given_as_a_picture_is_its_text() -> None:
    assert recognise_page(saved("PNG", picture("Left and right", "below"))) == "Left and right\nbelow"


def test_a_picture_without_text_has_no_lines() -> None:
    assert read(saved("PNG", Image.new("RGB", (300, 300), "white"))) == []


def test_a_picture_may_be_turned_by_its_camera() -> None:
    turned = picture("Left and right").rotate(90, expand=True)
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(file, "JPEG", exif=exif)
    assert read(file.getvalue()) == [(0, "Left and right")]


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_a_picture_that_grows_too_large_is_refused(side: int) -> None:
    data = saved("PNG", Image.new("1", (side, side)))
    assert len(data) < 100_000
    with pytest.raises(Rejected, match="expands-too-far"):
        read(data)


def test_a_broken_picture_is_rejected() -> None:
    data = saved("PNG", picture("Left and right"))
    for broken in (b"no picture", data[: len(data) // 2]):
        with pytest.raises(Rejected, match="cannot-be-parsed: picture"):
            read(broken)


def test_pictures_are_read_only_where_the_corpus_asks_for_them() -> None:
    with pytest.raises(Rejected, match=r"unsupported-format: .* parsing\.ocr: true"):
        read(b"", ocr=False)
