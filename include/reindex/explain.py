"""The id of a hit in, where it comes from out: document, version, place in it, space, part, import file, release."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from reindex.errors import FileMissing, NotLive, UnknownPassage
from reindex.naming import alias_name, collection_release
from reindex.parts import EmbeddingStore
from reindex.records import ACL_COLUMN, ID_COLUMN
from reindex.releases import DOCUMENTS_FILE, ReleaseFiles, read_live
from reindex.store import VectorStore, readable_columns


def explain_passage(store: VectorStore, files: ReleaseFiles, passage: str) -> dict[str, Any]:
    """Return everything that is known of where a passage of the live index comes from.

    `files` are those of any release of the corpus. The characters `start` to `end` are counted from the beginning of
    the document's text, which is the member's where the object holds several; `acl` says who may find it, as the
    collection does.
    Raises NotLive, and UnknownPassage.
    """
    alias = alias_name(files.corpus_name)
    collection = store.resolve_alias(alias) or ""
    release = collection_release(files.corpus_name, collection)
    if release is None:
        raise NotLive(alias)
    rows = store.fetch(collection, ID_COLUMN, [passage], readable_columns(store, collection))
    if not rows:
        raise UnknownPassage(files.corpus_name, passage, release)
    row, files = rows[0], files.of(release)
    corpus = files.corpus()
    indexed = _first_row(files, files.key(DOCUMENTS_FILE), "key", row["document"])
    space = str(files.needed_report("embed")["space"])
    return {
        **{name: row[name] for name in ("id", "document", "title", "section", "page")},
        **{name: row.get(name, "") for name in ("member", "time")},
        "start": row["start"],
        "end": row["start"] + len(row["text"]),
        "text": row["text"],
        # A release from an earlier version has neither.
        "modified": row.get("modified"),
        "acl": row.get(ACL_COLUMN),
        "object": {
            "bucket": corpus.source.bucket,
            **{name: indexed[name] for name in ("version", "etag", "bytes")},
            "modified": indexed["modified"].isoformat(),
        },
        "content": indexed["content"],
        "part": indexed["part"],
        "space": {
            "name": space,
            "model_name": corpus.embedding.model,
            **EmbeddingStore(files.store, files.bucket, files.corpus_name, space).facts(),
        },
        "import_file": _import_file(files, passage),
        "release": release,
        "as_of": files.needed_report("snapshot").get("as_of"),
        "collection": collection,
        **_promotion(files),
    }


def _first_row(files: ReleaseFiles, path: str, column: str, value: str) -> dict[str, Any]:
    for batch in files.store.read_batches(files.bucket, path):
        found = batch.filter(pc.equal(batch.column(column), pa.scalar(value)))
        if found.num_rows:
            row: dict[str, Any] = found.slice(0, 1).to_pylist()[0]
            return row
    raise FileMissing(files.bucket, f"{path} ({value})")


def _import_file(files: ReleaseFiles, passage: str) -> str:
    for file in files.needed_report("assemble")["files"]:
        for batch in files.store.read_batches(files.bucket, file["file"], columns=[ID_COLUMN]):
            if pc.any(pc.equal(batch.column(ID_COLUMN), passage)).as_py():
                return str(file["file"])
    return ""


def _promotion(files: ReleaseFiles) -> dict[str, Any]:
    """Return who promoted the release first, and who made it live now: a rollback may have since."""
    promoted = files.report("promote") or {}
    live, _ = read_live(files.store, files.bucket, files.corpus_name)
    is_current = live is not None and live.release == files.release
    return {
        "promoted": {"by": promoted.get("by"), "at": promoted.get("started_at")},
        "live": {"by": live.by, "since": live.since} if live and is_current else None,
    }
