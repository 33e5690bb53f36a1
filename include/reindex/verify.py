"""A ready collection and its import files in, a verdict out: recall against exact search, and the ledger.

Queries are excerpts of the release's own passages: shorter than what they search for, as questions are. Exact
neighbours are computed here, in float32, from the import files; the server is asked for nothing but its answers.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from reindex.errors import TooManyRejects
from reindex.ledger import Ledger, check_ledger
from reindex.naming import chunk_id
from reindex.recall import POOR_RECALL, Recall, check_recall, wilson_lower_bound
from reindex.records import DOCUMENT_SCHEMA, ID_COLUMN, REJECT_SCHEMA, SNAPSHOT_SCHEMA, RejectReason
from reindex.releases import QUERIES_FILE, REJECTS_FILE, ReleaseFiles
from reindex.settings import Gate
from reindex.store import VectorStore, similarity, vector_matrix
from reindex.tables import Tables

if TYPE_CHECKING:
    import numpy as np

FILED_SCHEMA = pa.schema([("document", pa.string()), ("rows", pa.int64())])
QUERIES_SCHEMA = pa.schema([("vector", pa.list_(pa.float32())), ("floor", pa.float32())])
# Queries kept with the release, to measure its recall again when it is gone back to.
_KEPT_QUERIES = 200
QUERY_COUNT = 1000
_QUERY_WORDS = 12
_EXCERPTS_A_PASSAGE = 20
# Two ways of adding up the same products differ in the last digits: within this, scores of unit vectors are equal.
_TIE_TOLERANCE = 1e-5
_SEARCH_BATCH = 100
# Milvus builds no index for smaller segments: it searches them by an interim one of its own.
_SMALLEST_INDEXED_SEGMENT = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """The exact answers from one import file: the k best scores of each query (queries, k), the true scores of the
    ids that the index returned (queries, k; -inf where the id is not in this file), the file's rows, and how many of
    them each document has.
    """

    scores: np.ndarray
    returned_scores: np.ndarray
    rows: int
    filed: pa.Table


def choose_queries(passages: Iterable[tuple[str, str]], count: int = QUERY_COUNT) -> list[str]:
    """Return up to `count` different excerpts from (id, text) pairs, the same ones every time.

    Ids are hashes, so the smallest ones are a fair sample. A small corpus gives several excerpts a passage.
    """
    chosen = heapq.nsmallest(count, passages)
    queries: dict[str, None] = {}
    for turn in range(_EXCERPTS_A_PASSAGE):
        for chunk, text in chosen:
            if len(queries) >= count:
                return list(queries)
            queries.setdefault(_excerpt(chunk, text, turn))
    return list(queries)


def search_all(
    store: VectorStore, collection: str, queries: np.ndarray, *, k: int, params: dict[str, int]
) -> list[list[str]]:
    """Return the ids that the index gives for each query, with the parameters that production searches with."""
    returned = []
    for start in range(0, len(queries), _SEARCH_BATCH):
        batch = queries[start : start + _SEARCH_BATCH].tolist()
        answers = store.search(collection, batch, k=k, params=params)
        returned += [[hit.fields[ID_COLUMN] for hit in answer] for answer in answers]
    return returned


def nearest_in_file(
    batches: Iterable[pa.RecordBatch],
    queries: np.ndarray,
    returned: Sequence[Sequence[str]],
    *,
    k: int,
    metric: str,
) -> Nearest:
    """Search one import file exactly, and look up what the returned ids really score."""
    import numpy as np

    scores = np.empty((len(queries), 0), "float32")
    returned_scores = np.full((len(queries), k), -np.inf, "float32")
    rows, filed = 0, [FILED_SCHEMA.empty_table()]
    for batch in batches:
        found = similarity(queries, vector_matrix(batch), metric=metric)
        scores = _best(scores, found, k)
        _look_up(returned_scores, returned, batch.column(ID_COLUMN).to_pylist(), found)
        rows += batch.num_rows
        filed.append(_count_documents(batch))
    return Nearest(scores=scores, returned_scores=returned_scores, rows=rows, filed=pa.concat_tables(filed))


def keep_queries(files: ReleaseFiles, queries: np.ndarray, nearest: Nearest, *, k: int) -> None:
    """Leave some queries with the exact score of their k-th neighbour: recall can then be measured again by itself."""
    floors = nearest.scores[:, min(k, nearest.rows) - 1]
    columns = [pa.array(queries[:_KEPT_QUERIES].tolist(), pa.list_(pa.float32())), pa.array(floors[:_KEPT_QUERIES])]
    files.write_table(QUERIES_FILE, QUERIES_SCHEMA, [pa.RecordBatch.from_arrays(columns, schema=QUERIES_SCHEMA)])


def merge_nearest(files: Sequence[Nearest], k: int) -> Nearest:
    """Return the answer over all files from the answer of each."""
    import numpy as np

    scores = files[0].scores
    for other in files[1:]:
        scores = _best(scores, other.scores, k)
    returned = np.maximum.reduce([file.returned_scores for file in files])
    filed = pa.concat_tables([file.filed for file in files])
    return Nearest(scores=scores, returned_scores=returned, rows=sum(file.rows for file in files), filed=filed)


def measure_recall(nearest: Nearest, returned: Sequence[Sequence[str]], *, k: int, confidence: float) -> Recall:
    """Return recall@k: the share of each query's k places that the index filled with a true neighbour, or an equal one.

    A neighbour counts if its true score reaches the k-th best: ids alone would punish ties.
    """
    wanted = min(k, nearest.rows)
    floor = nearest.scores[:, wanted - 1] - _TIE_TOLERANCE
    recalls = []
    for position, ids in enumerate(returned):
        true_scores = dict(zip(ids, nearest.returned_scores[position], strict=False))
        hits = sum(score >= floor[position] for score in true_scores.values())
        recalls.append(min(int(hits), wanted) / wanted)
    mean = sum(recalls) / len(recalls)
    return Recall(
        k=k,
        queries=len(recalls),
        mean=mean,
        bound=wilson_lower_bound(mean, len(recalls), confidence),
        confidence=confidence,
        poor_share=sum(recall < POOR_RECALL for recall in recalls) / len(recalls),
        short_answers=sum(len(set(ids)) < wanted for ids in returned),
    )


def judge(files: ReleaseFiles, gate: Gate, recall: Recall, ledger: Ledger, *, collection_id: int) -> dict[str, Any]:
    """Write what was measured, then pass the release or raise LedgerMismatch, TooManyRejects or RecallTooLow."""
    measured = {
        "collection_id": collection_id,
        "rows": ledger.collection_rows,
        "recall": asdict(recall),
        "ledger": asdict(ledger),
        "searched_without_index": ledger.collection_rows < _SMALLEST_INDEXED_SEGMENT,
    }
    files.write_json("recall.json", measured)
    check_ledger(ledger)
    check_rejects(files, ledger, gate)
    check_recall(recall, gate, is_unindexed=bool(measured["searched_without_index"]))
    return measured


def check_rejects(files: ReleaseFiles, ledger: Ledger, gate: Gate) -> None:
    rejected = ledger.rejected - ledger.duplicates
    if rejected > gate.max_rejected_share * ledger.listed:
        rows = (row for batch in files.read_batches(REJECTS_FILE) for row in batch.to_pylist())
        first = next(row for row in rows if row["reason"] != RejectReason.DUPLICATE and not row["member"])
        raise TooManyRejects(rejected, ledger.listed, gate.max_rejected_share, f"{first['key']} ({first['detail']})")


def draw_ledger(
    files: ReleaseFiles,
    filed: pa.Table,
    *,
    file_rows: int,
    collection_rows: int,
    distinct_ids: int,
    erased_rows: int = 0,
) -> Ledger:
    """Count again from what the stages left, document by document and file by file.

    `filed` says how many rows of each document the import files hold, `erased_rows` how many have been erased from the
    collection, and from the files, since the import.
    """
    loaded = files.needed_report("load")["files"]
    with Tables() as tables:
        _add_documents(tables, files, filed)
        counts = tables.row(_COUNTS)
        different: dict[str, Any] = {
            name: tuple(row["key"] for row in tables.rows(query)) for name, query in _DIFFERENCES.items()
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
    "misfits": "select coalesce(key, document) as key from documents full join "
    "(select document, sum(rows) as rows from filed group by document) as filed on key = document "
    "where chunks is distinct from rows order by 1 limit 100",
}


def _add_documents(tables: Tables, files: ReleaseFiles, filed: pa.Table) -> None:
    schemas = {"snapshot": SNAPSHOT_SCHEMA, "documents": DOCUMENT_SCHEMA, "rejects": REJECT_SCHEMA}
    for name, schema in schemas.items():
        tables.add(name, files.store, files.bucket, [files.key(f"{name}.parquet")], schema)
    tables.add_rows("filed", filed.to_batches(), FILED_SCHEMA)


def _count_documents(batch: pa.RecordBatch) -> pa.Table:
    counts = batch.column("document").value_counts()
    return pa.Table.from_arrays([counts.field("values"), counts.field("counts")], schema=FILED_SCHEMA)


def _excerpt(chunk: str, text: str, turn: int) -> str:
    words = text.split()
    places = max(1, len(words) - _QUERY_WORDS + 1)
    start = int(chunk_id(chunk, "excerpt", turn), 16) % places
    return " ".join(words[start : start + _QUERY_WORDS])


def _best(scores: np.ndarray, others: np.ndarray, k: int) -> np.ndarray:
    import numpy as np

    joined = np.concatenate([scores, others], axis=1)
    places = min(k, joined.shape[1])
    best: np.ndarray = -np.sort(-np.partition(joined, -places, axis=1)[:, -places:], axis=1)
    return best


def _look_up(
    returned_scores: np.ndarray, returned: Sequence[Sequence[str]], names: list[str], scores: np.ndarray
) -> None:
    row_of = {name: row for row, name in enumerate(names)}
    for query, ids in enumerate(returned):
        for place, name in enumerate(ids):
            if name in row_of:
                returned_scores[query, place] = scores[query, row_of[name]]
