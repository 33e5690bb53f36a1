"""The releases that are kept in, the parts that none of them needs gone: from the catalog first, then from the bucket.

A part that leaves the catalog does not exist any more, so that a crash in between leaves nothing that a plan could use.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain, groupby
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from reindex.naming import spaces_prefix
from reindex.records import StoredObject
from reindex.releases import DOCUMENTS_FILE, ReleaseFiles, release_names


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What the kept releases need: parts by name, spaces that they use, and those that one is still embedding into.

    `undecided` is a release that has not planned yet: until it has, it may need anything.
    """

    parts: set[str]
    spaces: set[str]
    busy_spaces: set[str]
    undecided: str


@dataclass(slots=True)
class _Space:
    """What one embedding space holds and what of it goes; parts are counted, only those that go are remembered."""

    name: str
    catalogs: list[StoredObject] = field(default_factory=list)
    parts_left: int = 0
    unneeded: dict[str, StoredObject] = field(default_factory=dict)
    others: list[StoredObject] = field(default_factory=list)


def sweep_parts(
    files: ReleaseFiles, kept: Iterable[str], begun: set[str], *, days: int, now: datetime, dry_run: bool
) -> dict[str, Any]:
    """Remove parts, and what the catalog remembers, that no kept release needs and that are older than `days`.

    `begun` are all releases that were known when `kept` was decided. Returns counts of parts, their bytes, rejects
    forgotten and spaces removed; with `dry_run` as they would be.
    """
    swept: dict[str, Any] = {"parts": 0, "part_bytes": 0, "rejects_forgotten": 0, "spaces": [], "waits_for": ""}
    needs = _needs(files, kept)
    if needs.undecided:
        return {**swept, "waits_for": needs.undecided}
    cutoff = now - timedelta(days=days)
    for space in _spaces(files, needs, cutoff):
        if space.name in needs.busy_spaces:
            continue
        forgets_rejects = space.name not in needs.spaces
        counts = [
            _thin_out(files, found, space, cutoff if forgets_rejects else None, dry_run) for found in space.catalogs
        ]
        swept["rejects_forgotten"] += sum(count.rejects for count in counts)
        if not dry_run and (any(not count.is_done for count in counts) or _has_begun_since(files, space, begun)):
            # The parts wait for the next time: they are in no catalog any more, and a plan of just now may name them.
            continue
        _remove(files, space.unneeded.values(), dry_run)
        swept["parts"] += len(space.unneeded)
        swept["part_bytes"] += sum(found.bytes for found in space.unneeded.values())
        is_empty = not space.parts_left and all(count.is_emptied for count in counts)
        if is_empty and forgets_rejects and all(found.modified < cutoff for found in space.others):
            _remove(files, space.others, dry_run)
            swept["spaces"].append(space.name)
    return swept


def _needs(files: ReleaseFiles, kept: Iterable[str]) -> Needs:
    needs = Needs(parts=set(), spaces=set(), busy_spaces=set(), undecided="")
    for release in kept:
        of = files.of(release)
        plan = of.report("plan")
        if plan is None:
            return Needs(parts=set(), spaces=set(), busy_spaces=set(), undecided=release)
        if plan.get("outcome") == "unchanged":
            continue
        space = plan.get("space") or (of.report("embed") or {}).get("space", "")
        needs.spaces.add(space)
        if files.store.etag(files.bucket, of.key(DOCUMENTS_FILE)) is None:
            # It may find any content of its space again.
            needs.busy_spaces.add(space)
            continue
        for batch in files.store.read_batches(files.bucket, of.key(DOCUMENTS_FILE), columns=["part"]):
            needs.parts.update(pc.unique(batch.column("part")).to_pylist())
    return needs


def _spaces(files: ReleaseFiles, needs: Needs, cutoff: datetime) -> Iterator[_Space]:
    prefix = spaces_prefix(files.corpus_name)
    listed = files.store.entries(files.bucket, prefix)
    for name, objects in groupby(listed, key=lambda found: found.key.removeprefix(prefix).split("/", 1)[0]):
        space = _Space(name)
        for found in objects:
            _sort_in(space, found, needs.parts, cutoff)
        yield space


def _sort_in(space: _Space, found: StoredObject, needed: set[str], cutoff: datetime) -> None:
    *_, kind, file = found.key.split("/")
    part = file.removesuffix(".parquet")
    if kind == "catalog":
        space.catalogs.append(found)
    elif kind != "parts":
        space.others.append(found)
    elif part in needed or found.modified >= cutoff:
        space.parts_left += 1
    else:
        space.unneeded[part] = found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Thinned:
    """What became of one table of the catalog; it is not done if somebody has written it anew meanwhile."""

    rejects: int
    is_emptied: bool
    is_done: bool


def _thin_out(
    files: ReleaseFiles, table: StoredObject, space: _Space, rejects_until: datetime | None, dry_run: bool
) -> _Thinned:
    """Take the rows of unneeded parts out of a table, and its rejects if it is older than `rejects_until`."""
    forgets = rejects_until is not None and table.modified < rejects_until
    # A reject is in no part.
    gone = pa.array([*space.unneeded, *([""] if forgets else [])], pa.string())
    if not len(gone):
        return _Thinned(rejects=0, is_emptied=False, is_done=True)
    rows = rows_gone = rejects = 0
    for batch in files.store.read_batches(files.bucket, table.key, columns=["part"]):
        part = batch.column("part")
        rows += batch.num_rows
        rows_gone += pc.sum(pc.is_in(part, gone)).as_py()
        rejects += pc.sum(pc.equal(part, "")).as_py()
    is_emptied = rows_gone == rows
    is_done = dry_run or (not rows_gone and not is_emptied) or _rewrite(files, table, gone, is_emptied=is_emptied)
    return _Thinned(rejects=rejects if forgets else 0, is_emptied=is_emptied, is_done=is_done)


def _rewrite(files: ReleaseFiles, table: StoredObject, gone: pa.Array, *, is_emptied: bool) -> bool:
    if is_emptied:
        files.store.delete(files.bucket, table.key)
        return True
    batches = files.store.read_batches(files.bucket, table.key)
    first = next(batches)
    left = (batch.filter(pc.invert(pc.is_in(batch.column("part"), gone))) for batch in chain([first], batches))
    return files.store.replace_batches(files.bucket, table.key, first.schema, left, etag=table.etag)


def _has_begun_since(files: ReleaseFiles, space: _Space, begun: set[str]) -> bool:
    return bool(space.unneeded) and bool(release_names(files.store, files.bucket, files.corpus_name) - begun)


def _remove(files: ReleaseFiles, objects: Iterable[StoredObject], dry_run: bool) -> None:
    for found in () if dry_run else objects:
        files.store.delete(files.bucket, found.key)
