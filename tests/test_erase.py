"""Documents erased in memory, night after night: they leave every place, and nothing brings them back."""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from reindex.assemble import assemble_import
from reindex.display import print_erasure
from reindex.embed import Work, begin_embedding
from reindex.erase import Erasure, erase_document
from reindex.erasures import check_erased, erased_rows, expected_rows
from reindex.errors import ErasedDocument, JobFailed, LedgerMismatch
from reindex.ledger import check_ledger
from reindex.naming import alias_name, collection_name, tombstone_key
from reindex.plan import UNCHANGED
from reindex.recount import draw_ledger
from reindex.releases import RECALL_FILE, REPORT_FILE, ReleaseFiles
from reindex.report import render_report
from reindex.rollback import roll_back
from reindex.scan import FILED_SCHEMA
from reindex.store import ExactStore
from reindex.tombstones import bury
from reindex.verify import QUERIES_SCHEMA
from tests.fakes import STATE_BUCKET, exact_store
from tests.nights import CountingEmbedder, Nights, in_process
from tests.test_whole_run import notes

KEY = "docs/secret.md"
SECRET = "whisper nobody may ever read this again"


class LiveNights(Nights):
    """Nights whose releases are loaded, measured and promoted as well."""

    def __init__(self) -> None:
        super().__init__()
        self.vectors: ExactStore = exact_store(ReleaseFiles(self.store, STATE_BUCKET, self.corpus.name, ""))

    def night(self, documents: dict[str, str | bytes] | None = None, **asked: Any) -> dict[str, Any]:
        report = self.run(documents, **asked)
        if report["outcome"] != UNCHANGED:
            self.go_live(self.live_files())
        return report

    def go_live(self, files: ReleaseFiles) -> None:
        self.load(files)
        self.verify(files)
        self.vectors.point_alias(alias_name(self.corpus.name), self.collection(files))
        self.live = files.release

    def assemble(self, files: ReleaseFiles) -> None:
        report = assemble_import(files, self.parts(files), dimension=self.model.dimension, max_file_bytes=2**20)
        files.write_report("assemble", 0, report)

    def load(self, files: ReleaseFiles) -> None:
        collection = self.collection(files)
        self.vectors.create_collection(collection, dimension=self.model.dimension, index=self.corpus.index)
        written = files.needed_report("assemble")["files"]
        jobs = [self.vectors.submit_import(collection, file["file"]) for file in written]
        imported = [self.vectors.import_state(job).rows for job in jobs]
        loaded = [{**file, "imported": rows} for file, rows in zip(written, imported, strict=True)]
        files.write_report("load", 0, {"files": loaded, "rows": sum(imported)})
        self.vectors.load(collection)

    def verify(self, files: ReleaseFiles) -> None:
        collection = self.collection(files)
        number = self.vectors.held[collection].info.id
        filed = [
            row["document"]
            for file in files.needed_report("assemble")["files"]
            for batch in self.store.read_batches(STATE_BUCKET, file["file"])
            for row in batch.to_pylist()
        ]
        counted = [{"document": document, "rows": rows} for document, rows in Counter(filed).items()]
        table = pa.Table.from_pylist(counted, schema=FILED_SCHEMA)
        erased = erased_rows(files, number)
        rows = self.vectors.count_rows(collection)
        check_ledger(
            draw_ledger(
                files,
                self.parts(files),
                table,
                file_rows=len(filed),
                collection_rows=rows,
                distinct_ids=self.vectors.count_distinct_ids(collection),
                erased_rows=erased,
            )
        )
        files.write_report("verify", 0, {"rows": rows, "collection_id": number, "erased_rows": erased})

    def collection(self, files: ReleaseFiles) -> str:
        return collection_name(self.corpus.name, files.release)

    def erase(self, key: str = KEY) -> dict[str, Any]:
        erasure = Erasure(
            objects=self.store, vectors=self.vectors, bucket=STATE_BUCKET, corpus=self.corpus.name, key=key
        )
        return erase_document(erasure, self.corpus.source, reason="a court order", by="a test")

    def state(self) -> dict[str, bytes]:
        return {key: data for (bucket, key), data in self.store.objects.items() if bucket == STATE_BUCKET}

    def places_with(self, words: str) -> set[str]:
        """Return where a text or a key is still written, without asking the code that erases."""
        found = {key for key, data in self.state().items() if words in readable(self, key, data)}
        found |= {name for name, held in self.vectors.held.items() if words in str(held.rows.to_pylist())}
        return {place for place in found if "/tombstones/" not in place}


