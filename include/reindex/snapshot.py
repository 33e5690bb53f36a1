"""A corpus and a moment in, its frozen listing out: `snapshot.parquet`, a row for each object the corpus includes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import chain, islice
from typing import Any

import pathspec
import pyarrow as pa

from reindex.errors import AccessRefused, BackfillMoment, FutureMoment, InvalidMoment, NothingToIndex, PastUnknown
from reindex.permissions import acl_of
from reindex.records import ACL_COLUMN, SNAPSHOT_SCHEMA, StoredObject
from reindex.releases import SNAPSHOT_FILE, ReleaseFiles
from reindex.settings import Corpus, Source
from reindex.storage import ObjectStore
from reindex.tombstones import erased_keys

# The clocks of the bucket, of Airflow and of a browser that fills in "now" differ: unless it was asked for in so many
# words, a moment this near is the present.
NEAR = timedelta(minutes=5)
# What a moment looks like, for forms; whether there is such a day, and whether it has come, is for `read_moment`.
MOMENT_PATTERN = r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?$"
_BATCH_ROWS = 10_000
_METADATA_THREADS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The moment that a run is about; `is_past` says that somebody asked for the past, not that a run came late."""

    as_of: datetime
    is_past: bool


class Listing(StrEnum):
    """How a snapshot was listed."""

    PRESENT = "present"
    EXACT = "exact"
    APPROXIMATE = "approximate"


def read_moment(text: str) -> datetime:
    """Read an ISO date or date-time, in UTC where it names no zone; raise InvalidMoment for anything else."""
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidMoment(text) from error


def check_has_come(as_of: datetime) -> None:
    """Raise FutureMoment if no clock can say that this moment has come."""
    if as_of > datetime.now(UTC) + NEAR:
        raise FutureMoment(_iso(as_of))


def choose_moment(*, asked: str | None, run_type: str, logical_date: datetime | None, run_after: datetime) -> Moment:
    """Return the moment of a run from what Airflow says of it; `asked` is its parameter `as_of`.

    The parameter and a backfill ask for the past, however near. So does a manual run whose logical date lies before the
    click, which is `run_after`: that it waits for hours behind another run, or is cleared the next day, is not asking.
    Raises InvalidMoment, and BackfillMoment for a backfill whose runs would all be about one moment.
    """
    if asked and run_type == "backfill":
        raise BackfillMoment(asked)
    if asked:
        return Moment(as_of=read_moment(asked), is_past=True)
    as_of = logical_date or run_after
    is_dated_back = run_type != "scheduled" and as_of < run_after - NEAR
    return Moment(as_of=as_of, is_past=run_type == "backfill" or is_dated_back)


def take_snapshot(files: ReleaseFiles, corpus: Corpus, *, as_of: datetime, is_past: bool) -> dict[str, Any]:
    """List the corpus's bucket as of a moment, and freeze the settings of the release with it.

    A bucket with versions is listed exactly as it was. One without is listed as it is now, unless `is_past`: then only
    if the corpus allows approximation, without what has changed since. Raises FutureMoment, PastUnknown and
    NothingToIndex; a listing that breaks off is an error and leaves nothing behind.
    """
    check_has_come(as_of)
    if not is_past and as_of > datetime.now(UTC) - NEAR:
        return _freeze(files, corpus, as_of, Listing.PRESENT)
    try:
        return _freeze(files, corpus, as_of, Listing.EXACT)
    except PastUnknown:
        if is_past and not corpus.source.approximate_as_of:
            raise
    return _freeze(files, corpus, as_of, Listing.APPROXIMATE if is_past else Listing.PRESENT)


def select_objects(objects: Iterable[StoredObject], source: Source) -> Iterator[StoredObject]:
    """Yield the objects that the source includes; patterns are those of .gitignore, on the key after the prefix."""
    included = pathspec.GitIgnoreSpec.from_lines(source.include)
    excluded = pathspec.GitIgnoreSpec.from_lines(source.exclude)
    for found in objects:
        name = source.name_of(found.key)
        is_folder_marker = found.key.endswith("/")
        if not is_folder_marker and included.match_file(name) and not excluded.match_file(name):
            yield found


