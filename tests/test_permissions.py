"""Who may find what: what the rules and an object's metadata say, what a filter lets through, and night after night."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from reindex.display import print_explanation
from reindex.errors import AccessRefused, InvalidQuery, PermissionsNotLive, SettingsError
from reindex.explain import explain_passage
from reindex.groups import may_find, readers_filter
from reindex.naming import collection_name
from reindex.permissions import acl_of, narrowed, reader_groups
from reindex.plan import BUILD, UNCHANGED
from reindex.records import DOCUMENT_SCHEMA, chunk_schema
from reindex.releases import SNAPSHOT_FILE
from reindex.settings import Permissions, Source, read_corpus
from reindex.snapshot import take_snapshot
from reindex.store import readable_columns
from tests.fakes import STATE_BUCKET, a_corpus, release_files
from tests.nights import CountingEmbedder, in_process, with_settings
from tests.test_erase import LiveNights
from tests.test_snapshot import NOON, ListedStore, an_object
from tests.test_whole_run import notes

SOURCE = Source(bucket="sources", prefix="docs/")
RULES = {
    "rules": [
        {"prefix": "hr/public/", "groups": []},
        {"prefix": "hr/", "groups": ["hr", "board"]},
        {"prefix": "legal", "groups": ["legal"]},
    ]
}
EVERYONE, NOBODY = ["*"], []


def permissions(**settings: Any) -> Permissions:
    return Permissions.model_validate(settings)


def ruled(name: str, **settings: Any) -> list[str]:
    return acl_of(f"docs/{name}", "{}", permissions(**(settings or RULES)), SOURCE)


def said(value: str) -> list[str]:
    """Return who may find a document whose metadata says this, in a corpus that is open otherwise."""
    open_otherwise = permissions(metadata="Groups", rules=[{"prefix": "", "groups": []}])
    return acl_of("docs/a.md", json.dumps({"Groups": value}), open_otherwise, SOURCE)


# What rules and metadata say


def test_a_corpus_without_permissions_is_open_to_everyone() -> None:
    assert acl_of("docs/a.md", None, None, SOURCE) == EVERYONE


@pytest.mark.parametrize(
    ("name", "acl"),
    [
        ("hr/salaries.md", ["board", "hr"]),
        ("hr/public/jobs.md", EVERYONE),
        ("legal/case.md", ["legal"]),
        ("legal-notes.md", ["legal"]),
        ("HR/salaries.md", NOBODY),
        ("x/hr/salaries.md", NOBODY),
        ("readme.md", NOBODY),
    ],
)
def test_the_first_rule_whose_prefix_begins_the_name_decides_and_no_rule_means_nobody(
    name: str, acl: list[str]
) -> None:
    assert ruled(name) == acl


def test_a_rule_is_matched_as_patterns_are_against_the_key_after_the_prefix() -> None:
    assert ruled("/hr/salaries.md") == ["board", "hr"]
    assert acl_of("docs/a.md", "{}", permissions(rules=[{"prefix": "docs/", "groups": []}]), SOURCE) == NOBODY


@pytest.mark.parametrize(
    ("value", "acl"),
    [
        ("legal", ["legal"]),
        (" legal , hr ,hr", ["hr", "legal"]),
        ("*", EVERYONE),
        ("", NOBODY),
        (" , ", NOBODY),
        ("*, legal", NOBODY),
        ("legal\nhr", NOBODY),
        ("é" * 129, NOBODY),
        (",".join(f"g{number}" for number in range(64)), sorted(f"g{number}" for number in range(64))),
        (",".join(f"g{number}" for number in range(65)), NOBODY),
    ],
)
def test_metadata_comes_before_the_rules_and_what_it_does_not_name_clearly_is_unknown(
    value: str, acl: list[str]
) -> None:
    assert said(value) == acl


def test_an_object_without_the_metadata_is_left_to_the_rules() -> None:
    settings = permissions(metadata="groups", **RULES)
    assert acl_of("docs/hr/a.md", '{"owner": "ann"}', settings, SOURCE) == ["board", "hr"]
    assert acl_of("docs/a.md", "{}", permissions(metadata="groups"), SOURCE) == NOBODY


def test_an_object_whose_metadata_could_not_be_asked_is_not_left_to_the_rules() -> None:
    settings = permissions(metadata="groups", rules=[{"prefix": "", "groups": []}])
    assert acl_of("docs/a.md", None, settings, SOURCE) == NOBODY


def test_what_is_narrowed_is_open_to_those_whom_both_name() -> None:
    assert narrowed(["a", "b"], ["b", "c"]) == ["b"]
    assert narrowed(EVERYONE, ["b", "a"]) == narrowed(["b", "a"], EVERYONE) == ["a", "b"]
    assert narrowed(EVERYONE, EVERYONE) == EVERYONE
    assert narrowed(["a"], ["b"]) == narrowed(EVERYONE, NOBODY) == narrowed(NOBODY, EVERYONE) == NOBODY


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("rules: [{prefix: a, groups: ['*']}]", "'*' is no name of a group"),
        ("rules: [{prefix: a, groups: ['']}]", "'' is no name of a group"),
        ("rules: [{prefix: a, groups: ['a,b']}]", "'a,b' is no name of a group"),
        ("rules: [{prefix: a, groups: [' a']}]", "' a' is no name of a group"),
        ("rules: [{prefix: a, groups: ['" + "x" * 257 + "']}]", "is longer than 256 bytes"),
        (f"rules: [{{prefix: a, groups: {[f'g{number}' for number in range(65)]}}}]", "at most 64 items"),
        ("rules: [{prefix: /hr/, groups: [hr]}]", "never begins with a slash"),
        ("rules: [{prefix: '', groups: []}, {prefix: hr/, groups: [hr]}]", "the rule for 'hr/' never decides"),
        ("{}", "needs rules, metadata or both"),
        ("metadata: ''", "at least 1 character"),
    ],
)
def test_permissions_that_would_say_something_else_than_they_mean_are_refused(settings: str, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_corpus(f"name: docs\nsource: {{bucket: b}}\npermissions:\n  {settings}\n", where="docs.yaml", name="docs")
    assert str(caught.value).startswith("docs.yaml: permissions")
    assert problem in str(caught.value)


# What a filter lets through


def test_a_reader_finds_what_its_groups_or_everyone_may_find_and_nothing_of_unknown_permissions() -> None:
    assert may_find(["hr"], ["hr", "it"])
    assert may_find(EVERYONE, [])
    assert not may_find(["hr"], ["it"])
    assert not may_find(NOBODY, ["hr", "*"])


def test_the_filter_quotes_what_groups_are_called_and_sets_the_reader_s_own_in_parentheses() -> None:
    assert readers_filter([]) == 'array_contains_any(acl, ["*"])'
    odd = """it's "odd"] \\ é"""
    assert readers_filter([odd]) == """array_contains_any(acl, ["*", "it's \\"odd\\"] \\\\ é"])"""
    assert readers_filter([], "page > 1 or page == 0") == ('array_contains_any(acl, ["*"]) and (page > 1 or page == 0)')


