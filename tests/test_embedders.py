from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from reindex.embedders import Model, check_window, find_model, resolve_precision, space_facts
from reindex.errors import ModelMissing, SettingsError
from reindex.naming import space_fingerprint
from reindex.settings import Corpus
from tests.fakes import a_corpus

MODEL = find_model("all-MiniLM-L6-v2")


def embedding_space(corpus: Corpus, model: Model = MODEL) -> str:
    return space_fingerprint(space_facts(corpus, model, resolve_precision(corpus.embedding.precision)))


def test_the_packaged_model_is_found_without_torch_and_without_asking_a_hub() -> None:
    code = (
        "import sys; from reindex.embedders import find_model; find_model('all-MiniLM-L6-v2');"
        "print([name for name in ('torch', 'ray', 'transformers', 'huggingface_hub') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_model_s_dimension_is_read_from_its_files() -> None:
    assert MODEL.dimension == 384


def test_a_model_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match=r"modules\.json is not there"):
        find_model(str(tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        {"embedding": {"passage_prompt": "passage: "}},
        {"embedding": {"precision": "float32"}},
        {"chunks": {"max_tokens": 128}},
        {"chunks": {"overlap_tokens": 0}},
    ],
)
def test_what_decides_a_vector_decides_the_space(change: dict[str, object]) -> None:
    bfloat16 = {"precision": "bfloat16"}
    usual = embedding_space(a_corpus(embedding=bfloat16))
    merged = {
        "embedding": {**bfloat16, **change.get("embedding", {})},
        **{k: v for k, v in change.items() if k == "chunks"},
    }
    assert embedding_space(a_corpus(**merged)) != usual


def test_what_does_not_decide_a_vector_leaves_the_space_alone() -> None:
    usual = embedding_space(a_corpus())
    assert embedding_space(a_corpus(gate={"k": 5}, embedding={"query_prompt": "query: "})) == usual


@pytest.mark.parametrize(("changes", "fits"), [({}, True), ({"chunks": {"max_tokens": 255}}, False)])
def test_a_chunk_longer_than_the_model_reads_is_refused(changes: dict[str, object], fits: bool) -> None:
    with nullcontext() if fits else pytest.raises(SettingsError, match="reads at most 254 beside its prompt"):
        check_window(a_corpus(**changes), MODEL)


def test_the_prompt_takes_its_part_of_the_window() -> None:
    prompted = a_corpus(embedding={"passage_prompt": "passage: "})
    with pytest.raises(SettingsError, match="reads at most 252 beside its prompt"):
        check_window(prompted, MODEL)


def test_automatic_precision_is_one_that_the_engine_knows() -> None:
    assert resolve_precision("auto") in {"bfloat16", "float32"}
    assert resolve_precision("float32") == "float32"