def readable(nights: Nights, key: str, data: bytes) -> str:
    if not key.endswith(".parquet"):
        return data.decode()
    return str([batch.to_pylist() for batch in nights.store.read_batches(STATE_BUCKET, key)])


def with_secret(**others: str) -> dict[str, str | bytes]:
    return {"secret.md": SECRET, "a.md": "a note on tides", **{f"{name}.md": text for name, text in others.items()}}


@pytest.fixture
def nights(monkeypatch: pytest.MonkeyPatch) -> LiveNights:
    in_process(monkeypatch)
    return LiveNights()


def rows(report: dict[str, Any], *, holding: str) -> int:
    return sum(place["rows"] for place in report["found"] if holding in place["place"])


def test_an_erased_document_leaves_every_place_at_once(nights: LiveNights) -> None:
    nights.night(with_secret())
    nights.night({**with_secret(), "secret.md": SECRET + " nor this", "b.md": "to be"})
    first, second = sorted(nights.vectors.held)
    nights.vectors.release(first)
    rows_before = {name: nights.vectors.count_rows(name) for name in (first, second)}
    assert nights.places_with("whisper")
    report = nights.erase()
    assert nights.places_with("whisper") == nights.places_with("secret.md") == set()
    assert {name: nights.vectors.count_rows(name) for name in (first, second)} == {
        name: count - 1 for name, count in rows_before.items()
    }
    assert (report["left"], report["going_on"], report["not_in_memory"]) == ([], [], [first])
    assert {place["place"]: place["rows"] for place in report["found"] if "/" not in place["place"]} == {
        first: 1,
        second: 1,
    }
    assert rows(report, holding="/import/") == rows(report, holding="/documents.parquet") == 2
    assert rows(report, holding="/parts/") == rows(report, holding="/catalog/") == 2
    assert report["source"] == {"bucket": "sources", "is_there": True, "versions": 1}
    assert set(nights.texts()) == {"a.md", "b.md"}


def test_what_was_erased_is_shown_with_what_is_left_and_what_is_not_ours(
    nights: LiveNights, capsys: pytest.CaptureFixture[str]
) -> None:
    nights.night(with_secret(copy=SECRET))
    files = begun(nights, with_secret(), done=1)
    print_erasure(nights.erase())
    said = capsys.readouterr().out
    assert f"\nerased      {KEY}, on 20" in said
    assert "\nsource      s3://sources: still there, in 1 versions; Reindex deletes no sources\n" in said
    assert "\nsame as     docs/copy.md: the same content under other keys stays\n" in said
    assert f"\nRUNNING     {files.release}: repeat this command when it has ended\n" in said
    assert "\nscan        STILL THERE: reindex/docs/spaces/" in said
    nights.erase("docs/nothing.md")
    print_erasure(nights.erase("docs/nothing.md"))
    assert "\nfound       nothing: it was erased before\n" in capsys.readouterr().out


def test_the_tombstone_says_what_was_erased_and_why(nights: LiveNights) -> None:
    nights.night(with_secret())
    report = nights.erase()
    assert report["tombstone"] == tombstone_key("docs", KEY)
    said = nights.store.read_json(STATE_BUCKET, report["tombstone"]) or {}
    assert (said["key"], said["reason"], said["by"]) == (KEY, "a court order", "a test")


def test_erasing_again_changes_nothing_and_finds_nothing(nights: LiveNights) -> None:
    nights.night(with_secret())
    first = nights.erase()
    before = nights.state()
    again = nights.erase()
    assert (again["found"], again["left"], again["buried_before"], first["buried_before"]) == ([], [], True, False)
    assert (again["at"], nights.state()) == (first["at"], before)


def test_a_document_that_is_nowhere_gets_a_tombstone_and_never_comes_in(nights: LiveNights) -> None:
    nights.night({"a.md": "a note on tides"})
    report = nights.erase()
    assert (report["found"], report["left"], report["source"]["is_there"]) == ([], [], False)
    nights.night(with_secret(b="to be"))
    assert set(nights.texts()) == {"a.md", "b.md"}


