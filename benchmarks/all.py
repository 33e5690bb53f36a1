"""Run every benchmark in turn, and print one table: each claim, its figure, what is wanted, and whether it holds.

    python benchmarks/all.py [SCRIPT …]     every script unless some are named, as in `overheads`

Ends with exit status 1 if a bound is missed, or a figure is missing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from documents import write_documents
from figures import CLAIMS, FILE, machine, print_table

HERE = Path(__file__).parent
# Each with the figures that it states; the first converts the model where that has not been done yet.
SCRIPTS: dict[str, tuple[str, ...]] = {
    "embedding": ("embedding_share", "cosine_mean", "cosine_least", "worker_memory"),
    "end_to_end": ("end_to_end",),
    "slow_store": ("storage_wait",),
    "overheads": ("unchanged", "one_edit", "one_percent"),
    "live_search": ("live_p99",),
    "nodes_scale": ("nodes_efficiency",),
    "verify": (),
    "parse": (),
}
PARSED_DOCUMENTS = 100
COLUMNS = ["claim", "measured", "wanted", "holds", "note"]


def run_script(name: str, folder: Path, figures: Path) -> bool:
    """Run one benchmark, whose own table is printed as it comes; return whether it ended as it should."""
    words = [sys.executable, str(HERE / f"{name}.py")]
    if name == "parse":
        write_documents(folder / "parsed", PARSED_DOCUMENTS)
        words.append(str(folder / "parsed" / "html"))
    print(f"\n## {name}\n\nload before: {os.getloadavg()[0]:.1f}", flush=True)
    started = time.monotonic()
    done = subprocess.run(words, env={**os.environ, FILE: str(figures)}, check=False)
    ending = f", exit status {done.returncode}" if done.returncode else ""
    print(f"\n{name}: {time.monotonic() - started:.0f} s{ending}", flush=True)
    return done.returncode == 0


def row(name: str, figure: dict[str, Any] | None) -> list[str]:
    """Return the line of a claim: what was not measured does not hold."""
    claim = CLAIMS[name]
    if figure is None:
        return [claim.text, "not measured", claim.wanted(claim.bound), "no", ""]
    value, bound = figure["value"], figure["bound"]
    holds = "yes" if claim.holds(value, bound) else "no"
    return [claim.text, claim.form.format(value), claim.wanted(bound), holds, figure["note"]]


def main() -> int:
    """Run what was asked for; return the exit status."""
    asked = sys.argv[1:] or list(SCRIPTS)
    if unknown := [name for name in asked if name not in SCRIPTS]:
        raise SystemExit(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(SCRIPTS)}")
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        figures = Path(folder) / "figures.jsonl"
        figures.touch()
        failed = [name for name in asked if not run_script(name, Path(folder), figures)]
        found = {figure["name"]: figure for line in figures.read_text().splitlines() if (figure := json.loads(line))}
    rows = [row(claim, found.get(claim)) for name in asked for claim in SCRIPTS[name]]
    print(f"\n## Every claim\n\n{machine()}\n")
    print_table(COLUMNS, rows)
    for name in failed:
        print(f"\n{name}.py failed: see above")
    return 1 if failed or any(line[COLUMNS.index("holds")] == "no" for line in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
