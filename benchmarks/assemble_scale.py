"""Take millions of rows through the stages that see them all, and say what that took: time, and the most memory held.

    python benchmarks/assemble_scale.py [ROWS …]     1 and 10 million unless said otherwise

The rows are synthetic, in a folder that stands for the bucket: documents of ten passages, 64 of them in a part, vectors
of 8 numbers, so that what is measured is what grows with the rows and not with the model. Each stage has a process of
its own; ten times the rows in nearly the same memory show that memory is bounded.

`assemble` is the stage of a real run: parts are read, rows checked, import files written, and no id may stand twice.
`recount` is what `verify` does with import files, on one worker: all are scanned, exact neighbours and digests, and the
ledger is drawn. `embed` is what its stage does in the process that feeds the workers: what is to be read is found, what
comes out of the workers is gathered, their many tables of the catalog become one, the release's documents are drawn up.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from plan_scale import BUCKET, FolderStore, blocks, objects, table

from reindex.assemble import assemble_import
from reindex.embed import Work, embed_documents
from reindex.embed_worker import OUTCOME_SCHEMA
from reindex.exact import Asked, vector_matrix
from reindex.ledger import check_ledger
from reindex.naming import DIGESTS, passage_digest
from reindex.parts import EmbeddingStore
from reindex.records import CATALOG_SCHEMA, DOCUMENT_SCHEMA, PLAN_SCHEMA, REJECT_SCHEMA, SNAPSHOT_SCHEMA, part_schema
from reindex.recount import draw_ledger
from reindex.releases import ReleaseFiles
from reindex.scan import Errand, merge_findings, scan_file
from reindex.settings import Corpus
from reindex.tables import gathered

ROWS = (1_000_000, 10_000_000)
DIMENSION = 8
PASSAGES = 10
PART_DOCUMENTS = 64
QUERIES = 100
FILE_BYTES = 256 * 2**20
MEMORY_BYTES = 512 * 2**20
CORPUS = Corpus.model_validate({"name": "docs", "source": {"bucket": "sources"}})
RELEASE = "20260101T020000Z_abcd1234"
# What a worker says of a document that it has embedded.
EMBEDDED = {
    "chunks": PASSAGES,
    "tokens": 1800,
    "digest": 0,
    "embedded": PASSAGES,
    "embedded_tokens": 1800,
    "members": [],
    "seconds": 0.01,
    "is_held": False,
    "writer_seconds": 0.2,
    "writer_waited": 0.01,
    "waited": 0.01,
    "engine": "none",
    "writer_memory": 0,
    "part_bytes": 16_000,
    "truncated": 0,
}
COLUMNS = ("stage", "rows", "seconds", "us/row", "GB at most", "GB before")


def unit_vectors(count: int) -> np.ndarray:
    vectors = np.random.default_rng(count).normal(size=(count, DIMENSION)).astype("float32")
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def content(number: int) -> str:
    return f"{number % PART_DOCUMENTS:064x}"


def a_part() -> pa.Table:
    """Return the passages of as many contents as a part holds; all parts are alike, under other documents."""
    count = PART_DOCUMENTS * PASSAGES
    columns = {
        "content": [content(row // PASSAGES) for row in range(count)],
        "text": [f"passage {row} " + "of a text that is as long as they are " * 20 for row in range(count)],
        "vector": pa.FixedSizeListArray.from_arrays(unit_vectors(count).ravel(), DIMENSION),
    }
    nothing = {"string": [""] * count, "int64": [0] * count}
    filled = [pa.array(columns.get(field.name, nothing.get(str(field.type)))) for field in part_schema()]
    return pa.Table.from_arrays(
        [one.cast(field.type) for one, field in zip(filled, part_schema(), strict=True)], schema=part_schema()
    )


def digests(part: pa.Table) -> list[int]:
    """Return what each content's passages add up to."""
    each = [
        passage_digest(text, vector.data)
        for text, vector in zip(part.column("text").to_pylist(), vector_matrix(part), strict=True)
    ]
    return [sum(each[start : start + PASSAGES]) % DIGESTS for start in range(0, len(each), PASSAGES)]


def known_objects(first: int, count: int) -> dict[str, pa.Array]:
    numbers = range(first, first + count)
    return {
        **objects(first, count),
        "content": pa.array([content(number) for number in numbers]),
        "part": pa.array([f"part-{number // PART_DOCUMENTS}" for number in numbers]),
        "chunks": pa.array([PASSAGES] * count),
    }


def release_files(folder: Path) -> tuple[ReleaseFiles, EmbeddingStore]:
    store = FolderStore(folder)
    return ReleaseFiles(store, BUCKET, CORPUS.name, RELEASE), EmbeddingStore(store, BUCKET, CORPUS.name, "space")


