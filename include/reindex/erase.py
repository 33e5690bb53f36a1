"""A document's key in, the document gone for good out: from every collection and file of its corpus; and a scan for it.

The order makes a crash boring: the tombstone comes first, a collection is relieved before the files that tell its ids
are rewritten, parts before the tables that tell their contents, and the documents of a release after its other files.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from reindex.erasures import record_erasure, was_erased
from reindex.exact import similarity, vector_matrix
from reindex.naming import alias_name, collection_release, tombstone_key
from reindex.records import ID_COLUMN
from reindex.releases import COSINES_FILE, QUERIES_FILE, ReleaseFiles, release_names
from reindex.settings import Source
from reindex.storage import ObjectStore
from reindex.store import VectorStore, drop_green
from reindex.tombstones import bury
from reindex.traces import Found, Traces, is_catalog

_NAMED_KEYS = 10
# What a server may add up differently, as where recall is measured again.
_SCORE_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """One document of one corpus, and the servers that it has to leave. `bucket` is the one of Reindex's state."""

    objects: ObjectStore
    vectors: VectorStore
    bucket: str
    corpus: str
    key: str

    @property
    def traces(self) -> Traces:
        return Traces(store=self.objects, bucket=self.bucket, corpus=self.corpus, key=self.key)

    def files(self, release: str) -> ReleaseFiles:
        return ReleaseFiles(self.objects, self.bucket, self.corpus, release)


def erase_document(erasure: Erasure, source: Source, *, reason: str, by: str) -> dict[str, Any]:
    """Erase a document and return where it was and what a scan still finds of it; repeated, it changes nothing.

    While a run is going on, parts and catalogs stay as they are: the run may be about to reuse them for a document of
    the same content. It cannot promote the document, and the erasure is to be repeated when it has ended.
    """
    traces = erasure.traces
    tombstone = _bury(erasure, reason, by)
    places = _leave_loaded_collections(erasure)
    releases = sorted(release_names(erasure.objects, erasure.bucket, erasure.corpus))
    now = datetime.now(UTC)
    going_on = [release for release in releases if erasure.files(release).is_going_on(now)]
    found = traces.find()
    places |= _leave_collections(erasure, found, going_on)
    shared = traces.shared_contents(found.contents)
    own_contents = found.contents - shared.keys()
    parts = traces.find_parts(own_contents)
    for release in releases:
        _rewrite_import(erasure, release, found)
    if not going_on:
        traces.rewrite_parts(parts, own_contents)
    tables = {path: rows for path, rows in found.rows.items() if rows}
    traces.rewrite_tables(path for path in sorted(tables, key=_turn) if not (going_on and is_catalog(path)))
    places |= tables | parts | traces.find_reports()
    traces.rewrite_reports()
    return {
        "corpus": erasure.corpus,
        "key": erasure.key,
        **tombstone,
        "found": _listed(places),
        "shared_with": sorted({key for keys in shared.values() for key in keys})[:_NAMED_KEYS],
        "going_on": going_on,
        "left": _listed(_scan(erasure, own_contents)),
        "not_in_memory": [name for name in _collections(erasure) if not erasure.vectors.load_state(name).loaded],
        "source": _look_at_source(erasure, source),
    }


def _bury(erasure: Erasure, reason: str, by: str) -> dict[str, Any]:
    """Put the tombstone up unless there is one, and return what it says."""
    place = tombstone_key(erasure.corpus, erasure.key)
    before = erasure.objects.read_json(erasure.bucket, place)
    if before is None:
        bury(erasure.objects, erasure.bucket, erasure.corpus, erasure.key, reason, by)
    said = before or erasure.objects.read_json(erasure.bucket, place) or {}
    facts = {name: said.get(name) for name in ("reason", "at", "by")}
    return {"tombstone": place, "buried_before": before is not None, **facts}


def _collections(erasure: Erasure) -> dict[str, ReleaseFiles]:
    """Return the collections of the corpus's releases, the live one first."""
    live = erasure.vectors.resolve_alias(alias_name(erasure.corpus))
    found = {}
    for name in sorted(erasure.vectors.collections(), key=lambda name: (name != live, name)):
        release = collection_release(erasure.corpus, name)
        # Somebody else's collection has no snapshot, whatever its name looks like.
        if release and erasure.files(release).report("snapshot"):
            found[name] = erasure.files(release)
    return found


def _leave_loaded_collections(erasure: Erasure) -> dict[str, int]:
    """Take the document from readers at once: collections in memory can be asked for its ids."""
    places = {}
    for collection, files in _collections(erasure).items():
        if ids := _ids_in_memory(erasure, collection):
            _leave(erasure, collection, files, ids)
            places[collection] = len(ids)
    return places


def _leave_collections(erasure: Erasure, found: Found, going_on: list[str]) -> dict[str, int]:
    """Take the document from the other collections too, by the ids that their import files tell."""
    places = {}
    for collection, files in _collections(erasure).items():
        is_loaded = erasure.vectors.load_state(collection).loaded
        ids = {chunk for path, ids in found.ids.items() if path.startswith(files.key("import/")) for chunk in ids}
        if ids:
            _leave(erasure, collection, files, ids)
            if not is_loaded:
                places[collection] = len(ids)
        elif not is_loaded and files.release not in going_on and _may_still_hold(erasure, collection, files):
            drop_green(erasure.vectors, collection)
    return places


