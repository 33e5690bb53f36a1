from __future__ import annotations

import pytest

from reindex.errors import NotLive, UnknownPassage
from reindex.explain import explain_passage
from reindex.parse import read_object
from reindex.releases import LivePointer, write_live
from reindex.settings import Limits, Parsing
from tests.fakes import STATE_BUCKET
from tests.nights import MODEL, in_process
from tests.test_erase import LiveNights
from tests.test_whole_run import document


@pytest.fixture
def nights(monkeypatch: pytest.MonkeyPatch) -> LiveNights:
    in_process(monkeypatch)
    return LiveNights()


def test_a_hit_is_followed_back_to_its_document_and_its_release(nights: LiveNights) -> None:
    nights.night({"a.md": document("a"), "b.md": "to be"})
    nights.night({"a.md": document("a"), "b.md": "or not to be"})
    files = nights.live_files()
    collection = nights.collection(files)
    files.write_report("promote", 0, {"by": "a night"})
    pointer = LivePointer(release=files.release, collection=collection, since="2026-01-02", by="a night", replaced="")
    write_live(nights.store, STATE_BUCKET, "docs", pointer, etag=None)
    row = next(row for row in nights.vectors.held[collection].rows.to_pylist() if row["position"] == 1)
    found = explain_passage(nights.vectors, files, row["id"])
    (parsed,) = read_object("a.md", document("a").encode(), Parsing(), Limits()).documents
    assert found["text"] == parsed.laid_out()[0][found["start"] : found["end"]] == row["text"]
    assert (found["document"], found["section"], found["page"]) == ("docs/a.md", row["section"], 0)
    assert found["object"]["etag"] == nights.store.etag("sources", "docs/a.md")
    assert (found["object"]["version"], found["object"]["modified"][:10]) == ("", "2026-01-02")
    assert found["space"]["name"] == files.needed_report("embed")["space"]
    assert (found["space"]["model"], found["space"]["precision"]) == (MODEL.digest, "float32")
    assert found["part"].startswith("20260101")
    assert found["import_file"] == files.key("import/part-00001.parquet")
    assert (found["release"], found["as_of"], found["collection"]) == (files.release, "2026-01-02", collection)
    assert found["promoted"] == {"by": "a night", "at": "1970-01-01T00:00:00+00:00"}
    assert found["live"] == {"by": "a night", "since": "2026-01-02"}


def test_an_id_that_is_not_there_is_refused(nights: LiveNights) -> None:
    nights.night({"a.md": "to be"})
    with pytest.raises(UnknownPassage, match=r"has no passage with the id 'ffff'; `reindex search docs TEXT --json`"):
        explain_passage(nights.vectors, nights.live_files(), "ffff")


def test_nothing_live_explains_nothing(nights: LiveNights) -> None:
    with pytest.raises(NotLive):
        explain_passage(nights.vectors, nights.begin(), "ffff")
