"""What Reindex claims of its speed, and how a benchmark states what it has found: `state(name, value)`.

A script that runs alone prints its own table, and what it states goes nowhere. Those that `all.py` starts
have a file in REINDEX_FIGURES, to which each figure is added as a line of JSON.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

FILE = "REINDEX_FIGURES"
_BFLOAT16_UNITS = ("amx_bf16", "avx512_bf16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One claim: what it is about, the figure that is wanted, and whether that is the least or the most."""

    text: str
    bound: float
    is_least: bool = False
    form: str = "{:.3g}"

    def holds(self, value: float, bound: float) -> bool:
        return value >= bound if self.is_least else value <= bound

    def wanted(self, bound: float) -> str:
        return ("at least " if self.is_least else "at most ") + self.form.format(bound)


CLAIMS = {
    "end_to_end": Claim(
        text="documents a second by those of LlamaIndex, equal text, 500 HTML documents",
        bound=5,
        is_least=True,
        form="{:.2f} times",
    ),
    "embedding_share": Claim(
        text="embedding, share of torch's matrix products in the same process, in the processor's precision",
        bound=0.65,
        is_least=True,
        form="{:.0%}",
    ),
    "storage_wait": Claim(
        text="writers' wait for storage with 50 ms on every GET and 20 MB/s in all", bound=0.05, form="{:.1%}"
    ),
    "cosine_mean": Claim(
        text="mean cosine of vectors to float32 sentence-transformers", bound=0.999, is_least=True, form="{:.5f}"
    ),
    "cosine_least": Claim(
        text="least cosine of vectors to float32 sentence-transformers", bound=0.995, is_least=True, form="{:.5f}"
    ),
    "unchanged": Claim(text="a run that changes nothing, trigger to done", bound=20, form="{:.1f} s"),
    "one_edit": Claim(text="a release after one document's edit, 3,000 chunks", bound=45, form="{:.1f} s"),
    # Its bound grows with what is changed: the script says by how much.
    "one_percent": Claim(text="a release that changes 1 % of the documents", bound=45, form="{:.1f} s"),
    "live_p99": Claim(
        text="99th percentile of live searches during a release by that at rest", bound=1.5, form="{:.2f} times"
    ),
    "worker_memory": Claim(text="peak memory of an embedding worker", bound=900, form="{:.0f} MB"),
    "nodes_efficiency": Claim(text="efficiency at 8 simulated nodes", bound=0.85, is_least=True, form="{:.2f}"),
}


def state(name: str, value: float, *, bound: float | None = None, note: str = "") -> None:
    """State the figure of a claim, with the bound where that depends on what was measured or on the machine."""
    figure = {"name": name, "value": value, "bound": CLAIMS[name].bound if bound is None else bound, "note": note}
    if file := os.environ.get(FILE):
        with Path(file).open("a", encoding="utf-8") as figures:
            figures.write(json.dumps(figure) + "\n")


def machine() -> str:
    """Return the machine and the date, as they stand beside every figure: `2 cores (…), 24 GiB, 2026-11-25`.

    The processor's units for bfloat16 are named, whether or not they are faster than those for float32.
    """
    lines = _processor()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    units = "".join(f", {unit}" for unit in bfloat16_units())
    memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    return f"{len(os.sched_getaffinity(0))} cores ({model}{units}), {memory} GiB, {datetime.now(UTC):%Y-%m-%d}"


def bfloat16_units() -> list[str]:
    """Return the names of the processor's units for bfloat16, as Linux tells them."""
    return [unit for unit in _BFLOAT16_UNITS if any(f" {unit}" in line for line in _processor())]


def _processor() -> list[str]:
    facts = Path("/proc/cpuinfo")
    return facts.read_text(encoding="utf-8").splitlines() if facts.exists() else []


def print_table(columns: list[str], rows: list[list[str]]) -> None:
    for row in [columns, ["---"] * len(columns), *rows]:
        print("| " + " | ".join(row) + " |", flush=True)