def test_no_later_night_brings_it_back(nights: LiveNights) -> None:
    nights.night(with_secret())
    nights.erase()
    assert nights.night()["outcome"] == UNCHANGED
    report = nights.night(with_secret(b="to be"))
    assert (report["withdraw"], report["withhold"], report["reused"], report["embedded"]) == (0, 0, 1, 1)
    nights.night(rebuild=True)
    assert nights.places_with("whisper") == nights.places_with("secret.md") == set()


def test_a_release_to_go_back_to_is_without_it_and_still_adds_up(nights: LiveNights) -> None:
    nights.night(with_secret())
    old = nights.live_files()
    measured = old.needed_report("verify")["rows"]
    nights.night(with_secret(b="to be"))
    nights.erase()
    assert expected_rows(old) == measured - 1 == nights.vectors.count_rows(nights.collection(old))
    check_erased(old)
    nights.live = old.release
    nights.vectors.point_alias("docs", nights.collection(old))
    assert nights.night()["outcome"] != UNCHANGED
    assert set(nights.texts()) == {"a.md", "b.md"}


def test_an_earlier_release_goes_live_only_without_it(nights: LiveNights) -> None:
    @contextmanager
    def connect() -> Iterator[ExactStore]:
        yield nights.vectors

    nights.night(with_secret())
    old = nights.live_files()
    keep_queries(nights, old)
    nights.night(with_secret(b="to be"))
    bury(nights.store, STATE_BUCKET, "docs", KEY, reason="r", by="b")
    with pytest.raises(ErasedDocument):
        roll_back(connect, old, by="a test")
    nights.erase()
    assert roll_back(connect, old, by="a test")["recall"]["mean"] == 1
    assert nights.vectors.resolve_alias("docs") == nights.collection(old)


def test_the_same_content_under_another_key_stays(nights: LiveNights) -> None:
    nights.night(with_secret(copy=SECRET))
    report = nights.erase()
    assert (report["left"], report["shared_with"]) == ([], ["docs/copy.md"])
    assert rows(report, holding="/parts/") == 0
    assert nights.texts()["copy.md"] == [SECRET]
    texts = CountingEmbedder.texts
    nights.night(with_secret(copy=SECRET, b="to be"))
    assert (nights.texts()["copy.md"], CountingEmbedder.texts) == ([SECRET], texts + 1)
    nights.erase("docs/copy.md")
    assert nights.places_with("whisper") == set()


def test_two_keys_of_one_content_that_go_at_the_same_moment_take_it_with_them(nights: LiveNights) -> None:
    nights.night(with_secret(copy=SECRET))
    bury(nights.store, STATE_BUCKET, "docs", "docs/copy.md", reason="r", by="b")
    nights.erase()
    assert not [place for place in nights.places_with("whisper") if "/parts/" in place]
    nights.erase("docs/copy.md")
    assert nights.places_with("whisper") == set()


STAGES: dict[str, Callable[[LiveNights, ReleaseFiles], object]] = {
    "plan": lambda nights, files: nights.plan(files),
    "embed": lambda nights, files: nights.embed(files),
    "assemble": lambda nights, files: nights.assemble(files),
    "load": lambda nights, files: nights.load(files),
    "verify": lambda nights, files: nights.verify(files),
}


def begun(nights: LiveNights, documents: dict[str, str | bytes], done: int) -> ReleaseFiles:
    """Begin a release now and take it through so many stages."""
    nights.put(documents)
    files = nights.begin()
    files.write_report("snapshot", datetime.now(UTC).timestamp(), {"documents": len(documents), "as_of": "2026-01-09"})
    for stage in list(STAGES.values())[:done]:
        stage(nights, files)
    return files


@pytest.mark.parametrize("done", range(len(STAGES)), ids=["snapshot", *STAGES][:-1])
def test_a_run_in_flight_cannot_bring_it_in(nights: LiveNights, done: int) -> None:
    nights.night({"a.md": "a note on tides"})
    files = begun(nights, with_secret(b="to be"), done)
    report = nights.erase()
    assert report["going_on"] == [files.release]
    for stage in list(STAGES.values())[done:]:
        stage(nights, files)
    check_erased(files)
    nights.vectors.point_alias("docs", nights.collection(files))
    nights.live = files.release
    assert set(nights.texts()) == {"a.md", "b.md"}
    assert expected_rows(files) == nights.vectors.count_rows(nights.collection(files))
    last = nights.erase()
    assert (last["going_on"], last["left"]) == ([], [])
    assert nights.places_with("whisper") == nights.places_with("secret.md") == set()


