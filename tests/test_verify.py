from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from reindex.bench import MEANINGLESS, Bench, draw
from reindex.embedders import EMBEDDERS, ENGINES
from reindex.errors import (
    LedgerMismatch,
    NotJudged,
    RecallTooLow,
    RelevanceWorse,
    SettingsError,
    TooManyRejects,
    WrongVectors,
)
from reindex.exact import Neighbours
from reindex.fidelity import CHECKED_PASSAGES, check_fidelity, cosines_to_model
from reindex.naming import collection_name
from reindex.records import chunk_schema
from reindex.releases import ReleaseFiles
from reindex.settings import Queries as QueriesSection
from reindex.tuning import Queries
from reindex.verify import keep_queries, verify_release
from tests.bench import OtherEmbedder, PoorStore, bench_of
from tests.fakes import STATE_BUCKET, exact_store
from tests.nights import MODEL, CountingEmbedder, Nights, in_process, with_settings

TOPICS = ["tides", "looms", "comets", "orchids", "glaciers", "bridges", "mills", "harbours"]


def documents(count: int = 30) -> dict[str, str | bytes]:
    """Return documents of which each paragraph is a passage of its own."""
    return {
        f"{number:03}.md": f"# Report {number} of {TOPICS[number % 8]}\n\n"
        + "\n\n".join(
            f"## Station {number * 31 + part}\n\n"
            + " ".join(f"{'x' * (1 + (number * 7 + part * 3 + word * word) % 23)}" for word in range(120))
            for part in range(4)
        )
        for number in range(count)
    }


@pytest.fixture
def nights(monkeypatch: pytest.MonkeyPatch) -> Nights:
    in_process(monkeypatch)
    # The store in memory calls its rows one segment: as many as Milvus needs for an index.
    monkeypatch.setattr("reindex.bench.SMALLEST_INDEXED_SEGMENT", 100)
    made = Nights()
    made.corpus = with_settings(made.corpus, gate={"queries": {"count": 200}})
    return made


@pytest.fixture
def bench(nights: Nights) -> Bench:
    nights.run(documents())
    return bench_of(nights)


def poor_bench(nights: Nights, quality: Any, **settings: dict[str, Any]) -> Bench:
    """Return the bench of a release whose index finds so much."""
    nights.corpus = with_settings(nights.corpus, **settings)
    nights.run(documents())
    exact = exact_store(nights.live_files())
    return bench_of(nights, PoorStore(read_file=exact.read_file, quality=quality))


def recall_json(bench: Bench) -> dict[str, Any]:
    """Return what was measured, in full; the page for people must be there too."""
    measured = bench.files.read_json("recall.json")
    assert measured is not None
    assert bench.files.read_text("report.html")
    return measured


def gates(bench: Bench) -> dict[str, bool | None]:
    return {row["gate"]: row["passed"] for row in recall_json(bench)["gates"]}


def test_a_good_release_passes_every_gate_that_was_asked_anything(bench: Bench) -> None:
    measured = verify_release(bench)
    assert measured["recall"]["mean"] == 1.0
    assert measured["recall"]["queries"] == 200
    assert gates(bench) == {
        "ledger": True,
        "rejects": True,
        "vectors": True,
        "recall": True,
        "relevance": None,
        "latency": None,
    }
    written = recall_json(bench)
    assert {name: written[name] for name in measured} == json.loads(json.dumps(measured))


def test_the_verdict_names_what_it_holds_for(bench: Bench) -> None:
    measured = verify_release(bench)
    described = bench.store.describe(bench.collection)
    assert described is not None
    assert measured["collection_id"] == described.id
    assert measured["segments"] == [{"id": 1, "rows": measured["rows"]}]
    assert measured["rows"] == bench.store.count_rows(bench.collection)


