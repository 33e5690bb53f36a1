"""Search a corpus exactly, as `verify` does, and say how near it comes to multiplying alone, and what memory it takes.

    python benchmarks/verify.py [ROWS]     200,000 unless said otherwise

A thousand queries are set against rows of 384 numbers that lie in Parquet files as `assemble` writes them. All that a
scan does counts: reading and decoding, exact neighbours, the rows that were asked for, documents' digests. Beside it
stands the rate at which torch multiplies float32 matrices of the same shapes on as many cores. Files are scanned as on
Ray: each by one worker, with one thread. Each setting has processes of its own, warms up once, and its median of five
rounds counts. The memory is what the largest worker takes beyond reading the same files and multiplying once.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
from plan_scale import FolderStore

from reindex.exact import Asked, ExactSearch
from reindex.naming import import_file_name
from reindex.records import chunk_schema
from reindex.scan import Errand, Findings, merge_findings, scan_file

BUCKET = "reindex"
DIMENSION = 384
QUERIES = 1000
NEIGHBOURS = 11
FILES = 4
BATCH = 5_000
ROUNDS = 5
WORDS_A_TEXT = 130
# (share of the rows, gate.memory_megabytes, cores)
COLUMNS = ("rows", "memory_megabytes", "cores", "seconds", "us/row", "GFLOP/s", "torch alone", "share", "MB added")
SETTINGS = [(1, 512, 1), (1, 128, 1), (2, 512, 1), (4, 512, 1), (1, 512, 2), (1, 128, 2)]


def unit_vectors(count: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, DIMENSION)).astype("float32")
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def batches(first: int, count: int) -> Iterator[pa.RecordBatch]:
    """Yield rows of documents of ten passages each, with texts that compress as texts do."""
    draw = np.random.default_rng(first)
    words = np.array(["".join(map(chr, draw.integers(97, 123, size=draw.integers(2, 11)))) for _ in range(5_000)])
    for start in range(first, first + count, BATCH):
        numbers = range(start, start + BATCH)
        chosen = words[draw.zipf(1.3, size=(BATCH, WORDS_A_TEXT)) % len(words)]
        columns: dict[str, Any] = {
            "id": [f"{number * 2_654_435_761 % 2**64:032x}" for number in numbers],
            "document": [f"teams/handbook/section/document-{number // 10}.md" for number in numbers],
            "title": [f"document-{number // 10}.md" for number in numbers],
            "section": [f"Handbook > Chapter {number % 40}" for number in numbers],
            "text": [" ".join(text) for text in chosen.tolist()],
            "language": ["eng"] * BATCH,
            "acl": [["engineering", "handbook-readers"]] * BATCH,
            "vector": pa.FixedSizeListArray.from_arrays(unit_vectors(BATCH, start).ravel(), DIMENSION),
        }
        yield pa.RecordBatch.from_arrays([filled(columns, field) for field in chunk_schema()], schema=chunk_schema())


def filled(columns: dict[str, Any], field: pa.Field) -> pa.Array:
    values = columns.get(field.name, [0 if pa.types.is_integer(field.type) else ""] * BATCH)
    return (values if isinstance(values, pa.Array) else pa.array(values)).cast(field.type)


def prepare(folder: Path, rows: int) -> None:
    store, each = FolderStore(folder), rows // FILES
    for number in range(FILES):
        store.write_batches(BUCKET, import_file_name(number), chunk_schema(), batches(number * each, each))


def timed(work: Callable[[], object]) -> float:
    """Return the median seconds of some rounds, after one that does not count."""
    work()
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return median(seconds)


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def prepared_worker(folder: Path, keys: list[str]) -> None:
    """Do once what a worker does without searching: its memory is not the search's."""
    import torch

    torch.set_num_threads(1)
    torch.ones(1000, DIMENSION) @ torch.ones(1000, DIMENSION).T
    for key in keys:
        for _ in FolderStore(folder).read_batches(BUCKET, key):
            pass
    os.environ["PEAK_BEFORE"] = str(peak_megabytes())


def scan(key: str, folder: Path, errand: Errand) -> Findings:
    return scan_file(FolderStore(folder).read_batches(BUCKET, key), errand)


def added_megabytes(_: int) -> float:
    time.sleep(0.2)  # so that every worker is asked
    return peak_megabytes() - float(os.environ["PEAK_BEFORE"])


def measure(folder: Path, share: int, megabytes: int, cores: int) -> dict[str, float]:
    """Scan a share of the files on so many cores; return seconds, rates and the memory that the scan added."""
    import torch

    torch.set_num_threads(cores)
    keys = sorted(FolderStore(folder).keys(BUCKET, ""))[: FILES // share]
    asked = Asked(vectors=unit_vectors(QUERIES, 0), k=NEIGHBOURS)
    wanted = pa.array([f"{number * 2_654_435_761 % 2**64:032x}" for number in range(QUERIES * NEIGHBOURS)])
    errand = Errand(asked=(asked,), wanted=wanted, metric="IP", memory_bytes=megabytes * 2**20)
    with ProcessPoolExecutor(cores, get_context("spawn"), prepared_worker, (folder, keys)) as pool:
        scanned = partial(scan, folder=folder, errand=errand)
        rows = merge_findings(list(pool.map(scanned, keys)), errand).rows
        seconds = timed(lambda: merge_findings(list(pool.map(scanned, keys)), errand))
        added = max(pool.map(added_megabytes, range(cores)))
    block = unit_vectors(ExactSearch([asked], metric="IP", memory_bytes=errand.memory_bytes).block_rows, 1)
    left, right = torch.from_numpy(asked.vectors), torch.from_numpy(block)
    multiply = timed(lambda: left @ right.T) / len(block)
    work = 2 * QUERIES * DIMENSION / 1e9
    return {"rows": rows, "seconds": seconds, "rate": work * rows / seconds, "torch": work / multiply, "added": added}


def main() -> None:
    if len(sys.argv) > 2:  # the process of one setting
        print(json.dumps(measure(Path(sys.argv[1]), *map(int, sys.argv[2:]))))
        return
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    with tempfile.TemporaryDirectory(prefix="verify-") as folder:
        prepare(Path(folder), rows)
        print("| " + " | ".join(COLUMNS) + " |")
        for setting in SETTINGS:
            found = asked_of_process(folder, setting)
            shown = [f"{found['rows']:,}", str(setting[1]), str(setting[2]), f"{found['seconds']:.2f}"]
            shown += [f"{1e6 * found['seconds'] / found['rows']:.1f}", f"{found['rate']:.0f}", f"{found['torch']:.0f}"]
            shown += [f"{found['rate'] / found['torch']:.2f}", f"{found['added']:.0f}"]
            print("| " + " | ".join(shown) + " |")


def asked_of_process(folder: str, setting: tuple[int, int, int]) -> dict[str, float]:
    words = [sys.executable, __file__, folder, *map(str, setting)]
    done = subprocess.run(words, stdout=subprocess.PIPE, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main()
