"""Who may find what, on the real servers: lists imported from Parquet, and what Milvus makes of the filter."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from reindex.errors import InvalidQuery
from reindex.groups import readers_filter
from reindex.importers import IMPORTERS
from reindex.index import ReadinessBarrier
from reindex.milvus import MilvusStore
from reindex.naming import alias_name
from reindex.records import chunk_schema
from reindex.settings import Index
from reindex.storage import ObjectStore
from reindex.store import readable_columns
from tests.conftest import LiveStack
from tests.fakes import STATE_BUCKET, chunk_rows

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]
CORPUS = "readers"
# What a filter has to quote.
ODD = """it's "odd"] or (1 == 1 \\ ä"""
RULES: list[dict[str, Any]] = [
    {"prefix": "public/", "groups": []},
    {"prefix": "hr/", "groups": ["hr", "board"]},
    {"prefix": "odd/", "groups": [ODD]},
]
OPEN = {"public/a.md"}
WIDENING = ["page >= 0) or (page >= 0", "page >= 0) or array_contains(acl, 'hr'", "page >= 0)) or ((page >= 0"]


# A collection by itself


@pytest.fixture(scope="module")
def store(stack: LiveStack) -> Iterator[MilvusStore]:
    with stack.milvus() as milvus:
        yield milvus


def load_rows(store: MilvusStore, objects: ObjectStore, collection: str, acls: list[list[str]]) -> None:
    """Import rows with these readers, `modified` counted from 1, and wait until they can be searched."""
    rows = chunk_rows([f"{'to ' * (number % 7 + 1)}be {number}" for number in range(len(acls))]).to_pylist()
    rows = [{**row, "acl": acl, "modified": place} for place, (row, acl) in enumerate(zip(rows, acls, strict=True), 1)]
    table = pa.Table.from_pylist(rows, schema=chunk_schema()).select(
        [field for field in chunk_schema().names if field in store.columns(collection)]
    )
    file = f"scratch/{collection}.parquet"
    objects.write_batches(STATE_BUCKET, file, table.schema, table.to_batches())
    importer = IMPORTERS[store.capabilities().importer](store)
    job = importer.submit(collection, file, len(rows))
    wait_for(lambda: importer.poll(collection, [job]).done)
    barrier = ReadinessBarrier(store, collection, len(rows))
    wait_for(lambda: barrier.poll().done)


def wait_for(done: Any, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.2)


def readers_found(store: MilvusStore, collection: str, groups: list[str] | None, expression: str = "") -> list[int]:
    """Return the numbers, by `modified`, of the rows that a reader in these groups finds."""
    hits = store.search(
        collection,
        [[0.5] * 4],
        k=100,
        params={"ef": 100},
        columns=["modified"],
        expression=expression,
        groups=groups,
    )[0]
    return sorted(hit.fields["modified"] for hit in hits)


def test_milvus_keeps_lists_as_they_were_and_finds_by_any_of_them(stack: LiveStack, store: MilvusStore) -> None:
    most = [f"{number:03}{'é' * 126}x" for number in range(64)]
    acls = [["*"], ["hr"], ["board", "hr"], [], [ODD], most, ["h"], ["HR"]]
    store.create_collection("readers_lists", dimension=4, index=Index())
    load_rows(store, stack.objects(), "readers_lists", acls)
    held = store.fetch("readers_lists", "document", ["a.txt"], ["acl", "modified"])
    assert [row["acl"] for row in sorted(held, key=lambda row: row["modified"])] == acls
    assert readers_found(store, "readers_lists", None) == list(range(1, 9))
    assert readers_found(store, "readers_lists", []) == [1]
    assert readers_found(store, "readers_lists", ["hr"]) == [1, 2, 3]
    assert readers_found(store, "readers_lists", ["board", "nobody"]) == [1, 3]
    assert readers_found(store, "readers_lists", [ODD]) == [1, 5]
    assert readers_found(store, "readers_lists", [most[-1]]) == [1, 6]
    assert readers_found(store, "readers_lists", ["hr"], "modified > 1 or modified < 0") == [2, 3]
    assert readers_found(store, "readers_lists", ["hr"], "page >= 0 or page < 0") == [1, 2, 3]
    for expression in WIDENING:
        with pytest.raises(InvalidQuery):
            readers_found(store, "readers_lists", [], expression)


