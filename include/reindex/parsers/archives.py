"""An archive or a compressed file in, the files it holds out: inflated in memory, counted while they are."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Protocol, cast

from reindex.parsers import Context, Inner, Rejected
from reindex.parsers.members import Names
from reindex.records import RejectedMember, RejectReason
from reindex.settings import Limits

_STEP = 1 << 16
_MEGABYTE = 1_000_000
# A small file may expand further than its limit says: a page of one repeated line does.
_ALWAYS_ALLOWED = 10 * _MEGABYTE
# What macOS puts beside the files themselves.
_LEFT_OUT = ("__MACOSX/", "./__MACOSX/")
_IS_ENCRYPTED = 0x1
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, NotImplementedError, OSError, EOFError, lzma.LZMAError, zlib.error)


def read_gzip(data: bytes, context: Context) -> Iterator[Inner]:
    """Yield the one file that gzip has compressed, as the object itself."""
    try:
        content = _read(gzip.GzipFile(fileobj=io.BytesIO(data)), _Allowance(len(data), context.limits))
    except _BROKEN as error:
        raise Rejected(RejectReason.BROKEN, f"gzip: {error}") from error
    yield Inner(member="", name=context.name.removesuffix(".gz"), data=content)


def read_archive(data: bytes, context: Context) -> Iterator[Inner | RejectedMember]:
    """Yield the files of an archive under their paths in it; directories, links and devices are none."""
    if not context.parsing.archives:
        raise Rejected(RejectReason.ARCHIVE, "archives are read only with parsing.archives: true")
    for start, opens in _OPENERS.items():
        if data.startswith(start):
            return _tar_entries(opens(io.BytesIO(data)), _Allowance(len(data), context.limits))
    # Before zip, which is known by its end: the last file of a tar archive may be one.
    if data[257:262] == b"ustar":
        return _tar_entries(io.BytesIO(data), _Allowance(len(data), context.limits))
    if zipfile.is_zipfile(io.BytesIO(data)):
        return _zip_entries(data, _Allowance(len(data), context.limits))
    raise Rejected(RejectReason.ARCHIVE, "cannot be opened: only zip and tar archives can")


class _Allowance:
    """How many bytes may still come out of a file. Declared sizes are not trusted: what has come out is counted."""

    def __init__(self, size: int, limits: Limits) -> None:
        self._size, self._limits = size, limits
        self._most = min(max(size * limits.expansion, _ALWAYS_ALLOWED), limits.megabytes * _MEGABYTE)
        self._left = self._most

    def spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise Rejected(
                RejectReason.TOO_DENSE,
                f"{self._size:,} bytes hold more than {self._most:,}; limits.expansion allows "
                f"{self._limits.expansion:,} times the file, limits.megabytes {self._limits.megabytes:,} MB",
            )


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Counted(io.RawIOBase):
    """A stream that spends what is read of it."""

    def __init__(self, stream: _Readable, allowance: _Allowance) -> None:
        self._stream, self._allowance = stream, allowance

    def read(self, size: int = -1) -> bytes:
        piece = self._stream.read(min(size, _STEP) if size >= 0 else _STEP)
        self._allowance.spend(len(piece))
        return piece


def _read(file: _Readable, allowance: _Allowance) -> bytes:
    pieces = []
    while piece := file.read(_STEP):
        allowance.spend(len(piece))
        pieces.append(piece)
    return b"".join(pieces)


def _tar_entries(stream: _Readable, allowance: _Allowance) -> Iterator[Inner | RejectedMember]:
    names = Names()
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", _Counted(stream, allowance)), mode="r|") as archive:
            for entry in archive:
                # A sparse file may be all holes: no byte of the archive stands for them.
                file = archive.extractfile(entry) if entry.isreg() and not entry.issparse() else None
                if file and not entry.name.startswith(_LEFT_OUT):
                    yield Inner(member=names.free(entry.name), name=entry.name, data=file.read())
    except _BROKEN as error:
        raise Rejected(RejectReason.BROKEN, f"tar: {error}") from error


def _zip_entries(data: bytes, allowance: _Allowance) -> Iterator[Inner | RejectedMember]:
    names = Names()
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except _BROKEN as error:
        raise Rejected(RejectReason.BROKEN, f"zip: {error}") from error
    for entry in filter(_is_file, archive.infolist()):
        yield _zip_entry(archive, entry, names.free(entry.filename), allowance)


def _zip_entry(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, member: str, allowance: _Allowance
) -> Inner | RejectedMember:
    if entry.flag_bits & _IS_ENCRYPTED:
        return RejectedMember(member=member, reason=RejectReason.ENCRYPTED, detail="opens with a password only")
    try:
        with archive.open(entry) as file:
            content = _read(file, allowance)
    except _BROKEN as error:
        return RejectedMember(member=member, reason=RejectReason.BROKEN, detail=f"zip: {error}")
    return Inner(member=member, name=entry.filename, data=content)


def _is_file(entry: zipfile.ZipInfo) -> bool:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    return not entry.is_dir() and kind in {0, stat.S_IFREG} and not entry.filename.startswith(_LEFT_OUT)


_OPENERS: dict[bytes, Callable[[io.BytesIO], _Readable]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
