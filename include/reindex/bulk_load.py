"""Import files in, a new collection holding their rows out. An import is never appended to: in doubt it starts anew."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from reindex.importers import Importer
from reindex.naming import collection_name
from reindex.records import ImportJob, Progress
from reindex.releases import ReleaseFiles
from reindex.settings import Corpus
from reindex.store import VectorStore, drop_green

_JOBS_FILE = "load_jobs.json"


def begin_load(store: VectorStore, importer: Importer, files: ReleaseFiles, corpus: Corpus) -> int:
    """Create the release's collection, indexes declared first, hand its files over, return the collection's id.

    What an earlier attempt left is dropped: nobody can tell whether its imports went through.
    """
    collection = collection_name(files.corpus_name, files.release)
    drop_green(store, collection)
    intent = {"collection": collection, "started_at": time.time(), "jobs": []}
    files.write_json(_JOBS_FILE, intent)
    dimension = files.needed_report("plan")["dimension"]
    store.create_collection(collection, dimension=dimension, index=corpus.index)
    wanted: list[dict[str, Any]] = files.needed_report("assemble")["files"]
    jobs = [importer.submit(collection, file["file"], file["rows"]) for file in wanted]
    files.write_json(_JOBS_FILE, {**intent, "jobs": [asdict(job) for job in jobs]})
    created = store.describe(collection)
    return created.id if created else 0


def call_off_load(store: VectorStore, files: ReleaseFiles, collection_id: int) -> None:
    """Drop the collection of one attempt: that is how an import is cancelled. A later attempt's is left alone."""
    collection = collection_name(files.corpus_name, files.release)
    found = store.describe(collection)
    if found and found.id == collection_id:
        drop_green(store, collection)


def poll_load(importer: Importer, files: ReleaseFiles) -> Progress:
    """Return how far the import is; raise ImportFailed if the server gave a file up."""
    collection, _, jobs = _recorded(files)
    return importer.poll(collection, jobs)


def finish_load(store: VectorStore, files: ReleaseFiles) -> dict[str, Any]:
    """Return what the server says it took from each file, before it forgets."""
    collection, began, jobs = _recorded(files)
    imported = [store.import_state(job.id).rows for job in jobs]
    loaded = [{"file": job.file, "rows": job.rows, "imported": rows} for job, rows in zip(jobs, imported, strict=True)]
    rate = sum(imported) / max(time.time() - began, 1)
    return {"collection": collection, "files": loaded, "rows": sum(imported), "rows_a_second": round(rate)}


def _recorded(files: ReleaseFiles) -> tuple[str, float, list[ImportJob]]:
    recorded = files.read_json(_JOBS_FILE) or {"collection": "", "started_at": time.time(), "jobs": []}
    return recorded["collection"], recorded["started_at"], [ImportJob(**job) for job in recorded["jobs"]]