def _freeze(files: ReleaseFiles, corpus: Corpus, as_of: datetime, listing: Listing) -> dict[str, Any]:
    source, store = corpus.source, files.store
    totals = {"documents": 0, "bytes": 0, "erased": 0, "hidden": 0}
    erased = erased_keys(store, files.bucket, corpus.name)
    listed = select_objects(_listed(store, source, as_of, listing), source)
    objects = _without_erased(listed, erased, totals)
    first = next(objects, None)
    if first is None:
        raise NothingToIndex(source.bucket, source.prefix, "" if listing is Listing.PRESENT else _iso(as_of))
    files.freeze_corpus(corpus)
    rows = _with_metadata(_blocks(chain([first], objects)), store, corpus)
    files.write_table(SNAPSHOT_FILE, SNAPSHOT_SCHEMA, _counted(rows, corpus, totals))
    if erased_keys(store, files.bucket, corpus.name) != erased:
        # A document was erased while the bucket was listed.
        return _freeze(files, corpus, as_of, listing)
    return {**totals, "as_of": _iso(as_of), "listing": listing.value}


def _listed(store: ObjectStore, source: Source, as_of: datetime, listing: Listing) -> Iterator[StoredObject]:
    if listing is Listing.EXACT:
        return store.list_objects(source.bucket, source.prefix, as_of)
    present = store.list_objects(source.bucket, source.prefix)
    if listing is Listing.APPROXIMATE:
        return (found for found in present if found.modified <= as_of)
    return present


def _without_erased(
    objects: Iterable[StoredObject], erased: set[str], totals: dict[str, int]
) -> Iterator[StoredObject]:
    for found in objects:
        if found.key in erased:
            totals["erased"] += 1
        else:
            yield found


def _blocks(objects: Iterator[StoredObject]) -> Iterator[list[StoredObject]]:
    while block := list(islice(objects, _BATCH_ROWS)):
        yield block


def _with_metadata(
    blocks: Iterator[list[StoredObject]], store: ObjectStore, corpus: Corpus
) -> Iterator[list[StoredObject]]:
    source, permissions = corpus.source, corpus.permissions
    of_permissions = (permissions.metadata,) if permissions and permissions.metadata else ()
    names = (*source.metadata, *of_permissions)
    if not names:
        yield from blocks
        return

    def read(found: StoredObject) -> StoredObject:
        kept = None
        # An object that is locked, or gone since it was listed, stops no others.
        with suppress(AccessRefused):
            kept = store.metadata(source.bucket, found.key, version=found.version, etag=found.etag)
        if kept is None:
            return replace(found, metadata=None)
        asked = {name: kept[name.lower()] for name in names if name.lower() in kept}
        return replace(found, metadata=json.dumps(asked, sort_keys=True))

    with ThreadPoolExecutor(_METADATA_THREADS) as pool:
        for block in blocks:
            yield list(pool.map(read, block))


def _counted(blocks: Iterator[list[StoredObject]], corpus: Corpus, totals: dict[str, int]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the snapshot; `hidden` counts those of unknown permissions."""
    facts = [name for name in SNAPSHOT_SCHEMA.names if name != ACL_COLUMN]
    for block in blocks:
        acls = [acl_of(found.key, found.metadata, corpus.permissions, corpus.source) for found in block]
        totals["documents"] += len(block)
        totals["bytes"] += sum(found.bytes for found in block)
        totals["hidden"] += sum(not acl for acl in acls)
        columns = {name: [getattr(found, name) for found in block] for name in facts}
        yield pa.RecordBatch.from_pydict({**columns, ACL_COLUMN: acls}, schema=SNAPSHOT_SCHEMA)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
