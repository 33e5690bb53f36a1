"""What Reindex asks of a vector database, and the exact one: brute force over rows held in memory.

`ExactStore` makes a `VectorStore` of exact search, for tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from reindex.errors import CollectionIsLive, InvalidQuery, NotLive, SchemaMismatch
from reindex.exact import nearest_rows, vector_matrix
from reindex.groups import may_find
from reindex.records import (
    ACL_COLUMN,
    ID_COLUMN,
    VECTOR_COLUMN,
    CollectionInfo,
    Hit,
    ImportState,
    IndexState,
    LoadState,
    Memory,
    chunk_schema,
    stored_columns,
)
from reindex.settings import Index
from reindex.slices import Slice


class VectorStore(Protocol):
    """A server of collections and aliases. Names of collections are physical ones unless an alias is asked for.

    Methods raise ServiceUnavailable, AccessRefused and the errors they name.
    """

    def create_collection(self, collection: str, *, dimension: int, index: Index) -> None:
        """Create an empty collection with its indexes declared."""

    def drop_collection(self, collection: str) -> None:
        """Drop a collection; it is no error if it is not there."""

    def collections(self) -> list[str]: ...

    def describe(self, name: str) -> CollectionInfo | None:
        """Return what a collection or an alias stands for, or None."""

    def columns(self, name: str) -> list[str]:
        """Return the columns of a collection or an alias: one from an earlier version has fewer."""

    def resolve_alias(self, alias: str) -> str | None:
        """Return the collection that an alias names, or None."""

    def aliases_of(self, collection: str) -> list[str]: ...

    def point_alias(self, alias: str, collection: str) -> None:
        """Make the alias name this collection, in one step."""

    def remove_alias(self, alias: str) -> None: ...

    def submit_import(self, collection: str, file: str) -> str:
        """Ask once, never twice, for a Parquet object of the server's own bucket to be imported; return a job id."""

    def import_state(self, job: str) -> ImportState: ...

    def index_states(self, collection: str) -> list[IndexState]: ...

    def load(self, collection: str) -> None:
        """Begin to load a collection into memory; it is no error if it is loaded."""

    def release(self, collection: str) -> None:
        """Give a collection's memory back."""

    def load_state(self, collection: str) -> LoadState: ...

    def segments(self, collection: str) -> dict[int, int]:
        """Return the rows of each segment on disk, by its id."""

    def memory(self) -> Memory | None:
        """Return what searching may take of the server's memory and takes now, or None if the server does not say."""

    def count_rows(self, name: str) -> int:
        """Count the rows of a loaded collection, duplicates too."""

    def count_distinct_ids(self, name: str) -> int: ...

    def sample_vectors(self, name: str, count: int) -> list[list[float]]: ...

    def fetch(self, name: str, column: str, values: Sequence[str], columns: Sequence[str]) -> list[dict[str, Any]]:
        """Return these columns of a loaded collection's rows whose text column holds one of the values."""

    def delete_rows(self, collection: str, ids: Sequence[str]) -> None:
        """Delete rows by id, in memory or not; it is no error if some are not there."""

    def search(
        self,
        name: str,
        vectors: Sequence[Sequence[float]],
        *,
        k: int,
        params: dict[str, int],
        columns: Sequence[str] = (),
        expression: str = "",
        groups: Sequence[str] | None = None,
        within: Slice | None = None,
        is_strong: bool = True,
    ) -> list[list[Hit]]:
        """Return up to k hits for each vector, best first; raise InvalidQuery for an unreadable filter.

        A strong search waits until it sees everything that was written before it; another one answers at once, as
        readers are answered who ask for nothing else.

        The filter is an expression of the server's own, or a slice. `groups` are the reader's: only what one of them,
        or everyone, may find is found, whatever the filter says. None: nothing is hidden.
        """


Connect = Callable[[], AbstractContextManager[VectorStore]]


def check_readers_stay(live: CollectionInfo | None, dimension: int, metric: str) -> None:
    """Raise SchemaMismatch unless the collection behind the alias answers the same queries as the new one will."""
    if live is None:
        return
    if live.dimension != dimension:
        raise SchemaMismatch(live.name, "dimension", str(live.dimension), str(dimension))
    if live.metric != metric:
        raise SchemaMismatch(live.name, "metric", live.metric or "none", metric)


def readable_columns(store: VectorStore, name: str) -> list[str]:
    """Return the columns of chunks that a search of this collection can give back."""
    held = set(store.columns(name))
    return [column for column in stored_columns() if column in held]


def drop_green(store: VectorStore, collection: str) -> None:
    """Drop a collection that no alias names; raise CollectionIsLive for one that readers may be using."""
    if store.describe(collection) is None:
        return
    if aliases := store.aliases_of(collection):
        raise CollectionIsLive(collection, aliases)
    store.drop_collection(collection)


@dataclass(slots=True)
class _Collection:
    info: CollectionInfo
    rows: pa.Table
    loaded: bool = False


