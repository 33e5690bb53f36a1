"""Embed passages of real documents, and print how near the engine comes to multiplying alone, and how true it is.

    python benchmarks/embedding.py

The engine is the product's: what `load_embedder` gives for this processor, with the token ids that the chunker hands
on. The yardstick is torch's rate of 2048 by 2048 matrix products in the same process, measured before each round of
embedding; the medians of five rounds count. The claim is of the precision that is chosen for this processor; bfloat16
is measured beside it where the processor has units for it, even if they are the slower ones. A token of
all-MiniLM-L6-v2 is 24 million operations, attention included. Vectors are held against those of sentence-transformers
in float32. The memory is the peak of a process of its own that loads the engine and embeds, as a worker does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from documents import write_documents
from figures import bfloat16_units, machine, print_table, state

from reindex.embedders import (
    Embedder,
    Precision,
    SentenceTransformerEmbedder,
    find_model,
    load_embedder,
    resolve_precision,
)
from reindex.reading import Reader
from reindex.settings import Corpus

if TYPE_CHECKING:
    import numpy as np

CORPUS = Corpus.model_validate({"name": "embedding", "source": {"bucket": "sources"}})
DOCUMENTS = 30
COMPARED = 300
ROUNDS = 5
SIDE = 2048
PRODUCTS = 20
OPERATIONS_A_TOKEN = 24e6
# The threads of one library spin for a moment after their work, in the way of the other's.
SETTLE_SECONDS = 0.5
COLUMNS = ["precision", "engine", "tokens/s", "GFLOP/s", "torch's", "share", "cosine, mean", "least"]


def passages() -> list[tuple[str, list[int]]]:
    """Return passages of real documents and their token ids, as a worker reads them."""
    tokenizer = find_model(CORPUS.embedding.model).tokenizer_file
    reader = Reader(CORPUS.chunks, tokenizer, CORPUS.embedding.passage_prompt, CORPUS.parsing, CORPUS.limits)
    with tempfile.TemporaryDirectory(prefix="embedding-") as folder:
        pages = write_documents(Path(folder), DOCUMENTS)
        found = [reader(page.name, page.read_bytes()) for page in pages]
    return [
        (passage["text"], tokens)
        for document in found
        for passage, tokens in zip(document["passages"], document["tokens"], strict=True)
    ]


def product_rate(precision: str) -> float:
    """Return the operations a second of torch's matrix products."""
    import torch

    left, right = (torch.rand(SIDE, SIDE).to(getattr(torch, precision)) for _ in range(2))
    left @ right
    started = time.perf_counter()
    for _ in range(PRODUCTS):
        left @ right
    return PRODUCTS * 2 * SIDE**3 / (time.perf_counter() - started)


def token_rate(engine: Embedder, texts: list[str], ids: list[list[int]]) -> float:
    started = time.perf_counter()
    engine.embed(texts, ids)
    return sum(map(len, ids)) / (time.perf_counter() - started)


def measure() -> dict[str, Any]:
    """Return the rates and the cosines of each precision, and a worker's peak of memory in MB."""
    import torch

    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    found = passages()
    texts, ids = [text for text, _ in found], [tokens for _, tokens in found]
    model, compared = find_model(CORPUS.embedding.model), slice(None, None, max(1, len(texts) // COMPARED))
    reference = SentenceTransformerEmbedder(model, "float32", threads).embed(texts[compared])
    rates: dict[str, list[dict[str, float]]] = {}
    cosines: dict[str, np.ndarray] = {}
    engines = {}
    multiplied: list[Precision] = ["bfloat16", "float32"] if bfloat16_units() else ["float32"]
    for precision in [*multiplied, "int8"]:
        engine = load_embedder(model, precision, threads=threads)
        cosines[precision] = (engine.embed(texts[compared], ids[compared]) * reference).sum(axis=1)
        engines[precision], rates[precision] = engine.engine, []
        for _ in range(ROUNDS):
            time.sleep(SETTLE_SECONDS)
            products = {name: product_rate(name) for name in multiplied}
            time.sleep(SETTLE_SECONDS)
            rates[precision].append({**products, "tokens": token_rate(engine, texts, ids)})
    return {
        "passages": len(texts),
        "tokens": sum(map(len, ids)),
        "precisions": {
            precision: {
                "engine": engines[precision],
                **{name: median(one[name] for one in rates[precision]) for name in ("tokens", *multiplied)},
                "cosine_mean": float(cosines[precision].mean()),
                "cosine_least": float(cosines[precision].min()),
            }
            for precision in rates
        },
        "worker_megabytes": worker_megabytes(found),
    }


def worker_megabytes(found: list[tuple[str, list[int]]]) -> float:
    """Return the peak of a fresh process that embeds the passages."""
    words = [sys.executable, __file__, "worker"]
    done = subprocess.run(words, input=json.dumps(found), stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def embed_as_worker() -> None:
    """Embed what comes as JSON, and print this process's peak of memory in MB."""
    found = json.load(sys.stdin)
    precision = resolve_precision("auto")
    engine = load_embedder(find_model(CORPUS.embedding.model), precision, threads=len(os.sched_getaffinity(0)))
    engine.embed([text for text, _ in found], [tokens for _, tokens in found])
    # Not getrusage: it begins with what the parent held when it started this process.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    print(int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6)


def main() -> None:
    if sys.argv[1:] == ["worker"]:
        embed_as_worker()
        return
    found = measure()
    print(f"{machine()}; {found['passages']:,} passages, {found['tokens']:,} tokens; medians of {ROUNDS}")
    rows, best = [], resolve_precision("auto")
    for precision, facts in found["precisions"].items():
        rate = facts["tokens"] * OPERATIONS_A_TOKEN
        cosines = [f"{facts[name]:.5f}" for name in ("cosine_mean", "cosine_least")]
        shown = [precision, facts["engine"], f"{facts['tokens']:,.0f}", f"{rate / 1e9:,.0f}"]
        yardstick = precision if precision in facts else best  # torch multiplies no int8 here
        shown += [f"{facts[yardstick] / 1e9:,.0f} in {yardstick}", f"{rate / facts[yardstick]:.0%}"]
        rows.append([*shown, *cosines])
    print_table(COLUMNS, rows)
    print(f"a worker's peak of memory: {found['worker_megabytes']:,.0f} MB")
    auto = found["precisions"][best]
    note = f"{auto['tokens']:,.0f} tokens/s, {auto['engine']}, by {auto[best] / 1e9:,.0f} GFLOP/s in {best}"
    state("embedding_share", auto["tokens"] * OPERATIONS_A_TOKEN / auto[best], note=note)
    state("cosine_mean", auto["cosine_mean"])
    state("cosine_least", auto["cosine_least"])
    state("worker_memory", found["worker_megabytes"])


if __name__ == "__main__":
    main()