@pytest.mark.parametrize(
    "expression",
    [
        "page > 0) or (page >= 0",
        'document == "a") or (1 == 1',
        "(page > 0",
        "page > 0)",
        "page in [1, 2",
        'document == "a',
        "document == 'a\" or (1 == 1",
        'document == "a\\") or (1 == 1',
        'document == "a\n") or ("b" == "b"',
        "(page > 0]",
        "\\",
    ],
)
def test_an_expression_that_would_leave_its_parentheses_is_refused(expression: str) -> None:
    with pytest.raises(InvalidQuery, match="has no other half"):
        readers_filter(["hr"], expression)


@pytest.mark.parametrize(
    "expression",
    [
        "document like 'a(%'",
        'document == "a\\")" and page in [1, 2]',
        """text == "it's" or (page > 1 and title == '"')""",
    ],
)
def test_a_bracket_or_quote_inside_a_text_is_none(expression: str) -> None:
    assert readers_filter([], expression).endswith(f" and ({expression})")


def test_a_search_is_made_for_groups_where_the_corpus_or_its_live_release_has_permissions() -> None:
    some = permissions(**RULES)
    assert reader_groups(None, None, ["hr"], "r") is None
    assert reader_groups(some, some, [], "r") == []
    assert reader_groups(None, some, ["hr"], "r") == ["hr"]
    with pytest.raises(PermissionsNotLive, match="r, which is live, knows no permissions: run the corpus again"):
        reader_groups(some, None, ["hr"], "r")


# What a snapshot asks


class Locked(ListedStore):
    """A bucket in which one object shows its metadata to nobody, and another is gone when it is asked."""

    def metadata(self, bucket: str, key: str, *, version: str = "", etag: str = "") -> dict[str, str] | None:
        if key == "docs/locked.md":
            raise AccessRefused("the object store", "there", "locked")
        return None if key == "docs/gone.md" else super().metadata(bucket, key, version=version, etag=etag)