def test_questions_are_passages_without_themselves_and_headings(bench: Bench) -> None:
    measured = verify_release(bench)
    assert measured["queries"] == {"golden": 0, "log": 0, "passages": 100, "headings": 100}
    kept = bench.files.store.read_table(bench.files.bucket, bench.files.key("queries.parquet"))
    assert kept is not None
    assert sum(own != "" for own in kept.column("own").to_pylist()) == 100


@pytest.mark.parametrize(("asked", "kept"), [(3, [0, 1, 2]), (1_000, range(1_000)), (4_000, range(0, 4_000, 4))])
def test_of_more_queries_than_are_kept_every_kind_is(bench: Bench, asked: int, kept: Any) -> None:
    names = [str(place) for place in range(asked)]
    queries = Queries(vectors=np.ones((asked, 2), "float32"), own=names, metric="IP")
    others = np.full((asked, 1), "other")
    exact = Neighbours(ids=others, documents=others, scores=np.ones((asked, 1), "float32"))
    keep_queries(bench.files, queries, exact, k=1)
    assert bench.files.read_column("queries.parquet", "own") == [str(place) for place in kept]


def test_the_quickest_setting_that_finds_enough_is_chosen(nights: Nights) -> None:
    bench = poor_bench(nights, lambda params, _: 1.0 if params["ef"] >= 64 else 0.8)
    measured = verify_release(bench)
    assert measured["search_params"] == {"ef": 64}
    assert measured["is_tuned"]
    curve = recall_json(bench)["curve"]
    means = {point["params"]["ef"]: point["slices"]["all"]["mean"] for point in curve}
    assert list(means) == [16, 32, 64, 128, 256, 512]
    assert means[32] < 0.95 < means[64] == means[512] == 1.0


def test_an_index_that_no_setting_helps_is_stopped_with_what_would(nights: Nights) -> None:
    bench = poor_bench(nights, lambda _params, _: 0.8)
    with pytest.raises(RecallTooLow, match=r"no setting finds enough, ef 512 .* a higher index\.params\.M"):
        verify_release(bench)
    assert gates(bench)["recall"] is False


def test_a_setting_that_is_pinned_is_the_one_that_must_find_enough(nights: Nights) -> None:
    quality = lambda params, _: 1.0 if params["nprobe"] >= 8 else 0.5  # noqa: E731 - a table of qualities
    index = {"type": "IVF_FLAT", "params": {"nlist": 16}, "search": {"nprobe": 1}}
    bench = poor_bench(nights, quality, index=index)
    with pytest.raises(RecallTooLow, match=r"index\.search pins nprobe 1, and nprobe 8 would do"):
        verify_release(bench)


def test_a_slice_with_poor_recall_stops_a_release_whose_overall_recall_passes(nights: Nights) -> None:
    slices = {"gate": {"queries": {"count": 200}, "slices": [{"prefix": "00"}, {"group": "hr"}]}}
    bench = poor_bench(nights, lambda _params, within: 0.5 if within == "prefix 00" else 1.0, **slices)
    with pytest.raises(RecallTooLow, match=r"recall@10 of the slice prefix 00 is"):
        verify_release(bench)
    measured = recall_json(bench)
    assert {row["name"]: row["passed"] for row in measured["slices"]} == {
        "all": True,
        "prefix 00": False,
        "group hr": True,
    }
    assert [round(row["share"], 1) for row in measured["slices"]] == [1.0, 0.3, 1.0]


def test_a_slice_without_rows_is_named_and_stops_nothing(nights: Nights) -> None:
    nights.corpus = with_settings(nights.corpus, gate={"slices": [{"language": "xxx"}], "queries": {"count": 200}})
    nights.run(documents())
    measured = verify_release(bench_of(nights))
    assert measured["slices"][1]["note"] == "no row is in it"
    assert measured["slices"][1]["passed"] is None


