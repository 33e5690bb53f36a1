from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pytest

from reindex import live_search
from reindex.errors import ServiceUnavailable
from reindex.live_search import SAMPLE_SCHEMA, LiveProbe, live_search_facts, measure_at_rest
from reindex.naming import collection_name
from reindex.releases import ReleaseFiles
from reindex.verify import QUERIES_SCHEMA
from tests.fakes import a_corpus, release_files

LIVE = "20260101T020000Z_abcd1234"
NEXT = "20260102T020000Z_abcd1234"


@dataclass
class Server:
    """Answers through the alias, after so many failures; remembers what it was asked."""

    live: str | None = LIVE
    failures: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)
    connections: int = 0

    @contextmanager
    def connect(self) -> Iterator[Any]:
        self.connections += 1
        yield self

    def resolve_alias(self, alias: str) -> str | None:
        return collection_name("docs", self.live) if self.live else None

    def search(self, name: str, vectors: Any, **how: Any) -> list[Any]:
        if self.failures > 0:
            self.failures -= 1
            raise ServiceUnavailable("Milvus", "here", "gone")
        self.asked.append({"name": name, "vectors": vectors, **how})
        return [[]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_search, "PACE_SECONDS", 0.002)


def two_releases() -> ReleaseFiles:
    """Return the files of a release that is begun beside a live one, which has kept two queries."""
    live = release_files(LIVE)
    rows = [{"vector": vector, "floor": 0.5, "own": ""} for vector in ([1.0, 0.0], [0.0, 1.0])]
    live.write_table("queries.parquet", QUERIES_SCHEMA, pa.Table.from_pylist(rows, schema=QUERIES_SCHEMA).to_batches())
    live.write_json("verify.json", {"search_params": {"ef": 40}})
    return release_files(NEXT, live.store)


def probed(server: Server, files: ReleaseFiles, stage: str, searches: int = 8) -> None:
    """Let a probe ask for some time, and wait until it has written."""
    with LiveProbe(server.connect, files, stage) as probe:
        enough = len(server.asked) + searches
        while probe._thread.is_alive() and len(server.asked) < enough:
            time.sleep(0.001)
    probe.join()
    assert not probe._thread.is_alive()


def write_samples(files: ReleaseFiles, stage: str, *rows: tuple[float, float | None, bool]) -> None:
    table = pa.Table.from_pylist(
        [{"stage": stage, "at": at, "milliseconds": took, "is_braked": braked} for at, took, braked in rows],
        schema=SAMPLE_SCHEMA,
    )
    files.write_table(f"live_search/{stage}-{rows[0][0]}.parquet", SAMPLE_SCHEMA, table.to_batches())


def test_at_rest_the_live_release_is_asked_its_own_kept_queries_through_the_alias() -> None:
    server, files = Server(), two_releases()
    begun = measure_at_rest(server.connect, files)
    assert (begun["live"], begun["note"], begun["idle"]["searches"]) == (LIVE, "", 200)
    assert begun["budget_ms"] == pytest.approx(1.5 * begun["idle"]["p99"], abs=0.001)
    assert len(server.asked) == 1 + 20 + 200
    assert server.asked[1] == {
        "name": "docs", "vectors": [[0.0, 1.0]], "k": 10, "params": {"ef": 40}, "is_strong": False,
    }  # fmt: skip
    assert measure_at_rest(server.connect, files) == begun
    assert len(server.asked) == 1 + 20 + 200


def test_a_corpus_may_name_its_budget() -> None:
    files = two_releases()
    files.freeze_corpus(a_corpus(live={"p99_ms": 25}))
    assert measure_at_rest(Server().connect, files)["budget_ms"] == 25


@pytest.mark.parametrize(
    ("server", "note"),
    [
        (Server(live=None), "nothing was live"),
        (Server(failures=1_000), "live search did not answer"),
        (Server(live="20251231T020000Z_abcd1234"), "live search could not be asked"),
    ],
)
def test_where_nothing_can_be_asked_the_release_says_why_and_is_built_all_the_same(server: Server, note: str) -> None:
    files = two_releases()
    assert measure_at_rest(server.connect, files)["note"].startswith(note)
    server.failures = 0
    probed(server, files, "embed")
    assert server.asked == []
    facts = live_search_facts(files)
    assert facts["live_search"]["note"].startswith(note)
    assert (facts["live_search"]["ratio"], facts["live_search_curve"]) == (None, [])


