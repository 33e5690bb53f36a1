"""Outlook messages made here: the file system that such a file is, written as plainly as its readers allow."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

_SECTOR, _SMALL_SECTOR = 512, 64
# Streams that are smaller lie in small sectors.
_LARGE = 4096
_FREE, _END, _TABLE = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
_STORAGE, _STREAM, _ROOT = 1, 2, 5


@dataclass
class Folder:
    """A storage: streams and storages by their names."""

    entries: dict[str, bytes | Folder] = field(default_factory=dict)

    def put(self, number: str, value: str | bytes) -> Folder:
        """Add a property by its number."""
        kind = "001F" if isinstance(value, str) else "0102"
        self.entries[f"__substg1.0_{number}{kind}"] = value.encode("utf-16-le") if isinstance(value, str) else value
        return self

    def put_time(self, number: int, value: int, *, before: int) -> Folder:
        """Add a property of a fixed size, behind as many bytes as the list of them begins with."""
        properties = struct.pack("<HHIQ", 0x0040, number, 6, value)
        self.entries["__properties_version1.0"] = bytes(before) + properties
        return self

    def attach(self, attachment: Folder) -> Folder:
        number = sum(name.startswith("__attach") for name in self.entries)
        self.entries[f"__attach_version1.0_#{number:08X}"] = attachment
        return self

    def as_bytes(self) -> bytes:
        """Return the whole file, this being its root."""
        return _Writer().file(self)


class _Sectors:
    """Streams in sectors of one size, and the table that chains them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.table: list[int] = []
        self.content = b""

    def chain(self, data: bytes) -> int:
        """Lay bytes into sectors; return the first."""
        first, count = len(self.table), -(-len(data) // self._size)
        self.content += data.ljust(count * self._size, b"\0")
        self.table += [*range(first + 1, first + count), *([_END] if count else [])]
        return first if count else _END


class _Writer:
    def __init__(self) -> None:
        self._directory: list[bytes] = []
        self._sectors, self._small = _Sectors(_SECTOR), _Sectors(_SMALL_SECTOR)

    def file(self, root: Folder) -> bytes:
        self._add("Root Entry", root, _ROOT, after=_FREE)
        small = struct.pack(f"<{len(self._small.table)}I", *self._small.table)
        small_table = self._sectors.chain(small.ljust(-(-len(small) // _SECTOR) * _SECTOR, b"\xff"))
        small_content = self._sectors.chain(self._small.content)
        self._directory[0] = self._directory[0][:-12] + struct.pack("<IQ", small_content, len(self._small.content))
        directory = self._sectors.chain(b"".join(self._directory))
        table = self._sectors.table
        table_sectors = -(-(len(table) + 1) // (_SECTOR // 4 - 1))
        places = [*range(len(table), len(table) + table_sectors), *([_FREE] * (109 - table_sectors))]
        table += [_TABLE] * table_sectors
        header = struct.pack(
            "<8s16xHHHHH6xIIIIIIIII109I",
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
            *(0x3E, 3, 0xFFFE, 9, 6),
            *(0, table_sectors, directory, 0, _LARGE, small_table, -(-len(small) // _SECTOR), _END, 0),
            *places,
        )
        packed = struct.pack(f"<{len(table)}I", *table).ljust(table_sectors * _SECTOR, b"\xff")
        return header + self._sectors.content + packed

    def _add(self, name: str, entry: bytes | Folder, kind: int, *, after: int) -> int:
        """Add an entry and those inside it, each naming the one after it; return its number."""
        number = len(self._directory)
        self._directory.append(b"")
        child, start, size = _FREE, _END, 0
        if isinstance(entry, Folder):
            for inner_name, inner in entry.entries.items():
                inner_kind = _STORAGE if isinstance(inner, Folder) else _STREAM
                child = self._add(inner_name, inner, inner_kind, after=child)
        else:
            sectors = self._small if len(entry) < _LARGE else self._sectors
            start, size = sectors.chain(entry), len(entry)
        text = f"{name}\0".encode("utf-16-le")
        self._directory[number] = struct.pack(
            "<64sHBBIII36xIQ", text, len(text), kind, 1, _FREE, after, child, start, size
        )
        return number