def test_too_small_a_corpus_says_that_recall_is_meaningless(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    in_process(monkeypatch)
    nights.run(documents(3))
    bench = bench_of(nights)
    measured = verify_release(bench)
    assert (measured["recall"], measured["note"]) == (None, MEANINGLESS)
    assert measured["note"].startswith("recall is meaningless below 1,024 rows a segment")
    # No setting can change what is searched exhaustively.
    assert len((bench.files.read_json("recall.json") or {})["curve"]) == 1
    assert gates(bench)["recall"] is None


def test_a_single_note_can_be_measured(nights: Nights) -> None:
    nights.run({"a.txt": "left and right"})
    assert verify_release(bench_of(nights))["recall"] is None


def test_a_tenth_of_the_rows_missing_is_stopped_by_the_ledger(bench: Bench) -> None:
    table = bench.store.fetch(bench.collection, "language", ["", "eng", "und", "lat", "vie"], ["id"])
    bench.store.delete_rows(bench.collection, [row["id"] for row in table[::10]])
    with pytest.raises(LedgerMismatch, match="counted in Milvus"):
        verify_release(bench)


def test_the_vectors_of_one_document_in_another_s_place_are_stopped_by_name(nights: Nights) -> None:
    nights.run(documents())
    files = nights.live_files()
    name = files.needed_report("assemble")["files"][0]["file"]
    rows = files.store.read_table(files.bucket, name)
    assert rows is not None
    held = rows.to_pylist()
    first, second = ([row for row in held if row["document"] == f"docs/{key}.md"] for key in ("003", "017"))
    for one, other in zip(first, second, strict=False):
        one["vector"], other["vector"] = other["vector"], one["vector"]
    changed = pa.Table.from_pylist(held, schema=chunk_schema())
    files.store.write_batches(files.bucket, name, chunk_schema(), changed.to_batches())
    with pytest.raises(
        LedgerMismatch, match=r"than in the parts: docs/003\.md, docs/017\.md;|docs/003\.md, docs/017\.md"
    ):
        verify_release(bench_of(nights))


def test_two_models_mixed_are_stopped_by_the_vectors(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    nights.run(dict(list(documents().items())[:20]))
    monkeypatch.setitem(EMBEDDERS, ENGINES[0], lambda model, *_: OtherEmbedder(model.dimension))
    nights.run(documents())
    with pytest.raises(WrongVectors, match="were two models mixed"):
        verify_release(bench_of(nights))


@pytest.mark.parametrize(
    ("precision", "made", "served", "passes"),
    [("float32", 0.97, 1.0, False), ("int8", 0.97, 1.0, True), ("int8", 0.95, 1.0, False), ("int8", 1.0, 0.97, False)],
)
def test_only_int8_may_differ_from_one_processor_to_another_and_never_from_what_is_served(
    nights: Nights, precision: str, made: float, served: float, passes: bool
) -> None:
    corpus = with_settings(judged_nights(nights).corpus, embedding={"precision": precision})
    rows = [{"id": "1", "document": "a.md", "section": "", "text": "a", "vector": [1.0, 0.0]}]
    [(_, cosine)] = cosines_to_model(rows, corpus, lambda _: np.asarray([at(made)]), {})
    found = check_fidelity(rows, corpus, [cosine], {"1": at(served)})
    assert found.wrong == (() if passes else ("a.md",))


def test_what_was_compared_when_the_live_release_was_verified_is_not_embedded_for_that_again(
    nights: Nights,
) -> None:
    nights.run(documents())
    first = promoted(nights, bench_of(nights))
    nights.run({**documents(), "007.md": "# Wholly rewritten\n\n" + "of other words and letters " * 40})
    second = bench_of(nights, first.store)  # type: ignore[arg-type]
    before, now = ({row["text"] for row in draw(bench).sampled[:CHECKED_PASSAGES]} for bench in (first, second))
    CountingEmbedder.texts = 0
    verify_release(second)
    # The headings, and the passages that the other release did not have.
    assert 0 < len(now - before) < 10
    assert CountingEmbedder.texts == 100 + len(now - before)
    cosines = (second.files.read_json("cosines.json") or {}).values()
    assert cosines
    assert min(cosines) > 0.99


def at(cosine: float) -> list[float]:
    return [cosine, (1 - cosine**2) ** 0.5]


def test_vectors_that_the_server_has_scrambled_are_stopped(bench: Bench) -> None:
    held = exact_rows(bench)
    vectors = held.column("vector").to_pylist()
    place = held.schema.get_field_index("vector")
    turned = pa.array([*vectors[1:], vectors[0]], held.schema.field("vector").type)
    bench.store.held[bench.collection].rows = held.set_column(place, held.schema.field("vector"), turned)  # type: ignore[attr-defined]
    with pytest.raises(WrongVectors, match="served as others"):
        verify_release(bench)


def exact_rows(bench: Bench) -> pa.Table:
    return bench.store.held[bench.collection].rows  # type: ignore[attr-defined]


def test_too_many_rejects_stop_a_release_and_name_the_first(nights: Nights) -> None:
    nights.run({**documents(), "bad.pdf": b"%PDF-1.4 and then nothing", "worse.pdf": b"%PDF-1.4 nor here"})
    with pytest.raises(TooManyRejects, match=r"2 of 32 documents were rejected.*(bad|worse)\.pdf"):
        verify_release(bench_of(nights))


def test_a_ceiling_of_latency_stops_what_is_slower(nights: Nights) -> None:
    nights.corpus = with_settings(nights.corpus, gate={"max_p99_ms": 1e-6, "queries": {"count": 200}})
    nights.run(documents())
    bench = bench_of(nights)
    with pytest.raises(Exception, match=r"99th percentile of a search is .* ms, over gate\.max_p99_ms 1e-06"):
        verify_release(bench)
    assert gates(bench)["latency"] is False


def test_what_is_live_is_asked_the_same_and_the_most_changed_questions_are_named(nights: Nights) -> None:
    nights.run(unlike(40, 30))
    first = bench_of(nights)
    before = nights.live_files()
    before.write_report("verify", 0, verify_release(first))
    first.store.point_alias("docs", collection_name("docs", before.release))
    nights.run({**unlike(40, 30), "007.md": "# Wholly rewritten\n\n" + "of other words and letters " * 40})
    second = bench_of(nights, first.store)  # type: ignore[arg-type]
    verify_release(second)
    measured = recall_json(second)
    overlap = measured["overlap"]
    assert overlap["live"] == before.release
    assert 0.5 < overlap["mean"] < 1
    shares = [row["overlap"] for row in overlap["changed"]]
    assert shares == sorted(shares)
    assert {document for row in overlap["changed"] for document in row["candidate"]} >= {"docs/007.md"}
    assert set(measured["latency"]["live"]) == set(measured["latency"]["candidate"]) == {"1", "4"}


def test_a_live_release_of_another_model_is_asked_as_its_own_model_asks(nights: Nights) -> None:
    nights.corpus = with_settings(nights.corpus, embedding={"precision": "bfloat16"})
    nights.run(documents())
    first = bench_of(nights)
    before = nights.live_files()
    before.write_report("verify", 0, verify_release(first))
    first.store.point_alias("docs", collection_name("docs", before.release))
    nights.corpus = with_settings(nights.corpus, embedding={"precision": "float32", "query_prompt": "query: "})
    nights.run(documents(), rebuild=True)
    CountingEmbedder.texts = 0
    second = bench_of(nights, first.store)  # type: ignore[arg-type]
    verify_release(second)
    assert recall_json(second)["overlap"]["mean"] > 0
    # The headings for the one, everything for the other, and the passages whose vectors are looked at.
    assert CountingEmbedder.texts == 100 + 200 + 128


def test_few_queries_are_refused_in_the_corpus_file() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 200"):
        QueriesSection(count=199)


def judged_nights(nights: Nights, *, max_loss: float = 0.01) -> Nights:
    """Return nights whose corpus names golden queries: each asks for a document by one of its own passages."""
    golden = {"queries": "q.jsonl", "qrels": "qrels.tsv", "max_loss": max_loss}
    nights.corpus = with_settings(nights.corpus, gate={"queries": {"count": 200}, "golden": golden})
    return nights


def judge_by(nights: Nights, bench: Bench, *, wrong: int = 0) -> Bench:
    """Freeze golden queries with a release: the first passage of each document, judged to be of it, some wrongly."""
    texts = {name: held[0] for name, held in sorted(nights.texts().items())}
    names = list(texts)
    queries = "\n".join(json.dumps({"_id": name, "text": text}) for name, text in texts.items())
    of = {name: names[place - 1] if place < wrong else name for place, name in enumerate(names)}
    qrels = "\n".join(f"{name}\t{judged.removesuffix('.md')}\t1" for name, judged in of.items())
    for file, content in {"golden_queries.jsonl": queries, "golden_qrels.tsv": qrels}.items():
        bench.files.write_text(file, content)
    return bench


def unlike(count: int, words: int) -> dict[str, str | bytes]:
    """Return documents that are told apart by their first words."""
    return {
        f"{number:03}.md": " ".join("y" * (1 + (number * (part + 3) + part * part) % 41) for part in range(words))
        for number in range(count)
    }


def promoted(nights: Nights, bench: Bench) -> Bench:
    bench.files.write_report("verify", 0, verify_release(bench))
    bench.store.point_alias("docs", collection_name("docs", bench.files.release))
    return bench


def test_golden_queries_are_asked_first_and_measured_beside_nothing_at_first(nights: Nights) -> None:
    judged_nights(nights).run(unlike(40, 30))
    bench = judge_by(nights, bench_of(nights))
    verify_release(bench)
    measured = recall_json(bench)
    assert measured["queries"]["golden"] == 40
    assert measured["relevance"]["candidate"]["ndcg@10"] == pytest.approx(
        measured["relevance"]["candidate_exact"]["ndcg@10"]
    )
    assert measured["relevance"]["live"] is None
    assert gates(bench)["relevance"] is None


def test_a_release_that_finds_what_the_live_one_finds_passes(nights: Nights) -> None:
    judged_nights(nights).run(unlike(40, 30))
    first = promoted(nights, judge_by(nights, bench_of(nights)))
    nights.run({**unlike(40, 30), "new.md": "something else altogether"})
    second = judge_by(nights, bench_of(nights, first.store))  # type: ignore[arg-type]
    verify_release(second)
    assert gates(second)["relevance"] is True
    assert abs(recall_json(second)["relevance"]["difference"]) < 0.05


def test_a_release_that_finds_less_of_what_was_judged_is_stopped(nights: Nights) -> None:
    judged_nights(nights).run(unlike(40, 30))
    first = promoted(nights, judge_by(nights, bench_of(nights)))
    rewritten = {name: b"z " * 40 if int(name[:3]) % 2 else text for name, text in unlike(40, 30).items()}
    nights.run({"old.md": "kept", **rewritten})
    before = ReleaseFiles(nights.store, STATE_BUCKET, "docs", first.files.release)
    second = bench_of(nights, first.store)  # type: ignore[arg-type]
    for file in ("golden_queries.jsonl", "golden_qrels.tsv"):
        second.files.write_text(file, before.read_text(file) or "")
    with pytest.raises(RelevanceWorse, match=r"over 40 golden queries: worse by .* gate\.golden\.max_loss 0\.01"):
        verify_release(second)
    found = recall_json(second)["relevance"]
    assert found["lost_to_content"] > 0.1 > abs(found["lost_to_search"])


def test_judgements_of_other_documents_verify_nothing(nights: Nights) -> None:
    judged_nights(nights).run(unlike(40, 30))
    bench = bench_of(nights)
    judge(bench, dict.fromkeys(range(20), "nobody-has-this"))
    measured = verify_release(bench)
    assert measured["relevance"]["note"].startswith("relevance not verified: none of the documents")
    assert gates(bench)["relevance"] is None


def test_a_handful_of_judged_queries_verifies_nothing(nights: Nights) -> None:
    judged_nights(nights).run(unlike(40, 30))
    bench = bench_of(nights)
    judge(bench, {0: "001", 1: "002"})
    assert "2 judged queries are too few, 20 are needed" in verify_release(bench)["relevance"]["note"]
    assert gates(bench)["relevance"] is None


def in_int8(nights: Nights) -> Nights:
    nights.corpus = with_settings(nights.corpus, embedding={"precision": "int8"})
    return nights


def test_a_release_in_int8_is_judged_beside_a_live_one_that_is_asked_in_its_own_precision(nights: Nights) -> None:
    judged_nights(nights).run(unlike(40, 30))
    first = promoted(nights, judge_by(nights, bench_of(nights)))
    before = ReleaseFiles(nights.store, STATE_BUCKET, "docs", first.files.release)
    in_int8(nights).run()
    asked: list[tuple[str, str]] = []

    def embed(files: ReleaseFiles, texts: list[str]) -> Any:
        asked.append((files.release, files.needed_report("plan")["precision"]))
        return CountingEmbedder(MODEL.dimension).embed(texts)

    second = replace(judge_by(nights, bench_of(nights, first.store)), embed=embed)  # type: ignore[arg-type]
    verify_release(second)
    assert gates(second)["relevance"] is True
    assert set(asked) == {(second.files.release, "int8"), (before.release, "float32")}


@pytest.mark.parametrize(
    ("queries", "why"),
    [({0: "001", 1: "002"}, "2 judged queries are too few"), (dict.fromkeys(range(20), "no"), "none of the documents")],
)
def test_a_release_in_int8_that_nothing_could_judge_is_stopped(
    nights: Nights, queries: dict[int, str], why: str
) -> None:
    judged_nights(nights).run(unlike(40, 30))
    first = promoted(nights, judge_by(nights, bench_of(nights)))
    in_int8(nights).run()
    second = bench_of(nights, first.store)  # type: ignore[arg-type]
    judge(second, queries)
    with pytest.raises(NotJudged, match=rf"{why}.* vectors in int8 go live only by the relevance gate"):
        verify_release(second)
    assert gates(second)["relevance"] is False


def test_the_first_release_of_all_is_not_planned_in_int8(nights: Nights) -> None:
    with pytest.raises(SettingsError, match=r"embedding\.precision.* is int8, .* make the first one with auto"):
        in_int8(judged_nights(nights)).run(unlike(40, 30))


def judge(bench: Bench, relevant: dict[int, str]) -> None:
    """Freeze golden queries with a release: some words, and the one document that is relevant to them."""
    queries = [json.dumps({"_id": str(number), "text": f"y{'y' * number} yy"}) for number in relevant]
    bench.files.write_text("golden_queries.jsonl", "\n".join(queries))
    qrels = [f"{number}\t{document}\t1" for number, document in relevant.items()]
    bench.files.write_text("golden_qrels.tsv", "\n".join(qrels))


def test_what_readers_ask_is_asked(nights: Nights) -> None:
    nights.corpus = with_settings(nights.corpus, gate={"queries": {"count": 200, "log": "log.jsonl"}})
    nights.run(documents())
    bench = bench_of(nights)
    lines = [json.dumps({"text": f"{'w' * number} and on"}) for number in range(1, 30)]
    bench.files.write_text("query_log.jsonl", "\n".join(lines * 2))
    assert verify_release(bench)["queries"] == {"golden": 0, "log": 29, "passages": 86, "headings": 85}