def test_a_snapshot_asks_for_the_metadata_of_permissions_and_counts_what_stays_unknown() -> None:
    store = Locked([an_object(f"docs/{name}.md") for name in ("said", "ruled", "locked", "gone")])
    store.tags["docs/said.md"] = {"groups": "hr"}
    files = release_files(store=store)
    corpus = a_corpus(permissions={"metadata": "Groups", "rules": [{"prefix": "", "groups": []}]})
    facts = take_snapshot(files, corpus, as_of=max(NOON, store.now[0].modified), is_past=False)
    assert files.read_column(SNAPSHOT_FILE, "acl") == [["hr"], EVERYONE, NOBODY, NOBODY]
    assert files.read_column(SNAPSHOT_FILE, "metadata") == ['{"Groups": "hr"}', "{}", None, None]
    assert facts["hidden"] == 2


# Night after night


@pytest.fixture
def nights(monkeypatch: pytest.MonkeyPatch) -> LiveNights:
    in_process(monkeypatch)
    return LiveNights()


def allow(nights: LiveNights, **settings: Any) -> None:
    nights.corpus = with_settings(nights.corpus, permissions=settings)


def found(nights: LiveNights, *groups: str) -> set[str]:
    """Return the documents that a reader in these groups finds in the live release."""
    vector = [1.0] + [0.0] * (nights.model.dimension - 1)
    collection = nights.collection(nights.live_files())
    hits = nights.vectors.search(collection, [vector], k=1000, params={}, columns=["document"], groups=groups)[0]
    return {hit.fields["document"].removeprefix("docs/") for hit in hits}


DOCUMENTS: dict[str, str | bytes] = {
    "hr/salaries.md": "left and right",
    "hr/public/jobs.md": "up and down",
    "legal/case.md": "this and that",
    "readme.md": "to be or not",
}


def test_permissions_that_are_added_are_live_without_anything_being_embedded(nights: LiveNights) -> None:
    nights.night(DOCUMENTS)
    assert found(nights) == set(DOCUMENTS)
    before = (CountingEmbedder.texts, nights.ids())
    allow(nights, **RULES)
    report = nights.night()
    assert (report["outcome"], report["embedded"], report["reused"], report["chunks_embedded"]) == (BUILD, 0, 4, 0)
    assert (CountingEmbedder.texts, nights.ids()) == before
    assert found(nights) == {"hr/public/jobs.md"}
    assert found(nights, "hr") == {"hr/public/jobs.md", "hr/salaries.md"}
    assert found(nights, "board", "legal") == {"hr/public/jobs.md", "hr/salaries.md", "legal/case.md"}
    assert nights.night()["outcome"] == UNCHANGED


def test_a_document_of_unknown_permissions_is_indexed_and_found_by_nobody(nights: LiveNights) -> None:
    allow(nights, **RULES)
    report = nights.night(DOCUMENTS)
    assert (report["documents"], report["rejected"]) == (4, 0)
    assert "readme.md" in nights.texts()
    assert "readme.md" not in found(nights, "hr", "board", "legal", "*")


def test_rules_without_a_group_and_no_rule_are_not_the_same(nights: LiveNights) -> None:
    allow(nights, rules=[{"prefix": "hr/", "groups": []}])
    nights.night(DOCUMENTS)
    assert found(nights) == {"hr/salaries.md", "hr/public/jobs.md"}


def test_a_changed_rule_and_permissions_taken_away_are_changes_that_embed_nothing(nights: LiveNights) -> None:
    allow(nights, **RULES)
    nights.night(DOCUMENTS)
    allow(nights, rules=[{"prefix": "hr/", "groups": ["board"]}])
    report = nights.night()
    assert (report["outcome"], report["chunks_embedded"]) == (BUILD, 0)
    assert (found(nights, "hr"), found(nights, "board")) == (set(), {"hr/salaries.md", "hr/public/jobs.md"})
    nights.corpus = nights.corpus.model_copy(update={"permissions": None})
    assert nights.night()["outcome"] == BUILD
    assert found(nights) == set(DOCUMENTS)


def test_a_change_of_the_rules_that_changes_nobody_s_permissions_builds_nothing(nights: LiveNights) -> None:
    allow(nights, **RULES)
    nights.night(DOCUMENTS)
    allow(nights, rules=[*RULES["rules"], {"prefix": "it/", "groups": ["it"]}])
    assert nights.night()["outcome"] == UNCHANGED


