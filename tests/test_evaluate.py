from __future__ import annotations

from dataclasses import dataclass, field
from math import log2
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from reindex.display import print_evaluation
from reindex.errors import BadJudgements, NotLive
from reindex.evaluate import evaluate_live
from reindex.judgements import Judgements
from reindex.live_index import LiveIndex, find_live
from reindex.naming import collection_name
from reindex.ranking import search_rankings
from reindex.records import DOCUMENT_SCHEMA, Hit, chunk_schema
from reindex.releases import DOCUMENTS_FILE
from reindex.settings import Index
from reindex.store import ExactStore
from tests.fakes import WordLengthEmbedder, chunk_rows, exact_store, release_files

RELEASE = "20260101T020000Z_abcd1234"
COLLECTION = collection_name("docs", RELEASE)


@dataclass(slots=True)
class CountingStore(ExactStore):
    """An exact store that keeps how many vectors were searched for, and how many hits of each were asked for."""

    calls: list[tuple[int, int]] = field(default_factory=list)

    def search(self, name: str, vectors: Any, *, k: int, **how: Any) -> list[list[Hit]]:
        self.calls.append((len(vectors), k))
        return ExactStore.search(self, name, vectors, k=k, **how)


def counting_store(documents: dict[str, int]) -> CountingStore:
    """Return a store of documents by their number of chunks; each is further from [1, 0, 0, 0] than the one before."""
    store = CountingStore(read_file=lambda _: chunk_schema().empty_table())
    store.create_collection(COLLECTION, dimension=4, index=Index())
    rows = [
        {**row, "id": f"{document}-{place}", "document": document, "vector": [1.0 - number / 1000, 0.0, 0.0, 0.0]}
        for number, (document, chunks) in enumerate(documents.items())
        for place, row in enumerate(chunk_rows(["to be"]).to_pylist() * chunks)
    ]
    store.held[COLLECTION].rows = pa.Table.from_pylist(rows, schema=chunk_schema())
    return store


def rank(store: CountingStore, queries: int) -> list[list[str]]:
    asked = np.tile(np.array([1, 0, 0, 0], "float32"), (queries, 1))
    return search_rankings(
        store, COLLECTION, asked, search_params=lambda k: {"ef": k}, name_of=lambda key: key, ids=set()
    )


def test_chunks_are_asked_for_until_there_are_a_hundred_documents() -> None:
    long = {"long": 350, **{f"d{number:03}": 1 for number in range(500)}}
    store = counting_store(long)
    assert [len(ranking) for ranking in rank(store, 2)] == [451, 451]
    assert store.calls == [(2, 200), (2, 400), (2, 800)]
    assert rank(store, 1)[0] == list(long)[:451]


def test_an_index_of_fewer_documents_is_asked_for_all_its_chunks_once() -> None:
    store = counting_store({"a": 3, "b": 250})
    assert rank(store, 1) == [["a", "b"]]
    assert store.calls == [(1, 200), (1, 400)]


def test_a_small_index_is_asked_once_a_hundred_queries_at_a_time() -> None:
    store = counting_store({"a": 1, "b": 1})
    assert rank(store, 250) == [["a", "b"]] * 250
    assert store.calls == [(100, 200), (100, 200), (50, 200)]


def test_no_more_is_asked_for_than_milvus_gives() -> None:
    store = counting_store({"a": 17_000})
    assert rank(store, 1) == [["a"]]
    assert store.calls == [(1, 200 * 2**doubled) for doubled in range(7)] + [(1, 16_384)]


# The live index as a whole


def live_index(*texts: tuple[str, str]) -> tuple[ExactStore, LiveIndex]:
    """Return an index of these documents, by key, and its release, which the alias names."""
    files = release_files(RELEASE)
    rows = pa.concat_tables([chunk_rows([text], document=key) for key, text in texts])
    listed = [{**dict.fromkeys(DOCUMENT_SCHEMA.names), "key": key} for key, _ in texts]
    table = pa.Table.from_pylist(listed, schema=DOCUMENT_SCHEMA)
    files.write_table(DOCUMENTS_FILE, DOCUMENT_SCHEMA, table.to_batches())
    store = exact_store(files)
    store.create_collection(COLLECTION, dimension=4, index=Index())
    store.held[COLLECTION].rows = rows
    store.point_alias("docs", COLLECTION)
    return store, find_live(store, files.of(""))


def evaluate(grades: dict[str, dict[str, int]], *, unjudged: int = 0) -> dict[str, Any]:
    """Evaluate an index in which `to be` lies next to docs/a.md, then docs/sub/b.txt, then docs/c."""
    store, live = live_index(("docs/a.md", "we be"), ("docs/sub/b.txt", "who be"), ("docs/c", "what be"))
    judgements = Judgements(queries=dict.fromkeys(grades, "to be"), grades=grades, unjudged=unjudged)
    return evaluate_live(store, live, judgements, embed=WordLengthEmbedder().embed, qrels_file="qrels.tsv")


def test_the_live_index_is_measured_by_keys_after_the_prefix_with_or_without_suffix() -> None:
    assert evaluate({"1": {"a": 1}, "2": {"sub/b.txt": 1, "a": 0}, "3": {"c": 2, "gone": 1}}, unjudged=4) == {
        "corpus": "docs",
        "release": RELEASE,
        "queries": 3,
        "unjudged": 4,
        "missing_documents": 1,
        "first_missing": ["gone"],
        "ndcg@10": pytest.approx((1 + 1 / log2(3) + (2 / 2) / (2 + 1 / log2(3))) / 3),
        "recall@10": pytest.approx((1 + 1 + 1 / 2) / 3),
        "recall@100": pytest.approx((1 + 1 + 1 / 2) / 3),
        "mrr@10": pytest.approx((1 + 1 / 2 + 1 / 3) / 3),
    }


def test_judgements_of_documents_that_are_all_elsewhere_are_refused_not_counted_as_0() -> None:
    with pytest.raises(BadJudgements) as refused:
        evaluate({"1": {"docs/sub/b.txt": 1, "docs/a.md": 2}})
    assert str(refused.value) == (
        "qrels.tsv: none of the 2 relevant documents is in the index, the first of them 'docs/a.md'; "
        "expected: keys as they are after 'docs/', with or without their suffix, as 'a.md'"
    )


def test_what_is_not_live_cannot_be_measured() -> None:
    store, live = live_index(("docs/a.md", "we be"))
    store.remove_alias("docs")
    with pytest.raises(NotLive):
        find_live(store, live.files)


def test_an_evaluation_names_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    print_evaluation(evaluate({"1": {"a": 1, "gone": 1, "lost": 1}}))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"release     {RELEASE}"
    assert lines[1] == "queries     1 asked, 0 left out: nothing is judged relevant to them"
    assert lines[2] == "missing     2 relevant documents are not in the index, the first: gone, lost"
    assert [line.split()[0] for line in lines[3:]] == ["ndcg@10", "recall@10", "recall@100", "mrr@10"]
    assert lines[-1] == "mrr@10      1.0000"
