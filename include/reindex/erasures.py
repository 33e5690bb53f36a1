"""What erasing documents has changed in releases made before: the rows to expect now, and a last check."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from reindex.errors import ErasedDocument
from reindex.naming import tombstone_key
from reindex.releases import DOCUMENTS_FILE, ReleaseFiles
from reindex.tombstones import erased_keys

# One record for each document, named as its tombstone is: two erasures may go on at once.
ERASED_FOLDER = "erased/"


def record_erasure(files: ReleaseFiles, key: str, *, rows: int, collection_id: int) -> None:
    """Record how many rows of a document leave the release's collection; to be called before they do, and again.

    Of what is recorded twice the larger number counts: an erasure that was broken off finds fewer rows than were there.
    """
    before = files.read_json(_record_name(files, key))
    known = before["rows"] if before and before["collection_id"] == collection_id else 0
    if rows > known:
        at = datetime.now(UTC).isoformat()
        files.write_json(_record_name(files, key), {"rows": rows, "collection_id": collection_id, "at": at})


def was_erased(files: ReleaseFiles, key: str, *, collection_id: int) -> bool:
    """Return whether rows of a document were to leave this collection."""
    recorded = files.read_json(_record_name(files, key))
    return recorded is not None and bool(recorded["collection_id"] == collection_id)


def erased_rows(files: ReleaseFiles, collection_id: int) -> int:
    """Return how many rows have been erased from a collection of the release since they were imported into it."""
    paths = files.store.keys(files.bucket, files.key(ERASED_FOLDER))
    recorded = [found for path in paths if (found := files.store.read_json(files.bucket, path))]
    return sum(int(erasure["rows"]) for erasure in recorded if erasure["collection_id"] == collection_id)


def expected_rows(files: ReleaseFiles) -> int:
    """Return the rows that the release's collection has now: those that were measured, less what was erased since."""
    verified = files.needed_report("verify")
    erased_since = erased_rows(files, verified["collection_id"]) - int(verified.get("erased_rows", 0))
    return int(verified["rows"]) - erased_since


def check_erased(files: ReleaseFiles) -> None:
    """Raise ErasedDocument if the release still indexes a document that was erased from the corpus.

    An erasure rewrites a release's documents last: one that does not name the document any more has no row of it.
    """
    erased = pa.array(sorted(erased_keys(files.store, files.bucket, files.corpus_name)), pa.string())
    if not len(erased):
        return
    found: list[str] = []
    for batch in files.store.read_batches(files.bucket, files.key(DOCUMENTS_FILE), columns=["key"]):
        keys = batch.column("key")
        found += keys.filter(pc.is_in(keys, erased)).to_pylist()
    if found:
        raise ErasedDocument(files.corpus_name, files.release, len(found))


def _record_name(files: ReleaseFiles, key: str) -> str:
    return ERASED_FOLDER + tombstone_key(files.corpus_name, key).rsplit("/", 1)[1]
