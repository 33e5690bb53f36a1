"""Parts of an index that readers search by a filter: as Milvus is asked for them, and as a table's rows are chosen."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from reindex.groups import EVERYONE, readers_filter
from reindex.settings import GateSlice, Source

# Above every character that a key may hold: with it behind, a prefix is the end of what begins with it.
_LAST_CHARACTER = "\U0010ffff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The rows whose language is the value, that members of the group may find, or whose document begins with it."""

    name: str
    column: Literal["language", "acl", "document"]
    value: str

    def expression(self) -> str:
        """Return the filter that Milvus is asked with."""
        value = json.dumps(self.value, ensure_ascii=False)
        if self.column == "acl":
            return readers_filter([self.value])
        if self.column == "language":
            return f"language == {value}"
        # Not `like`: a percent sign or an underscore of the key would stand for others.
        return f"document >= {value} and document < {json.dumps(self.value + _LAST_CHARACTER, ensure_ascii=False)}"

    def mask(self, rows: pa.RecordBatch | pa.Table) -> pa.Array:
        """Return which rows the filter keeps, a boolean each."""
        column = rows.column(self.column)
        if self.column == "language":
            return pc.equal(column, self.value)
        if self.column == "document":
            return pc.starts_with(column, self.value)
        readers = {EVERYONE, self.value}
        return pa.array([not readers.isdisjoint(acl) for acl in column.to_pylist()], pa.bool_())


def slice_of(asked: GateSlice, source: Source) -> Slice:
    """Return the slice that a corpus file names."""
    if asked.group:
        return Slice(name=f"group {asked.group}", column="acl", value=asked.group)
    if asked.language:
        return Slice(name=f"language {asked.language}", column="language", value=asked.language)
    folder = source.prefix if source.prefix.endswith("/") or not source.prefix else f"{source.prefix}/"
    return Slice(name=f"prefix {asked.prefix}", column="document", value=f"{folder}{asked.prefix}")