def test_a_live_release_without_kept_queries_is_not_asked() -> None:
    files = release_files(NEXT, release_files(LIVE).store)
    assert measure_at_rest(Server().connect, files)["note"] == "the live release has kept no queries"


def test_every_stage_leaves_its_searches_and_a_stage_that_is_taken_up_again_adds_to_them() -> None:
    server, files = Server(), two_releases()
    measure_at_rest(server.connect, files)
    for stage in ("embed", "load", "load"):
        probed(server, files, stage)
    stages = live_search_facts(files)["live_search"]["stages"]
    assert list(stages) == ["embed", "load"]
    assert stages["embed"]["searches"] >= 5
    assert stages["load"]["searches"] >= 10


def test_a_search_that_fails_is_counted_and_the_next_one_has_a_new_connection() -> None:
    server, files = Server(), two_releases()
    measure_at_rest(server.connect, files)
    server.failures = 3
    before = server.connections
    probed(server, files, "index")
    found = live_search_facts(files)["live_search"]["stages"]["index"]
    assert found["failed"] == 3
    assert server.connections == before + 4


def test_the_first_search_of_a_connection_which_looks_the_collection_up_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, files = Server(), two_releases()
    measure_at_rest(server.connect, files)
    answer = server.search

    def slow_at_first(*words: Any, **how: Any) -> list[Any]:
        time.sleep(0.2 if server.connections > opened else 0.0)
        server.connections = opened
        return answer(*words, **how)

    opened = server.connections
    monkeypatch.setattr(server, "search", slow_at_first)
    probed(server, files, "load")
    facts = live_search_facts(files)["live_search"]["stages"]["load"]
    assert (facts["failed"], facts["p99"] < 200) == (0, True)


def test_a_reader_who_waits_for_a_connection_to_a_server_that_was_away_has_had_no_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, files = Server(), two_releases()
    measure_at_rest(server.connect, files)
    monkeypatch.setattr(live_search, "_AWAY_SECONDS", 0.0)
    probed(server, files, "load")
    facts = live_search_facts(files)["live_search"]["stages"]["load"]
    assert (facts["failed"], facts["searches"] > 5) == (1, True)


def test_a_wait_that_is_no_work_on_a_release_is_not_probed() -> None:
    server, files = Server(), two_releases()
    measure_at_rest(server.connect, files)
    asked = len(server.asked)
    with LiveProbe(server.connect, files, "reload"), LiveProbe(server.connect, files, "check"):
        time.sleep(0.02)
    assert len(server.asked) == asked


def test_a_release_that_nobody_looked_at_has_no_facts() -> None:
    assert live_search_facts(release_files()) == {"live_search": None, "live_search_curve": []}


def test_searches_come_to_percentiles_by_stage_and_by_slice_and_to_seconds_of_the_brake() -> None:
    files = two_releases()
    idle = {"p50": 2.0, "p95": 2.0, "p99": 2.0}
    files.write_json("live_search.json", {"live": LIVE, "note": "", "budget_ms": 3.0, "idle": idle})
    write_samples(files, "embed", *[(100 + 0.1 * place, 2.0, False) for place in range(50)])
    write_samples(files, "embed", *[(105 + 0.1 * place, 4.0, place < 20) for place in range(50)])
    write_samples(files, "verify", (120.0, 4.0, True), (120.1, None, True), (120.5, 4.0, False))
    facts = live_search_facts(files)
    found = facts["live_search"]
    assert (found["during"]["p99"], found["ratio"]) == (4.0, 2.0)
    assert found["stages"]["embed"]["brake_seconds"] == pytest.approx(2.0)
    assert found["stages"]["verify"]["brake_seconds"] == pytest.approx(0.5)
    assert found["during"]["brake_seconds"] == pytest.approx(2.5)
    assert (found["stages"]["verify"]["searches"], found["stages"]["verify"]["failed"]) == (3, 1)
    curve = [(point["stage"], point["begin"], point["p50"]) for point in facts["live_search_curve"]]
    assert curve == [("embed", 0.0, 2.0), ("embed", 5.0, 4.0), ("verify", 20.0, 4.0)]


def test_a_long_release_has_no_more_slices_than_a_chart_can_show() -> None:
    files = two_releases()
    files.write_json("live_search.json", {"live": LIVE, "note": "", "budget_ms": 3.0, "idle": {"p99": 2.0}})
    write_samples(files, "embed", *[(float(at), 2.0, False) for at in range(3600)])
    assert len(live_search_facts(files)["live_search_curve"]) in {120, 121}
