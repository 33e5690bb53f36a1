"""Bytes in, text out, whichever of the common encodings they are in; None where they are no text at all."""

from __future__ import annotations

import codecs
import re

_BYTE_ORDER_MARKS = [
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF32_BE, "utf-32"),
]
_LEGACY = ["cp1252", "cp932", "euc_jp", "gb18030", "big5", "cp949", "cp1251", "koi8_r", "cp1250", "cp1253", "cp1254"]
_LATIN = {"cp1252", "cp1250", "cp1254"}
_SAMPLE_BYTES = 32_768
# Tab, line feed, form feed, carriage return, backspace and escape stand in texts; the others hardly ever do.
_CONTROLS = bytes(set(range(32)) - {8, 9, 10, 12, 13, 27})
_ASCII = bytes(range(128))
_MOST_CONTROLS = 0.01
_MOST_UNKNOWN = 0.01
_NO_UTF_16 = 0.3
# Superscripts and currency signs within a word: letters of Central Europe, read as those of the West.
_CENTRAL = re.compile(r"[^\W\d_][¹³¼¾¿£¥¢¶»«][^\W\d_]")
_TURKISH, _ICELANDIC = re.compile(r"[þðýÝÐÞ]"), re.compile(r"[æáúí]")


def as_text(data: bytes) -> str | None:
    """Return the text, without a byte order mark, or None for what is no text; what does not fit becomes U+FFFD."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return data.decode(encoding, "replace").removeprefix("\ufeff")
    if b"\0" in data[:_SAMPLE_BYTES]:
        return _without_mark(data)
    if len(data.translate(None, _CONTROLS)) < len(data) * (1 - _MOST_CONTROLS):
        return None
    return _of_utf_8(data) or _of_another(data)


def _of_utf_8(data: bytes) -> str | None:
    if b"\x1b$" in data:
        return data.decode("iso2022_jp", "replace")
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(data)
    unknown = text.count("\ufffd")
    # One bad byte in a long log does not make it another encoding.
    return text if not unknown or unknown <= len(data.translate(None, _ASCII)) * _MOST_UNKNOWN else None


def _without_mark(data: bytes) -> str | None:
    """Return UTF-16 whose beginning is not marked: of plain Latin, every other byte is zero."""
    sample = data[:_SAMPLE_BYTES]
    odd, even = sample[1::2].count(0), sample[::2].count(0)
    if max(odd, even) < len(sample) / 2 * _NO_UTF_16 or min(odd, even) > max(odd, even) / 10:
        return None
    text = data.decode("utf-16-le" if odd > even else "utf-16-be", "replace")
    return text if text.count("\0") == 0 else None


def _of_another(data: bytes) -> str:
    from charset_normalizer import from_bytes

    found = from_bytes(data[:_SAMPLE_BYTES], cp_isolation=_LEGACY).best()
    encoding = found.encoding if found else "cp1252"
    if encoding in _LATIN:
        encoding = _latin(data[:_SAMPLE_BYTES])
    return data.decode(encoding, "replace")


def _latin(sample: bytes) -> str:
    text = sample.decode("cp1252", "replace")
    if _CENTRAL.search(text) or "\ufffd" in text:
        return "cp1250"
    return "cp1254" if _TURKISH.search(text) and not _ICELANDIC.search(text) else "cp1252"
