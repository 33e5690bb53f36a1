"""Pages of a bucket's version listing in, its objects at one moment out, with one page in memory.

What was there at a moment is, for each key, the newest entry that is not younger; nothing, if that is a delete marker.
Stores tell times in whole seconds and cut fractions off (S3, SeaweedFS), so a moment includes the whole of its second:
12:00:05.3 includes what was written at 12:00:05.9. Of two versions of one second the one listed first is newer. Of
a version and a delete marker of one second nobody can tell, since a page lists them apart; unless the marker is the
latest entry of all, the version counts: who replaces a document by deleting it first still has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from reindex.errors import PastUnknown
from reindex.records import StoredObject

# What a bucket calls the version of a key that it writes over while it keeps no versions.
_UNKEPT = "null"


def objects_now(pages: Iterable[dict[str, Any]]) -> Iterator[StoredObject]:
    """Yield the latest version of each key that has not been deleted."""
    for page in pages:
        yield from (stored_object(entry) for entry in page.get("Versions", ()) if entry["IsLatest"])


def objects_at(pages: Iterable[dict[str, Any]], as_of: datetime, bucket: str) -> Iterator[StoredObject]:
    """Yield each key's version of the moment; raise PastUnknown on the proof that a version of then was not kept."""
    newest: dict[str, dict[str, Any]] = {}
    for page in pages:
        for entry in chain(page.get("Versions", ()), page.get("DeleteMarkers", ())):
            if entry["LastModified"] > as_of:
                _check_kept(entry, as_of, bucket)
            elif entry["Key"] not in newest or _rank(entry) > _rank(newest[entry["Key"]]):
                newest[entry["Key"]] = entry
        continued = page.get("NextKeyMarker")
        complete = [entry for key, entry in newest.items() if key != continued]
        newest = {key: entry for key, entry in newest.items() if key == continued}
        yield from _versions(complete)
    yield from _versions(newest.values())


def stored_object(entry: dict[str, Any]) -> StoredObject:
    """Return an entry of any S3 listing as a record."""
    return StoredObject(
        key=entry["Key"],
        version=entry.get("VersionId", ""),
        etag=entry["ETag"],
        bytes=entry["Size"],
        modified=entry["LastModified"],
    )


def _rank(entry: dict[str, Any]) -> tuple[bool, datetime, bool]:
    # The latest entry comes first whatever its time: an upload in parts bears the time at which it was begun.
    return entry["IsLatest"], entry["LastModified"], _is_version(entry)


def _is_version(entry: dict[str, Any]) -> bool:
    return "ETag" in entry


def _versions(entries: Iterable[dict[str, Any]]) -> Iterator[StoredObject]:
    return (stored_object(entry) for entry in entries if _is_version(entry))


def _check_kept(entry: dict[str, Any], as_of: datetime, bucket: str) -> None:
    is_folder_marker = entry["Key"].endswith("/")
    if entry["VersionId"] == _UNKEPT and not is_folder_marker:
        moment = as_of.astimezone(UTC).isoformat()
        raise PastUnknown(bucket, moment, f"later it wrote {entry['Key']} without keeping what was there before")
