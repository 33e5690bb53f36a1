"""What is live, measured again: as it was, and after something has happened to it."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from reindex.bench import Bench
from reindex.check import begin_check, check_live
from reindex.display import print_check
from reindex.erase import Erasure, erase_document
from reindex.errors import Drifted, NotLoaded
from reindex.naming import alias_name, check_name, checks_prefix, twin_name
from reindex.plan import UNCHANGED
from reindex.releases import LivePointer, ReleaseFiles, write_live
from reindex.verify import verify_release
from tests.bench import PoorStore, bench_of
from tests.fakes import STATE_BUCKET, exact_store
from tests.nights import CountingEmbedder, Nights, in_process, with_settings
from tests.test_naming import AS_OF
from tests.test_verify import documents


@pytest.fixture
def nights(monkeypatch: pytest.MonkeyPatch) -> Nights:
    in_process(monkeypatch)
    monkeypatch.setattr("reindex.bench.SMALLEST_INDEXED_SEGMENT", 100)
    made = Nights()
    made.corpus = with_settings(made.corpus, gate={"queries": {"count": 200}})
    return made


def promoted(bench: Bench) -> Bench:
    """Verify the release of a bench and make it live."""
    bench.files.write_report("verify", 0, verify_release(bench))
    bench.store.point_alias(alias_name(bench.files.corpus_name), bench.collection)
    return bench


@pytest.fixture
def live(nights: Nights) -> Bench:
    nights.run(documents())
    return promoted(bench_of(nights))


def begun(bench: Bench, run: str = "run") -> ReleaseFiles:
    check = bench.files.of(check_name(AS_OF, run))
    assert begin_check(bench.store, check) == bench.files.release
    return check


def checked(bench: Bench) -> dict[str, Any]:
    """Check what is live, as the job does, and return what the check has left."""
    check = begun(bench)
    check.write_report("check", 0, check_live(bench, check))
    assert check.read_text("report.html")
    return check.needed_report("check")


def rows_of(bench: Bench) -> pa.Table:
    return bench.store.held[bench.collection].rows  # type: ignore[attr-defined]


def test_a_live_index_that_is_as_it_was_passes_and_says_so(live: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    report = checked(live)
    assert report["release"] == live.files.release
    gates = {row["gate"]: row["passed"] for row in report["gates"]}
    assert gates == {
        "ledger": True,
        "rejects": None,
        "vectors": True,
        "recall": True,
        "relevance": None,
        "latency": None,
    }
    drift = report["drift"]
    assert drift["recall_bound_then"] == drift["recall_bound_now"] > 0.95
    assert drift["segments_changed"] is False
    print_check(report)
    said = capsys.readouterr().out
    assert "\nrecall      1.0000, was 1.0000; lower bound 0.98" in said
    assert "\ngate ledger passed: 30 documents listed = " in said
    assert "segments" not in said


def test_the_page_of_a_check_says_what_it_is_and_that_readers_still_get_what_has_drifted(live: Bench) -> None:
    page = checked_page(live)
    assert "check of what is live of" in page
    assert '<h2 id="drift">Since it was verified</h2>' in page
    assert "The segments are those that were measured then." in page
    assert "this release is live itself" in page
    live.store.delete_rows(live.collection, rows_of(live).column("id").to_pylist()[:50])
    with pytest.raises(Drifted):
        checked(live)
    failed = live.files.of(check_name(AS_OF, "run")).read_text("report.html") or ""
    assert "Readers still get it: roll back, or run the corpus again." in failed
    assert "It is not promoted" not in failed


def checked_page(bench: Bench) -> str:
    checked(bench)
    return bench.files.of(check_name(AS_OF, "run")).read_text("report.html") or ""


def test_a_check_is_found_by_its_name_as_a_release_is_and_is_none(live: Bench) -> None:
    check = begun(live)
    assert check.key("corpus.json").startswith(f"reindex/docs/checks/{check.release}/")
    assert check.corpus() == live.corpus
    assert check.needed_report("begin") == {"release": live.files.release, "noise": False}


def test_only_the_setting_that_readers_search_with_is_tried(nights: Nights) -> None:
    nights.run(documents())
    exact = exact_store(nights.live_files())
    quality = lambda params, _: 1.0 if params["ef"] >= 64 else 0.8  # noqa: E731 - a table of qualities
    bench = promoted(bench_of(nights, PoorStore(read_file=exact.read_file, quality=quality)))
    report = checked(bench)
    assert report["search_params"] == {"ef": 64}
    check = bench.files.of(check_name(AS_OF, "run"))
    assert [point["params"] for point in (check.read_json("recall.json") or {})["curve"]] == [{"ef": 64}]


def test_an_index_that_finds_less_than_it_did_has_drifted(nights: Nights) -> None:
    nights.run(documents())
    exact = exact_store(nights.live_files())
    store = PoorStore(read_file=exact.read_file)
    bench = promoted(bench_of(nights, store))
    store.quality = lambda _params, _slice: 0.7
    with pytest.raises(Drifted) as drifted:
        checked(bench)
    said = str(drifted.value)
    assert said.startswith(f"the live index of docs, {bench.files.release}, has drifted: recall@10 is 0.7")
    assert "that is what readers' searches find now, with ef 16; readers still get it: roll back" in said
    measured = bench.files.of(check_name(AS_OF, "run")).read_json("recall.json") or {}
    assert measured["drift"]["recall_now"] < 0.95 < measured["drift"]["recall_then"]


def test_a_slice_that_finds_less_than_it_did_has_drifted(nights: Nights) -> None:
    gate = {"queries": {"count": 200}, "slices": [{"prefix": "00"}]}
    nights.corpus = with_settings(nights.corpus, gate=gate)
    nights.run(documents())
    exact = exact_store(nights.live_files())
    store = PoorStore(read_file=exact.read_file)
    bench = promoted(bench_of(nights, store))
    store.quality = lambda _params, within: 0.5 if within else 1.0
    with pytest.raises(Drifted, match=r"recall@10 of the slice prefix 00 is"):
        checked(bench)


def test_rows_that_have_vanished_are_a_drift(live: Bench) -> None:
    gone = rows_of(live).column("id").to_pylist()[::10]
    live.store.delete_rows(live.collection, gone)
    with pytest.raises(Drifted, match=rf"has drifted: the ledger does not add up: .*{len(gone)}|counted in Milvus"):
        checked(live)


def test_after_a_drift_the_next_run_builds_a_release_though_no_document_has_changed(
    nights: Nights, live: Bench
) -> None:
    gone = rows_of(live).slice(0, 50)
    live.store.delete_rows(live.collection, gone.column("id").to_pylist())
    with pytest.raises(Drifted):
        checked(live)
    CountingEmbedder.texts = 0
    night = nights.run()
    assert (night["outcome"], night["embedded"], CountingEmbedder.texts) == ("build", 0, 0)
    assert nights.run()["outcome"] == UNCHANGED


def test_a_check_that_passes_again_lets_the_release_stand(nights: Nights, live: Bench) -> None:
    held = rows_of(live)
    live.store.delete_rows(live.collection, held.column("id").to_pylist()[:50])
    with pytest.raises(Drifted):
        checked(live)
    live.store.held[live.collection].rows = held  # type: ignore[attr-defined]
    checked(live)
    assert nights.run()["outcome"] == UNCHANGED


def test_vectors_that_the_server_has_scrambled_are_a_drift(live: Bench) -> None:
    held = rows_of(live)
    vectors, place = held.column("vector").to_pylist(), held.schema.get_field_index("vector")
    turned = pa.array([*vectors[1:], vectors[0]], held.schema.field("vector").type)
    live.store.held[live.collection].rows = held.set_column(place, held.schema.field("vector"), turned)  # type: ignore[attr-defined]
    with pytest.raises(Drifted, match="served as others"):
        checked(live)


def test_segments_that_the_server_has_rearranged_are_told_and_no_drift_by_themselves(
    live: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = live.store.count_rows(live.collection)
    monkeypatch.setattr(type(live.store), "segments", lambda _store, _collection: {7: rows})
    assert checked(live)["drift"]["segments_changed"] is True


def test_a_document_that_was_erased_is_no_drift_and_not_in_any_check_either(nights: Nights) -> None:
    nights.corpus = with_settings(nights.corpus, gate={"queries": {"count": 200}, "max_rejected_share": 0.04})
    nights.run({**documents(25), "bad.pdf": b"%PDF-1.4 and then nothing"})
    live = promoted(bench_of(nights))
    first = begun(live, "first")
    first.write_json("check.json", check_live(live, first))
    first.write_json("failure.json", {"message": "vectors are wrong: docs/003.md, cosine down to 0.1"})
    for key in ("docs/003.md", "docs/004.md"):
        erasure = Erasure(objects=nights.store, vectors=live.store, bucket=STATE_BUCKET, corpus="docs", key=key)
        report = erase_document(erasure, nights.corpus.source, reason="a court order", by="a test")
        assert report["left"] == []
    checks = [data for (_, path), data in nights.store.objects.items() if "/checks/" in path]
    assert len(checks) == 7
    assert not any(b"docs/003.md" in data for data in checks)
    # One of 24 is more than four in a hundred: rejects were settled before.
    assert all(row["passed"] is not False for row in checked(live)["gates"])


def test_a_collection_out_of_memory_is_loaded_and_looked_at_again(live: Bench) -> None:
    live.store.release(live.collection)
    with pytest.raises(NotLoaded):
        checked(live)
    assert checked(live)["recall"]["mean"] == 1.0


def test_an_alias_that_is_gone_is_a_drift_as_long_as_live_json_remembers(live: Bench) -> None:
    pointer = LivePointer(release=live.files.release, collection=live.collection, since="", by="", replaced="")
    write_live(live.files.store, live.files.bucket, "docs", pointer, etag=None)
    live.store.remove_alias("docs")
    with pytest.raises(Drifted, match="the alias docs names no collection"):
        checked(live)


def test_where_nothing_was_ever_live_there_is_nothing_to_check(nights: Nights) -> None:
    nights.run(documents())
    bench = bench_of(nights)
    check = bench.files.of(check_name(AS_OF, "run"))
    assert begin_check(bench.store, check) is None
    assert not list(check.store.keys(check.bucket, checks_prefix("docs")))


def test_a_release_that_was_replaced_while_its_check_waited_is_not_measured(
    live: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    check = begun(live)
    live.store.point_alias("docs", "docs__20260301T020000Z_abcd1234")
    report = check_live(live, check)
    assert report["replaced_by"] == "20260301T020000Z_abcd1234"
    print_check(report)
    assert "is not live any more: 20260301T020000Z_abcd1234" in capsys.readouterr().out


def test_the_newest_thirty_checks_are_kept(live: Bench) -> None:
    for day in range(1, 33):
        check = live.files.of(check_name(AS_OF.replace(day=1 + day % 31, month=3 + day // 31), "run"))
        begin_check(live.store, check)
    paths = live.files.store.keys(live.files.bucket, checks_prefix("docs"))
    names = sorted({path.removeprefix(checks_prefix("docs")).split("/")[0] for path in paths})
    assert len(names) == 30
    assert (names[0][:14], names[-1][:14]) == ("check-20260304", "check-20260402")


def test_what_a_killed_measurement_of_noise_left_is_dropped_by_the_next_check(live: Bench) -> None:
    live.store.create_collection(twin_name(live.collection), dimension=4, index=live.corpus.index)
    begun(live)
    assert live.store.collections() == [live.collection]


def test_settings_that_are_gone_stop_the_check_of_their_corpus_and_not_its_beginning(live: Bench) -> None:
    live.files.store.delete(live.files.bucket, live.files.key("corpus.json"))
    assert begun(live).read_json("corpus.json") is None