def test_a_collection_of_an_earlier_version_is_searched_by_its_own_columns(
    stack: LiveStack, store: MilvusStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr("reindex.milvus.texts_columns", dict)
        store.create_collection("readers_earlier", dimension=4, index=Index())
    load_rows(store, stack.objects(), "readers_earlier", [["*"]] * 3)
    columns = readable_columns(store, "readers_earlier")
    assert columns == [name for name in chunk_schema().names if name not in {"acl", "vector"}]
    assert len(store.search("readers_earlier", [[0.5] * 4], k=9, params={"ef": 9}, columns=columns)[0]) == 3
    with pytest.raises(InvalidQuery):
        readers_found(store, "readers_earlier", [])


# A corpus and its nights


def put_tagged(stack: LiveStack, name: str, text: str, **metadata: str) -> None:
    stack.objects()._client.put_object(Bucket="sources", Key=f"{CORPUS}/{name}", Body=text.encode(), Metadata=metadata)


def found(store: MilvusStore, *groups: str, expression: str = "") -> set[str]:
    """Return the documents that a member of these groups finds through the alias: all of them, there are so few."""
    hits = store.search(
        alias_name(CORPUS),
        [[1.0] + [0.0] * 383],
        k=100,
        params={"ef": 100},
        columns=["document"],
        expression=expression,
        groups=groups,
    )[0]
    return {hit.fields["document"].removeprefix(f"{CORPUS}/") for hit in hits}


def shown(stack: LiveStack, *words: str) -> set[str]:
    """Return the documents that the command line finds."""
    hits = stack.answer("search", CORPUS, "a note on tides", "-k", "100", *words)
    return {hit["document"].removeprefix(f"{CORPUS}/") for hit in hits}


@pytest.fixture(scope="module")
def nights(stack: LiveStack, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return the reports of two releases: one open to everyone, and one after the corpus was given permissions."""
    folder = tmp_path_factory.mktemp(CORPUS)
    for name in ("public/a.md", "hr/b.md", "odd/c.md", "other/d.md"):
        file: Path = folder / name
        file.parent.mkdir()
        file.write_text(f"A note on tides, kept in {name}.")
    stack.answer("put", CORPUS, str(folder))
    put_tagged(stack, "tagged.md", "A note on tides that says who may read it.", groups="legal, hr")
    first = stack.answer("run", CORPUS)
    assert shown(stack, "--as", "hr") == {"public/a.md", "hr/b.md", "odd/c.md", "other/d.md", "tagged.md"}
    stack.write_corpus(CORPUS, permissions={"metadata": "groups", "rules": RULES})
    assert "knows no permissions: run the corpus again" in stack.refusal("search", CORPUS, "tides", "--as", "hr")
    # The same bytes for other readers.
    before = stack.objects().etag("sources", f"{CORPUS}/tagged.md")
    put_tagged(stack, "tagged.md", "A note on tides that says who may read it.", groups="board, law")
    assert stack.objects().etag("sources", f"{CORPUS}/tagged.md") == before
    return [first, stack.answer("run", CORPUS)]


def test_permissions_are_live_after_a_run_that_embeds_nothing(
    stack: LiveStack, store: MilvusStore, nights: list[dict[str, Any]]
) -> None:
    first, second = nights
    assert (second["chunks_embedded"], second["rows"], second["hidden"]) == (0, first["rows"], 1)
    assert found(store) == OPEN
    assert found(store, "hr") == OPEN | {"hr/b.md"}
    assert found(store, "law", ODD) == OPEN | {"tagged.md", "odd/c.md"}
    assert found(store, "HR", "legal") == OPEN
    assert shown(stack, "--as", "board") == OPEN | {"hr/b.md", "tagged.md"}
    said = stack.command("search", CORPUS, "tides")
    assert "permissions apply: only what everyone may find is searched" in said.stderr


def test_a_filter_narrows_what_a_reader_finds_and_cannot_widen_it(
    stack: LiveStack, store: MilvusStore, nights: list[dict[str, Any]]
) -> None:
    assert shown(stack, "--as", "hr", "--filter", 'document like "readers/hr/%" or page > 7') == {"hr/b.md"}
    assert found(store, expression="page >= 0 or page < 0") == OPEN
    said = stack.refusal("search", CORPUS, "tides", "--json", "--filter", WIDENING[0])
    assert said.startswith("Milvus cannot read this search: ")
    alias = alias_name(CORPUS)
    assert store._client.query(alias, filter=readers_filter([]), output_fields=["count(*)"])[0]["count(*)"] == 1


def test_a_hit_says_who_may_find_it_and_when_it_was_modified(stack: LiveStack, nights: list[dict[str, Any]]) -> None:
    hits = stack.answer("search", CORPUS, "who may read it", "--as", "law")
    hit = next(hit for hit in hits if "tag" in hit["document"])
    modified = next(iter(stack.objects().entries("sources", f"{CORPUS}/tagged.md"))).modified
    assert (hit["acl"], hit["modified"]) == (["board", "law"], int(modified.timestamp()))
    explained = stack.answer("explain", CORPUS, hit["id"])
    assert (explained["acl"], explained["modified"]) == (hit["acl"], hit["modified"])