def prepare(folder: Path, documents: int) -> None:
    """Write what the stages read."""
    files, parts = release_files(folder)
    files.freeze_corpus(CORPUS)
    part = a_part()
    parts.write_part("part-0", part, [])
    first = folder / parts.part_key("part-0")
    for number in range(1, (documents - 1) // PART_DOCUMENTS + 1):
        os.link(first, folder / parts.part_key(f"part-{number}"))
    sums = pa.array(digests(part))

    def catalog() -> Iterator[pa.RecordBatch]:
        for start, count in blocks(documents):
            places = pa.array([number % PART_DOCUMENTS for number in range(start, start + count)])
            columns = {**known_objects(start, count), "digest": sums.take(places)}
            yield table(columns, CATALOG_SCHEMA, embedded=PASSAGES, embedded_tokens=0, members=[], seconds=0.0)

    parts.record(RELEASE, catalog())
    for name, schema in (("snapshot", SNAPSHOT_SCHEMA), ("documents", DOCUMENT_SCHEMA)):
        rows = (table(known_objects(*block), schema, action="reuse") for block in blocks(documents))
        files.write_table(f"{name}.parquet", schema, rows)
    to_embed = (table(objects(*block), PLAN_SCHEMA, action="embed", chunks=0, tokens=0) for block in blocks(documents))
    files.write_table("plan.parquet", PLAN_SCHEMA, to_embed)
    files.write_table("rejects.parquet", REJECT_SCHEMA, [])


def assemble(folder: Path) -> int:
    files, parts = release_files(folder)
    facts = assemble_import(files, parts, dimension=DIMENSION, max_file_bytes=FILE_BYTES)
    files.write_report("assemble", 0, facts)
    loaded = [{"file": file["file"], "rows": file["rows"], "imported": file["rows"]} for file in facts["files"]]
    files.write_report("load", 0, {"files": loaded})
    return int(facts["rows"])


def recount(folder: Path) -> int:
    files, parts = release_files(folder)
    asked = Asked(vectors=unit_vectors(QUERIES), k=11)
    errand = Errand(asked=(asked,), wanted=pa.array([], pa.string()), metric="IP", memory_bytes=MEMORY_BYTES)
    keys = [file["file"] for file in files.needed_report("assemble")["files"]]
    findings = merge_findings([scan_file(files.store.read_batches(BUCKET, key), errand) for key in keys], errand)
    rows = findings.rows
    counts = {"file_rows": rows, "collection_rows": rows, "distinct_ids": rows}
    check_ledger(draw_ledger(files, parts, findings.filed, **counts))
    return rows


def embed(folder: Path) -> int:
    files, _ = release_files(folder)
    parts = EmbeddingStore(files.store, BUCKET, CORPUS.name, "new")
    files.write_report("plan", 0, {"space": "new", "live": ""})
    report = embed_documents(files, parts, partial(pretend, parts), rebuild=False)
    return int(report["chunks"])


def pretend(parts: EmbeddingStore, work: Work) -> Iterator[pa.Table]:
    """Do as if workers had embedded it all: leave their records, and yield what they would."""
    batches = (batch for block in work.blocks() for batch in block.to_batches())
    for number, block in enumerate(gathered(batches, PART_DOCUMENTS)):
        columns = {name: block.column(name).combine_chunks() for name in ("key", "version", "etag", "bytes")}
        columns["content"] = pc.utf8_lpad(pc.cast(columns["bytes"], pa.string()), 64, padding="0")
        found = table(columns, OUTCOME_SCHEMA, **EMBEDDED, part=f"{RELEASE}-{number}")
        parts.record(f"{RELEASE}-{number:09}", [found.select(CATALOG_SCHEMA.names)])
        yield pa.Table.from_batches([found])


STAGES = {"assemble": assemble, "recount": recount, "embed": embed}


def peak_gigabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def measure_stage(folder: Path, stage: str) -> dict[str, Any]:
    import torch

    torch.ones(8, 8) @ torch.ones(8, 8)
    for _ in release_files(folder)[1].read_part("part-0"):
        pass
    before, started = peak_gigabytes(), time.monotonic()
    rows = STAGES[stage](folder)
    seconds = time.monotonic() - started
    return {"stage": stage, "rows": rows, "seconds": seconds, "peak": peak_gigabytes(), "before": before}


def measure(sizes: Sequence[int] = ROWS) -> list[dict[str, Any]]:
    """Return what each stage took for each number of rows: seconds, and gigabytes at most and before it began."""
    found = []
    for rows in sizes:
        with tempfile.TemporaryDirectory(prefix="assemble-scale-") as folder:
            prepare(Path(folder), rows // PASSAGES)
            for stage in STAGES:
                words = [sys.executable, __file__, stage, folder]
                found.append(json.loads(subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout))
    return found


def main() -> None:
    if sys.argv[1:] and sys.argv[1] in STAGES:  # the process of one stage
        print(json.dumps(measure_stage(Path(sys.argv[2]), sys.argv[1])))
        return
    print("| " + " | ".join(COLUMNS) + " |")
    for row in measure([int(word) for word in sys.argv[1:]] or ROWS):
        shown = [row["stage"], f"{row['rows']:,}", f"{row['seconds']:.0f}", f"{1e6 * row['seconds'] / row['rows']:.1f}"]
        print("| " + " | ".join([*shown, f"{row['peak']:.2f}", f"{row['before']:.2f}"]) + " |")


if __name__ == "__main__":
    main()