def test_a_run_that_embeds_it_at_this_moment_indexes_it_not(nights: LiveNights) -> None:
    files = begun(nights, with_secret(), done=1)
    chain = nights.chain

    def buried_meanwhile(files: ReleaseFiles, work: Work) -> list[pa.Table]:
        outcomes = chain(files, work)
        nights.erase()
        return outcomes

    nights.chain = buried_meanwhile  # type: ignore[method-assign]
    report = nights.embed(files)
    assert (report["documents"], report["chunks_embedded"], report["chunks_reused"]) == (1, 1, 0)
    for stage in ("assemble", "load", "verify"):
        STAGES[stage](nights, files)
    assert nights.places_with(SECRET) == {key for key in nights.state() if "/parts/" in key}
    assert nights.erase()["left"] == []
    assert nights.places_with("whisper") == nights.places_with("secret.md") == set()


def test_parts_wait_for_a_run_that_may_reuse_them(nights: LiveNights) -> None:
    nights.night(with_secret())
    files = begun(nights, with_secret(copy=SECRET), done=1)
    report = nights.erase()
    assert {place["place"].split("/")[4] for place in report["left"]} == {"parts", "catalog"}
    for stage in list(STAGES.values())[1:]:
        stage(nights, files)
    assert nights.erase()["left"] == []
    nights.live = files.release
    assert nights.texts()["copy.md"] == [SECRET]


def test_what_is_buried_is_not_even_read(nights: LiveNights) -> None:
    files = begun(nights, with_secret(), done=1)
    bury(nights.store, STATE_BUCKET, "docs", KEY, reason="r", by="b")
    work = begin_embedding(files, nights.parts(files), rebuild=False, firsts=True)
    assert work.pending.column("key").to_pylist() == ["docs/a.md"]


def test_an_erasure_that_was_broken_off_keeps_the_release_from_readers(nights: LiveNights) -> None:
    nights.night(with_secret())
    bury(nights.store, STATE_BUCKET, "docs", KEY, reason="r", by="b")
    with pytest.raises(ErasedDocument, match=r"still indexes 1 documents that were erased from docs"):
        check_erased(nights.live_files())


class Killed(Exception):
    pass


def test_an_erasure_killed_after_any_write_is_finished_by_the_next(nights: LiveNights) -> None:
    nights.night(with_secret())
    keep_queries(nights, nights.live_files())
    nights.vectors.release(nights.collection(nights.live_files()))
    nights.night({**with_secret(copy="something else"), "secret.md": SECRET + " nor this"})
    counts = {name: nights.vectors.count_rows(name) - 1 for name in nights.vectors.held}
    objects, held = dict(nights.store.objects), {name: found.rows for name, found in nights.vectors.held.items()}
    writes = 0
    while killed_after(nights, writes):
        nights.erase()
        assert nights.places_with("whisper") == nights.places_with("secret.md") == set(), writes
        for name, count in counts.items():
            files = nights.live_files().of(name.split("__")[1])
            assert expected_rows(files) == nights.vectors.count_rows(name) == count, writes
            assert len(files.read_column("queries.parquet", "floor")) in {0, count}, writes
        nights.store.objects = dict(objects)
        for name, rows_before in held.items():
            nights.vectors.held[name].rows = rows_before
        writes += 1
    assert writes > 15


def killed_after(nights: LiveNights, writes: int) -> bool:
    """Erase until so many writes are done; return whether that broke it off."""
    left = [writes]

    def counted(act: Callable[..., Any]) -> Callable[..., Any]:
        def once(*arguments: Any, **named: Any) -> Any:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return act(*arguments, **named)

        return once

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nights.store, "write", counted(nights.store.write))
        patch.setattr(nights.store, "delete", counted(nights.store.delete))
        patch.setattr(ExactStore, "delete_rows", counted(ExactStore.delete_rows))
        try:
            nights.erase()
        except Killed:
            return True
    return False


def keep_queries(nights: LiveNights, files: ReleaseFiles, *, floor: float = 0.999) -> None:
    """Keep a query for each passage of the release: the passage itself."""
    found = [
        batch.column("vector")
        for file in files.needed_report("assemble")["files"]
        for batch in nights.store.read_batches(STATE_BUCKET, file["file"])
    ]
    vectors = pa.chunked_array(found).combine_chunks()
    own = pa.array([""] * len(vectors), pa.string())
    table = pa.table([vectors, pa.array(np.full(len(vectors), floor, "float32")), own], schema=QUERIES_SCHEMA)
    files.write_table("queries.parquet", QUERIES_SCHEMA, table.to_batches())


