"""A release's collection and its import files in, what searching it finds and how long that takes out.

What the index answers is set against exact search over the import files, which asks the server for nothing. A new
release and one that readers already get are measured alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pyarrow as pa

from reindex.erasures import erased_rows
from reindex.exact import Asked, Neighbours
from reindex.fidelity import CHECKED_PASSAGES, check_fidelity, cosines_to_model, served_vectors
from reindex.gates import Measured, Verdict
from reindex.golden import frozen_judgements, frozen_log
from reindex.index_types import Params, at_least
from reindex.latency import Latency
from reindex.ledger import Ledger
from reindex.naming import collection_name
from reindex.parts import EmbeddingStore
from reindex.questions import Kind, Question, draw_questions, sample_rows, smallest_ids
from reindex.recount import draw_ledger
from reindex.releases import ReleaseFiles
from reindex.scan import Errand, Findings, merge_findings, scan_file
from reindex.settings import Corpus
from reindex.slices import Slice, slice_of
from reindex.store import Connect, VectorStore
from reindex.tuning import (
    EVERYTHING,
    Answered,
    Queries,
    Rung,
    answer_all,
    histogram,
    measure_rung,
    name_of,
    slice_rows,
)

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")
# Milvus builds no index for smaller segments: it searches them by an interim one of its own.
SMALLEST_INDEXED_SEGMENT = 1024
MEANINGLESS = (
    f"recall is meaningless below {SMALLEST_INDEXED_SEGMENT:,} rows a segment: Milvus builds no index for so few, and "
    "searches them by another one of its own"
)
# What a stage's own report leaves to recall.json: long lists for people.
_IN_FULL_ONLY = ("curve", "histogram", "overlap", "live_search_curve")


class Spread(Protocol):
    """Does the same to each of some Parquet objects of the state bucket, wherever there is room."""

    def __call__(self, keys: Sequence[str], work: Callable[[Iterable[pa.RecordBatch]], T]) -> list[T]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What measuring a release needs: `embed` makes vectors as a release's model does, `golden` and `log` are texts."""

    files: ReleaseFiles
    corpus: Corpus
    parts: EmbeddingStore
    store: VectorStore
    connect: Connect
    embed: Callable[[ReleaseFiles, list[str]], np.ndarray]
    spread: Spread

    @property
    def collection(self) -> str:
        return collection_name(self.files.corpus_name, self.files.release)

    @property
    def slices(self) -> list[Slice | None]:
        return [None, *(slice_of(asked, self.corpus.source) for asked in self.corpus.gate.slices)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """The questions with their vectors, shape (questions, dimension), and the rows that were sampled for them."""

    questions: list[Question]
    queries: Queries
    sampled: list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What some settings have found of the true neighbours, which are kept by the slice's name.

    `is_unindexed` says that no segment has the rows for which the server builds an index.
    """

    drawn: Drawn
    findings: Findings
    exact: dict[str, Neighbours]
    rungs: list[Rung]
    segments: dict[int, int]

    @property
    def is_unindexed(self) -> bool:
        return is_unindexed(self.segments)


def try_settings(bench: Bench, settings: Sequence[Params]) -> Tried:
    """Ask the index the same questions with each setting, and see how many of the true neighbours come back.

    Where there is no index, every setting has the same answers: the pinned one or the first stands for all.
    """
    drawn, segments = draw(bench), bench.store.segments(bench.collection)
    if is_unindexed(segments):
        settings = [params for params in settings if params == bench.corpus.index.search] or settings[:1]
    bench.store.count_rows(bench.collection)  # waits for everything that was written before
    answers = [answers_of(bench, drawn, params) for params in settings]
    findings, exact = search_exactly(bench, drawn, answers)
    return Tried(
        drawn=drawn,
        findings=findings,
        exact=exact,
        rungs=[measure_rung(given, exact, drawn.queries, findings.vectors, bench.corpus.gate) for given in answers],
        segments=segments,
    )


def is_unindexed(segments: Mapping[int, int]) -> bool:
    """Return whether no segment has the rows for which the server builds an index; they are given by their ids."""
    return all(rows < SMALLEST_INDEXED_SEGMENT for rows in segments.values())


def measure(
    bench: Bench,
    tried: Tried,
    chosen: Rung,
    latency: Latency,
    *,
    advice: str,
    relevance: Mapping[str, Any],
    made: Sequence[tuple[str, float]],
) -> Measured:
    """Return what the gates look at, of the setting that was chosen: the ledger is drawn, and vectors are compared.

    `made` is what `compared` has returned.
    """
    looked_at = tried.drawn.sampled[:CHECKED_PASSAGES]
    served = served_vectors(bench.store, bench.collection, [row["id"] for row in looked_at])
    return Measured(
        ledger=recount(bench, tried.findings),
        fidelity=check_fidelity(looked_at, bench.corpus, [cosine for _, cosine in made], served),
        recalls=chosen.slices,
        advice=advice,
        is_unindexed=tried.is_unindexed,
        relevance=relevance,
        latency=latency,
        params=chosen.params,
    )


def compared(bench: Bench, drawn: Drawn, known: Mapping[str, float]) -> list[tuple[str, float]]:
    """Return the cosines of some of the sampled vectors to what the model makes of their texts, see `fidelity`."""
    embed = partial(bench.embed, bench.files)
    return cosines_to_model(drawn.sampled[:CHECKED_PASSAGES], bench.corpus, embed, known)


def facts_of(
    bench: Bench, tried: Tried, chosen: Rung, measured: Measured, verdicts: Sequence[Verdict]
) -> dict[str, Any]:
    """Return what was measured as recall.json has it, but for what is live beside it."""
    return {
        **_identity(bench, tried.segments, rows=measured.ledger.collection_rows),
        **_recall_facts(bench, tried, chosen),
        "vectors": asdict(measured.fidelity),
        "relevance": measured.relevance,
        "ledger": asdict(measured.ledger),
        "erased_rows": erased_rows(bench.files, _collection_id(bench)),
        "gates": [verdict.row() for verdict in verdicts],
    }


def latency_facts(latency: Mapping[str, Latency]) -> dict[str, Any]:
    """Return the latency by the number of clients, as recall.json has it."""
    return {clients: asdict(found) for clients, found in latency.items()}


def in_short(facts: dict[str, Any]) -> dict[str, Any]:
    """Return what a stage reports itself."""
    return {name: value for name, value in facts.items() if name not in _IN_FULL_ONLY}


def recount(bench: Bench, findings: Findings) -> Ledger:
    """Draw up the release's ledger from what the import files and the collection hold now."""
    return draw_ledger(
        bench.files,
        bench.parts,
        findings.filed,
        file_rows=findings.rows,
        collection_rows=bench.store.count_rows(bench.collection),
        distinct_ids=bench.store.count_distinct_ids(bench.collection),
        erased_rows=erased_rows(bench.files, _collection_id(bench)),
    )


def _collection_id(bench: Bench) -> int:
    described = bench.store.describe(bench.collection)
    return described.id if described else 0


def _identity(bench: Bench, segments: Mapping[int, int], *, rows: int) -> dict[str, Any]:
    """Return what the verdict holds for: promotion refuses a collection that is another one by then."""
    described = bench.store.describe(bench.collection)
    return {
        "corpus": bench.files.corpus_name,
        "release": bench.files.release,
        "measured_at": datetime.now(UTC).isoformat(),
        "collection": bench.collection,
        "collection_id": described.id if described else 0,
        "index": described.index if described else {},
        "rows": rows,
        "segments": [{"id": segment, "rows": held} for segment, held in sorted(segments.items())],
    }


def _recall_facts(bench: Bench, tried: Tried, chosen: Rung) -> dict[str, Any]:
    gate, overall, is_unindexed = bench.corpus.gate, chosen.slices.get(EVERYTHING), tried.is_unindexed
    kinds = [question.kind for question in tried.drawn.questions]
    return {
        "k": gate.k,
        "min_recall": gate.min_recall,
        "confidence": gate.confidence,
        "queries": {kind.value: kinds.count(kind) for kind in Kind},
        "search_params": chosen.params,
        "is_tuned": not bench.corpus.index.search,
        "recall": asdict(overall) if overall and not is_unindexed else None,
        "note": MEANINGLESS if is_unindexed else "",
        "slices": slice_rows(chosen, tried.exact, gate, is_unindexed=is_unindexed),
        "curve": [rung.point() for rung in tried.rungs],
        "histogram": histogram(chosen.recalls[EVERYTHING]),
    }


def draw(bench: Bench) -> Drawn:
    """Sample the release's rows, make questions of them and embed what has no vector yet."""
    import numpy as np

    gate = bench.corpus.gate
    count = max(gate.queries.count, CHECKED_PASSAGES)
    tables = bench.spread(import_files(bench.files), partial(sample_rows, count=count))
    sampled = smallest_ids(tables, count).to_pylist()
    judgements = frozen_judgements(bench.files, bench.corpus)
    golden = judgements.queries.values() if judgements else ()
    questions = draw_questions(sampled, golden, frozen_log(bench.files, bench.corpus), gate.queries.count)
    by_id = {row["id"]: row["vector"] for row in sampled}
    texts = [question.text for question in questions if not question.own]
    made = iter(embed_queries(bench, bench.files, texts) if texts else [])
    vectors = [by_id[question.own] if question.own else next(made) for question in questions]
    queries = Queries(
        vectors=np.asarray(vectors, "float32"),
        own=[question.own for question in questions],
        metric=bench.corpus.index.metric,
    )
    return Drawn(questions=questions, queries=queries, sampled=sampled)


def embed_queries(bench: Bench, files: ReleaseFiles, texts: Sequence[str]) -> np.ndarray:
    """Return the vectors of questions as a release asks them, shape (texts, dimension)."""
    prompt = files.corpus().embedding.query_prompt
    return bench.embed(files, [prompt + text for text in texts])


def import_files(files: ReleaseFiles) -> list[str]:
    return [file["file"] for file in files.needed_report("assemble")["files"]]


def search_exactly(bench: Bench, drawn: Drawn, tried: Sequence[Answered]) -> tuple[Findings, dict[str, Neighbours]]:
    """Return the true neighbours of each question in each slice, by its name, and what the import files hold."""
    gate = bench.corpus.gate
    answered = {chunk for answers in tried for ids in answers.ids.values() for given in ids for chunk in given}
    errand = Errand(
        # One more than is asked for: a passage is its own nearest neighbour.
        asked=tuple(Asked(vectors=drawn.queries.vectors, k=gate.k + 1, within=within) for within in bench.slices),
        wanted=pa.array(sorted(answered), pa.string()),
        metric=bench.corpus.index.metric,
        memory_bytes=gate.memory_megabytes * 2**20,
    )
    found = merge_findings(bench.spread(import_files(bench.files), partial(scan_file, errand=errand)), errand)
    names = [name_of(within) for within in bench.slices]
    return found, dict(zip(names, found.neighbours, strict=True))


def answers_of(bench: Bench, drawn: Drawn, params: Params, *, collection: str | None = None) -> Answered:
    """Return what the index answers with one setting: one more than is asked for, as in the exact search.

    The index is the release's, unless another collection is named.
    """
    k = bench.corpus.gate.k + 1
    return answer_all(
        bench.store,
        collection or bench.collection,
        drawn.queries.vectors,
        k=k,
        params=at_least(params, k),
        slices=bench.slices,
    )
