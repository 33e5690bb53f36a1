"""Milvus, spoken to through pymilvus, which is imported here and nowhere else. Its errors are translated once."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import grpc
import pyarrow as pa
from pymilvus import DataType, MilvusClient, MilvusException
from pymilvus.client.utils import check_status
from pymilvus.grpc_gen.milvus_pb2 import GetMetricsRequest

from reindex.errors import (
    AccessRefused,
    AliasTaken,
    InvalidQuery,
    ReindexError,
    ServerError,
    ServiceUnavailable,
    UnsupportedServer,
)
from reindex.groups import readers_filter
from reindex.records import (
    ID_COLUMN,
    VECTOR_COLUMN,
    CollectionInfo,
    Hit,
    ImportState,
    IndexState,
    LoadState,
    Memory,
    chunk_schema,
    integer_columns,
    text_columns,
    texts_columns,
)
from reindex.settings import Index, MilvusConnection
from reindex.slices import Slice
from reindex.tables import Tables

# Every error that it logs, traceback and all, it also raises.
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
# Bounds pymilvus's own retries, which would otherwise go on for minutes.
_CALL_SECONDS = 20.0
_CONNECT_SECONDS = 10.0
_INDEX_NAME = "vector"
# What the server says of an index beside what it is.
_OF_THE_MOMENT = {"total_rows", "indexed_rows", "pending_index_rows", "state", "index_state_fail_reason"}
_SYSTEM_INFO = GetMetricsRequest(request=json.dumps({"metric_type": "system_info"}))
_ID_BATCH = 10_000
_IDS_SCHEMA = pa.schema([chunk_schema().field(ID_COLUMN)])
_IMPORT_STATES = {0: "Pending", 1: "Failed", 2: "Started", 5: "Persisted", 6: "Completed", 7: "Failed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What one family of servers can do: the import strategy's name in `importers.py`, and the largest import file."""

    importer: str
    max_import_file_bytes: int


# By the beginning of the server's version. A server that is not here is refused, never tried out.
CAPABILITIES = {
    # One file for each task; the task is killed when it outlives rootCoord.importTaskExpiration.
    "2.3.": Capabilities(importer="grpc", max_import_file_bytes=256 * 2**20),
}


def query_memory(metrics: dict[str, Any], *, configured_bytes: int | None) -> Memory | None:
    """Return the memory of all query nodes together, from the server's `system_info`; None if it names none of them.

    A node's figure is that of its process: of a standalone server, which is one, it covers everything. What is
    configured wins over the total that the nodes see, which is often a whole machine's.
    """
    nodes = [node["infos"]["hardware_infos"] for node in metrics["nodes_info"] if node["infos"]["type"] == "querynode"]
    limit = configured_bytes or sum(int(node["memory"]) for node in nodes)
    return Memory(limit_bytes=limit, used_bytes=sum(int(node["memory_usage"]) for node in nodes)) if limit else None


def capabilities_of(version: str) -> Capabilities:
    for beginning, capabilities in CAPABILITIES.items():
        if version.removeprefix("v").startswith(beginning):
            return capabilities
    raise UnsupportedServer(version, [f"{beginning}x" for beginning in CAPABILITIES])


