"""A document erased for good, and hits followed back to where they come from, through the real servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from reindex.erasures import check_erased, expected_rows
from reindex.naming import alias_name, collection_name
from reindex.releases import ReleaseFiles
from tests.conftest import LiveStack
from tests.test_live import wait_until, write_documents

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]
CORPUS = "erasing"
# What a filter has to quote.
KEY = """erasing/it's "odd" ä.md"""
SECRET = " ".join(f"The axolotl of pond {i} regrew its limb number {i * 3} in week {i + 7}." for i in range(60))
QUESTION = "which axolotl regrew a limb?"


@pytest.fixture(scope="module")
def first(stack: LiveStack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the report of a release with the document that is to go."""
    folder = tmp_path_factory.mktemp("erasing")
    write_documents(folder)
    (folder / Path(KEY).name).write_text(SECRET)
    stack.answer("put", CORPUS, str(folder))
    report: dict[str, Any] = stack.answer("run", CORPUS)
    return report


def hits(stack: LiveStack) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = stack.answer("search", CORPUS, QUESTION, "-k", "5")
    return found


def files_of(stack: LiveStack, report: dict[str, Any]) -> ReleaseFiles:
    return ReleaseFiles(stack.objects(), "reindex", CORPUS, report["release"])


def erase(stack: LiveStack, key: str) -> dict[str, Any]:
    report: dict[str, Any] = stack.answer("erase", CORPUS, key, "--reason", "a court order")
    return report


def test_a_hit_is_explained_down_to_the_characters_of_its_document(stack: LiveStack, first: dict[str, Any]) -> None:
    hit = next(hit for hit in hits(stack) if hit["document"] == KEY)
    found = stack.answer("explain", CORPUS, hit["id"])
    assert found["text"] == SECRET[found["start"] : found["end"]] == hit["text"]
    assert (found["release"], found["collection"]) == (first["release"], first["collection"])
    assert found["object"]["etag"] == stack.objects().etag("sources", KEY)
    assert found["object"]["version"]
    assert (found["space"]["dimension"], len(found["space"]["model"])) == ("384", 64)
    assert found["live"]["by"] == found["promoted"]["by"]
    assert KEY in stack.command("explain", CORPUS, hit["id"]).stdout
    assert "has no passage with the id 'ffff'" in stack.refusal("explain", CORPUS, "ffff")


def test_an_erased_document_is_gone_at_once_and_for_good(
    stack: LiveStack, first: dict[str, Any], tmp_path: Path
) -> None:
    report = erase(stack, KEY)
    files = files_of(stack, first)
    rows = next(place["rows"] for place in report["found"] if place["place"] == first["collection"])
    assert rows > 1
    assert {place["rows"] for place in report["found"] if "/import/" in place["place"]} == {rows}
    assert (report["left"], report["going_on"], report["source"]["is_there"]) == ([], [], True)
    assert not any("axolotl" in hit["text"] for hit in hits(stack))
    with stack.milvus() as store:
        assert store.count_rows(alias_name(CORPUS)) == expected_rows(files) == first["rows"] - rows
        assert store.fetch(alias_name(CORPUS), "document", [KEY], ["id"]) == []
    check_erased(files)
    again = erase(stack, KEY)
    assert (again["found"], again["left"], again["buried_before"]) == ([], [], True)
    (tmp_path / "new.md").write_text("A new report on kelp.")
    stack.answer("put", CORPUS, str(tmp_path))
    second = stack.answer("run", CORPUS)
    assert (second["chunks_embedded"], second["rows"]) == (1, first["rows"] - rows + 1)
    assert not any("axolotl" in hit["text"] for hit in hits(stack))
    assert erase(stack, KEY)["found"] == []


def test_a_collection_that_is_not_in_memory_loses_the_document_too(stack: LiveStack, first: dict[str, Any]) -> None:
    collection = collection_name(CORPUS, first["release"])
    with stack.milvus() as store:
        store.release(collection)
        report = erase(stack, "erasing/report-003.md")
        assert collection in report["not_in_memory"]
        assert collection in {place["place"] for place in report["found"]}
        store.load(collection)
        wait_until(lambda: store.load_state(collection).loaded)
        assert store.fetch(collection, "document", ["erasing/report-003.md"], ["id"]) == []
        assert store.count_rows(collection) == expected_rows(files_of(stack, first))
    assert erase(stack, "erasing/report-003.md")["found"] == []


def test_a_table_that_was_uploaded_in_pieces_is_replaced_only_as_it_was_read(stack: LiveStack) -> None:
    objects, key = stack.objects(), "scratch/large.parquet"
    schema = pa.schema([("number", pa.float64())])
    table = pa.table({"number": np.random.default_rng(0).random(2_000_000)}, schema=schema)
    assert objects.write_batches("reindex", key, schema, table.to_batches()).bytes > 2**23
    etag = objects.etag("reindex", key)
    assert etag is not None
    assert objects.replace_batches("reindex", key, schema, table.slice(0, 10).to_batches(), etag=etag)
    assert not objects.replace_batches("reindex", key, schema, table.to_batches(), etag=etag)
    objects.delete("reindex", key)
