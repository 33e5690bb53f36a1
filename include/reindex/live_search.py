"""How fast readers are answered while a release is built: a probe asks through the alias, as one reader would.

It asks what `verify` asked of the live release, as vectors that lie in the release: no model is loaded for it.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from itertools import cycle, groupby, islice, pairwise
from typing import Any, Self

import pyarrow as pa

from reindex.brake import BUDGET_RATIO, PACE_SECONDS, Brake, Sample, waits
from reindex.errors import ReindexError
from reindex.index_types import Params
from reindex.latency import Latency, percentiles
from reindex.naming import alias_name, collection_release
from reindex.releases import QUERIES_FILE, ReleaseFiles
from reindex.store import Connect, VectorStore
from reindex.tuning import production_params

# The stages whose work live search may feel.
PROBED_STAGES = ("embed", "assemble", "load", "index", "verify")
# Those of them that pause: what Milvus has been given, it does; and verifying searches a few at a time.
_BRAKED_STAGES = ("embed", "assemble")
_BEGUN_FILE = "live_search.json"
_SAMPLES = "live_search/"
SAMPLE_SCHEMA = pa.schema(
    [("stage", pa.string()), ("at", pa.float64()), ("milliseconds", pa.float64()), ("is_braked", pa.bool_())]
)
# At rest: a few that warm up, then those that count.
_WARM_UP = 20
_IDLE_SEARCHES = 200
# Quicker than the probe, for every release waits for them.
_REST_PACE_SECONDS = 0.005
# Longer than they take where a search takes as long as people wait for one.
_REST_SECONDS = 30.0
# A connection and its first search take some milliseconds; what takes this long has waited for a server that was away.
_AWAY_SECONDS = 2.0
# What a report is read without, and what a probe that is killed loses: a tenth of the stage, within these seconds.
_UNWRITTEN_SHARE = 0.1
_UNWRITTEN_SECONDS = (5.0, 60.0)
_JOIN_SECONDS = 5.0
_SLICE_SECONDS = 5.0
# More than these a chart cannot show.
_MOST_SLICES = 120
# Of fewer searches no percentile is taken.
_FEWEST_SEARCHES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Questions:
    """What is asked through the alias, and how, as readers of the live release ask."""

    alias: str
    vectors: Sequence[list[float]]
    k: int
    params: Params


class _Reader:
    """One reader, who asks one question after another; a connection that fails is opened anew.

    The first search of a connection looks the collection up besides: readers, who keep theirs, do not wait for that.
    """

    def __init__(self, connect: Connect, questions: _Questions) -> None:
        self._connect, self._questions = connect, questions
        self._vectors = cycle(questions.vectors)
        self._opened: AbstractContextManager[VectorStore] | None = None
        self._store: VectorStore | None = None

    def ask(self) -> float | None:
        """Return the milliseconds of one search, or None if there was no answer."""
        try:
            if self._store is None:
                started = time.monotonic()
                self._opened = self._connect()
                self._store = self._opened.__enter__()
                self._search(self._store)
                if time.monotonic() - started > _AWAY_SECONDS:
                    return None
            return 1000 * self._search(self._store)
        except ReindexError:
            self.close()
            return None

    def _search(self, store: VectorStore) -> float:
        """Return the seconds that one search took."""
        asked, started = self._questions, time.monotonic()
        store.search(asked.alias, [next(self._vectors)], k=asked.k, params=asked.params, is_strong=False)
        return time.monotonic() - started

    def ask_at_pace(self, is_over: threading.Event, pace: float) -> Iterator[float | None]:
        """Yield the milliseconds of one search after another, one in `pace` seconds, until it is over."""
        due = time.monotonic()
        while not is_over.wait(max(0.0, due - time.monotonic())):
            yield self.ask()
            due = max(due + pace, time.monotonic())

    def close(self) -> None:
        if self._opened is not None and self._store is not None:
            self._opened.__exit__(None, None, None)
        self._opened = self._store = None


def measure_at_rest(connect: Connect, files: ReleaseFiles) -> dict[str, Any]:
    """Measure how fast live search is before a release's work begins, once; leave what is asked to be asked again.

    Where nothing can be asked, `note` says why, and no probe will ask.
    """
    begun = files.read_json(_BEGUN_FILE)
    if begun is None:
        begun = {"live": None, "note": "", "budget_ms": None, "idle": None}
        try:
            begun |= _at_rest(connect, files)
        except ReindexError as error:
            # The release may well be what mends it.
            begun["note"] = f"live search could not be asked: {error}"
        files.write_json(_BEGUN_FILE, begun)
    return begun


def _at_rest(connect: Connect, files: ReleaseFiles) -> dict[str, Any]:
    with connect() as store:
        collection = store.resolve_alias(alias_name(files.corpus_name))
    live = collection_release(files.corpus_name, collection) if collection else None
    if live is None:
        return {"note": "nothing was live"}
    questions = _questions(files.of(live))
    if not questions.vectors:
        return {"live": live, "note": "the live release has kept no queries"}
    reader = _Reader(connect, questions)
    deadline = time.monotonic() + _REST_SECONDS
    samples: list[Sample] = []
    for found in islice(reader.ask_at_pace(threading.Event(), _REST_PACE_SECONDS), _WARM_UP + _IDLE_SEARCHES):
        samples.append(Sample(at=time.time(), milliseconds=found))
        # What does not answer is not at rest.
        if found is None or time.monotonic() > deadline:
            break
    reader.close()
    samples = samples[_WARM_UP:]
    idle = _facts(samples)
    if idle["p99"] is None:
        return {"live": live, "note": "live search did not answer"}
    budget_ms = files.corpus().live.p99_ms or round(BUDGET_RATIO * idle["p99"], 3)
    return {"live": live, "budget_ms": budget_ms, "idle": idle}


def _questions(live: ReleaseFiles) -> _Questions:
    k = live.corpus().gate.k
    vectors = live.read_column(QUERIES_FILE, "vector")
    return _Questions(alias=alias_name(live.corpus_name), vectors=vectors, k=k, params=production_params(live, k))


def _latency(samples: Sequence[Sample]) -> Latency | None:
    found = waits(samples)
    if len(found) < _FEWEST_SEARCHES:
        return None
    return percentiles([wait / 1000 for wait in found], max(samples[-1].at - samples[0].at, PACE_SECONDS))


class LiveProbe:
    """Asks live search for as long as a stage lasts, in a thread; leaves its searches in the release, and brakes.

    Use it as a context manager. It asks nothing where `measure_at_rest` has found nothing to ask.
    """

    def __init__(self, connect: Connect, files: ReleaseFiles, stage: str) -> None:
        self._connect, self._files, self._stage = connect, files, stage
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"live search, {stage}", daemon=True)

    def __enter__(self) -> Self:
        if self._stage in PROBED_STAGES:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # It is not waited for: whoever leaves may be an event loop, and a search may hang.
        self._is_over.set()

    def join(self) -> None:
        """Wait, once it is over, until its last searches are written; not for one that hangs."""
        if self._thread.ident is not None:
            self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        # Nothing is decided by it: it must not stop what it watches.
        with suppress(ReindexError):
            begun = self._files.read_json(_BEGUN_FILE) or {}
            if begun.get("budget_ms"):
                self._ask(_questions(self._files.of(begun["live"])), begun["budget_ms"])

    def _ask(self, questions: _Questions, budget_ms: float) -> None:
        reader = _Reader(self._connect, questions)
        began = time.time()
        brake = Brake(files=self._files, budget_ms=budget_ms, began=began)
        unwritten: list[Sample] = []
        for milliseconds in reader.ask_at_pace(self._is_over, PACE_SECONDS):
            sample = Sample(at=time.time(), milliseconds=milliseconds, is_braked=brake.is_on)
            unwritten.append(sample)
            if self._stage in _BRAKED_STAGES:
                brake.look(sample)
            least, most = _UNWRITTEN_SECONDS
            if sample.at - unwritten[0].at > min(most, max(least, _UNWRITTEN_SHARE * (sample.at - began))):
                unwritten = self._written(unwritten)
        reader.close()
        if brake.is_on:
            brake.let_go()
        self._written(unwritten)

    def _written(self, samples: list[Sample]) -> list[Sample]:
        """Write some searches into a file of their own; return those that could not be."""
        if samples:
            rows = [{"stage": self._stage, **asdict(sample)} for sample in samples]
            table = pa.Table.from_pylist(rows, schema=SAMPLE_SCHEMA)
            try:
                self._files.write_table(f"{_SAMPLES}{uuid.uuid4().hex}.parquet", SAMPLE_SCHEMA, table.to_batches())
            except ReindexError:
                return samples
        return []


def live_search_facts(files: ReleaseFiles) -> dict[str, Any]:
    """Return how fast live search was at rest and while the release was built, and the same over time.

    `live_search` is None where nobody has looked; its `note` says why nothing was asked.
    """
    begun = files.read_json(_BEGUN_FILE)
    if begun is None:
        return {"live_search": None, "live_search_curve": []}
    samples = _read_samples(files)
    everything = [sample for of_stage in samples.values() for sample in of_stage]
    stages = {stage: _facts(of_stage) for stage, of_stage in samples.items()}
    # Between two stages no brake was on.
    braked = round(sum(facts["brake_seconds"] for facts in stages.values()), 1)
    during, idle = {**_facts(everything), "brake_seconds": braked}, begun["idle"]
    ratio = round(during["p99"] / idle["p99"], 3) if idle and during["p99"] else None
    return {
        "live_search": {**begun, "during": during, "ratio": ratio, "stages": stages},
        "live_search_curve": _curve(samples),
    }


def _read_samples(files: ReleaseFiles) -> dict[str, list[Sample]]:
    """Return the searches of each stage, in order."""
    rows: list[dict[str, Any]] = []
    for key in files.store.keys(files.bucket, files.key(_SAMPLES)):
        for batch in files.store.read_batches(files.bucket, key):
            rows += batch.to_pylist()
    found: dict[str, list[Sample]] = {stage: [] for stage in PROBED_STAGES}
    for row in sorted(rows, key=lambda row: float(row["at"])):
        found[row.pop("stage")].append(Sample(**row))
    return {stage: samples for stage, samples in found.items() if samples}


def _facts(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return what some searches of one stage come to."""
    latency = _latency(samples)
    answered = asdict(latency) if latency else {"p50": None, "p95": None, "p99": None, "per_second": None}
    return {
        **answered,
        "searches": len(samples),
        "failed": sum(sample.milliseconds is None for sample in samples),
        "brake_seconds": round(sum(after.at - sample.at for sample, after in pairwise(samples) if sample.is_braked), 1),
    }


def _curve(samples: dict[str, list[Sample]]) -> list[dict[str, Any]]:
    """Return the latency by stage and slice of time, which is in seconds since the first search."""
    if not samples:
        return []
    first = min(of_stage[0].at for of_stage in samples.values())
    last = max(of_stage[-1].at for of_stage in samples.values())
    width = max(_SLICE_SECONDS, (last - first) / _MOST_SLICES)
    points = []
    for stage, of_stage in samples.items():
        for number, group in groupby(of_stage, key=lambda sample: int((sample.at - first) / width)):
            facts = _facts(list(group))
            points.append({"stage": stage, "begin": number * width, "end": (number + 1) * width, **facts})
    return points