class MilvusStore:
    """A `VectorStore` on a Milvus server. One connection of its own; use as a context manager or call `close`."""

    def __init__(self, connection: MilvusConnection) -> None:
        self._address, self._memory_bytes = connection.uri, connection.memory_bytes
        with self._translated():
            self._client = MilvusClient(
                uri=connection.uri, token=connection.token, timeout=_CONNECT_SECONDS, dedicated=True
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def capabilities(self) -> Capabilities:
        with self._translated():
            return capabilities_of(self._client.get_server_version(timeout=_CALL_SECONDS))

    def create_collection(self, collection: str, *, dimension: int, index: Index) -> None:
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        for name, max_bytes in text_columns().items():
            schema.add_field(name, DataType.VARCHAR, max_length=max_bytes, is_primary=name == ID_COLUMN)
        for name in integer_columns():
            schema.add_field(name, DataType.INT64)
        for name, limit in texts_columns().items():
            schema.add_field(
                name,
                DataType.ARRAY,
                element_type=DataType.VARCHAR,
                max_capacity=limit.count,
                max_length=limit.bytes,
            )
        schema.add_field(VECTOR_COLUMN, DataType.FLOAT_VECTOR, dim=dimension)
        indexes = MilvusClient.prepare_index_params()
        indexes.add_index(
            VECTOR_COLUMN,
            index_type=index.type,
            index_name=_INDEX_NAME,
            metric_type=index.metric,
            params=index.params,
        )
        with self._translated():
            # One shard: every shard makes segments of its own from every import file, and small segments search badly.
            self._client.create_collection(collection, schema=schema, num_shards=1, timeout=_CALL_SECONDS)
            # Not waited for: there are no rows yet, and the client would only look again after half a second.
            self._client.create_index(collection, indexes, timeout=_CALL_SECONDS, sync=False)

    def drop_collection(self, collection: str) -> None:
        with self._translated():
            self._client.drop_collection(collection, timeout=_CALL_SECONDS)

    def collections(self) -> list[str]:
        with self._translated():
            return list(self._client.list_collections(timeout=_CALL_SECONDS))

    def describe(self, name: str) -> CollectionInfo | None:
        with self._translated():
            if not self._client.has_collection(name, timeout=_CALL_SECONDS):
                return None
            found = self._client.describe_collection(name, timeout=_CALL_SECONDS)
            indexes = self._client.list_indexes(name, timeout=_CALL_SECONDS)
            index = self._client.describe_index(name, indexes[0], timeout=_CALL_SECONDS) if indexes else {}
        vectors = [field for field in found["fields"] if "dim" in field.get("params", {})]
        return CollectionInfo(
            name=found["collection_name"],
            id=int(found["collection_id"]),
            dimension=int(vectors[0]["params"]["dim"]) if vectors else 0,
            metric=str(index.get("metric_type", "")),
            index={name: str(value) for name, value in index.items() if name not in _OF_THE_MOMENT},
        )

    def columns(self, name: str) -> list[str]:
        with self._translated():
            found = self._client.describe_collection(name, timeout=_CALL_SECONDS)
        return [str(field["name"]) for field in found["fields"]]

    def resolve_alias(self, alias: str) -> str | None:
        with self._translated():
            if alias in self._client.list_collections(timeout=_CALL_SECONDS):
                raise AliasTaken(alias)
            if not self._client.has_collection(alias, timeout=_CALL_SECONDS):
                return None
            return str(self._client.describe_collection(alias, timeout=_CALL_SECONDS)["collection_name"])

    def aliases_of(self, collection: str) -> list[str]:
        with self._translated():
            return list(self._client.list_aliases(collection, timeout=_CALL_SECONDS)["aliases"])

    def point_alias(self, alias: str, collection: str) -> None:
        exists = self.resolve_alias(alias) is not None
        point = self._client.alter_alias if exists else self._client.create_alias
        with self._translated():
            point(collection, alias, timeout=_CALL_SECONDS)

    def remove_alias(self, alias: str) -> None:
        with self._translated():
            self._client.drop_alias(alias, timeout=_CALL_SECONDS)

    def submit_import(self, collection: str, file: str) -> str:
        handler = self._client._get_connection()  # noqa: SLF001 - the client itself has no gRPC import
        # Unwrapped: pymilvus would send it again when the answer is lost, and the rows would double.
        submit = inspect.unwrap(type(handler).do_bulk_insert)
        with self._translated():
            return str(submit(handler, collection, "", [file], timeout=_CALL_SECONDS))

    def import_state(self, job: str) -> ImportState:
        handler = self._client._get_connection()  # noqa: SLF001 - as above
        with self._translated():
            task = handler.get_bulk_insert_state(int(job), timeout=_CALL_SECONDS)
        return ImportState(
            state=_IMPORT_STATES.get(task.state, f"Unknown({task.state})"),
            rows=int(task.row_count),
            reason=str(task.infos.get("failed_reason", "")),
        )

    def index_states(self, collection: str) -> list[IndexState]:
        with self._translated():
            names = self._client.list_indexes(collection, timeout=_CALL_SECONDS)
            found = [self._client.describe_index(collection, name, timeout=_CALL_SECONDS) for name in names]
        return [
            IndexState(
                name=index["index_name"],
                state=str(index["state"]),
                total_rows=int(index["total_rows"]),
                indexed_rows=int(index["indexed_rows"]),
                pending_rows=int(index["pending_index_rows"]),
                reason=str(index.get("index_state_fail_reason", "")),
            )
            for index in found
        ]

    def load(self, collection: str) -> None:
        with self._translated():
            self._client.load_collection(collection, timeout=_CALL_SECONDS, _async=True)

    def release(self, collection: str) -> None:
        with self._translated():
            self._client.release_collection(collection, timeout=_CALL_SECONDS)

    def load_state(self, collection: str) -> LoadState:
        with self._translated():
            state = self._client.get_load_state(collection, timeout=_CALL_SECONDS)["state"].name
            persistent = self._client.list_persistent_segments(collection, timeout=_CALL_SECONDS)
            in_memory = (
                self._client.list_loaded_segments(collection, timeout=_CALL_SECONDS) if state == "Loaded" else []
            )
        return LoadState(
            loaded=state == "Loaded",
            persistent_segments=len(persistent),
            loaded_segments=len({segment.segment_id for segment in in_memory}),
            loaded_rows=sum({segment.segment_id: segment.num_rows for segment in in_memory}.values()),
        )

    def segments(self, collection: str) -> dict[int, int]:
        with self._translated():
            found = self._client.list_persistent_segments(collection, timeout=_CALL_SECONDS)
        return {int(segment.segment_id): int(segment.num_rows) for segment in found}

    def memory(self) -> Memory | None:
        handler = self._client._get_connection()  # noqa: SLF001 - the client itself does not ask for metrics
        with self._translated():
            answer = handler._stub.GetMetrics(_SYSTEM_INFO, timeout=_CALL_SECONDS)  # noqa: SLF001 - as above
            check_status(answer.status)
        return query_memory(json.loads(answer.response), configured_bytes=self._memory_bytes)

    def count_rows(self, name: str) -> int:
        with self._translated():
            answer = self._client.query(
                name, filter="", output_fields=["count(*)"], consistency_level="Strong", timeout=_CALL_SECONDS
            )
        return int(answer[0]["count(*)"])

    def count_distinct_ids(self, name: str) -> int:
        # On disk: there may be more of them than memory holds.
        with Tables() as tables, self._translated():
            tables.add_rows("ids", self._id_pages(name), _IDS_SCHEMA)
            return int(tables.row(f"select count(*) as ids from (select distinct {ID_COLUMN} from ids)")["ids"])

    def _id_pages(self, name: str) -> Iterator[pa.RecordBatch]:
        pages = self._client.query_iterator(name, batch_size=_ID_BATCH, output_fields=[ID_COLUMN])
        while page := pages.next():
            yield pa.RecordBatch.from_pydict({ID_COLUMN: [row[ID_COLUMN] for row in page]}, _IDS_SCHEMA)
        pages.close()

    def sample_vectors(self, name: str, count: int) -> list[list[float]]:
        with self._translated():
            rows = self._client.query(
                name, filter="", limit=count, output_fields=[VECTOR_COLUMN], timeout=_CALL_SECONDS
            )
        return [row[VECTOR_COLUMN] for row in rows]

    def fetch(self, name: str, column: str, values: Sequence[str], columns: Sequence[str]) -> list[dict[str, Any]]:
        # Milvus reads a JSON list of strings as one of its own.
        expression = f"{column} in {json.dumps(list(values), ensure_ascii=False)}"
        with self._translated():
            found = self._client.query(
                name,
                filter=expression,
                output_fields=list(columns),
                consistency_level="Strong",
                timeout=_CALL_SECONDS,
            )
        return [_plain({asked: row[asked] for asked in columns}) for row in found]

    def delete_rows(self, collection: str, ids: Sequence[str]) -> None:
        # In the server's log from here on: it outlives a kill, a release and a load, flushed or not.
        with self._translated():
            for start in range(0, len(ids), _ID_BATCH):
                self._client.delete(collection, ids=list(ids[start : start + _ID_BATCH]), timeout=_CALL_SECONDS)

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
        asked = within.expression() if within else expression
        with self._translated():
            answers = self._client.search(
                name,
                data=[list(vector) for vector in vectors],
                anns_field=VECTOR_COLUMN,
                filter=asked if groups is None else readers_filter(groups, asked),
                limit=k,
                output_fields=list(columns),
                search_params={"params": params},
                consistency_level="Strong" if is_strong else "Bounded",
                timeout=_CALL_SECONDS,
            )
        return [[_hit(found) for found in answer] for answer in answers]

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (MilvusException, grpc.RpcError) as error:
            raise self._own(error) from error

    def _own(self, error: Exception) -> ReindexError:
        detail = _detail(error)
        unknown = ServiceUnavailable if isinstance(error, grpc.RpcError) else ServerError
        kind = next((kind for words, kind in _ERRORS if words in detail.lower()), unknown)
        return InvalidQuery(detail) if kind is InvalidQuery else kind("Milvus", self._address, detail)


def _detail(error: Exception) -> str:
    """Return what the server said, on one line: pymilvus calls a refused log-in a failure to connect."""
    calls = [found for found in (error, error.__cause__) if isinstance(found, grpc.Call)]
    said = calls[0].details() if calls else getattr(error, "message", error)
    return " ".join(str(said).split())


# Milvus 2.3 tells these apart in words only; the first that is found counts.
_ERRORS: tuple[tuple[str, type[ReindexError]], ...] = (
    ("auth check failure", AccessRefused),
    ("unauthenticated", AccessRefused),
    # What pymilvus says when nobody answers.
    ("fail connecting", ServiceUnavailable),
    ("retry timeout", ServiceUnavailable),
    ("retry run out", ServiceUnavailable),
    ("failed to connect", ServiceUnavailable),
    # A server that has just been started again.
    ("node not match", ServiceUnavailable),
    ("unrecoverable error", ServiceUnavailable),
    ("find no available", ServiceUnavailable),
    ("not ready", ServiceUnavailable),
    ("not available", ServiceUnavailable),
    ("cannot parse expression", InvalidQuery),
    ("failed to create query plan", InvalidQuery),
)


def _hit(found: Any) -> Hit:
    return Hit(score=float(found["distance"]), fields=_plain({ID_COLUMN: found["id"], **found["entity"]}))


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields as Python's own values: a list of texts comes as a container of the wire format."""
    return {name: list(value) if name in texts_columns() else value for name, value in fields.items()}
