"""Zip files, which many formats are: opened with care, since a small one may hold a thousand times its size."""

from __future__ import annotations

import io
import zipfile
import zlib

from reindex.parsers import Rejected
from reindex.records import RejectReason
from reindex.settings import Limits

# Smaller than this, a document may expand as it likes.
_HARMLESS_BYTES = 10 * 2**20
_MEGABYTE = 2**20
_PIECE = 1 << 20
_ENCRYPTED = 0x1


def open_zip(data: bytes) -> zipfile.ZipFile:
    """Return a zip file, of which only the directory has been read; raise Rejected if it has none."""
    try:
        return zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError) as error:
        raise Rejected(RejectReason.BROKEN, f"the zip file is damaged: {error}") from error


def open_package(data: bytes, limits: Limits) -> zipfile.ZipFile:
    """Return the zip file that a document is, once what it holds is within the limits; raise Rejected if it is not."""
    package = open_zip(data)
    entries = package.infolist()
    if any(entry.flag_bits & _ENCRYPTED for entry in entries):
        raise Rejected(RejectReason.ENCRYPTED, "the document is protected by a password")
    _check_size(sum(entry.file_size for entry in entries), len(data), limits)
    return package


def check_package(data: bytes, limits: Limits) -> None:
    """Inflate all of a document once, before a parser that believes its headers does; raise Rejected if they lie."""
    with open_package(data, limits) as package:
        for entry in package.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                _inflate(package, entry)


def read_part(package: zipfile.ZipFile, name: str) -> bytes:
    """Return one file of a package, empty where there is none; raise Rejected if it is damaged."""
    try:
        # Never more than the directory says, which `open_package` has added up.
        return package.read(name)
    except KeyError:
        return b""
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise Rejected(RejectReason.BROKEN, f"{name} in it is damaged: {error}") from error


def _inflate(package: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    try:
        with package.open(entry) as stream:
            while stream.read(_PIECE):
                pass
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise Rejected(RejectReason.BROKEN, f"{entry.filename} in it is damaged: {error}") from error


def _check_size(inflated: int, size: int, limits: Limits) -> None:
    if inflated > _HARMLESS_BYTES and inflated > limits.expansion * size:
        times = inflated // max(1, size)
        raise Rejected(
            RejectReason.TOO_DENSE, f"{times:,} times its size; limits.expansion allows {limits.expansion:,}"
        )
    if inflated > limits.memory_megabytes * _MEGABYTE:
        megabytes = inflated // _MEGABYTE
        allowed = limits.memory_megabytes
        raise Rejected(
            RejectReason.TOO_DENSE, f"{megabytes:,} MB when unpacked; limits.memory_megabytes allows {allowed:,}"
        )