def test_the_queries_that_its_passages_answered_are_dropped_and_the_others_stay(nights: LiveNights) -> None:
    nights.night({"secret.md": "left", "a.md": "a verylongword tail of three", "b.md": "verylongword b"})
    files = nights.live_files()
    keep_queries(nights, files)
    nights.erase()
    assert len(files.read_column("queries.parquet", "floor")) == 2


def test_what_was_compared_of_it_goes_with_it(nights: LiveNights) -> None:
    nights.night(with_secret())
    files = nights.live_files()
    files.write_json("cosines.json", {"a digest of what it says": 1.0})
    nights.erase()
    assert files.read_json("cosines.json") is None


def test_queries_that_were_all_about_it_go_altogether(nights: LiveNights) -> None:
    nights.night(with_secret())
    files = nights.live_files()
    keep_queries(nights, files, floor=-1)
    nights.erase()
    assert files.store.etag(STATE_BUCKET, files.key("queries.parquet")) is None


def test_reports_that_name_it_do_so_no_more(nights: LiveNights) -> None:
    nights.night({**notes(40), **with_secret()})
    report = nights.night({"a.md": "a note on tides", "b.md": "to be"})
    assert KEY in report["withheld_keys"]
    files = nights.live_files()
    named = {"stage": "verify", "message": f"neither indexed nor rejected: {KEY}, {KEY}.bak", "arguments": [[KEY]]}
    files.write_json("failure.json", named)
    found = nights.erase()
    assert (found["left"], rows(found, holding="failure.json"), rows(found, holding="plan.json")) == ([], 2, 1)
    told = files.read_json("failure.json") or {}
    assert (told["message"], told["arguments"]) == (f"neither indexed nor rejected: [erased], {KEY}.bak", [[]])
    assert KEY not in json.dumps(files.report("plan"))
    assert files.needed_report("plan")["withhold"] == 41


def test_the_page_of_a_report_names_it_no_more_nor_asks_what_it_answered(nights: LiveNights) -> None:
    key = "docs/it's & <so>.md"
    nights.night({"a.md": "a note on tides"})
    files = nights.live_files()
    changed = [{"query": f"of {name}", "candidate": [name], "live": []} for name in (key, "docs/a.md")]
    measured = {"ledger": {"doubled": [key, "docs/b.md"]}, "overlap": {"changed": changed}}
    files.write_json(RECALL_FILE, measured)
    files.write_text(REPORT_FILE, render_report(measured))
    found = nights.erase(key)
    assert (found["left"], rows(found, holding=RECALL_FILE), rows(found, holding=REPORT_FILE)) == ([], 3, 3)
    page = html.unescape(files.read_text(REPORT_FILE) or "")
    assert "it's" not in page
    assert "docs/b.md" in page
    assert "of docs/a.md" in page


def test_a_collection_that_an_import_may_have_brought_it_into_goes(nights: LiveNights) -> None:
    """The import read the file before the erasure rewrote it, and its release failed: nobody can ask what it holds."""
    nights.night({"a.md": "a note on tides"})
    files = begun(nights, with_secret(), done=4)
    collection = nights.collection(files)
    late = nights.vectors.held[collection].rows
    nights.erase()
    nights.vectors.held[collection].rows = late
    nights.vectors.release(collection)
    files.record_failure("verify", LedgerMismatch(["10 imported, 9 distinct ids"]))
    assert nights.erase()["left"] == []
    assert collection not in nights.vectors.held
    assert nights.places_with("whisper") == set()


def test_a_run_that_has_been_at_work_for_days_is_still_going_on(nights: LiveNights) -> None:
    nights.night({"a.md": "a note on tides"})
    files = begun(nights, with_secret(), done=1)
    files.write_report("snapshot", 0, files.needed_report("snapshot"))
    assert nights.erase()["going_on"] == [files.release]


def test_a_run_that_is_about_to_try_again_is_still_going_on(nights: LiveNights) -> None:
    nights.night({"a.md": "a note on tides"})
    files = begun(nights, with_secret(), done=1)
    files.record_failure("embed", JobFailed("embed", "connection reset"))
    assert nights.erase()["going_on"] == [files.release]
    files.record_failure("embed", LedgerMismatch(["a person must act"]))
    assert nights.erase()["going_on"] == []
