"""A document's traces in the tables and reports of its corpus: found, and rewritten without it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from reindex.errors import FileMissing, ServerError
from reindex.naming import corpus_prefix, tombstones_prefix
from reindex.records import ID_COLUMN
from reindex.releases import RECALL_FILE, REPORT_FILE
from reindex.report import render_report
from reindex.storage import ObjectStore
from reindex.tombstones import erased_keys

# Every table names documents in one of these columns; parts know contents only.
_KEY_COLUMNS = ("document", "key")
_FOUND_COLUMNS = [*_KEY_COLUMNS, "content", ID_COLUMN]
_ATTEMPTS = 5
# Written by people, and read again as settings.
_SETTINGS_FILE = "/corpus.json"
_ERASED = "[erased]"


@dataclass(slots=True)
class Found:
    """Where a document is: its rows and all rows of each table, its contents, and the ids of each import file."""

    rows: dict[str, int] = field(default_factory=dict)
    all_rows: dict[str, int] = field(default_factory=dict)
    contents: set[str] = field(default_factory=set)
    ids: dict[str, set[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """What the state of one corpus says of one document. `bucket` is the one of Reindex's state."""

    store: ObjectStore
    bucket: str
    corpus: str
    key: str

    def find(self) -> Found:
        """Read every table of the corpus for rows of the document."""
        found = Found()
        for path in self._paths(".parquet"):
            if "/parts/" in path:  # they know no keys
                continue
            found.rows[path] = found.all_rows[path] = 0
            for batch in self.batches(path, _FOUND_COLUMNS):
                rows = self.rows(batch)
                found.rows[path] += rows.num_rows
                found.all_rows[path] += batch.num_rows
                if {"key", "content"} <= set(rows.schema.names):
                    found.contents |= set(rows.column("content").to_pylist()) - {""}
                if {"document", ID_COLUMN} <= set(rows.schema.names):
                    found.ids.setdefault(path, set()).update(rows.column(ID_COLUMN).to_pylist())
        return found

    def shared_contents(self, contents: set[str]) -> dict[str, set[str]]:
        """Return which of the contents other keys have too, and those keys: erasing is by key.

        Keys that were erased do not count, or two that go at the same moment would each leave it to the other.
        """
        shared: dict[str, set[str]] = {}
        erased = erased_keys(self.store, self.bucket, self.corpus)
        for path in filter(is_catalog, self._paths(".parquet") if contents else []):
            for batch in self.batches(path, ["key", "content"]):
                for row in _select(batch, "content", contents).to_pylist():
                    if row["key"] not in erased:
                        shared.setdefault(row["content"], set()).add(row["key"])
        return shared

    def find_parts(self, contents: set[str]) -> dict[str, int]:
        """Return the parts that hold these contents, with their rows: not only those that the catalog names."""
        found = {}
        for path in (path for path in self._paths(".parquet") if "/parts/" in path and contents):
            if rows := sum(_select(batch, "content", contents).num_rows for batch in self.batches(path, ["content"])):
                found[path] = rows
        return found

    def find_reports(self) -> dict[str, int]:
        """Return the reports and their pages that name the document, and how often."""
        contents = chain(self._reports(), self._pages())
        return {path: times for path, content in contents if (times := self._times_named(content))}

    def rewrite_tables(self, paths: Iterable[str]) -> None:
        """Rewrite tables without the document's rows; raise ServerError for one that is never left alone."""
        self._rewrite(paths, None, {self.key})

    def rewrite_parts(self, paths: Iterable[str], contents: set[str]) -> None:
        """Rewrite parts without the rows of these contents."""
        self._rewrite(paths, "content", contents)

    def rewrite_reports(self) -> None:
        for path, content in self._reports():
            if self._times_named(content):
                self.store.write_json(self.bucket, path, self._without_key(content))
        self._rewrite_pages()

    def rows(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the document's rows."""
        return _select(batch, _key_column(batch), {self.key})

    def batches(self, path: str, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a table; of one that was merged into another or swept away meanwhile, none."""
        with suppress(FileMissing):
            yield from self.store.read_batches(self.bucket, path, columns=columns)

    def _paths(self, ending: str) -> list[str]:
        prefix = f"{corpus_prefix(self.corpus)}/"
        return [path for path in self.store.keys(self.bucket, prefix) if path.endswith(ending)]

    def _rewrite(self, paths: Iterable[str], column: str | None, values: set[str]) -> None:
        for path in paths:
            if not any(self._replaced(path, column, values) for _ in range(_ATTEMPTS)):
                raise ServerError("the object store", path, "somebody keeps on writing it while it is rewritten")

    def _replaced(self, path: str, column: str | None, values: set[str]) -> bool:
        """Rewrite a table unless somebody has since: what is merged or swept meanwhile must not come back."""
        etag = self.store.etag(self.bucket, path)
        batches = self.batches(path)
        first = next(batches, None)
        if etag is None or first is None:
            return True
        name = column or _key_column(first)
        left = (_select(batch, name, values, invert=True) for batch in chain([first], batches))
        return self.store.replace_batches(self.bucket, path, first.schema, left, etag=etag)

    def _reports(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the JSON files of the corpus: not tombstones, which have to name what was erased, and not settings."""
        for path in self._paths(".json"):
            is_report = not path.startswith(tombstones_prefix(self.corpus)) and not path.endswith(_SETTINGS_FILE)
            if is_report and (content := self.store.read_json(self.bucket, path)):
                yield path, content

    def _pages(self) -> Iterator[tuple[str, str]]:
        for path in self._paths(f"/{REPORT_FILE}"):
            yield path, html.unescape((self.store.read(self.bucket, path) or b"").decode())

    def _rewrite_pages(self) -> None:
        """Make each page anew, from what is left of what it was made from."""
        for path in self._paths(f"/{REPORT_FILE}"):
            measured = self.store.read_json(self.bucket, f"{path.removesuffix(REPORT_FILE)}{RECALL_FILE}") or {}
            self.store.write(self.bucket, path, render_report(measured).encode())

    def _times_named(self, value: Any) -> int:
        if isinstance(value, dict):
            return sum(map(self._times_named, value.values()))
        if isinstance(value, list):
            return sum(1 if inner == self.key else self._times_named(inner) for inner in value)
        return len(_naming(self.key).findall(value)) if isinstance(value, str) else 0

    def _without_key(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._without_key(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._without_key(inner) for inner in value if inner != self.key and not self._answers(inner)]
        return _naming(self.key).sub(_ERASED, value) if isinstance(value, str) else value

    def _answers(self, value: Any) -> bool:
        """Return whether the document is among the answers of a query: the query may be an excerpt of it."""
        return isinstance(value, dict) and "query" in value and self._times_named(value) > 0


def is_catalog(path: str) -> bool:
    return "/catalog/" in path


def _key_column(batch: pa.RecordBatch) -> str | None:
    return next((name for name in _KEY_COLUMNS if name in batch.schema.names), None)


def _select(batch: pa.RecordBatch, column: str | None, values: set[str], *, invert: bool = False) -> pa.RecordBatch:
    """Return the rows with one of the values in a column, or the others."""
    if column is None:
        return batch if invert else batch.slice(0, 0)
    chosen = pc.is_in(batch.column(column), pa.array(sorted(values), pa.string()))
    return batch.filter(pc.invert(chosen) if invert else chosen)


def _naming(key: str) -> re.Pattern[str]:
    """Return a pattern for the key where it is no part of a longer one; of a bare word, which may be anything, none."""
    is_telling = "/" in key or "." in key
    return re.compile(rf"(?<![\w./-]){re.escape(key)}(?![\w/-]|\.\w)" if is_telling else r"(?!)")
