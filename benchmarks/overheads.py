"""Run a corpus of 3,000 chunks again and again, and print what a run costs that changes nothing, little, or 1 %.

    python benchmarks/overheads.py [CHUNKS]     3,000 unless said otherwise

A stack of its own; the documents are the text of real HTML pages, see `documents.py`. After a first release come three
rounds of: a run that changes nothing; a release after a paragraph was added to the middle of one document; a release
after one was added to one document in a hundred. The medians of the three count. Seconds are those of `reindex run`,
from the command until the run is over; what its stages took is from the release's own reports, and `between` is the
rest: Airflow, the start of Ray's jobs, and the command itself. Tokens changed are those that were embedded. A release
that changes 1 % may take what one after one edit may, and 1.2 times what its tokens take at the first release's rate.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from documents import text_of, write_documents
from figures import CLAIMS, machine, print_table, state
from stacks import OwnStack, own_stack

from reindex.chunk import Chunker
from reindex.embedders import find_model
from reindex.records import Block, ParsedDocument
from reindex.releases import STAGES
from reindex.settings import Corpus

CHUNKS = 3_000
ROUNDS = 3
CORPUS = Corpus.model_validate({"name": "overheads", "source": {"bucket": "sources"}, "schedule": None})
# Of which there are enough to choose from.
MOST_DOCUMENTS = 400
CHANGED_SHARE = 0.01
ALLOWANCE = 1.2
KINDS = ["nothing changed", "one document edited", "1 % of the documents edited"]
COLUMNS = ["run", "documents", "seconds", "tokens changed", *STAGES, "between"]


def choose_documents(folder: Path, chunks: int) -> list[Path]:
    """Write documents below a folder, keep as many as make so many chunks, and return their text files."""
    chunker = Chunker(CORPUS.chunks, find_model(CORPUS.embedding.model).tokenizer_file)
    chosen: list[Path] = []
    left = chunks
    for page in write_documents(folder, MOST_DOCUMENTS):
        file = page.parent.parent / "text" / f"{page.stem}.txt"
        if left <= 0:
            file.unlink()
            continue
        left -= len(chunker.chunk_document(ParsedDocument(title="", blocks=(Block(text=text_of(page)),))))
        chosen.append(file)
    return chosen


def edit(file: Path, number: int) -> None:
    """Add a paragraph to the middle of a document."""
    text = file.read_text(encoding="utf-8")
    middle = text.find("\n", len(text) // 2) + 1
    added = f"\n\nEdition {number}: this paragraph was not there when the documents were indexed before.\n\n"
    file.write_text(text[:middle] + added + text[middle:], encoding="utf-8")


def run(running: OwnStack) -> dict[str, Any]:
    """Run the corpus's DAG, and return its seconds, those of its stages, and what it embedded."""
    started = time.monotonic()
    report = running.answer("run", CORPUS.name)
    seconds = time.monotonic() - started
    embed = running.release(CORPUS.name, report["release"]).report("embed") or {}
    return {
        "seconds": seconds,
        "tokens": embed.get("tokens_embedded") or 0,
        "rate": embed.get("tokens_a_second") or 0,
        "chunks": embed.get("chunks") or 0,
        "stages": {stage: report["seconds"].get(stage, 0.0) for stage in STAGES},
    }


def measure(chunks: int) -> dict[str, Any]:
    """Return the first release, and every round's runs of each kind."""
    rounds: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory(prefix="overheads-") as name:
        folder = Path(name)
        files = choose_documents(folder, chunks)
        changed = {kind: files[:count] for kind, count in zip(KINDS, changes(len(files)), strict=True)}
        with own_stack(folder, [{"name": CORPUS.name, "schedule": None}]) as running:
            running.answer("put", CORPUS.name, str(folder / "text"))
            first = run(running)
            for number in range(ROUNDS):
                for place, (kind, edited) in enumerate(changed.items()):
                    for file in edited:
                        edit(file, number * len(KINDS) + place)
                    running.answer("put", CORPUS.name, str(folder / "text"))
                    rounds[kind].append(run(running))
    return {"first": first, "rounds": rounds, "documents": len(files), "changed": changed}


def changes(documents: int) -> list[int]:
    """Return how many documents are edited before each kind of run."""
    return [0, 1, max(1, round(documents * CHANGED_SHARE))]


def middle(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians of some runs."""
    stages = {stage: median(one["stages"][stage] for one in runs) for stage in STAGES}
    return {"stages": stages, **{name: median(one[name] for one in runs) for name in ("seconds", "tokens")}}


def row(name: str, documents: int, facts: dict[str, Any]) -> list[str]:
    stages = facts["stages"]
    between = facts["seconds"] - sum(stages.values())
    shown = [name, f"{documents:,}", f"{facts['seconds']:.1f}", f"{facts['tokens']:,.0f}"]
    return [*shown, *(f"{stages[stage]:.1f}" if stages[stage] else "-" for stage in STAGES), f"{between:.1f}"]


def main() -> None:
    found = measure(int(sys.argv[1]) if len(sys.argv) > 1 else CHUNKS)
    first = found["first"]
    print(f"{machine()}; {found['documents']} documents, {first['chunks']:,} chunks; medians of {ROUNDS}; seconds")
    runs = {kind: middle(found["rounds"][kind]) for kind in KINDS}
    rows = [row(kind, len(found["changed"][kind]), runs[kind]) for kind in KINDS]
    print_table(COLUMNS, [row("first release", found["documents"], first), *rows])
    unchanged, one_edit, one_percent = (runs[kind] for kind in KINDS)
    state("unchanged", unchanged["seconds"])
    state("one_edit", one_edit["seconds"], note=f"{one_edit['tokens']:,.0f} tokens changed")
    bound = CLAIMS["one_edit"].bound + ALLOWANCE * one_percent["tokens"] / first["rate"]
    longer = f"{one_percent['seconds'] - one_edit['seconds']:+.1f} s to one edit"
    state("one_percent", one_percent["seconds"], bound=bound, note=f"{one_percent['tokens']:,.0f} tokens; {longer}")


if __name__ == "__main__":
    main()
