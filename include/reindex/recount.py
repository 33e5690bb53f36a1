"""The ledger drawn up: everything counted again from what the stages left, document by document and file by file."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from reindex.ledger import Ledger
from reindex.naming import DIGESTS
from reindex.parts import EmbeddingStore
from reindex.records import DOCUMENT_SCHEMA, REJECT_SCHEMA, SNAPSHOT_SCHEMA
from reindex.releases import ReleaseFiles
from reindex.scan import FILED_SCHEMA
from reindex.tables import Tables


def draw_ledger(
    files: ReleaseFiles,
    parts: EmbeddingStore,
    filed: pa.Table,
    *,
    file_rows: int,
    collection_rows: int,
    distinct_ids: int,
    erased_rows: int = 0,
) -> Ledger:
    """Count again from what the stages left, document by document and file by file.

    `filed` says how many rows of each document the import files hold and what they add up to: the embedding store knows
    both from when it made them, so a vector in a wrong place shows. `erased_rows` says how many have been erased from
    the collection, and from the files, since the import.
    """
    loaded = files.needed_report("load")["files"]
    with Tables() as tables:
        _add_documents(tables, files, filed)
        catalog = parts.add_catalog(tables, "known")
        counts = tables.row(_COUNTS)
        different: dict[str, Any] = {
            name: tuple(row["key"] for row in tables.rows(query.format(catalog=catalog)))
            for name, query in _DIFFERENCES.items()
        }
    return Ledger(
        **counts,
        **different,
        file_rows=file_rows,
        imported_rows=sum(file["imported"] for file in loaded) - erased_rows,
        collection_rows=collection_rows,
        distinct_ids=distinct_ids,
        short_files=tuple(file["file"] for file in loaded if file["imported"] != file["rows"]),
    )


_COUNTS = """
    select (select count(distinct key) from snapshot) as listed,
        count(*) filter (action = 'reuse') as reused,
        count(*) filter (action = 'embed') as embedded,
        count(*) filter (action = 'withhold') as withheld,
        (select count(*) from rejects where member = '') as rejected,
        (select count(*) from rejects where reason = 'duplicate') as duplicates,
        coalesce(sum(chunks), 0)::bigint as part_rows
    from documents
"""
_INDEXED = "(select key from documents where action <> 'withhold')"
_REJECTED = "(select key from rejects where member = '')"
# At most so many of each are named; one is enough to stop a release.
_DIFFERENCES = {
    "unaccounted": f"select key from snapshot anti join {_INDEXED} using (key) anti join {_REJECTED} using (key) "
    "order by key limit 100",
    "unlisted": f"select key from (from {_INDEXED} union all {_REJECTED}) "
    "anti join snapshot using (key) order by key limit 100",
    "doubled": f"select key from {_INDEXED} join {_REJECTED} using (key) order by key limit 100",
    "misfits": f"""
        select coalesce(key, document) as key from documents left join (
            select content, part, max(digest) as digest from {{catalog}} group by all
        ) as written using (content, part) full join (
            select document, sum(rows) as rows, sum(digest) % {DIGESTS} as digest from filed group by document
        ) as filed on key = document
        where chunks is distinct from rows or written.digest <> filed.digest order by 1 limit 100
    """,
}


def _add_documents(tables: Tables, files: ReleaseFiles, filed: pa.Table) -> None:
    schemas = {"snapshot": SNAPSHOT_SCHEMA, "documents": DOCUMENT_SCHEMA, "rejects": REJECT_SCHEMA}
    for name, schema in schemas.items():
        tables.add(name, files.store, files.bucket, [files.key(f"{name}.parquet")], schema)
    tables.add_rows("filed", filed.to_batches(), FILED_SCHEMA)
