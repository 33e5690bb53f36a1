"""The object store: bytes, JSON and Parquet in S3, with boto3's errors translated once."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import chain
from pathlib import Path
from typing import IO, Any

import boto3
import botocore.session
import pyarrow as pa
import pyarrow.parquet as pq
from boto3.exceptions import Boto3Error
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from botocore.utils import parse_timestamp

from reindex.errors import AccessRefused, BucketMissing, FileMissing, PastUnknown, ReindexError, ServiceUnavailable
from reindex.records import StoredObject
from reindex.settings import S3Connection
from reindex.version_pages import version_listings
from reindex.versions import objects_at, objects_now, stored_object

_REFUSED = {
    "AccessDenied",
    "InvalidObjectState",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "403",
    "InvalidToken",
    "ExpiredToken",
}
_ABSENT = {"NoSuchKey", "NoSuchVersion", "404", "PreconditionFailed", "412"}
# Rows of a Parquet row group at least: some 13 MB of vectors with 384 numbers.
_ROW_GROUP_ROWS = 8192
_CONFIG = Config(
    connect_timeout=5,
    read_timeout=60,
    retries={"mode": "standard", "total_max_attempts": 4},
    max_pool_connections=32,
    s3={"addressing_style": "path"},
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a Parquet object came to: its rows, and its bytes in the bucket."""

    rows: int
    bytes: int


def learn_protocol() -> None:
    """Read boto3's description of S3, which takes a tenth of a second: clients of this process then share it.

    So do those of processes that are forked from it.
    """
    _session().client("s3", region_name="us-east-1", config=Config(signature_version=UNSIGNED))


@cache
def _session() -> boto3.Session:
    """Return what every client of this process is made by; it reads a listing twice as fast as boto3's own."""
    core = botocore.session.get_session()
    core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=read_moment)
    return boto3.Session(botocore_session=core)


def read_moment(value: str) -> datetime:
    """Return the moment that S3 means: boto3's own reading takes half of a listing's time, for every form there is."""
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        # Of headers, which have it in another form.
        moment: datetime = parse_timestamp(value)
        return moment


