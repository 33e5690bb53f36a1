"""Going back and forth between releases while readers search, on a real Milvus; and by command, through Airflow."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from reindex.errors import ReindexError
from reindex.exact import Asked, ExactSearch, vector_matrix
from reindex.importers import IMPORTERS
from reindex.index import ReadinessBarrier
from reindex.milvus import MilvusStore
from reindex.naming import collection_name
from reindex.records import chunk_schema
from reindex.releases import ReleaseFiles, read_live
from reindex.rollback import roll_back
from reindex.settings import Index
from reindex.tuning import Queries
from reindex.verify import keep_queries
from tests.conftest import LiveStack
from tests.fakes import a_corpus, chunk_rows

pytestmark = [pytest.mark.live, pytest.mark.timeout(1800)]

CORPUS = "switched"
DIMENSION = 16
ROWS = 2000
QUERIES = 100
READERS = 8
SWITCHES = 50


def wait_for(done: Any, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.2)


def marked_rows(release: str, dimension: int = DIMENSION) -> pa.Table:
    """Return random unit vectors whose `document` says which release they are of."""
    vectors = np.random.default_rng(1).normal(size=(ROWS, dimension)).astype("float32")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    row = chunk_rows(["x"]).to_pylist()[0]
    rows = [
        {**row, "id": f"{i:032x}", "document": release, "vector": vector.tolist()} for i, vector in enumerate(vectors)
    ]
    return pa.Table.from_pylist(rows, schema=chunk_schema())


def make_release(
    stack: LiveStack, store: MilvusStore, name: str, *, corpus: str = CORPUS, dimension: int = DIMENSION
) -> ReleaseFiles:
    """Import a collection whose rows say which release they are of, and record it as a verified release."""
    files = ReleaseFiles(stack.objects(), "reindex", corpus, name)
    files.freeze_corpus(a_corpus(name=corpus))
    files.write_report("snapshot", time.time(), {})
    files.write_report("plan", time.time(), {"outcome": "build", "precision": "float32"})
    collection = collection_name(corpus, name)
    store.create_collection(collection, dimension=dimension, index=Index())
    file, rows = "import/part-00001.parquet", marked_rows(name, dimension)
    files.write_table(file, chunk_schema(), rows.to_batches())
    importer = IMPORTERS[store.capabilities().importer](store)
    job = importer.submit(collection, files.key(file), ROWS)
    wait_for(lambda: importer.poll(collection, [job]).done)
    barrier = ReadinessBarrier(store, collection, ROWS)
    wait_for(lambda: barrier.poll().done)
    described = store.describe(collection)
    assert described is not None
    files.write_report("verify", time.time(), {"collection_id": described.id, "rows": ROWS})
    queries = Queries(vectors=vector_matrix(rows)[:QUERIES], own=[""] * QUERIES, metric="IP")
    search = ExactSearch([Asked(vectors=queries.vectors, k=10)], metric="IP", memory_bytes=2**26)
    search.add(rows, vector_matrix(rows))
    keep_queries(files, queries, search.found()[0], k=10)
    return files


@dataclass(frozen=True, slots=True)
class Answer:
    """When a search was sent and answered, and which releases its hits are of."""

    asked_at: float
    answered_at: float
    releases: set[str]


@dataclass(slots=True)
class Reader:
    """A client that searches the alias without pause."""

    stack: LiveStack
    stop: threading.Event
    answers: list[Answer] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def has_answer_since(self, moment: float) -> bool:
        """Return whether a search that was sent after this moment has been answered, or failed."""
        return bool(self.errors) or (bool(self.answers) and self.answers[-1].asked_at > moment)

    def search_until_stopped(self) -> None:
        query = marked_rows("any")["vector"][0].as_py()
        with self.stack.milvus() as store:
            while not self.stop.is_set():
                asked_at = time.monotonic()
                try:
                    hits = store.search(CORPUS, [query], k=10, params={"ef": 50}, columns=["document"])[0]
                    releases = {hit.fields["document"] for hit in hits}
                    self.answers.append(Answer(asked_at, time.monotonic(), releases))
                except ReindexError as error:
                    self.errors.append(str(error))


@contextmanager
def reading(stack: LiveStack) -> Iterator[list[Reader]]:
    stop = threading.Event()
    readers = [Reader(stack, stop) for _ in range(READERS)]
    threads = [threading.Thread(target=reader.search_until_stopped) for reader in readers]
    for thread in threads:
        thread.start()
    try:
        yield readers
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_readers_notice_nothing_of_fifty_switches_to_and_fro(stack: LiveStack) -> None:
    """No error, no mixed answer, and no answer from the release before, once the call has returned."""
    with stack.milvus() as store:
        releases = [make_release(stack, store, f"2026010{day}T020000Z_abcd1234") for day in (1, 2)]
    roll_back(stack.milvus, releases[0], by="a test")
    returned: list[tuple[float, float, str]] = []
    with reading(stack) as readers:
        for number in range(1, SWITCHES + 1):
            files = releases[number % 2]
            begun = time.monotonic()
            assert roll_back(stack.milvus, files, by="a test")["release"] == files.release
            returned_at = time.monotonic()
            returned.append((begun, returned_at, files.release))
            wait_for(lambda since=returned_at: all(reader.has_answer_since(since) for reader in readers))
    live, _ = read_live(releases[0].store, "reindex", CORPUS)
    assert live is not None
    assert (live.release, live.replaced) == (releases[0].release, releases[1].release)
    answers = [answer for reader in readers for answer in reader.answers]
    assert [error for reader in readers for error in reader.errors] == []
    assert [answer for answer in answers if len(answer.releases) != 1] == []
    settled = settled_answers(answers, returned)
    assert len(settled) >= (SWITCHES - 1) * READERS
    assert [answer for release, answer in settled if answer.releases != {release}] == []


def settled_answers(answers: list[Answer], switches: list[tuple[float, float, str]]) -> list[tuple[str, Answer]]:
    """Return what was asked after one switch had returned and answered before the next began, with what was live."""
    return [
        (release, answer)
        for (_, returned_at, release), (next_begun, _, _) in pairwise(switches)
        for answer in answers
        if returned_at < answer.asked_at and answer.answered_at < next_begun
    ]


@pytest.fixture(scope="module")
def two_nights(stack: LiveStack) -> list[str]:
    """Return the names of two releases of the corpus `rolled`, the second of which is live."""
    with stack.milvus() as store:
        names = [f"2026020{day}T020000Z_abcd1234" for day in (1, 2)]
        releases = [make_release(stack, store, name, corpus="rolled", dimension=384) for name in names]
    for files in releases:
        roll_back(stack.milvus, files, by="a test")
    return names


def found_release(stack: LiveStack) -> str:
    return str(stack.answer("search", "rolled", "any words", "-k", "1")[0]["document"])


def test_a_rollback_by_command_brings_the_release_before_back_and_says_what_is_live(
    stack: LiveStack, two_nights: list[str]
) -> None:
    first, second = two_nights
    assert found_release(stack) == second
    back = stack.answer("rollback", "rolled")
    assert (back["release"], back["replaced"], back["instead_of"]) == (first, second, second)
    assert back["recall"]["queries"] == QUERIES
    assert found_release(stack) == first
    states = {row["release"]: row["state"] for row in stack.answer("releases", "rolled")}
    assert states == {first: "live", second: "retained"}
    row = next(row for row in stack.answer("corpora") if row["corpus"] == "rolled")
    assert (row["live"], row["since"]) == (first, back["since"])


def test_what_cannot_be_gone_back_to_is_refused_in_one_line(stack: LiveStack, two_nights: list[str]) -> None:
    first, second = two_nights
    assert stack.refusal("rollback", "rolled", "--to", "nothing").startswith("rolled has no release nothing; ")
    never = "20260101T020000Z_0a1b2c3d"
    assert f"failed in choose: rolled has no release {never}" in stack.refusal("rollback", "rolled", "--to", never)
    assert "is what rolled serves already" in stack.refusal("rollback", "rolled", "--to", first)
    forward = stack.answer("rollback", "rolled", "--to", second)
    assert (forward["release"], forward["replaced"]) == (second, first)
    assert found_release(stack) == second


def test_a_collection_that_was_unloaded_comes_back_into_memory_first(stack: LiveStack, two_nights: list[str]) -> None:
    first, _ = two_nights
    with stack.milvus() as store:
        store.release(collection_name("rolled", first))
        assert stack.answer("rollback", "rolled", "--to", first)["release"] == first
        assert store.load_state(collection_name("rolled", first)).loaded


def test_a_dry_run_of_retire_changes_nothing(stack: LiveStack, two_nights: list[str]) -> None:
    before = stack.answer("releases", "rolled")
    report = stack.answer("retire", "rolled", "--dry-run")
    assert set(report["why"]) == set(two_nights)
    assert stack.answer("releases", "rolled") == before
