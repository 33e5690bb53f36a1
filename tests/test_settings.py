from __future__ import annotations

from pathlib import Path

import pytest

from reindex.errors import InvalidCorpusName, SettingsError, UnknownCorpus
from reindex.settings import PROJECT, load_corpus, read_corpus, s3_connection

MINIMAL = "name: docs\nsource: {bucket: sources}\n"


def refusal(text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        read_corpus(text, where="docs.yaml", name="docs")
    return str(caught.value)


def test_a_corpus_needs_only_a_name_and_a_bucket() -> None:
    corpus = read_corpus(MINIMAL, where="docs.yaml", name="docs")
    assert (corpus.index.type, corpus.gate.k, corpus.promote) == ("HNSW", 10, "auto")


@pytest.mark.parametrize("path", sorted((PROJECT / "include" / "corpora").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_corpora_that_come_with_the_project_are_valid(path: Path) -> None:
    assert load_corpus(path.stem, path.parent).name == path.stem


def test_an_unknown_key_is_refused_with_the_file_the_key_and_what_is_allowed() -> None:
    said = refusal(MINIMAL + "gate: {recall: 0.9}\n")
    assert said.startswith("docs.yaml: gate.recall: unknown key; allowed here: k, min_recall, confidence")


@pytest.mark.parametrize(
    ("addition", "key", "allowed"),
    [
        ("permissions: {rule: []}", "permissions.rule", "rules, metadata"),
        ("permissions: {rules: [{prefix: a, groups: [b], also: c}]}", "permissions.rules.0.also", "prefix, groups"),
    ],
)
def test_an_unknown_key_of_a_section_that_may_be_left_out_or_stands_in_a_list_is_refused(
    addition: str, key: str, allowed: str
) -> None:
    said = refusal(MINIMAL + addition)
    assert said.startswith(f"docs.yaml: {key}: unknown key; allowed here: {allowed}")


@pytest.mark.parametrize(
    ("addition", "key", "allowed"),
    [
        ("index: {type: ANNOY}", "index.type", "HNSW"),
        ("index: {type: HNSW, params: {M: 16}}", "the file", "M, efConstruction"),
        ("chunks: {max_tokens: 2}", "chunks.max_tokens", "16"),
        ("chunks: {max_tokens: 32, overlap_tokens: 32}", "the file", "overlap_tokens must be smaller"),
        ("gate: {min_recall: 2}", "gate.min_recall", "less than or equal to 1"),
        ("index: {type: HNSW, params: {M: 1, efConstruction: 9}}", "the file", "M lies between 2 and 2048"),
        ("schedule: every day", "schedule", "'0 2 * * *'"),
        ("deadline_hours: 0", "deadline_hours", "greater than 0"),
        ("deadline_hours: 200", "deadline_hours", "less than or equal to 168"),
        ("promote: perhaps", "promote", "'auto' or 'never'"),
        ("embedding: {precision: int4}", "embedding.precision", "'bfloat16' or 'int8'"),
        ("embedding: {precision: int8}", "the file", "embedding.precision int8 needs gate.golden: whether its vectors"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(addition: str, key: str, allowed: str) -> None:
    said = refusal(MINIMAL + addition)
    assert said.startswith(f"docs.yaml: {key}: ")
    assert allowed in said


def test_int8_is_allowed_where_there_is_something_to_judge_it_by() -> None:
    judged = "embedding: {precision: int8}\ngate: {golden: {queries: q.jsonl, qrels: qrels.tsv}}\n"
    assert read_corpus(MINIMAL + judged, where="docs.yaml", name="docs").embedding.precision == "int8"


@pytest.mark.parametrize("text", ["- a list", "", "name: [", "just text"])
def test_a_file_that_is_no_mapping_is_refused(text: str) -> None:
    assert refusal(text).startswith("docs.yaml: the file: ")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "docs.yaml").write_bytes(b"name: \xff")
    with pytest.raises(SettingsError, match="is not UTF-8 text"):
        load_corpus("docs", tmp_path)


def test_the_name_in_the_file_must_be_the_file_s() -> None:
    with pytest.raises(SettingsError, match="make them equal"):
        read_corpus(MINIMAL, where="other.yaml", name="other")


@pytest.mark.parametrize("name", ["Docs", "docs_2", "2docs", "a--b", "-a", "a" * 65, "", "ä"])
def test_a_name_that_milvus_could_not_carry_is_refused(name: str) -> None:
    with pytest.raises(InvalidCorpusName):
        read_corpus(f"name: {name!r}\nsource: {{bucket: b}}", where="x.yaml", name=name)


def test_an_unknown_corpus_is_refused_with_those_there_are(tmp_path: Path) -> None:
    (tmp_path / "docs.yaml").write_text(MINIMAL)
    with pytest.raises(UnknownCorpus, match="has: docs"):
        load_corpus("tickets", tmp_path)


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(SettingsError, match="REINDEX_S3_ENDPOINT: is not set"):
        s3_connection({})


def test_the_corpus_file_of_the_readme_is_valid() -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    example = readme.split("```yaml\n")[1].split("```")[0]
    corpus = read_corpus(example, where="README.md", name="handbook")
    assert corpus.source.bucket == "sources"