@dataclass(slots=True)
class ExactStore:
    """A `VectorStore` in memory: every search is exact, every import complete at once.

    `read_file` returns the rows of an import file by its key, `room` is what `memory` says.
    """

    read_file: Callable[[str], pa.Table]
    held: dict[str, _Collection] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    jobs: dict[str, ImportState] = field(default_factory=dict)
    room: Memory | None = None

    def create_collection(self, collection: str, *, dimension: int, index: Index) -> None:
        if collection in self.held:
            raise ValueError(f"{collection} is there already")
        number = len(self.jobs) + len(self.held) + 1
        info = CollectionInfo(name=collection, id=number, dimension=dimension, metric=index.metric)
        self.held[collection] = _Collection(info, chunk_schema().empty_table())

    def drop_collection(self, collection: str) -> None:
        self.held.pop(collection, None)

    def collections(self) -> list[str]:
        return list(self.held)

    def describe(self, name: str) -> CollectionInfo | None:
        found = self.held.get(self.names.get(name, name))
        return found.info if found else None

    def columns(self, name: str) -> list[str]:
        return list(self._rows(name).column_names)

    def resolve_alias(self, alias: str) -> str | None:
        return self.names.get(alias)

    def aliases_of(self, collection: str) -> list[str]:
        return [alias for alias, target in self.names.items() if target == collection]

    def point_alias(self, alias: str, collection: str) -> None:
        self.names[alias] = collection

    def remove_alias(self, alias: str) -> None:
        del self.names[alias]

    def submit_import(self, collection: str, file: str) -> str:
        rows = self.read_file(file)
        self.held[collection].rows = pa.concat_tables([self.held[collection].rows, rows])
        job = str(len(self.jobs) + 1)
        self.jobs[job] = ImportState(state="Completed", rows=rows.num_rows, reason="")
        return job

    def import_state(self, job: str) -> ImportState:
        return self.jobs[job]

    def index_states(self, collection: str) -> list[IndexState]:
        rows = self.held[collection].rows.num_rows
        return [
            IndexState(
                name=VECTOR_COLUMN,
                state="Finished",
                total_rows=rows,
                indexed_rows=rows,
                pending_rows=0,
                reason="",
            )
        ]

    def load(self, collection: str) -> None:
        self.held[collection].loaded = True

    def release(self, collection: str) -> None:
        self.held[collection].loaded = False

    def load_state(self, collection: str) -> LoadState:
        held = self.held[collection]
        segments = int(held.loaded)
        return LoadState(
            loaded=held.loaded,
            persistent_segments=1,
            loaded_segments=segments,
            loaded_rows=held.rows.num_rows * segments,
        )

    def segments(self, collection: str) -> dict[int, int]:
        return {1: self.held[collection].rows.num_rows}

    def memory(self) -> Memory | None:
        return self.room

    def count_rows(self, name: str) -> int:
        return int(self._rows(name).num_rows)

    def count_distinct_ids(self, name: str) -> int:
        return len(set(self._rows(name).column(ID_COLUMN).to_pylist()))

    def sample_vectors(self, name: str, count: int) -> list[list[float]]:
        vectors: list[list[float]] = self._rows(name).column(VECTOR_COLUMN)[:count].to_pylist()
        return vectors

    def fetch(self, name: str, column: str, values: Sequence[str], columns: Sequence[str]) -> list[dict[str, Any]]:
        rows = self._rows(name)
        found: list[dict[str, Any]] = rows.filter(_is_one_of(rows, column, values)).select(columns).to_pylist()
        return found

    def delete_rows(self, collection: str, ids: Sequence[str]) -> None:
        held = self.held[collection]
        held.rows = held.rows.filter(pc.invert(_is_one_of(held.rows, ID_COLUMN, ids)))

    def search(
        self,
        name: str,
        vectors: Sequence[Sequence[float]],
        *,
        k: int,
        params: dict[str, int],  # noqa: ARG002 - nothing to tune in an exact search
        columns: Sequence[str] = (),
        expression: str = "",
        groups: Sequence[str] | None = None,
        within: Slice | None = None,
        is_strong: bool = True,  # noqa: ARG002 - what is in memory is there at once
    ) -> list[list[Hit]]:
        import numpy as np

        if expression:
            raise InvalidQuery("the exact store reads no filter expressions")
        rows = self._rows(name) if groups is None else _for_readers(self._rows(name), groups)
        rows = rows.filter(within.mask(rows)) if within else rows
        if not rows.num_rows:
            return [[] for _ in vectors]
        metric = self.held[self.names.get(name, name)].info.metric
        places, scores = nearest_rows(vector_matrix(rows), np.asarray(vectors, "float32"), k=k, metric=metric)
        held = {name: rows.column(name).to_pylist() for name in {ID_COLUMN, *columns}}
        return [
            [
                Hit(score=score, fields={name: values[place] for name, values in held.items()})
                for place, score in zip(of_query, scored, strict=True)
            ]
            for of_query, scored in zip(places.tolist(), scores.tolist(), strict=True)
        ]

    def _rows(self, name: str) -> pa.Table:
        collection = self.names.get(name, name)
        if collection not in self.held:
            raise NotLive(name)
        return self.held[collection].rows


def _is_one_of(rows: pa.Table, column: str, values: Sequence[str]) -> pa.ChunkedArray:
    return pc.is_in(rows.column(column), pa.array(values, pa.string()))


def _for_readers(rows: pa.Table, groups: Sequence[str]) -> pa.Table:
    if ACL_COLUMN not in rows.column_names:
        raise InvalidQuery(f"there is no column {ACL_COLUMN}")
    return rows.filter(pa.array([may_find(acl, groups) for acl in rows.column(ACL_COLUMN).to_pylist()], pa.bool_()))