def _may_still_hold(erasure: Erasure, collection: str, files: ReleaseFiles) -> bool:
    """Return whether the document may have come in by an import that was under way when it was erased before.

    Such a release is never promoted: its counts differ. Nobody can ask its collection, so that it has to go.
    """
    info = erasure.vectors.describe(collection)
    if info is None or files.report("verify") or erasure.vectors.aliases_of(collection):
        return False
    return was_erased(files, erasure.key, collection_id=info.id)


def _leave(erasure: Erasure, collection: str, files: ReleaseFiles, ids: set[str]) -> None:
    """Record what the collection will have lost, then delete it: in between its count fits no check."""
    info = erasure.vectors.describe(collection)
    record_erasure(files, erasure.key, rows=len(ids), collection_id=info.id if info else 0)
    erasure.vectors.delete_rows(collection, sorted(ids))


def _ids_in_memory(erasure: Erasure, collection: str) -> set[str]:
    if not erasure.vectors.load_state(collection).loaded:
        return set()
    rows = erasure.vectors.fetch(collection, "document", [erasure.key], [ID_COLUMN])
    return {row[ID_COLUMN] for row in rows}


def _rewrite_import(erasure: Erasure, release: str, found: Found) -> None:
    """Rewrite the import files of a release, after the queries that were measured with the document among the rows."""
    files = erasure.files(release)
    held_it = any(rows for path, rows in found.rows.items() if path.startswith(files.key("")))
    import_files = [path for path in found.rows if path.startswith(files.key("import/"))]
    its_files = [path for path in import_files if found.rows[path]]
    if its_files or (held_it and not import_files):
        _drop_queries(erasure, files, its_files)
        # Nothing is lost with it: the next release compares what it does not find there.
        erasure.objects.delete(erasure.bucket, files.key(COSINES_FILE))
    erasure.traces.rewrite_tables(its_files)
    _correct_counts(files, {path: found.all_rows[path] - found.rows[path] for path in import_files})


def _drop_queries(erasure: Erasure, files: ReleaseFiles, import_files: list[str]) -> None:
    """Drop the kept queries that count a passage of the document among their neighbours: most were taken from it.

    The others are answered as they were. Where the release has no import files any more, all go: nothing can be
    measured again.
    """
    path = files.key(QUERIES_FILE)
    etag, queries = erasure.objects.etag(erasure.bucket, path), erasure.objects.read_table(erasure.bucket, path)
    if etag is None or queries is None:
        return
    left = queries if import_files else queries.slice(0, 0)
    metric = files.corpus().index.metric
    for batch in chain.from_iterable(map(erasure.traces.batches, import_files)):
        rows = erasure.traces.rows(batch)
        if rows.num_rows and left.num_rows:
            left = _never_reached(left, rows, metric)
    if not left.num_rows:
        erasure.objects.delete(erasure.bucket, path)
    elif left.num_rows < queries.num_rows:
        erasure.objects.replace_batches(erasure.bucket, path, left.schema, left.to_batches(), etag=etag)


def _never_reached(queries: pa.Table, rows: pa.RecordBatch, metric: str) -> pa.Table:
    """Return the queries that none of the rows comes near enough to be counted for."""
    best = pa.array(similarity(vector_matrix(queries), vector_matrix(rows), metric=metric).max(axis=1))
    floor = queries.column("floor")
    margin = pc.multiply(pc.max_element_wise(pc.abs(floor), 1.0), _SCORE_TOLERANCE)
    return queries.filter(pc.less(best, pc.subtract(floor, margin)))


def _correct_counts(files: ReleaseFiles, rows: dict[str, int]) -> None:
    """Correct what assembling reports for a release that is not loaded yet: the load goes by it."""
    report = files.report("assemble")
    if report is None or files.report("load"):
        return
    left = [{**file, "rows": rows[file["file"]]} for file in report["files"] if rows.get(file["file"])]
    if left != report["files"]:
        files.write_json("assemble.json", {**report, "files": left, "rows": sum(file["rows"] for file in left)})


def _scan(erasure: Erasure, contents: set[str]) -> dict[str, int]:
    """Look for the document once more, in everything there is, and return where it still is."""
    tables = {path: rows for path, rows in erasure.traces.find().rows.items() if rows}
    asked = {name: rows for name in _collections(erasure) if (rows := len(_ids_in_memory(erasure, name)))}
    return tables | erasure.traces.find_parts(contents) | erasure.traces.find_reports() | asked


def _look_at_source(erasure: Erasure, source: Source) -> dict[str, Any]:
    """Say whether the source bucket still has the object: Reindex does not delete sources."""
    return {
        "bucket": source.bucket,
        "is_there": erasure.objects.etag(source.bucket, erasure.key) is not None,
        "versions": erasure.objects.count_versions(source.bucket, erasure.key),
    }


def _turn(path: str) -> tuple[bool, bool, str]:
    # Catalogs after all: until they are rewritten, a repetition learns the contents from them.
    return is_catalog(path), path.endswith("/documents.parquet"), path


def _listed(places: dict[str, int]) -> list[dict[str, Any]]:
    return [{"place": place, "rows": rows} for place, rows in sorted(places.items())]
