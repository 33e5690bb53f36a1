"""How import files get into a collection: one strategy for each family of servers, named in the capability table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from reindex.errors import ImportFailed
from reindex.records import ImportJob, Progress
from reindex.store import VectorStore


class Importer(Protocol):
    """Hands files to the server and says how far it is. Files are (object key, rows)."""

    def submit(self, collection: str, file: str, rows: int) -> ImportJob: ...

    def poll(self, collection: str, jobs: list[ImportJob]) -> Progress:
        """Return how many files and rows are in; raise ImportFailed if the server gave one up or lost rows."""


class GrpcImport:
    """Milvus 2.2 and 2.3: one task for each file; a finished task says how many rows it took."""

    def __init__(self, store: VectorStore) -> None:
        self._store = store

    def submit(self, collection: str, file: str, rows: int) -> ImportJob:
        return ImportJob(id=self._store.submit_import(collection, file), file=file, rows=rows)

    def poll(self, collection: str, jobs: list[ImportJob]) -> Progress:
        finished, rows = 0, 0
        for job in jobs:
            state = self._store.import_state(job.id)
            if state.state == "Failed":
                raise ImportFailed(collection, job.file, state.reason or "no reason given")
            if state.state == "Completed":
                finished += 1
                rows += state.rows
        message = f"{finished} of {len(jobs)} files imported"
        return Progress(done=finished == len(jobs), message=message, counts={"files": finished, "rows": rows})


IMPORTERS: dict[str, Callable[[VectorStore], Importer]] = {"grpc": GrpcImport}