class ObjectStore:
    """A bucket server. Every method raises ServiceUnavailable, AccessRefused or BucketMissing, never boto3's errors."""

    def __init__(self, connection: S3Connection) -> None:
        self._connection = connection
        self._address = connection.endpoint
        self._client = _session().client(
            "s3",
            endpoint_url=connection.endpoint,
            aws_access_key_id=connection.access_key,
            aws_secret_access_key=connection.secret_key,
            region_name=connection.region,
            config=_CONFIG,
        )

    def __reduce__(self) -> tuple[type[ObjectStore], tuple[S3Connection]]:
        """Travel to a Ray worker as the address: connections do not."""
        return ObjectStore, (self._connection,)

    def is_versioned(self, bucket: str) -> bool:
        """Return whether the bucket keeps what is overwritten or deleted: not so while versioning is suspended."""
        with self._translated(bucket):
            return bool(self._client.get_bucket_versioning(Bucket=bucket).get("Status") == "Enabled")

    def list_objects(self, bucket: str, prefix: str, as_of: datetime | None = None) -> Iterator[StoredObject]:
        """Yield the objects under a prefix, each in its latest version where the bucket keeps versions.

        With `as_of`, yield them as they were at that moment; raise PastUnknown if the bucket has not kept them.
        """
        versioned = self.is_versioned(bucket)
        if as_of and not versioned:
            raise PastUnknown(bucket, as_of.astimezone(UTC).isoformat(), "it keeps no versions")
        if not versioned:
            yield from self.entries(bucket, prefix)
            return
        with self._translated(bucket):
            for pages in version_listings(self._client, bucket, prefix):
                yield from objects_at(pages, as_of, bucket) if as_of else objects_now(pages)

    def entries(self, bucket: str, prefix: str) -> Iterator[StoredObject]:
        """Yield the objects under a prefix in key order as they are now, whether the bucket keeps versions or not."""
        with self._translated(bucket):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                yield from (stored_object(entry) for entry in page.get("Contents", ()))

    def folders(self, bucket: str, prefix: str) -> Iterator[str]:
        """Yield the names between a prefix, which ends in a slash, and the next slash."""
        with self._translated(bucket):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
            for page in pages:
                yield from (found["Prefix"].removeprefix(prefix).strip("/") for found in page.get("CommonPrefixes", ()))

    def keys(self, bucket: str, prefix: str) -> Iterator[str]:
        return (found.key for found in self.entries(bucket, prefix))

    def read(self, bucket: str, key: str, *, version: str = "", etag: str = "") -> bytes | None:
        """Return an object's bytes, or None if it is not there in that version or with that ETag."""
        with self._translated(bucket):
            try:
                body = self._client.get_object(Bucket=bucket, Key=key, **_pin(version, etag))["Body"]
                return bytes(body.read())
            except ClientError as error:
                if _code(error) in _ABSENT:
                    return None
                raise

    def read_tagged(self, bucket: str, key: str) -> tuple[bytes, str] | None:
        """Return an object's bytes and the ETag that they have, or None if there is no such object."""
        with self._translated(bucket):
            try:
                answer = self._client.get_object(Bucket=bucket, Key=key)
                return bytes(answer["Body"].read()), str(answer["ETag"])
            except ClientError as error:
                if _code(error) in _ABSENT:
                    return None
                raise

    def write(self, bucket: str, key: str, data: bytes) -> None:
        with self._translated(bucket):
            self._client.put_object(Bucket=bucket, Key=key, Body=data)

    def write_if_unchanged(self, bucket: str, key: str, data: bytes | IO[bytes], *, etag: str | None) -> bool:
        """Write an object only if it still has this ETag (None: only if there is none); return whether it did."""
        condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        with self._translated(bucket):
            try:
                self._client.put_object(Bucket=bucket, Key=key, Body=data, **condition)
            except ClientError as error:
                if _code(error) in _ABSENT:
                    return False
                raise
        return True

    def upload(self, bucket: str, key: str, file: Path) -> None:
        with self._translated(bucket):
            self._client.upload_file(str(file), bucket, key)

    def download(self, bucket: str, key: str, file: IO[bytes]) -> bool:
        """Write an object's bytes into a file; return whether it was there."""
        with self._translated(bucket):
            try:
                self._client.download_fileobj(bucket, key, file)
            except ClientError as error:
                if _code(error) in _ABSENT:
                    return False
                raise
        return True

    def etag(self, bucket: str, key: str) -> str | None:
        """Return an object's ETag, or None if there is no such object."""
        with self._translated(bucket):
            try:
                return str(self._client.head_object(Bucket=bucket, Key=key)["ETag"])
            except ClientError as error:
                if _code(error) in _ABSENT:
                    return None
                raise

    def metadata(self, bucket: str, key: str, *, version: str = "", etag: str = "") -> dict[str, str] | None:
        """Return an object's user metadata by lower-case name, or None if it is not there in that version or ETag."""
        with self._translated(bucket):
            try:
                return dict(self._client.head_object(Bucket=bucket, Key=key, **_pin(version, etag))["Metadata"])
            except ClientError as error:
                if _code(error) in _ABSENT:
                    return None
                raise

    def count_versions(self, bucket: str, key: str) -> int:
        """Return how many versions of an object the bucket keeps, delete markers not counted."""
        with self._translated(bucket):
            pages = chain.from_iterable(version_listings(self._client, bucket, key))
            return sum(entry["Key"] == key for page in pages for entry in page.get("Versions", ()))

    def delete(self, bucket: str, key: str) -> None:
        with self._translated(bucket):
            self._client.delete_object(Bucket=bucket, Key=key)

    def read_json(self, bucket: str, key: str) -> dict[str, Any] | None:
        data = self.read(bucket, key)
        return None if data is None else dict(json.loads(data))

    def write_json(self, bucket: str, key: str, content: dict[str, Any]) -> None:
        self.write(bucket, key, json.dumps(content, indent=1, sort_keys=True).encode())

    def read_batches(
        self, bucket: str, key: str, *, rows: int = 8192, columns: list[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield a Parquet object's rows in batches; memory stays at one batch, the file passes over local disk.

        Raises FileMissing if there is no such object.
        """
        with tempfile.TemporaryFile() as file:
            if not self.download(bucket, key, file):
                raise FileMissing(bucket, key)
            # Buffered ahead, as is usual, a whole file would be held until its last row has been read.
            yield from pq.ParquetFile(file, pre_buffer=False).iter_batches(batch_size=rows, columns=columns)

    def read_table(self, bucket: str, key: str) -> pa.Table | None:
        data = self.read(bucket, key)
        # A command that ends while Arrow's threads are still being started aborts: one in eight did.
        return None if data is None else pq.read_table(io.BytesIO(data), use_threads=False)

    def write_batches(self, bucket: str, key: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Written:
        """Write a Parquet object from a stream of batches; nothing is written if the stream fails.

        The file carries no Arrow schema of its own: Milvus refuses the types that one would restore.
        """
        rows = 0
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file.parquet"
            with _parquet_writer(path, schema) as writer:
                for group in _in_row_groups(batches):
                    writer.write_table(group)
                    rows += group.num_rows
            self.upload(bucket, key, path)
            return Written(rows=rows, bytes=path.stat().st_size)

    def replace_batches(
        self, bucket: str, key: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch], *, etag: str
    ) -> bool:
        """Write a Parquet object anew only if it still has this ETag; return whether it did."""
        with tempfile.TemporaryFile() as file:
            with _parquet_writer(file, schema) as writer:
                for group in _in_row_groups(batches):
                    writer.write_table(group)
            file.seek(0)
            return self.write_if_unchanged(bucket, key, file, etag=etag)

    @contextmanager
    def _translated(self, bucket: str) -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError, Boto3Error) as error:
            raise self._own(error, bucket) from error

    def _own(self, error: Exception, bucket: str) -> ReindexError:
        code = _code(error)
        detail = " ".join(str(error).split())
        if code == "NoSuchBucket":
            return BucketMissing(bucket, self._address)
        if code in _REFUSED or isinstance(error, NoCredentialsError):
            return AccessRefused("the object store", self._address, detail)
        return ServiceUnavailable("the object store", self._address, detail)


def _in_row_groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Gather batches until they are worth a row group: a reader fetches each column of each group by itself."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        if rows >= _ROW_GROUP_ROWS:
            yield pa.Table.from_batches(held)
            held, rows = [], 0
    if held:
        yield pa.Table.from_batches(held)


def _parquet_writer(file: Path | IO[bytes], schema: pa.Schema) -> pq.ParquetWriter:
    # A dictionary of numbers that never come again costs time on both sides, and room.
    texts = [column.name for column in schema if column.type == pa.string()]
    return pq.ParquetWriter(file, schema, compression="zstd", store_schema=False, use_dictionary=texts)


def _code(error: Exception) -> str:
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def _pin(version: str, etag: str) -> dict[str, str]:
    """Return the arguments that ask for an object as it was listed."""
    return {"VersionId": version} if version else {"IfMatch": etag} if etag else {}
