from __future__ import annotations

import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from reindex import openvino_engine
from reindex.chunk import Chunker
from reindex.embedders import (
    Model,
    Precision,
    SentenceTransformerEmbedder,
    check_window,
    find_model,
    load_embedder,
    resolve_precision,
    space_facts,
)
from reindex.errors import EngineRefused, ModelMissing, SettingsError
from reindex.naming import space_fingerprint
from reindex.records import Block, ParsedDocument
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
        {"embedding": {"precision": "int8"}, "gate": {"golden": {"queries": "q.jsonl", "qrels": "qrels.tsv"}}},
        {"chunks": {"max_tokens": 128}},
        {"chunks": {"overlap_tokens": 0}},
    ],
)
def test_what_decides_a_vector_decides_the_space(change: dict[str, object]) -> None:
    bfloat16 = {"precision": "bfloat16"}
    usual = embedding_space(a_corpus(embedding=bfloat16))
    merged = {
        "embedding": {**bfloat16, **change.get("embedding", {})},
        **{k: v for k, v in change.items() if k != "embedding"},
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


@pytest.mark.parametrize(("has_bfloat16", "chosen"), [(True, "bfloat16"), (False, "float32")])
def test_only_auto_is_settled_by_the_processor_and_never_as_int8(
    has_bfloat16: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reindex.openvino_engine.gains_by_bfloat16", lambda: has_bfloat16)
    assert resolve_precision("auto") == chosen
    assert [resolve_precision(asked) for asked in PRECISIONS] == list(PRECISIONS)


@pytest.mark.parametrize(
    ("vendor", "flags", "gains"),
    [
        ("GenuineIntel", "avx512f avx512_bf16 amx_bf16", True),
        ("GenuineIntel", "avx512f avx512_bf16", False),
        ("AuthenticAMD", "avx512f avx512_bf16", True),
        ("AuthenticAMD", "avx2 fma", False),
    ],
)
def test_bfloat16_is_for_processors_that_it_makes_faster(vendor: str, flags: str, gains: bool, tmp_path: Path) -> None:
    facts = tmp_path / "cpuinfo"
    facts.write_text(f"vendor_id\t: {vendor}\nflags\t\t: fpu {flags}\n")
    assert openvino_engine.gains_by_bfloat16(facts) is gains


def test_a_machine_that_does_not_name_its_processor_gets_float32(tmp_path: Path) -> None:
    assert not openvino_engine.gains_by_bfloat16(tmp_path / "missing")


PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "int8")
TEXTS = ["What does json.loads return?", "Größe und Maß", "one " * 100, "x", "A table | of | three"]


@pytest.fixture(scope="module")
def reference() -> SentenceTransformerEmbedder:
    return SentenceTransformerEmbedder(MODEL, "float32", 1)


@pytest.mark.parametrize(("precision", "cosine"), [("float32", 0.999999), ("bfloat16", 0.999)])
def test_the_engine_of_processors_makes_the_model_s_own_vectors(
    precision: str, cosine: float, reference: SentenceTransformerEmbedder
) -> None:
    embedder = load_embedder(MODEL, precision, threads=1)
    vectors = embedder.embed(TEXTS)
    assert embedder.engine == f"openvino {precision}"
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert (vectors * reference.embed(TEXTS)).sum(axis=1).min() >= cosine


def test_int8_is_near_the_model_s_own_vectors_and_says_how_near(reference: SentenceTransformerEmbedder) -> None:
    embedder = load_embedder(MODEL, "int8", threads=1)
    vectors = embedder.embed(TEXTS)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    # Nearer only where nothing was rounded to 8 bits.
    assert 0.99 <= (vectors * reference.embed(TEXTS)).sum(axis=1).min() < 0.9999
    said = re.fullmatch(r"openvino int8 \(a cosine of (0\.\d{4}) to float32\)", embedder.engine)
    assert said
    assert float(said[1]) >= openvino_engine.AGREEMENT["int8"]


def test_in_int8_no_text_decides_the_vector_of_another() -> None:
    embedder = load_embedder(MODEL, "int8", threads=1)
    alone = np.concatenate([embedder.embed([text]) for text in TEXTS])
    assert (alone * embedder.embed(TEXTS)).sum(axis=1).min() > 0.999


@pytest.mark.parametrize("cosine", [0.98, float("nan")])
def test_int8_that_is_far_from_float32_gives_way_to_nothing(cosine: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_engine, "agreement", lambda *_: cosine)
    with pytest.raises(ModelMissing) as caught:
        load_embedder(MODEL, "int8", threads=1)
    assert "no engine runs it in int8" in str(caught.value)
    assert f"its vectors have a cosine of {cosine:.4f} to those of sentence-transformers" in str(caught.value)
    assert "sentence-transformers cannot run the model as it is: it has no int8" in str(caught.value)


def test_token_ids_that_are_known_make_the_same_vectors() -> None:
    embedder = load_embedder(MODEL, "float32", threads=2)
    chunker = Chunker(a_corpus().chunks, MODEL.tokenizer_file)
    chunks = chunker.chunk_document(ParsedDocument(title="", blocks=tuple(Block(text=text) for text in TEXTS)))
    texts, tokens = [chunk.passage.text for chunk in chunks], [chunk.tokens for chunk in chunks]
    assert np.allclose(embedder.embed(texts), embedder.embed(texts, tokens), atol=1e-5)


def test_a_worker_loads_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from reindex.embedders import find_model, load_embedder;"
        "load_embedder(find_model('all-MiniLM-L6-v2'), 'float32', threads=1).embed(['a question']);"
        "print([name for name in ('torch', 'transformers', 'sentence_transformers') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(("cosine", "said"), [(0.98, "0.9800"), (float("nan"), "nan")])
def test_a_precision_that_does_not_agree_gives_way_and_says_so(
    cosine: float, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    agreed = iter([cosine, 1.0])
    monkeypatch.setattr(openvino_engine, "agreement", lambda *_: next(agreed))
    assert load_embedder(MODEL, "bfloat16", threads=1).engine == (
        f"openvino float32 (bfloat16 has a cosine of {said} to it)"
    )


def test_a_model_that_openvino_gets_wrong_is_run_by_torch_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_engine, "agreement", lambda *_: 0.5)
    assert load_embedder(MODEL, "float32", threads=1).engine == (
        "sentence-transformers float32 on cpu (openvino cannot run the model as it is: "
        "its vectors have a cosine of 0.5000 to those of sentence-transformers)"
    )


def test_a_model_that_cannot_be_converted_leaves_no_more_than_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(EngineRefused, match="openvino cannot run the model as it is"):
        openvino_engine.converted_model(empty, "0" * 64, tmp_path / "models")
    assert {path.suffix for path in (tmp_path / "models").iterdir()} == {".lock", ".refused"}
    # It is not tried by every worker again.
    monkeypatch.setattr(openvino_engine, "_convert_apart", lambda *_: pytest.fail("tried again"))
    with pytest.raises(EngineRefused, match="to try again"):
        openvino_engine.converted_model(empty, "0" * 64, tmp_path / "models")


def test_where_no_model_can_be_kept_torch_runs_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("REINDEX_MODELS", str(tmp_path / "file" / "models"))
    assert load_embedder(MODEL, "float32", threads=1).engine.startswith(
        "sentence-transformers float32 on cpu (openvino cannot run the model as it is: NotADirectoryError"
    )


def test_a_converted_model_tells_nobody_and_is_there_for_every_user(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = openvino_engine.converted_model(MODEL.folder, MODEL.digest, tmp_path / "models")
    assert folder.stat().st_mode & 0o777 == 0o755
    assert not (tmp_path / "home" / "intel").exists()


def test_a_text_over_the_window_is_cut_as_the_model_cuts_it(reference: SentenceTransformerEmbedder) -> None:
    text = "one " * 700
    embedder = load_embedder(MODEL, "float32", threads=1)
    tokenizer = Tokenizer.from_file(str(MODEL.tokenizer_file))
    tokenizer.no_truncation()
    whole = embedder.embed([text], [tokenizer.encode(text).ids])
    assert (whole * reference.embed([text])).sum() > 0.99999


@pytest.mark.parametrize("lengths", [[], [5], [300], [1, 2, 3, 256, 256, 7], list(range(1, 257)) * 3])
def test_batches_hold_every_text_once_and_no_more_tokens_than_the_budget(lengths: list[int]) -> None:
    batches = list(openvino_engine.batches_by_length(lengths, budget=256))
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * max(lengths[place] for place in batch) <= 256 for batch in batches)


@pytest.mark.parametrize("window", [250, 256])
def test_texts_are_padded_to_like_lengths_but_never_over_the_models_window(window: int) -> None:
    padded = [openvino_engine.padded_length(length, window) for length in range(1, window + 1)]
    assert all(length <= found <= window for length, found in enumerate(padded, start=1))
    assert len(set(padded)) == 16