@pytest.mark.parametrize("is_written_again", [True, False], ids=["with a new ETag", "with the same ETag"])
def test_changed_metadata_moves_a_document_to_other_readers_and_embeds_nothing(
    nights: LiveNights, monkeypatch: pytest.MonkeyPatch, is_written_again: bool
) -> None:
    allow(nights, metadata="groups")
    nights.metadata = {"a.md": {"groups": "hr"}}
    nights.night({"a.md": "left and right", "b.md": "up and down"})
    assert found(nights, "hr") == {"a.md"}
    nights.metadata = {"a.md": {"groups": "legal"}, "b.md": {"groups": "*"}}
    if is_written_again:
        etag = nights.store.etag
        monkeypatch.setattr(nights.store, "etag", lambda *place: (found := etag(*place)) and f"new-{found}")
    report = nights.night()
    assert (report["outcome"], report["chunks_embedded"], report["reused"]) == (BUILD, 0, 2)
    assert (found(nights, "hr"), found(nights, "legal")) == ({"b.md"}, {"a.md", "b.md"})


def test_a_document_that_was_touched_alone_is_no_change(nights: LiveNights) -> None:
    """Each night of these lists every object as modified on its own day."""
    nights.night({"a.md": "left and right"})
    assert nights.night()["outcome"] == UNCHANGED
    nights.night({"a.md": "left and right", "b.md": "up and down"})
    rows = nights.vectors.held[nights.collection(nights.live_files())].rows
    assert set(rows.column("modified").to_pylist()) == {1_767_398_400}


def test_copies_of_one_content_have_each_their_own_readers(nights: LiveNights) -> None:
    allow(nights, **RULES)
    nights.night({"hr/a.md": "the same", "legal/a.md": "the same"})
    assert (found(nights, "hr"), found(nights, "legal")) == ({"hr/a.md"}, {"legal/a.md"})


def test_where_one_of_several_copies_is_kept_it_is_one_for_each_readers(nights: LiveNights) -> None:
    source = {**nights.corpus.source.model_dump(), "duplicates": "first"}
    nights.corpus = with_settings(nights.corpus, source=source, permissions=RULES)
    copies = ("hr/a.md", "hr/b.md", "hr/public/a.md", "legal/a.md")
    report = nights.night(dict.fromkeys(copies, "the same"))
    assert report["rejected_by_reason"] == {"duplicate": 1}
    assert set(nights.texts()) == {"hr/a.md", "hr/public/a.md", "legal/a.md"}
    assert found(nights, "hr") == {"hr/a.md", "hr/public/a.md"}
    assert nights.night()["outcome"] == UNCHANGED


