"""What a corpus costs, by its size: the tables of docs/scaling.md, which a test holds against this page.

    python benchmarks/cost_model.py

Rows, bytes and Milvus's memory are those of the product's own forecast (`reindex.forecast`) for a corpus that nothing
is known of; the rates below are measured, and docs/scaling.md says where and when.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reindex.forecast import USABLE_SHARE, Forecast, PlannedWork, forecast_release
from reindex.rates import STAGE_COSTS, TEXT_BYTES_A_TOKEN
from reindex.settings import Index

CHUNKS = (100_000, 10_000_000, 100_000_000, 1_000_000_000)
DIMENSION = 384
CORES = (8, 64, 512)
# Of the sample corpus: chunks of a document, tokens of a chunk, bytes of a row in a part and in an import file.
CHUNKS_A_DOCUMENT = 8.5
TOKENS_A_CHUNK = 180
ROW_BYTES = 1600
# What one core does in a second: tokens of the default model embedded, and documents fetched, parsed and chunked.
TOKENS_A_SECOND = 7500
DOCUMENTS_A_SECOND = 50
# Seconds: of one process for a row that is assembled; of a core for a row that is searched exactly for 1,000 queries.
ASSEMBLE_SECONDS = 32e-6
EXACT_SECONDS = 21e-6
# The cores of the Milvus that `STAGE_COSTS` was measured on.
MILVUS_CORES = 2
PART_DOCUMENTS = 64
# Larger objects travel in ranges of so many bytes, each a request.
RANGE_BYTES = 8 * 2**20
MACHINE_BYTES = 256 * 2**30
INDEXES = {
    "HNSW": Index(type="HNSW", params={"M": 32, "efConstruction": 200}),
    "IVF_SQ8": Index(type="IVF_SQ8", params={"nlist": 4096}),
    "DISKANN": Index(type="DISKANN", params={}),
}


def embedding(chunks: int) -> list[str]:
    """Return documents, tokens, core-hours of embedding, hours by cores, what the bucket gains, and requests."""
    documents, tokens = documents_of(chunks), chunks * TOKENS_A_CHUNK
    core_hours = (tokens / TOKENS_A_SECOND + documents / DOCUMENTS_A_SECOND) / 3600
    stored = 2 * chunks * ROW_BYTES
    return [
        number(documents),
        number(tokens),
        number(core_hours),
        *(hours(core_hours / cores) for cores in CORES),
        gigabytes(stored),
        number(requests(chunks)),
    ]


def indexing(chunks: int) -> list[str]:
    """Return the hours of one plan, one assembling process, two cores of Milvus, and core-hours of exact search."""
    planned = STAGE_COSTS["plan"].usual.slope * documents_of(chunks)
    of_milvus = [STAGE_COSTS[stage].usual.slope * chunks for stage in ("load", "index")]
    assembled, searched = ASSEMBLE_SECONDS * chunks, EXACT_SECONDS * chunks
    return [hours(seconds / 3600) for seconds in (planned, assembled, *of_milvus, searched)]


def memory(chunks: int) -> list[str]:
    """Return, by index, the gigabytes of one release in Milvus, and the machines that hold it and the next one."""
    loaded = [forecast(chunks, index).green_bytes for index in INDEXES.values()]
    machines = [-(-2 * of_index // round(USABLE_SHARE * MACHINE_BYTES)) for of_index in loaded]
    return [f"{gigabytes(size)} / {count:,}" for size, count in zip(loaded, machines, strict=True)]


def forecast(chunks: int, index: Index) -> Forecast:
    planned = PlannedWork(
        embed_documents=round(documents_of(chunks)),
        embed_bytes=round(chunks * TOKENS_A_CHUNK * TEXT_BYTES_A_TOKEN),
        known_documents=0,
        known_chunks=0,
        known_tokens=0,
        live_rows=0,
        leaving_rows=0,
    )
    return forecast_release(planned, dimension=DIMENSION, index=index, past=[], memory=None)


def documents_of(chunks: int) -> float:
    return chunks / CHUNKS_A_DOCUMENT


def requests(chunks: int) -> float:
    """Return the requests of a first run: a read of each document; of a part and its catalog entry two writes and three
    reads; of import files a write, and reads by Milvus and twice by `verify`, range by range.
    """
    documents = documents_of(chunks)
    return documents + 5 * documents / PART_DOCUMENTS + 4 * chunks * ROW_BYTES / RANGE_BYTES


def number(value: float) -> str:
    """Return a number in the two digits that count: thousands (k), millions (M) or thousands of millions (G)."""
    for size, name in ((1e9, " G"), (1e6, " M"), (1e3, " k"), (1, "")):
        if value >= 0.995 * size:
            return in_digits(value / size) + name
    return in_digits(value)


def hours(value: float) -> str:
    for size, name in ((1, "h"), (1 / 60, "min"), (1 / 3600, "s")):
        if value >= 0.995 * size:
            return f"{in_digits(value / size)} {name}"
    return "under 1 s"


def gigabytes(size: float) -> str:
    return f"{in_digits(size / 1e9)} GB"


def in_digits(value: float) -> str:
    return f"{value:.2g}" if value < 99.5 else f"{value:,.0f}"


def table(heads: Sequence[str], columns: Callable[[int], list[str]]) -> str:
    rows = [["chunks", *heads], ["---"] * (1 + len(heads)), *([f"{chunks:,}", *columns(chunks)] for chunks in CHUNKS)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def tables() -> list[str]:
    return [
        table(
            [
                "documents",
                "tokens",
                "core-hours",
                *(f"on {cores} cores" for cores in CORES),
                "bucket",
                "requests",
            ],
            embedding,
        ),
        table(["plan", "assemble", "import", "HNSW build", "exact search, core-hours"], indexing),
        table([f"{name}: one release / machines" for name in INDEXES], memory),
    ]


if __name__ == "__main__":
    print("\n\n".join(tables()))
