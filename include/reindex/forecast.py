"""The plan's counts and the corpus's last reports in, what the run will take out; afterwards, how far off that was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from reindex.errors import DoesNotFit
from reindex.index_types import INDEX_TYPES
from reindex.rates import STAGE_COSTS, TEXT_BYTES_A_TOKEN, Rates, Reports, corpus_rates, stage_line
from reindex.records import Memory, integer_columns, text_columns, texts_columns
from reindex.settings import Index

# Milvus's queryNode.overloadedMemoryThresholdPercentage: it loads nothing that would take a query node above.
USABLE_SHARE = 0.90
_FLOAT_BYTES = 4
# A chunk's id, key, title and section, which are short beside its text.
_LABEL_BYTES = 120
# What a loaded row takes for each text column beside the text (a C++ string), for each whole number, and for each list
# of texts (an array, and one short text in it).
_STRING_BYTES = 32
_INTEGER_BYTES = 8
_TEXTS_BYTES = 96


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedWork:
    """What a plan asks for: documents to embed, with their bytes, and those whose vectors are known (reuse, withhold).

    `live_rows` are those of the release behind the alias, `leaving_rows` those of loaded collections that leave memory
    before the new one is loaded: releases kept only to go back to, their grace over.
    """

    embed_documents: int
    embed_bytes: int
    known_documents: int
    known_chunks: int
    known_tokens: int
    live_rows: int
    leaving_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a run will take. `chunks` and `tokens` are those to embed, `rows` all of the release.

    `bytes` is what the bucket gains. The rest is Milvus's memory: what the new and the live release take, what leaves
    it before the load, what there is and what is in use now; the last two are None where the server does not say.
    """

    basis: str
    releases: list[str]
    planned: PlannedWork
    documents: int
    chunks: int
    tokens: int
    rows: int
    seconds: dict[str, float]
    bytes: int
    green_bytes: int
    live_bytes: int
    leaving_bytes: int
    limit_bytes: int | None
    used_bytes: int | None

    @property
    def beside_bytes(self) -> int:
        """What stays in memory beside the new release: the live one too, if a restart has just taken it out."""
        return max((self.used_bytes or 0) - self.leaving_bytes, self.live_bytes)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def forecast_release(
    planned: PlannedWork, *, dimension: int, index: Index, past: Sequence[Reports], memory: Memory | None
) -> Forecast:
    """Return what the release will take at the rates of the corpus's `past` ones, or at usual rates without any."""
    rates = corpus_rates(past)
    # A run that knows nothing, the first or a rebuild, has no earlier chunk to take a vector from.
    share = rates.embedded_share if planned.known_documents else 1
    new_rows, new_tokens = planned.embed_bytes * rates.rows_a_byte, planned.embed_bytes * rates.tokens_a_byte
    documents = planned.known_documents + planned.embed_documents
    rows, tokens = planned.known_chunks + round(new_rows), round(new_tokens * share)
    text_bytes = _LABEL_BYTES + TEXT_BYTES_A_TOKEN * (planned.known_tokens + new_tokens) / max(rows, 1)
    loaded = partial(loaded_bytes, row_bytes=_row_bytes(text_bytes), dimension=dimension, index=index)
    return Forecast(
        basis="measured" if past else "defaults",
        releases=[reports["verify"]["release"] for reports in past],
        planned=planned,
        documents=documents,
        chunks=round(new_rows * share),
        tokens=tokens,
        rows=rows,
        seconds=_seconds(past, {"documents": documents, "tokens_embedded": tokens, "rows": rows, "": 0}),
        bytes=_bucket_bytes(rates, new_rows, rows, usual=dimension * _FLOAT_BYTES + text_bytes),
        green_bytes=loaded(rows),
        live_bytes=loaded(planned.live_rows),
        leaving_bytes=loaded(planned.leaving_rows),
        limit_bytes=memory.limit_bytes if memory else None,
        used_bytes=memory.used_bytes if memory else None,
    )


def loaded_bytes(rows: int, *, row_bytes: float, dimension: int, index: Index) -> int:
    """Return what a loaded collection takes: its index, and `row_bytes` for a row's other columns."""
    if not rows:
        return 0
    return INDEX_TYPES[index.type].memory(rows, dimension, index.params) + round(rows * row_bytes)


def _row_bytes(text_bytes: float) -> float:
    """Return what a row's columns take in memory beside the vector, with so many bytes of text in them."""
    lists = _TEXTS_BYTES * len(texts_columns())
    return text_bytes + lists + _STRING_BYTES * len(text_columns()) + _INTEGER_BYTES * len(integer_columns())


def check_fits(forecast: Forecast) -> None:
    """Raise DoesNotFit if the new release cannot be loaded beside what is loaded; memory unknown refuses nothing."""
    if forecast.limit_bytes is None:
        return
    if forecast.beside_bytes + forecast.green_bytes > USABLE_SHARE * forecast.limit_bytes:
        raise DoesNotFit(forecast.green_bytes, forecast.beside_bytes, forecast.limit_bytes, USABLE_SHARE)


def check_twin_fits(forecast: dict[str, Any], rows: int, memory: Memory | None) -> None:
    """Raise DoesNotFit if a second collection of a release cannot be loaded beside what is loaded.

    `forecast` is what the release's plan reports, `rows` are those that it has; memory unknown refuses nothing.
    """
    if memory is None:
        return
    twin = round(forecast["green_bytes"] * rows / max(forecast["rows"], 1))
    if memory.used_bytes + twin > USABLE_SHARE * memory.limit_bytes:
        what = "a second collection of the release"
        raise DoesNotFit(twin, memory.used_bytes, memory.limit_bytes, USABLE_SHARE, what)


def score_forecast(forecast: dict[str, Any], reports: Reports) -> dict[str, Any]:
    """Set a forecast, as the plan's report holds it, against what the stages report: for each figure that is known.

    `error_percent` is above zero where too much was forecast. Seconds are those of the stages that are over.
    """
    embed, assemble = reports.get("embed", {}), reports.get("assemble", {})
    took = {stage: reports[stage]["seconds"] for stage in forecast["seconds"] if stage in reports}
    actual = {
        "seconds": sum(took.values()),
        "chunks": embed.get("chunks_embedded"),
        "tokens": embed.get("tokens_embedded"),
        "rows": assemble.get("rows"),
        "bytes": embed["bytes"] + assemble["bytes"] if "bytes" in embed and "bytes" in assemble else None,
    }
    expected = {**forecast, "seconds": sum(forecast["seconds"][stage] for stage in took)}
    scores = {name: _score(expected[name], value) for name, value in actual.items() if value is not None}
    stages = {stage: _score(forecast["seconds"][stage], seconds) for stage, seconds in took.items()}
    return {"basis": forecast["basis"], **scores, "stages": stages}


def _score(forecast: float, actual: float) -> dict[str, Any]:
    error = round(100 * (forecast - actual) / actual, 1) if actual else None
    return {"forecast": round(forecast, 1), "actual": round(actual, 1), "error_percent": error}


def _seconds(past: Sequence[Reports], work: dict[str, int]) -> dict[str, float]:
    return {stage: round(stage_line(stage, past).at(work[cost.work]), 1) for stage, cost in STAGE_COSTS.items()}


def _bucket_bytes(rates: Rates, new_rows: float, rows: int, *, usual: float) -> int:
    """Return the bytes of parts, for what is embedded, and of import files, for all; `usual` is one row's, unpacked."""
    part, file = rates.part_bytes_a_row or usual, rates.import_bytes_a_row or usual
    return round(new_rows * part + rows * file)