def test_a_document_that_cannot_be_read_keeps_its_text_and_gets_the_new_permissions(
    nights: LiveNights, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(nights, **RULES)
    nights.night({"hr/a.md": "left and right"})
    read = nights.store.read

    def refused(bucket: str, key: str, **rest: Any) -> bytes | None:
        if key == "docs/hr/a.md":
            raise AccessRefused("the object store", "there", "locked")
        return read(bucket, key, **rest)

    monkeypatch.setattr(nights.store, "read", refused)
    allow(nights, rules=[{"prefix": "hr/", "groups": ["board"]}])
    report = nights.run({"hr/a.md": "an edit"})
    nights.go_live(nights.live_files())
    assert report["kept_earlier"] == 1
    assert nights.texts() == {"hr/a.md": ["left and right"]}
    assert (found(nights, "hr"), found(nights, "board")) == (set(), {"hr/a.md"})


def withheld(nights: LiveNights) -> dict[str, Any]:
    """Let all but one of forty documents go: they are withheld."""
    report = nights.night({"000.md": notes(1)["000.md"], "new.md": "a new note"})
    assert report["withhold"] == 39
    return report


def test_what_is_withheld_keeps_its_readers_also_those_of_its_metadata(nights: LiveNights) -> None:
    allow(nights, metadata="groups", rules=[{"prefix": "", "groups": ["staff"]}])
    nights.metadata = {"001.md": {"groups": "legal"}}
    nights.night(notes(40))
    withheld(nights)
    assert found(nights, "legal") == {"001.md"}
    assert found(nights, "staff") == {*notes(40), "new.md"} - {"001.md"}
    assert nights.night()["outcome"] == UNCHANGED


def test_new_rules_narrow_what_is_withheld_and_open_it_to_nobody_new(nights: LiveNights) -> None:
    allow(nights, rules=[{"prefix": "", "groups": ["staff", "it"]}])
    nights.night(notes(40))
    allow(nights, rules=[{"prefix": "", "groups": ["it", "guests"]}])
    withheld(nights)
    assert found(nights, "guests") == {"000.md", "new.md"}
    assert (found(nights, "staff"), len(found(nights, "it"))) == (set(), 41)
    nights.corpus = nights.corpus.model_copy(update={"permissions": None})
    nights.night()
    assert found(nights) == {"000.md", "new.md"}


def test_a_search_without_groups_of_a_permissioned_release_is_as_wide_as_before(nights: LiveNights) -> None:
    """Recall is measured over all rows, whoever may find them."""
    allow(nights, **RULES)
    nights.night(DOCUMENTS)
    collection = nights.collection(nights.live_files())
    vector = [1.0] + [0.0] * (nights.model.dimension - 1)
    assert len(nights.vectors.search(collection, [vector], k=10, params={})[0]) == 4


# A release from before there were permissions


def as_an_earlier_version_left_it(nights: LiveNights) -> str:
    """Take the new columns from the live release, and return its collection."""
    files, names = nights.live_files(), {"acl", "modified"}
    table = nights.store.read_table(STATE_BUCKET, files.key("documents.parquet"))
    assert table is not None
    files.write_table(
        "documents.parquet", DOCUMENT_SCHEMA.remove(len(DOCUMENT_SCHEMA) - 1), table.drop_columns(["acl"]).to_batches()
    )
    collection = collection_name(nights.corpus.name, files.release)
    held = nights.vectors.held[collection]
    held.rows = held.rows.drop_columns(sorted(names))
    return collection


def test_a_release_of_an_earlier_version_is_searched_by_its_own_columns(nights: LiveNights) -> None:
    nights.night(DOCUMENTS)
    assert readable_columns(nights.vectors, nights.collection(nights.live_files())) == [
        name for name in chunk_schema().names if name != "vector"
    ]
    collection = as_an_earlier_version_left_it(nights)
    columns = readable_columns(nights.vectors, collection)
    assert {"acl", "modified"}.isdisjoint(columns)
    vector = [1.0] + [0.0] * (nights.model.dimension - 1)
    assert nights.vectors.search(collection, [vector], k=1, params={}, columns=columns)[0][0].fields["document"]
    with pytest.raises(InvalidQuery, match="no column acl"):
        found(nights)


def test_a_release_of_an_earlier_version_is_followed_by_one_with_permissions(nights: LiveNights) -> None:
    nights.night(DOCUMENTS)
    as_an_earlier_version_left_it(nights)
    report = nights.night()
    assert (report["outcome"], report["chunks_embedded"]) == (BUILD, 0)
    assert found(nights) == set(DOCUMENTS)


def test_what_is_withheld_of_an_earlier_version_s_release_was_open_to_everyone(nights: LiveNights) -> None:
    nights.night(notes(40))
    as_an_earlier_version_left_it(nights)
    allow(nights, rules=[{"prefix": "", "groups": ["staff"]}])
    withheld(nights)
    assert (found(nights), len(found(nights, "staff"))) == (set(), 41)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hr/salaries.md", "members of board, hr"),
        ("hr/public/jobs.md", "everyone"),
        ("readme.md", "nobody: who may find it is unknown"),
    ],
)
def test_an_explanation_says_who_may_find_a_passage(
    nights: LiveNights, capsys: pytest.CaptureFixture[str], name: str, words: str
) -> None:
    allow(nights, **RULES)
    nights.night(DOCUMENTS)
    rows = nights.vectors.held[nights.collection(nights.live_files())].rows.to_pylist()
    row = next(row for row in rows if row["document"] == f"docs/{name}")
    explained = explain_passage(nights.vectors, nights.live_files(), row["id"])
    assert (explained["acl"], explained["modified"]) == (row["acl"], 1_767_225_600)
    print_explanation(explained)
    assert f"\nfound by    {words}\n" in capsys.readouterr().out
    as_an_earlier_version_left_it(nights)
    earlier = explain_passage(nights.vectors, nights.live_files(), row["id"])
    assert (earlier["acl"], earlier["modified"]) == (None, None)


def test_an_import_file_holds_the_readers_of_each_row(nights: LiveNights) -> None:
    allow(nights, **RULES)
    nights.night(DOCUMENTS)
    file = nights.live_files().needed_report("assemble")["files"][0]["file"]
    table = pa.Table.from_batches(nights.store.read_batches(STATE_BUCKET, file))
    acls = dict(zip(table.column("document").to_pylist(), table.column("acl").to_pylist(), strict=True))
    assert acls["docs/readme.md"] == NOBODY
    assert acls["docs/hr/salaries.md"] == ["board", "hr"]
