"""Index the same documents with Reindex and with LlamaIndex, on the same Milvus, and print how fast each is.

    python benchmarks/end_to_end.py [--documents N] [--runs N] [--peer PYTHON]     500 documents, one run

The documents are real HTML pages, see `documents.py`. Equal text: both are given the text that Reindex's parser reads,
as files. Own readers: both are given the pages; LlamaIndex reads them with BeautifulSoup. Model, chunk size, overlap,
index and Milvus are the same; LlamaIndex embeds in float32, as its documentation shows, Reindex in what suits the
processor.

`text to searchable` is what the ratio is about. It ends when every row is indexed, loaded and counted. For LlamaIndex
it begins when its model is loaded and it reads the first file; for Reindex when the stage `embed` begins, so that the
start of its workers, the loading of its model and what Airflow does between stages are in it. `command to searchable`
is all of it, on each side: the start of Python and of LlamaIndex; Airflow's start of the run, snapshot and plan. `to
done` is the whole run of Reindex, recall verified and the alias moved. Memory is that of the processes that work
on it, without the servers', pages that several share counted once; tokens are those that the model was to read.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median

import psutil
from documents import write_documents
from figures import machine, print_table, state
from stacks import OwnStack, PeakMemory, began, ended, own_stack

from reindex.embedders import find_model, resolve_precision
from reindex.settings import PROJECT, Corpus

PEER = PROJECT / ".bench" / "llamaindex" / "bin" / "python"
PEER_SCRIPT = Path(__file__).with_name("peer_llamaindex.py")
KINDS = {"text": "equal text", "html": "own readers"}
LEAST_IN_FLOAT32 = 2.5
COLUMNS = ["documents from", "by", "documents", "chunks", "text to searchable", "documents/s", "chunks/s", "tokens/s"]
COLUMNS += ["command to searchable", "to done", "memory"]


def require_peer(python: Path) -> None:
    """Refuse to begin where LlamaIndex's environment is not there."""
    if not python.exists():
        raise SystemExit(f"{python} is not there; make it with: make .bench/llamaindex/installed")


def by_reindex(running: OwnStack, kind: str) -> dict[str, float]:
    """Run the corpus's DAG, every document embedded anew, and return what it came to."""
    started = time.time()
    with PeakMemory(running.workers()) as memory:
        release = running.answer("run", kind, "--rebuild")["release"]
    done = time.time()
    files = running.release(kind, release)
    embed, index = files.needed_report("embed"), files.needed_report("index")
    return {
        "documents": embed["documents"],
        "chunks": embed["chunks"],
        "tokens": embed["tokens"],
        "seconds": ended(index) - began(embed),
        "seconds_with_start": ended(index) - started,
        "seconds_to_done": done - started,
        "megabytes": memory.megabytes,
    }


def by_llamaindex(running: OwnStack, kind: str, folder: Path, python: Path) -> dict[str, float]:
    """Have LlamaIndex index a folder, in a process of its own environment, and return what it came to."""
    servers, corpus = running.servers(), Corpus.model_validate({"name": kind, "source": {"bucket": "sources"}})
    asked = {
        "folder": str(folder),
        "uri": servers["REINDEX_MILVUS_URI"],
        "token": servers["REINDEX_MILVUS_TOKEN"],
        "collection": f"llamaindex_{kind}",
        "dimension": find_model(corpus.embedding.model).dimension,
        "max_tokens": corpus.chunks.max_tokens,
        "overlap_tokens": corpus.chunks.overlap_tokens,
        "metric": corpus.index.metric,
        "index_type": corpus.index.type,
        "index_params": corpus.index.params,
    }
    words = [python, PEER_SCRIPT]
    with subprocess.Popen(words, env=running.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as peer:
        process = psutil.Process(peer.pid)
        with PeakMemory(lambda: [process, *process.children(recursive=True)]) as memory:
            answer, _ = peer.communicate(json.dumps(asked).encode())
    if peer.returncode:
        raise SystemExit(f"{PEER_SCRIPT.name} ended with exit status {peer.returncode}")
    return {**json.loads(answer.splitlines()[-1]), "megabytes": memory.megabytes}


def measure(documents: int, runs: int, python: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Return the medians of each side, by what the documents were read from."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="end-to-end-") as name:
        folder = Path(name)
        write_documents(folder, documents)
        with own_stack(folder, [{"name": kind, "schedule": None} for kind in KINDS]) as running:
            for kind in KINDS:
                running.answer("put", kind, str(folder / kind))
                rounds = [
                    (by_reindex(running, kind), by_llamaindex(running, kind, folder / kind, python))
                    for _ in range(runs)
                ]
                ours, theirs = (medians([both[side] for both in rounds]) for side in (0, 1))
                found[kind] = {"Reindex": ours, "LlamaIndex": theirs}
    return found


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: median(one[name] for one in rounds) for name in rounds[0]}


def row(kind: str, side: str, facts: dict[str, float]) -> list[str]:
    rates = [f"{facts[name] / facts['seconds']:,.1f}" for name in ("documents", "chunks")]
    done = f"{facts['seconds_to_done']:.1f} s" if "seconds_to_done" in facts else "-"
    return [
        KINDS[kind],
        side,
        f"{facts['documents']:.0f}",
        f"{facts['chunks']:,.0f}",
        f"{facts['seconds']:.1f} s",
        *rates,
        f"{facts['tokens'] / facts['seconds']:,.0f}",
        f"{facts['seconds_with_start']:.1f} s",
        done,
        f"{facts['megabytes']:,.0f} MB",
    ]


def ratio(sides: dict[str, dict[str, float]], seconds: str) -> float:
    """Return Reindex's documents a second by LlamaIndex's."""
    ours, theirs = (sides[side]["documents"] / sides[side][seconds] for side in ("Reindex", "LlamaIndex"))
    return ours / theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=500)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--peer", type=Path, default=PEER)
    asked = parser.parse_args()
    require_peer(asked.peer)
    found = measure(asked.documents, asked.runs, asked.peer)
    print(f"{machine()}; medians of {asked.runs}")
    print_table(COLUMNS, [row(kind, side, facts) for kind, sides in found.items() for side, facts in sides.items()])
    for kind, sides in found.items():
        whole = ratio(sides, "seconds_with_start")
        print(
            f"{KINDS[kind]}: {ratio(sides, 'seconds'):.2f} times as many documents a second; from command, {whole:.2f}"
        )
    gains_by_bfloat16 = resolve_precision("auto") == "bfloat16"
    from_command = f"{ratio(found['text'], 'seconds_with_start'):.2f} from command to searchable"
    own_readers = f"{ratio(found['html'], 'seconds'):.2f} with own readers"
    state(
        "end_to_end",
        ratio(found["text"], "seconds"),
        bound=None if gains_by_bfloat16 else LEAST_IN_FLOAT32,
        note=f"{asked.documents} documents; {from_command}, {own_readers}",
    )


if __name__ == "__main__":
    main()
