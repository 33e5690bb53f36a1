from __future__ import annotations

from pathlib import Path

import pytest

from reindex.errors import BadJudgements, FileMissing, SettingsError
from reindex.golden import freeze_questions, frozen_judgements, frozen_log
from tests.fakes import a_corpus, release_files

QUERIES = '{"_id": "1", "text": "what is left?"}\n{"_id": "2", "text": "what is right?"}\n'
QRELS = "1\ta\t1\n2\tb\t2\n"
GOLDEN = {"golden": {"queries": "q.jsonl", "qrels": "judged/qrels.tsv"}, "queries": {"log": "log.jsonl"}}


def folder(tmp_path: Path, **changes: str) -> Path:
    files = {"q.jsonl": QUERIES, "judged/qrels.tsv": QRELS, "log.jsonl": '{"text": "how far?"}\n\n', **changes}
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    return tmp_path


def test_what_people_ask_is_frozen_with_the_release(tmp_path: Path) -> None:
    files, corpus = release_files(), a_corpus(gate=GOLDEN)
    freeze_questions(files, corpus, folder(tmp_path))
    (tmp_path / "q.jsonl").unlink()
    judged = frozen_judgements(files, corpus)
    assert judged is not None
    assert judged.queries == {"1": "what is left?", "2": "what is right?"}
    assert judged.grades["2"] == {"b": 2}
    assert frozen_log(files, corpus) == ["how far?"]


def test_questions_may_lie_in_a_bucket() -> None:
    files = release_files()
    files.store.write("logs", "asked/today.jsonl", b'{"text": "how far?"}')
    corpus = a_corpus(gate={"queries": {"log": "s3://logs/asked/today.jsonl"}})
    freeze_questions(files, corpus, Path("nowhere"))
    assert frozen_log(files, corpus) == ["how far?"]


def test_a_corpus_without_questions_has_none() -> None:
    files, corpus = release_files(), a_corpus()
    freeze_questions(files, corpus, Path("nowhere"))
    assert (frozen_judgements(files, corpus), frozen_log(files, corpus)) == (None, [])


def test_a_file_that_is_not_there_is_refused_with_its_key(tmp_path: Path) -> None:
    corpus = a_corpus(gate={**GOLDEN, "golden": {"queries": "q.jsonl", "qrels": "gone.tsv"}})
    with pytest.raises(SettingsError, match=r"gate\.golden\.qrels.*there is no file gone\.tsv"):
        freeze_questions(release_files(), corpus, folder(tmp_path))


@pytest.mark.parametrize("changed", [{"q.jsonl": "no json"}, {"judged/qrels.tsv": "1\ta\n"}, {"log.jsonl": "[1]\n"}])
def test_a_file_that_cannot_be_read_is_refused_before_anything_is_spent(
    tmp_path: Path, changed: dict[str, str]
) -> None:
    with pytest.raises(BadJudgements, match=next(iter(changed)).replace(".", r"\.")):
        freeze_questions(release_files(), a_corpus(gate=GOLDEN), folder(tmp_path, **changed))


def test_a_release_that_lost_its_questions_says_so() -> None:
    with pytest.raises(FileMissing):
        frozen_judgements(release_files(), a_corpus(gate=GOLDEN))
