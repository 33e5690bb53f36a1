"""Read a folder of real files, and print pages and megabytes a second of one core, format by format.

Each file is read three times and its median counts. With the Python of an environment that holds llama-index-core and
llama-index-readers-file, the same files are read by LlamaIndex's default readers too; the ratio is taken over the files
that both read.

    python benchmarks/parse.py FOLDER [--peer /path/to/python]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROUNDS = 3


def one_core() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def timed(read: Callable[[Path], dict[str, Any]], files: list[Path]) -> dict[str, dict[str, Any]]:
    """Return what each file gave and its median seconds; a failure is an answer too."""
    answers = {}
    for file in files:
        seconds = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            try:
                answer = read(file)
            except Exception as error:  # noqa: BLE001 - whatever a reader raises, it has not read the file
                answer = {"failed": f"{type(error).__name__}: {error}"[:100]}
            seconds.append(time.perf_counter() - started)
        answers[str(file)] = {**answer, "seconds": statistics.median(seconds)}
    return answers


def read_here(file: Path) -> dict[str, Any]:
    from reindex.parse import read_object
    from reindex.parsers import Rejected
    from reindex.settings import Limits, Parsing

    kind = file.suffix.lower()
    try:
        documents = read_object(file.name, file.read_bytes(), Parsing(), Limits()).documents
    except Rejected as rejected:
        return {"kind": kind, "failed": str(rejected.reason)}
    pages = sum(max((block.page for block in document.blocks), default=0) or 1 for document in documents)
    characters = sum(len(block.text) for document in documents for block in document.blocks)
    return {"kind": kind, "pages": pages, "characters": characters}


def read_by_peer(file: Path) -> dict[str, Any]:
    from llama_index.core import SimpleDirectoryReader

    documents = SimpleDirectoryReader(input_files=[str(file)], raise_on_error=True).load_data()
    return {"characters": sum(len(document.text or "") for document in documents)}


def asked_of_peer(python: str, files: list[Path]) -> dict[str, dict[str, Any]]:
    names = json.dumps([str(file) for file in files])
    done = subprocess.run([python, __file__, "--as-peer"], input=names, capture_output=True, text=True, check=True)
    found: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def row(files: list[str], ours: dict[str, dict[str, Any]], peer: dict[str, dict[str, Any]]) -> list[str]:
    """Return what became of some files: read, rejected by reason, and how fast; the ratio is over what both read."""
    read = [file for file in files if "failed" not in ours[file]]
    reasons = Counter(ours[file]["failed"] for file in files if "failed" in ours[file])
    seconds = sum(ours[file]["seconds"] for file in files)
    busy = sum(ours[file]["seconds"] for file in read) or 1
    pages = sum(ours[file]["pages"] for file in read)
    megabytes = sum(Path(file).stat().st_size for file in read) / 1e6
    both = [file for file in read if file in peer and "failed" not in peer[file]]
    theirs, mine = (sum(answers[file]["seconds"] for file in both) for answers in (peer, ours))
    rejected = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items())) or "-"
    speed = [f"{pages / busy:,.0f}", f"{megabytes / busy:,.2f}"]
    ratio = [str(len(both)), f"{theirs / mine:.2g}" if both else "-"]
    return [str(len(files)), str(len(read)), f"{seconds:.2f}", *speed, *ratio, rejected]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--peer")
    parser.add_argument("--as-peer", action="store_true")
    asked = parser.parse_args()
    one_core()
    if asked.as_peer:
        print(json.dumps(timed(read_by_peer, [Path(name) for name in json.load(sys.stdin)])))
        return
    files = sorted(path for path in Path(asked.folder).rglob("*") if path.is_file())
    ours = timed(read_here, files)
    peer = asked_of_peer(asked.peer, files) if asked.peer else {}
    by_kind: dict[str, list[str]] = defaultdict(list)
    for file, answer in ours.items():
        by_kind[answer["kind"]].append(file)
    header = ["format", "files", "read", "seconds", "pages/s", "MB/s", "by both", "times as fast", "rejected"]
    lines = [[kind or "(none)", *row(names, ours, peer)] for kind, names in sorted(by_kind.items())]
    for line in [header, *lines, ["all", *row(list(ours), ours, peer)]]:
        print("| " + " | ".join(line) + " |")


if __name__ == "__main__":
    main()
