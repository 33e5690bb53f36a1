from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable

import pytest

from reindex.parsers import Context, Inner, Rejected
from reindex.parsers.archives import read_archive, read_gzip
from reindex.records import RejectedMember, RejectReason
from reindex.settings import Limits, Parsing

FILES = {"a.txt": b"left", "folder/b.txt": b"right"}


def context(name: str, *, archives: bool = True, **limits: int) -> Context:
    return Context(name=name, parsing=Parsing(archives=archives), limits=Limits(**limits))


def tar(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for name, kind in {"folder": tarfile.DIRTYPE, "link": tarfile.SYMTYPE, "device": tarfile.CHRTYPE}.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/hosts"
            archive.addfile(entry)
    return file.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.mkdir("folder")
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/hosts")
    return file.getvalue()


ARCHIVES: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "a.zip": zipped,
    "a.tar": tar,
    "a.tar.gz": lambda files: gzip.compress(tar(files)),
    "a.tar.bz2": lambda files: bz2.compress(tar(files)),
    "a.tar.xz": lambda files: lzma.compress(tar(files)),
}


def read(name: str, data: bytes, **limits: int) -> list[Inner | RejectedMember]:
    return list(read_archive(data, context(name, **limits)))


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_s_files_are_read_under_their_paths(name: str) -> None:
    inner = [Inner(member=path, name=path, data=content) for path, content in FILES.items()]
    assert read(name, ARCHIVES[name](FILES)) == inner


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_that_expands_too_far_is_refused(name: str) -> None:
    files = {f"{number}.txt": bytes(4_000_000) for number in range(4)}
    with pytest.raises(Rejected, match=r"expands-too-far: .* hold more than"):
        read(name, ARCHIVES[name](files), megabytes=12)


def test_a_small_archive_may_expand_to_ten_megabytes() -> None:
    assert read("a.zip", zipped({"a.txt": bytes(9_000_000)}), expansion=1)
    with pytest.raises(Rejected, match=r"limits\.expansion allows 1 times the file"):
        read("a.zip", zipped({"a.txt": bytes(11_000_000)}), expansion=1)


def test_the_size_that_an_entry_declares_is_not_trusted() -> None:
    data = bytearray(zipped({"a.txt": bytes(11_000_000)}))
    where = data.index(b"PK\x01\x02") + 24
    data[where : where + 4] = (10).to_bytes(4, "little")
    found = read("a.zip", bytes(data), expansion=1)
    assert isinstance(found[0], RejectedMember) or len(found[0].data) <= 10


def test_a_zip_file_at_the_end_of_a_tar_archive_is_a_file_of_it() -> None:
    files = {"a.txt": b"left", "b.zip": zipped(FILES)}
    assert [found.member for found in read("a.tar", tar(files))] == ["a.txt", "b.zip"]


def test_archives_are_read_only_where_the_corpus_asks_for_them() -> None:
    with pytest.raises(Rejected, match="archive: archives are read only with"):
        list(read_archive(zipped(FILES), context("a.zip", archives=False)))


def test_other_kinds_of_archives_are_named() -> None:
    with pytest.raises(Rejected, match="archive: cannot be opened"):
        read("a.7z", b"7z\xbc\xaf\x27\x1c and more")


def test_an_entry_with_a_password_costs_only_itself() -> None:
    data = bytearray(zipped(FILES))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    rejected, inner, *_ = read("a.zip", bytes(data))
    assert isinstance(rejected, RejectedMember)
    assert (rejected.member, rejected.reason) == ("a.txt", RejectReason.ENCRYPTED)
    assert isinstance(inner, Inner)


def test_a_damaged_entry_costs_only_itself() -> None:
    data = bytearray(zipped({"a.txt": b"left " * 100, "b.txt": b"right"}))
    data[40] ^= 0xFF
    rejected, inner = read("a.zip", bytes(data))
    assert isinstance(rejected, RejectedMember)
    assert rejected.reason == RejectReason.BROKEN
    assert isinstance(inner, Inner)


def test_two_entries_of_one_name_are_told_apart() -> None:
    data = zipped({"a.txt": b"left", "b.txt": b"right"}).replace(b"b.txt", b"a.txt")
    assert [found.member for found in read("a.zip", data)] == ["a.txt", "a.txt (2)"]


@pytest.mark.parametrize("name", [name for name in ARCHIVES if name != "a.tar"])
def test_an_archive_that_ends_too_early_is_broken(name: str) -> None:
    data = ARCHIVES[name]({"a.txt": bytes(range(256)) * 100})
    with pytest.raises(Rejected, match=r"cannot-be-parsed|archive"):
        read(name, data[: len(data) // 2])


def test_gzip_holds_one_file_which_is_the_object_itself() -> None:
    data = gzip.compress(b"left ") + gzip.compress(b"and right") + bytes(8)
    assert list(read_gzip(data, context("a.txt.gz"))) == [Inner(member="", name="a.txt", data=b"left and right")]


def test_a_gzip_file_that_expands_too_far_is_refused() -> None:
    with pytest.raises(Rejected, match="expands-too-far"):
        list(read_gzip(gzip.compress(bytes(20_000_000)), context("a.gz", expansion=5)))


@pytest.mark.parametrize("data", [gzip.compress(b"left and right")[:-9], b"no gzip"])
def test_a_gzip_file_that_is_cut_off_is_broken(data: bytes) -> None:
    with pytest.raises(Rejected, match="cannot-be-parsed: gzip"):
        list(read_gzip(data, context("a.gz")))
