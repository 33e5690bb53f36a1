"""The same release built twice, and how much the two differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from reindex.bench import Bench
from reindex.display import print_check
from reindex.errors import DoesNotFit, GateBelowNoise, ImportFailed
from reindex.importers import GrpcImport
from reindex.naming import noise_key
from reindex.noise import measure_noise
from reindex.plan import check_noise
from reindex.records import Memory, Progress
from reindex.settings import Corpus
from tests.bench import PoorStore, bench_of
from tests.fakes import a_corpus, exact_store, release_files
from tests.nights import Nights, in_process, with_settings
from tests.test_check import checked, promoted
from tests.test_verify import documents


def at_once(poll: Callable[[], Progress]) -> None:
    while not poll().done:
        pass


@dataclasses.dataclass(slots=True)
class ChancyStore(PoorStore):
    """Its second build of an index finds another share than its first."""

    second: float = 1.0

    def search(self, name: str, *given: object, **asked: object) -> list[list[object]]:  # type: ignore[override]
        self.quality = lambda _params, _slice: self.second if name.endswith("__aa") else 1.0
        return PoorStore.search(self, name, *given, **asked)  # type: ignore[arg-type, return-value]


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Bench:
    in_process(monkeypatch)
    monkeypatch.setattr("reindex.bench.SMALLEST_INDEXED_SEGMENT", 100)
    nights = Nights()
    nights.corpus = with_settings(nights.corpus, gate={"queries": {"count": 200}})
    nights.run(documents())
    return promoted(bench_of(nights, ChancyStore(read_file=exact_store(nights.live_files()).read_file)))


def noise_of(bench: Bench) -> dict[str, float]:
    return measure_noise(bench, GrpcImport(bench.store), at_once)


def test_two_builds_that_answer_alike_have_no_noise(live: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    found = noise_of(live)
    assert (found["recall"], found["overlap"], found["queries"]) == (0.0, 0.0, 200)
    kept = live.files.store.read_json(live.files.bucket, noise_key("docs"))
    assert kept == found
    assert kept["release"] == live.files.release
    print_check({**checked(live), "noise": found})
    said = capsys.readouterr().out
    assert "\nnoise       two builds differ by 0.0000 in recall, and by 0.00% of their answers\n" in said


def test_noise_is_what_the_second_build_finds_less(live: Bench) -> None:
    live.store.second = 0.9  # type: ignore[attr-defined]
    found = noise_of(live)
    assert 0.01 < found["recall"] < 0.15
    assert 0 < found["overlap"] < 0.15


def test_the_second_collection_goes_whatever_happens(live: Bench) -> None:
    class Broken(GrpcImport):
        def poll(self, collection: str, jobs: object) -> Progress:
            raise ImportFailed(collection, str(jobs), "disk full")

    with pytest.raises(ImportFailed):
        measure_noise(live, Broken(live.store), at_once)
    noise_of(live)
    assert live.store.collections() == [live.collection]


def test_a_second_collection_that_has_no_room_is_refused(live: Bench) -> None:
    live.store.room = Memory(limit_bytes=1_000_000, used_bytes=890_000)  # type: ignore[attr-defined]
    with pytest.raises(DoesNotFit, match=r"^a second collection of the release needs"):
        noise_of(live)


def golden_corpus(max_loss: float) -> Corpus:
    return a_corpus(gate={"golden": {"queries": "q.jsonl", "qrels": "q.tsv", "max_loss": max_loss}})


def test_a_gate_finer_than_the_noise_is_refused_by_the_plan() -> None:
    files, corpus = release_files(), golden_corpus(0.001)
    noise = {"ndcg": 0.004, "index": corpus.index.model_dump()}
    files.store.write_json(files.bucket, noise_key("docs"), noise)
    with pytest.raises(
        GateBelowNoise, match=r"^gate\.golden\.max_loss 0\.001 is below the noise of 0\.004 between two"
    ):
        check_noise(files, corpus)
    check_noise(files, golden_corpus(0.004))
    check_noise(files, a_corpus())


def test_noise_that_was_not_measured_or_of_another_index_refuses_nothing() -> None:
    files, corpus = release_files(), golden_corpus(0.001)
    check_noise(files, corpus)
    files.store.write_json(files.bucket, noise_key("docs"), {"index": corpus.index.model_dump()})
    check_noise(files, corpus)
    files.store.write_json(files.bucket, noise_key("docs"), {"ndcg": 0.004, "index": {"type": "FLAT"}})
    check_noise(files, corpus)
