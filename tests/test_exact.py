from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from reindex.exact import Asked, ExactSearch, in_blocks, nearest_rows
from reindex.naming import DIGESTS, passage_digest
from reindex.records import chunk_schema
from reindex.scan import Errand, merge_findings, scan_file
from reindex.slices import Slice
from tests.fakes import chunk_rows

METRICS = ["IP", "COSINE", "L2"]


def unit_vectors(count: int, dimension: int = 8, seed: int = 1) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dimension)).astype("float32")
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def file_of(vectors: np.ndarray, first: int = 0, **columns: Any) -> list[pa.RecordBatch]:
    """Return rows whose ids are their numbers, in batches of three; a column's values go round."""
    template = chunk_rows(["x"]).to_pylist()[0]
    rows = [
        {
            **template,
            **{name: values[(first + i) % len(values)] for name, values in columns.items()},
            "id": str(first + i),
            "vector": vector.tolist(),
        }
        for i, vector in enumerate(vectors)
    ]
    return pa.Table.from_pylist(rows, schema=chunk_schema()).to_batches(max_chunksize=3)


def by_definition(vectors: np.ndarray, query: np.ndarray, metric: str) -> np.ndarray:
    scores: np.ndarray = {
        "IP": vectors @ query,
        "COSINE": vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query),
        "L2": -((vectors - query) ** 2).sum(1),
    }[metric]
    return scores


def errand(*asked: Asked, metric: str = "IP", wanted: tuple[str, ...] = (), memory_bytes: int = 2**20) -> Errand:
    return Errand(asked=asked, wanted=pa.array(wanted, pa.string()), metric=metric, memory_bytes=memory_bytes)


@pytest.mark.parametrize("metric", METRICS)
def test_the_nearest_rows_are_those_of_the_metric_s_definition(metric: str) -> None:
    vectors, queries = 2 * unit_vectors(20), unit_vectors(3, seed=2)
    places, scores = nearest_rows(vectors, queries, k=5, metric=metric)
    for query, of_query, scored in zip(queries, places, scores, strict=True):
        expected = by_definition(vectors, query, metric)
        assert of_query.tolist() == np.argsort(-expected)[:5].tolist()
        assert scored == pytest.approx(np.sort(expected)[::-1][:5], abs=1e-5)


@pytest.mark.parametrize("rows", [320, 321, 5000])
def test_the_nearest_of_many_rows_are_those_that_sorting_gives(rows: int) -> None:
    vectors, queries = unit_vectors(rows), unit_vectors(5, seed=2)
    places, _ = nearest_rows(vectors, queries, k=4, metric="IP")
    assert places.tolist() == [np.argsort(-by_definition(vectors, query, "IP"))[:4].tolist() for query in queries]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("memory_bytes", [1, 2**20])
def test_neighbours_over_several_files_and_blocks_are_those_over_all_rows(metric: str, memory_bytes: int) -> None:
    vectors, queries = 2 * unit_vectors(200), unit_vectors(4, seed=2)
    task = errand(Asked(vectors=queries, k=7), metric=metric, memory_bytes=memory_bytes)
    parts = [scan_file(file_of(vectors[first : first + 100], first), task) for first in (0, 100)]
    merged = merge_findings(parts, task)
    places, scores = nearest_rows(vectors, queries, k=7, metric=metric)
    assert merged.neighbours[0].ids.tolist() == [[str(place) for place in of_query] for of_query in places]
    assert merged.neighbours[0].scores == pytest.approx(scores, abs=1e-5)
    assert merged.neighbours[0].rows == merged.rows == 200


def test_memory_decides_how_many_rows_are_looked_through_at_once() -> None:
    asked = Asked(vectors=unit_vectors(1000, 384), k=10)
    blocks = [ExactSearch([asked], metric="IP", memory_bytes=n * 2**20).block_rows for n in (64, 128)]
    assert blocks[1] in {2 * blocks[0], 2 * blocks[0] + 1}
    # Two blocks of vectors, one of scores and room for another.
    assert blocks[0] * 4 * (2 * 384 + 2 * 1000) <= 64 * 2**20


def test_blocks_hold_no_more_rows_than_asked_and_lose_none() -> None:
    found = list(in_blocks(file_of(unit_vectors(20)), 7))
    assert max(block.num_rows for block in found) <= 7
    assert [row for block in found for row in block.column("id").to_pylist()] == [str(i) for i in range(20)]


def test_fewer_rows_than_neighbours_are_all_of_them() -> None:
    task = errand(Asked(vectors=unit_vectors(2), k=9))
    assert scan_file(file_of(unit_vectors(3)), task).neighbours[0].ids.shape == (2, 3)


@pytest.mark.parametrize(("within", "kept"), [
    (Slice(name="deu", column="language", value="deu"), range(1, 12, 3)),
    (Slice(name="hr", column="acl", value="hr"), [i for i in range(12) if i % 2 == 0 or i % 4 == 1]),
    (Slice(name="a_", column="document", value="docs/a_"), range(0, 12, 3)),
    (Slice(name="none", column="language", value="xxx"), []),
])  # fmt: skip
def test_a_slice_is_searched_by_itself(within: Slice, kept: Any) -> None:
    vectors, queries = unit_vectors(12), unit_vectors(2, seed=3)
    columns = {
        "language": ["eng", "deu", "fra"],
        "acl": [["*"], ["hr", "it"], ["it", "*"], []],
        "document": ["docs/a_1", "docs/ab1", "docs/b"],
    }
    found = scan_file(file_of(vectors, **columns), errand(Asked(vectors=queries, k=20, within=within))).neighbours[0]
    assert found.rows == len(list(kept))
    assert [set(ids) for ids in found.ids.tolist()] == [{str(i) for i in kept}] * 2


def test_wanted_rows_come_with_their_vectors() -> None:
    vectors = unit_vectors(10)
    found = scan_file(file_of(vectors), errand(Asked(vectors=vectors[:1], k=1), wanted=("3", "7", "99"))).vectors
    assert {name: vector.tolist() for name, vector in found.items()} == {
        "3": vectors[3].tolist(),
        "7": vectors[7].tolist(),
    }


def test_rows_of_a_document_add_up_to_the_same_in_any_order_and_any_file() -> None:
    vectors = unit_vectors(6)
    task = errand(Asked(vectors=vectors[:1], k=1))
    filed = [
        scan_file(file_of(part, document=["a", "b"]), task).filed.to_pylist() for part in (vectors[:4], vectors[4:])
    ]
    added = {name: sum(row["digest"] for rows in filed for row in rows if row["document"] == name) for name in "ab"}
    whole = {
        name: sum(passage_digest("x", vector.tobytes()) for vector in vectors[place::2])
        for place, name in enumerate("ab")
    }
    assert {name: digest % DIGESTS for name, digest in added.items()} == {
        name: digest % DIGESTS for name, digest in whole.items()
    }
    assert passage_digest("x", vectors[0].tobytes()) != passage_digest("y", vectors[0].tobytes())


def test_the_rows_of_a_long_document_add_up_without_an_overflow() -> None:
    vectors = unit_vectors(600)
    task = errand(Asked(vectors=vectors[:1], k=1), memory_bytes=2**22)
    filed = scan_file(file_of(vectors), task).filed.to_pylist()
    digest = sum(passage_digest("x", vector.tobytes()) for vector in vectors)
    assert digest > 2**64
    assert filed == [{"document": "a.txt", "rows": 600, "digest": digest % DIGESTS}]
