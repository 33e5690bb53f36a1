"""Files and folders in, objects of a corpus's bucket out: copied if they are new or differ from what is there."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from reindex.errors import NothingToPut
from reindex.settings import Source
from reindex.storage import ObjectStore

_UPLOAD_THREADS = 8


def put_files(objects: ObjectStore, source: Source, paths: list[Path]) -> dict[str, int]:
    """Copy files, and what folders hold, under the source's prefix; return how many there are, and how many differed.

    Raises NothingToPut before anything is copied.
    """
    wanted = _files_by_key(paths, source.prefix)
    there = {found.key: found.etag.strip('"') for found in objects.list_objects(source.bucket, source.prefix)}
    changed = {key: file for key, file in wanted.items() if there.get(key) != _md5(file)}
    with ThreadPoolExecutor(_UPLOAD_THREADS) as pool:
        list(pool.map(lambda item: objects.upload(source.bucket, *item), changed.items()))
    return {"files": len(wanted), "copied": len(changed), "unchanged": len(wanted) - len(changed)}


def _files_by_key(paths: list[Path], prefix: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise NothingToPut(str(path), "is not there")
        inside = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        root = path if path.is_dir() else path.parent
        found |= {prefix + file.relative_to(root).as_posix(): file for file in inside}
    if not found:
        raise NothingToPut(", ".join(str(path) for path in paths), "holds no file")
    return found


def _md5(file: Path) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
