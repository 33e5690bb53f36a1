"""Night after night in memory: what is embedded, what is reused, what leaves, and what stays."""

from __future__ import annotations

import gzip
import io
import tarfile
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from reindex import embed_worker
from reindex.embed import Work, embed_documents
from reindex.embed_worker import PART_DOCUMENTS
from reindex.errors import AccessRefused, DoesNotFit, FileMissing, LedgerMismatch, NoDocumentIndexed, TooManyDeleted
from reindex.ledger import Ledger, check_ledger
from reindex.plan import BUILD, UNCHANGED
from reindex.records import DOCUMENT_SCHEMA, Memory
from reindex.recount import draw_ledger
from reindex.scan import FILED_SCHEMA
from tests.fakes import STATE_BUCKET
from tests.nights import CountingEmbedder, Nights, RememberingSandbox, in_process, with_settings

PARAGRAPHS = [
    " ".join(f"Sentence {j} of part {i} counts {i * 7 + j * 13} {topic} at station {j * j + i}." for j in range(16))
    for i, topic in enumerate(["tides", "looms", "comets", "orchids", "glaciers", "bridges"])
]


def document(name: str, paragraphs: list[str] = PARAGRAPHS) -> str:
    return f"# {name}\n\n" + "\n\n".join(
        f"## Part {i} of {name}\n\n{text.replace('station', name)}" for i, text in enumerate(paragraphs)
    )


def notes(count: int) -> dict[str, str | bytes]:
    return {f"{number:03}.md": f"note {number} on left and right" for number in range(count)}


def documents(count: int) -> dict[str, str | bytes]:
    return {f"{number:03}.md": document(f"document {number}") for number in range(count)}


@pytest.fixture
def nights(monkeypatch: pytest.MonkeyPatch) -> Nights:
    in_process(monkeypatch)
    return Nights()


def test_a_first_night_embeds_everything(nights: Nights) -> None:
    report = nights.run(documents(3))
    assert (report["embed"], report["embedded"], report["reused"]) == (3, 3, 0)
    assert report["chunks"] == report["chunks_embedded"] == report["rows"] == CountingEmbedder.texts
    assert set(nights.texts()) == {"000.md", "001.md", "002.md"}


def test_chunks_that_the_model_would_cut_are_counted(nights: Nights) -> None:
    assert nights.run(documents(2))["truncated"] == 0
    nights.put(documents(3))
    files = nights.begin()
    nights.plan(files)
    nights.model = replace(nights.model, window=8)
    report = nights.embed(files)
    assert report["truncated"] == report["chunks_embedded"] > 0


def test_a_text_that_a_writer_has_embedded_in_another_part_is_not_embedded_again(nights: Nights) -> None:
    nights.part_documents = 1
    report = nights.run({"a.txt": "One sentence.", "b.txt": "Another sentence.", "c.md": "One sentence.\n"})
    assert (report["rows"], report["chunks_embedded"], CountingEmbedder.texts) == (3, 2, 2)


def test_what_a_writer_remembers_is_bounded(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed_worker, "_REMEMBERED_TEXTS", 0)
    nights.part_documents = 1
    report = nights.run({"a.txt": "One sentence.", "b.txt": "Another sentence.", "c.md": "One sentence.\n"})
    assert (report["rows"], report["chunks_embedded"]) == (3, 3)


def test_a_night_without_a_change_ends_with_the_plan(nights: Nights) -> None:
    nights.run(documents(3))
    report = nights.run()
    assert (report["outcome"], report["live"], report["embed"], report["reuse"]) == (UNCHANGED, nights.live, 0, 3)


