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
    from reindex.parse import Rejected, read_object, recognise
    from reindex.settings import Limits, Parsing

    data = file.read_bytes()
    try:
        kind = recognise(file.name, data).name
        documents = read_object(file.name, data, Parsing(), Limits()).documents
    except Rejected as rejected:
        return {"failed": str(rejected.reason)}
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


def rows(ours: dict[str, dict[str, Any]], peer: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Return a table: one line for each format, with the rejects by reason at the foot."""
    by_kind: dict[str, list[str]] = defaultdict(list)
    for file, answer in ours.items():
        if "failed" not in answer:
            by_kind[answer["kind"]].append(file)
    lines = []
    for kind, files in sorted(by_kind.items()):
        seconds = sum(ours[file]["seconds"] for file in files)
        megabytes = sum(Path(file).stat().st_size for file in files) / 1e6
        both = [file for file in files if file in peer and "failed" not in peer[file]]
        theirs = sum(peer[file]["seconds"] for file in both)
        ratio = f"{theirs / sum(ours[file]['seconds'] for file in both):.1f}" if both else "-"
        pages = sum(ours[file]["pages"] for file in files)
        speed = [f"{pages / seconds:,.0f}", f"{megabytes / seconds:,.2f}"]
        lines.append([kind, str(len(files)), *speed, f"{len(both)}", ratio])
    return lines


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
    header = ["format", "files", "pages/s", "MB/s", "read by both", "times as fast"]
    for line in [header, *rows(ours, peer)]:
        print("".join(f"{cell:<14}" for cell in line))
    failed = Counter(answer["failed"] for answer in ours.values() if "failed" in answer)
    print(
        f"{len(files)} files; rejected: {dict(failed)}; not read by the peer: "
        f"{sum('failed' in answer for answer in peer.values())}"
    )


if __name__ == "__main__":
    main()