def test_a_file_that_was_touched_is_not_even_read(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    nights.run({"a.md": document("a"), "b.md": document("b")})
    read, keys = nights.store.read, []
    monkeypatch.setattr(nights.store, "read", lambda bucket, key, **rest: keys.append(key) or read(bucket, key, **rest))
    nights.run({"a.md": document("a"), "b.md": document("c")})
    assert [key for key in keys if key.startswith("docs/")] == ["docs/b.md"]


def test_an_edit_of_one_paragraph_embeds_its_chunks_alone(nights: Nights) -> None:
    first = nights.run(documents(5))
    edited = [*PARAGRAPHS[:2], "Rewritten: " + PARAGRAPHS[2], *PARAGRAPHS[3:]]
    report = nights.run({**documents(5), "002.md": document("document 2", edited)})
    assert (report["embedded"], report["reused"]) == (1, 4)
    assert 1 <= report["chunks_embedded"] <= 3
    assert report["chunks_reused"] + report["chunks_embedded"] == report["rows"]
    assert CountingEmbedder.texts == first["chunks_embedded"] + report["chunks_embedded"]
    assert any("Rewritten" in text for text in nights.texts()["002.md"])


def test_where_headings_are_embedded_a_new_heading_embeds_its_chunks_and_no_others(nights: Nights) -> None:
    nights.corpus = with_settings(nights.corpus, chunks={"max_tokens": 200, "heading_prefix": True})
    first = nights.run({"a.md": document("a")})
    report = nights.run({"a.md": document("a").replace("## Part 2", "## Chapter 2")})
    assert 1 <= report["chunks_embedded"] < first["chunks"] / 2
    before = CountingEmbedder.texts
    nights.run({"a.md": document("a").replace("## Part 2", "## Chapter 2") + " "})
    assert CountingEmbedder.texts - before <= 1


def test_an_edited_document_is_what_a_rebuild_makes_of_it(nights: Nights) -> None:
    nights.run(documents(2))
    edited = {**documents(2), "001.md": document("document 1", PARAGRAPHS[::-1])}
    nights.run(edited)
    incremental = (nights.ids(), nights.texts())
    report = nights.run(rebuild=True)
    assert (report["outcome"], report["embedded"], report["reused"]) == (BUILD, 2, 0)
    assert report["chunks_embedded"] == report["chunks"]
    assert (nights.ids(), nights.texts()) == incremental


def test_a_rename_embeds_nothing_and_takes_the_new_name(nights: Nights) -> None:
    nights.run({"old.txt": "left and right", "other.md": document("other")})
    before = CountingEmbedder.texts
    report = nights.run({"new.txt": "left and right", "other.md": document("other")})
    assert (report["chunks_embedded"], report["moved"], report["withdraw"]) == (0, 1, 1)
    assert CountingEmbedder.texts == before
    assert nights.texts()["new.txt"] == ["left and right"]
    assert "old.txt" not in nights.texts()


def test_the_same_bytes_in_another_format_are_another_document(nights: Nights) -> None:
    nights.run({"a.md": "# Title\n\ntext"})
    assert nights.run({"a.txt": "# Title\n\ntext"})["embedded"] == 1
    assert nights.texts() == {"a.txt": ["# Title\n\ntext"]}


def test_copies_are_stored_for_each_key(nights: Nights) -> None:
    report = nights.run({"a.txt": "left and right", "b.txt": "left and right"})
    assert (report["rows"], report["chunks_embedded"]) == (2, 1)
    assert len(nights.ids()) == 2


def test_copies_in_different_batches_are_embedded_once(nights: Nights) -> None:
    """More documents than one task prepares or one part holds, and as many copies."""
    firsts = notes(PART_DOCUMENTS + 1)
    report = nights.run({**firsts, **{f"copies/{name}": text for name, text in firsts.items()}})
    assert report["rows"] == 2 * report["chunks_embedded"] == 2 * len(firsts)
    assert CountingEmbedder.texts == len(firsts)


def test_a_corpus_may_keep_one_of_several_copies(nights: Nights) -> None:
    nights.corpus = with_settings(nights.corpus, source={**nights.corpus.source.model_dump(), "duplicates": "first"})
    copies: dict[str, str | bytes] = dict.fromkeys(("b.txt", "c.txt", "d.txt"), "left and right")
    report = nights.run({**copies, "other.md": document("other")})
    assert set(nights.texts()) == {"b.txt", "other.md"}
    assert report["rejected_by_reason"] == {"duplicate": 2}
    assert nights.run()["outcome"] == UNCHANGED
    # One that sorts before it takes its place; when that one leaves, the next one does.
    report = nights.run({"a.txt": "left and right", **copies, "other.md": document("other")})
    assert (set(nights.texts()), report["chunks_embedded"]) == ({"a.txt", "other.md"}, 0)
    details = nights.live_files().read_column("rejects.parquet", "detail")
    assert len(details) == 3
    assert "a document of the same content whose key comes first stands for it" in details
    report = nights.run({"d.txt": "left and right", "other.md": document("other")})
    assert (set(nights.texts()), report["chunks_embedded"]) == ({"d.txt", "other.md"}, 0)


def test_a_copy_of_a_withheld_document_changes_nothing_night_after_night(nights: Nights) -> None:
    nights.corpus = with_settings(nights.corpus, source={**nights.corpus.source.model_dump(), "duplicates": "first"})
    kept: dict[str, str | bytes] = {"b.txt": "left and right", "other.md": document("other")}
    nights.run(
        {**kept, **{f"gone{number:02}.txt": f"note {number}" for number in range(20)}, "a.txt": "left and right"}
    )
    assert nights.run(kept)["withheld"] == 21
    assert nights.run()["outcome"] == UNCHANGED


def test_a_change_of_limits_reads_a_broken_member_again_and_embeds_nothing(nights: Nights) -> None:
    nights.corpus = with_settings(nights.corpus, parsing={"records": True})
    records = "\n".join(f'{{"id": {n}, "text": "left and right {n}"}}' for n in range(9)) + "\n{broken"
    first = nights.run({"a.jsonl": records})
    assert (first["documents"], first["rejected"], first["chunks_embedded"]) == (1, 0, 9)
    nights.corpus = with_settings(nights.corpus, limits={"seconds": 100})
    report = nights.run(rebuild=False)
    assert (report["embed"], report["chunks_embedded"], report["outcome"]) == (1, 0, BUILD)


AWKWARD_MEMBERS = {
    "cut.tar.gz": lambda: gzip.compress(tar({"a.txt": b"left", "b.txt": b"right" * 999})[:1300]),
    "nameless.eml": lambda: mail("filename*=utf-8''%01"),
    "long.eml": lambda: mail(f'filename="{"n" * 1_100}.bin"'),
    "odd.eml": lambda: mail("filename*"),
    "late.vtt": lambda: b"WEBVTT\n\n99999999999999:00:01.000 --> 99999999999999:00:02.000\nright\n",
}


def tar(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def mail(parameter: str) -> bytes:
    return (
        "From: a@b.c\nTo: d@e.f\nSubject: left\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=x\n\n"
        "--x\nContent-Type: text/plain\n\nleft and right\n--x\nContent-Type: application/octet-stream\n"
        f"Content-Disposition: attachment; {parameter}\nContent-Transfer-Encoding: base64\n\nAAECAwQFBgcICQ==\n--x--\n"
    ).encode()


@pytest.mark.parametrize("name", AWKWARD_MEMBERS)
def test_an_awkward_member_never_costs_the_release(nights: Nights, name: str) -> None:
    nights.corpus = with_settings(nights.corpus, parsing={"archives": True})
    report = nights.run({name: AWKWARD_MEMBERS[name](), "good.md": document("good")})
    assert (report["documents"] + report["rejected"], report["rows"]) == (2, report["chunks"])
    files = nights.live_files()
    rejected = [
        key
        for key, member in zip(*(files.read_column("rejects.parquet", c) for c in ("key", "member")), strict=True)
        if not member
    ]
    assert not set(rejected) & set(files.read_column("documents.parquet", "key"))


def test_a_reject_is_tried_again_when_the_limits_change_and_not_before(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights.run({"a.pdf": b"%PDF-1.4 and then nothing", "b.md": document("b")})
    read = count_readings(monkeypatch)
    assert (nights.run()["outcome"], read) == (UNCHANGED, [])
    nights.corpus = with_settings(nights.corpus, limits={"pages": 9})
    report = nights.run()
    assert (read, report["rejected"], report["chunks_embedded"]) == (["docs/a.pdf"], 1, 0)
    assert nights.run()["outcome"] == UNCHANGED


def test_what_left_and_came_back_is_not_embedded_again(nights: Nights) -> None:
    nights.run(documents(3))
    nights.run({name: text for name, text in documents(3).items() if name != "001.md"})
    assert set(nights.texts()) == {"000.md", "002.md"}
    report = nights.run(documents(3))
    assert (report["chunks_embedded"], report["reused"]) == (0, 3)


def test_a_rollback_and_the_way_forward_embed_nothing(nights: Nights) -> None:
    nights.run(documents(2))
    rolled_back_to = nights.live
    nights.run({**documents(2), "000.md": document("document 0", PARAGRAPHS[1:])})
    nights.live = rolled_back_to
    report = nights.run()
    assert (report["outcome"], report["chunks_embedded"]) == (BUILD, 0)


def test_a_run_that_died_goes_on_with_what_no_complete_part_holds(nights: Nights) -> None:
    nights.put(documents(20))
    files = nights.begin()
    nights.plan(files)
    parts = nights.parts(files)
    chain = nights.chain

    def dies_in_the_middle(work: Work) -> list[pa.Table]:
        chain(files, replace(work, pending=work.pending.slice(0, 8)))
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        embed_documents(files, parts, dies_in_the_middle, rebuild=False)
    before = CountingEmbedder.texts
    report = nights.embed(files)
    assert before > 0
    assert report["chunks_embedded"] == report["chunks"] == CountingEmbedder.texts


def test_two_runs_over_the_same_documents_share_their_embedding(nights: Nights) -> None:
    """Both are planned before either embeds, as backfilled nights are."""
    nights.put(documents(4))
    first, second = nights.begin(), nights.begin()
    nights.plan(first)
    nights.plan(second)
    assert nights.embed(first)["chunks_embedded"] > 0
    report = nights.embed(second)
    assert (report["chunks_embedded"], report["reused"]) == (0, 4)


def test_a_rejected_document_is_remembered_and_not_tried_every_night(nights: Nights) -> None:
    report = nights.run({"a.md": document("a"), "broken.pdf": b"%PDF-1.4 and then nothing"})
    assert (report["embedded"], report["rejected"]) == (1, 1)
    again = nights.run()
    assert (again["outcome"], again["reject"]) == (UNCHANGED, 1)
    with_more = nights.run({"a.md": document("a"), "b.md": document("b"), "broken.pdf": b"%PDF-1.4 and then nothing"})
    assert (with_more["plan_embed"], with_more["rejected"]) == (1, 1)
    assert with_more["rejected_by_reason"] == {"cannot-be-parsed": 1}


def test_an_object_that_is_gone_is_rejected_and_tried_again(nights: Nights) -> None:
    nights.put(documents(2))
    files = nights.begin()
    nights.plan(files)
    nights.store.delete("sources", "docs/001.md")
    assert nights.embed(files)["rejected_by_reason"] == {"gone-since-the-snapshot": 1}
    nights.live = files.release
    assert nights.run(documents(2))["plan_embed"] == 1


def test_a_live_document_that_cannot_be_read_for_now_stays_as_it_was(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights.run(notes(3))
    read = nights.store.read

    def refused(bucket: str, key: str, **rest: Any) -> bytes | None:
        if key == "docs/001.md":
            raise AccessRefused("the object store", "there", "locked")
        return read(bucket, key, **rest)

    edited = {**notes(3), "001.md": "note 1 was edited", "new.md": "a new note"}
    with monkeypatch.context() as locked:
        locked.setattr(nights.store, "read", refused)
        report = nights.run(edited)
    assert (report["rejected"], report["kept_earlier"], report["reused"], report["embedded"]) == (0, 1, 3, 1)
    assert (
        "1 documents could not be read and stay as they were, the first: docs/001.md (locked)"
        in report["unread_warning"]
    )
    assert nights.texts()["001.md"] == ["note 1 on left and right"]
    check_ledger(drawn(nights))
    assert nights.run(edited)["embedded"] == 1
    assert nights.texts()["001.md"] == ["note 1 was edited"]


def test_what_another_run_could_read_is_not_rejected_by_one_that_could_not(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights.put(notes(2))
    first, second = nights.begin(), nights.begin()
    for files in (first, second):
        nights.plan(files)

    read = nights.store.read

    def refused(bucket: str, key: str, **rest: Any) -> bytes | None:
        if bucket == "sources":
            raise AccessRefused("the object store", "there", "locked")
        return read(bucket, key, **rest)

    def loses_its_rights(work: Work) -> list[pa.Table]:
        with monkeypatch.context() as locked:
            locked.setattr(nights.store, "read", refused)
            outcomes = nights.chain(first, work)
        assert nights.embed(second)["embedded"] == 2
        return outcomes

    report = embed_documents(first, nights.parts(first), loses_its_rights, rebuild=False)
    assert (report["rejected"], report["reused"]) == (0, 2)


def test_the_documents_of_the_live_release_are_needed_not_supposed(nights: Nights) -> None:
    nights.run(notes(30))
    nights.store.delete(STATE_BUCKET, nights.live_files().key("documents.parquet"))
    with pytest.raises(FileMissing, match=r"documents\.parquet is gone"):
        nights.run(notes(10))


def test_copies_that_go_are_forgiven_only_as_often_as_copies_come(nights: Nights) -> None:
    copies = {f"copy-{number}.md": "the same note" for number in range(40)}
    nights.run({**notes(10), **copies})
    report = nights.run({**notes(10), "moved.md": "the same note"})
    assert (report["moved"], report["withhold"]) == (1, 40)


def test_nothing_indexed_is_an_error(nights: Nights) -> None:
    with pytest.raises(NoDocumentIndexed, match=r"all 1 documents were rejected, the first because: docs/a\.pdf"):
        nights.run({"a.pdf": b"%PDF-1.4 and then nothing"})


def test_many_deletions_are_withheld_and_additions_go_on(nights: Nights) -> None:
    nights.run(notes(40))
    left = {**dict(list(notes(40).items())[:20]), "new.md": document("new")}
    report = nights.run(left)
    assert (report["withhold"], report["withdraw"], report["embedded"]) == (20, 0, 1)
    assert report["withheld_keys"] == [f"docs/{number:03}.md" for number in range(20, 40)]
    assert "20 documents are no longer listed, more than gate.max_deleted_share allows" in report["warning"]
    assert len(nights.texts()) == 41
    assert (report["documents"], report["reused"], report["withheld"]) == (41, 20, 20)


def test_withheld_documents_stay_night_after_night_until_they_are_allowed_to_go(nights: Nights) -> None:
    nights.run(notes(40))
    few = dict(list(notes(40).items())[:20])
    assert nights.run(few)["outcome"] == UNCHANGED
    assert nights.run(few, max_deleted=19)["withhold"] == 20
    report = nights.run(few, max_deleted=20)
    assert (report["withhold"], report["withdraw"], report["warning"]) == (0, 20, "")
    assert len(nights.texts()) == 20


def test_moved_documents_are_no_deletions(nights: Nights) -> None:
    nights.run(notes(40))
    renamed = {f"elsewhere/{name}": text for name, text in notes(40).items()}
    report = nights.run(renamed)
    assert (report["withhold"], report["moved"], report["chunks_embedded"]) == (0, 40, 0)
    assert set(nights.texts()) == set(renamed)


def test_deletions_that_cannot_be_kept_in_a_new_space_need_a_word(nights: Nights) -> None:
    nights.run(notes(40))
    nights.corpus = with_settings(nights.corpus, chunks={"max_tokens": 100})
    few = dict(list(notes(40).items())[:20])
    with pytest.raises(TooManyDeleted, match=r"20 of 40 live documents.*--max-deleted 20"):
        nights.run(few)
    assert nights.run(few, max_deleted=20)["embedded"] == 20


def test_what_cannot_be_loaded_beside_the_live_release_is_refused_before_anything_is_read(nights: Nights) -> None:
    nights.run(documents(3))
    nights.memory = Memory(limit_bytes=1000, used_bytes=100)
    before = CountingEmbedder.texts
    with pytest.raises(DoesNotFit):
        nights.run(documents(4))
    assert CountingEmbedder.texts == before
    assert nights.run(documents(3))["outcome"] == UNCHANGED


def test_the_plan_holds_a_forecast_at_the_rates_of_the_corpus(nights: Nights) -> None:
    assert nights.run(documents(3))["forecast"]["basis"] == "defaults"
    report = nights.run(documents(4))
    assert (report["forecast"]["documents"], report["forecast"]["rows"] > 0) == (4, True)


def drawn(nights: Nights) -> Ledger:
    """Return the ledger of the live release, as if Milvus had taken every row of its import files."""
    files = nights.live_files()
    assembled = files.needed_report("assemble")
    loaded = [{**file, "imported": file["rows"]} for file in assembled["files"]]
    files.write_report("load", 0, {"files": loaded, "rows": assembled["rows"]})
    counts = {name: len(texts) for name, texts in nights.texts().items()}
    rows = [{"document": f"docs/{name}", "rows": count} for name, count in counts.items()]
    total = sum(counts.values())
    filed = pa.Table.from_pylist(rows, schema=FILED_SCHEMA)
    return draw_ledger(files, nights.parts(files), filed, file_rows=total, collection_rows=total, distinct_ids=total)


def test_the_ledger_of_a_night_adds_up(nights: Nights) -> None:
    nights.run({**notes(40), "broken.pdf": b"%PDF-1.4 and then nothing"})
    nights.run(
        {**dict(list(notes(40).items())[:20]), "new.md": document("new"), "broken.pdf": b"%PDF-1.4 and then nothing"}
    )
    ledger = drawn(nights)
    check_ledger(ledger)
    assert (ledger.listed, ledger.reused, ledger.embedded, ledger.rejected, ledger.withheld) == (22, 20, 1, 1, 20)


def test_the_ledger_names_each_document_that_does_not_agree(nights: Nights) -> None:
    nights.run(notes(3))
    files = nights.live_files()
    rows = nights.store.read_table(STATE_BUCKET, files.key("documents.parquet")).to_pylist()
    rows[0] = {**rows[0], "key": "docs/never-listed.md"}
    rows[1] = {**rows[1], "chunks": 7}
    table = pa.Table.from_pylist(rows, schema=DOCUMENT_SCHEMA)
    files.write_table("documents.parquet", DOCUMENT_SCHEMA, table.to_batches())
    ledger = drawn(nights)
    assert (ledger.unlisted, len(ledger.unaccounted)) == (("docs/never-listed.md",), 1)
    assert rows[1]["key"] in ledger.misfits
    with pytest.raises(
        LedgerMismatch, match=r"neither indexed nor rejected: .*; indexed or rejected but never listed: docs/never"
    ):
        check_ledger(ledger)


# One knob turned, three documents: how many are parsed and chunked again, and how many are embedded again.
KNOBS: dict[str, tuple[dict[str, Any], int, str]] = {
    "nothing": ({}, 0, UNCHANGED),
    "the model's files": ({"model": "0" * 64}, 3, BUILD),
    "passage_prompt": (
        {"embedding": {"precision": "float32", "passage_prompt": "passage: "}, "chunks": {"max_tokens": 250}},
        3,
        BUILD,
    ),
    "precision": ({"embedding": {"precision": "bfloat16"}}, 3, BUILD),
    "max_tokens": ({"chunks": {"max_tokens": 128}}, 3, BUILD),
    "overlap_tokens": ({"chunks": {"overlap_tokens": 0}}, 3, BUILD),
    "heading_prefix": ({"chunks": {"heading_prefix": True}}, 3, BUILD),
    "parsing": ({"parsing": {"ocr": True}}, 3, BUILD),
    "limits": ({"limits": {"pages": 10}}, 0, UNCHANGED),
    "the parser": ({"parser": "another/2"}, 3, BUILD),
    "the chunker": ({"chunker": "another/2"}, 3, BUILD),
    "query_prompt": ({"embedding": {"precision": "float32", "query_prompt": "query: "}}, 0, BUILD),
    "index": ({"index": {"type": "HNSW", "params": {"M": 8, "efConstruction": 100}}}, 0, BUILD),
    "gate": ({"gate": {"min_recall": 0.9}}, 0, UNCHANGED),
    "retention": ({"retention": {"releases": 5}}, 0, UNCHANGED),
    "schedule": ({"schedule": "0 3 * * *"}, 0, UNCHANGED),
    "promote": ({"promote": "never"}, 0, UNCHANGED),
}


@pytest.mark.parametrize("knob", KNOBS)
def test_one_knob_embeds_again_exactly_what_it_decides(
    nights: Nights, monkeypatch: pytest.MonkeyPatch, knob: str
) -> None:
    changes, expected, outcome = KNOBS[knob]
    nights.run(documents(3))
    settings = {name: value for name, value in changes.items() if name not in {"model", "parser", "chunker"}}
    if "model" in changes:
        nights.model = replace(nights.model, digest=changes["model"])
    if "parser" in changes:
        monkeypatch.setattr("reindex.embedders.PARSER_VERSION", changes["parser"])
    if "chunker" in changes:
        monkeypatch.setattr("reindex.embedders.CHUNKER_VERSION", changes["chunker"])
    nights.corpus = with_settings(nights.corpus, **settings)
    read = count_readings(monkeypatch)
    report = nights.run()
    assert (len(read), report.get("embedded", 0), report["outcome"]) == (expected, expected, outcome)
    assert report.get("chunks_embedded", 0) == (report["chunks"] if expected else 0)


def count_readings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the keys of the documents that are parsed and chunked from now on, as they come."""
    read: list[str] = []
    run = RememberingSandbox.run

    def counted(sandbox: RememberingSandbox, key: str, data: bytes) -> Any:
        read.append(key)
        return run(sandbox, key, data)

    monkeypatch.setattr(RememberingSandbox, "run", counted)
    return read
