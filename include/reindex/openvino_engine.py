"""A model as OpenVINO runs it: converted once, kept on disk, compiled for its processor by each worker.

Whoever only runs a model loads neither torch nor transformers: they convert it, by
`python -m reindex.openvino_engine`, in a process of their own.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reindex.errors import EngineRefused

if TYPE_CHECKING:
    import numpy as np

# The least cosine to float32 at which vectors are the model's own; in int8 the relevance gate judges them besides.
AGREEMENT = {"float32": 0.999, "bfloat16": 0.999, "int8": 0.99}
# In 8 bits so many activations of a token share a scale, found as they come: nothing is calibrated, and no text decides
# another's vector.
_INT8_GROUP = 128
# A batch's tokens, padding included: so few that what lies between two products stays in the processor's caches.
# Measured on two cores: float32 is 9 % slower with 2,048, bfloat16 a percent or two with half or twice as many.
_BATCH_TOKENS = {"float32": 512, "bfloat16": 2048, "int8": 2048}
# Texts are padded to a multiple of so many tokens: at other lengths attention takes longer than the padding does. On
# two cores with AMX bfloat16 is 5 to 10 % faster so, int8 17 % and float32 3 %; 8 gains less, and 32 pads too much.
_LENGTH_STEP = 16
_CONVERSION_SECONDS = 600
_LARGEST_INT8 = 127
# Raise it when models are converted in another way, or compared over other texts.
_CONVERSION = 1
# Of the languages and the shapes that documents come in; the longest is as long as the model reads.
_SAMPLE = (
    "What does this cost?",
    "The quick brown fox jumps over the lazy dog.",
    "Employees who travel on business keep their receipts and hand them in within thirty days.",
    "def mean(values):\n    return sum(values) / len(values)",
    "ERROR 2024-03-01 12:00:07 connection to 10.0.0.12:5432 refused after 3 attempts",
    "Die Kündigungsfrist beträgt drei Monate zum Ende eines Quartals.",
    "Le client peut annuler sa commande tant qu'elle n'a pas été expédiée.",
    "返品は商品到着後十四日以内に限ります。",
    "| quarter | revenue | margin |\n| Q1 | 12.4 | 31 % |\n| Q2 | 13.9 | 33 % |",
    " ".join(f"Step {number} follows the one before it and leads on to the next." for number in range(1, 9)),
    " ".join(f"Section {number} says who may read what, and for how long it is kept." for number in range(1, 40)),
)


def converted_model(folder: Path, digest: str, models: Path) -> Path:
    """Return where a model lies as OpenVINO reads it, below `models`; convert it if nobody has.

    Raises EngineRefused if it cannot be converted, which is then remembered, and OSError. Of several processes that ask
    at once one converts.
    """
    import openvino

    target = models / f"{digest[:32]}-openvino-{openvino.__version__.split('-')[0]}-{_CONVERSION}"
    refused = target.with_name(f"{target.name}.refused")
    if target.exists():
        return target
    models.mkdir(parents=True, exist_ok=True)
    with target.with_name(f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if refused.exists():
            reason = refused.read_text(encoding="utf-8")
            raise EngineRefused("openvino", f"{reason} (remove {refused} to try again)")
        if not target.exists():
            try:
                _convert_apart(folder, target)
            except EngineRefused as error:
                refused.write_text(error.detail, encoding="utf-8")
                raise
    return target


class CompiledModel:
    """A converted model, compiled for this processor: lists of token ids in, float32 vectors of unit length out.

    `window` is how many tokens the model reads: no text may have more.
    """

    def __init__(self, folder: Path, precision: str, *, window: int, threads: int) -> None:
        import openvino

        core = openvino.Core()
        graph = core.read_model(folder / "model.xml")
        if precision == "int8":
            _quantize_weights(graph)
        compiled = core.compile_model(
            graph,
            "CPU",
            {
                "ENABLE_CPU_PINNING": False,  # several workers of one machine would be pinned to the same cores
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": threads,
                **_properties(precision),
            },
        )
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        self._pad, self._dimension = facts["pad"], facts["dimension"]
        self._batch_tokens, self._window = _BATCH_TOKENS[precision], window
        self._queue = openvino.AsyncInferQueue(compiled, threads)
        self._queue.set_callback(_take_out)

    def vectors(self, tokens: list[list[int]]) -> np.ndarray:
        """Return one vector for each list of token ids, shape (texts, dimension)."""
        import numpy as np

        found = np.empty((len(tokens), self._dimension), "float32")
        padded = [padded_length(len(ids), self._window) for ids in tokens]
        for batch in batches_by_length(padded, self._batch_tokens):
            longest = padded[batch[0]]
            ids = np.full((len(batch), longest), self._pad, "int64")
            mask = np.zeros((len(batch), longest), "int64")
            for place, row in enumerate(batch):
                ids[place, : len(tokens[row])] = tokens[row]
                mask[place, : len(tokens[row])] = 1
            self._queue.start_async({"input_ids": ids, "attention_mask": mask}, (found, batch))
        self._queue.wait_all()
        # The graph normalises in its own precision: bfloat16 leaves lengths off 1.
        lengths: np.ndarray = np.linalg.norm(found, axis=1, keepdims=True)
        found /= lengths
        return found


def agreement(folder: Path, model: CompiledModel) -> float:
    """Return the least cosine of the vectors of the fixed sample to those of the model itself in float32."""
    import numpy as np

    with np.load(folder / "sample.npz") as sample:
        ids = np.split(sample["ids"], np.cumsum(sample["lengths"])[:-1])
        found = model.vectors([row.tolist() for row in ids])
        return float((found * sample["vectors"]).sum(axis=1).min())


def padded_length(length: int, window: int) -> int:
    """Return a length padded to the next step, or to the model's window: it knows no place after it."""
    return min(-(-length // _LENGTH_STEP) * _LENGTH_STEP, window)


def batches_by_length(lengths: list[int], budget: int) -> Iterator[list[int]]:
    """Yield the places of texts in batches of like length: one text, or at most `budget` tokens with padding."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        # The first is the longest: the others are padded to it.
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def gains_by_bfloat16(facts: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether this processor multiplies bfloat16 faster than float32.

    Intel's does so by AMX alone. Where a virtual machine hides that, AVX512-BF16 is left, at half the rate of float32:
    84 to 90 by 194 GFLOP/s a core, measured on an Emerald Rapids by a loop of nothing but either instruction.
    """
    said = facts.read_text(encoding="utf-8") if facts.exists() else ""
    return "amx_bf16" in said or ("avx512_bf16" in said and "GenuineIntel" not in said)


def _properties(precision: str) -> dict[str, Any]:
    """Return what OpenVINO is asked for: what is not in 8 bits is in the faster of the other two."""
    in_float32 = precision == "float32" or (precision == "int8" and not gains_by_bfloat16())
    hint = {"INFERENCE_PRECISION_HINT": "f32" if in_float32 else "bf16"}
    return {**hint, "DYNAMIC_QUANTIZATION_GROUP_SIZE": _INT8_GROUP} if precision == "int8" else hint


def _quantize_weights(graph: Any) -> None:
    """Make the weights of every matrix product 8-bit ones with a scale for each output, as OpenVINO multiplies them."""
    import numpy as np
    from openvino import opset13

    for product in graph.get_ops():
        if product.get_type_name() != "MatMul" or product.input_value(1).get_node().get_type_name() != "Constant":
            continue
        weights = product.input_value(1).get_node().get_data()
        largest = np.abs(weights).max(axis=-1 if product.get_attributes()["transpose_b"] else -2, keepdims=True)
        scales = np.maximum(largest / _LARGEST_INT8, np.finfo("float32").tiny)
        rounded = opset13.constant(np.rint(weights / scales).astype("int8"))
        restored = opset13.multiply(opset13.convert(rounded, "f32"), opset13.constant(scales))
        product.input(1).replace_source_output(restored.output(0))


def _take_out(request: Any, where: tuple[np.ndarray, list[int]]) -> None:
    found, rows = where
    found[rows] = request.get_output_tensor(0).data


def _convert_apart(folder: Path, target: Path) -> None:
    """Convert in a process of its own, whose memory is given back, and put the result in place in one step."""
    unfinished = f"converting-{target.name}-"
    # Of whoever was killed while it converted: the lock is ours.
    for left in target.parent.glob(f"{unfinished}*"):
        shutil.rmtree(left, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=unfinished, dir=target.parent))
    command = [sys.executable, "-m", "reindex.openvino_engine", str(folder), str(made)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_CONVERSION_SECONDS, check=False)
        if done.returncode < 0:
            raise EngineRefused("openvino", f"its conversion was ended by signal {-done.returncode}")
        if done.returncode:
            raise EngineRefused("openvino", (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1])
        made.chmod(0o755)  # one user may convert for others
        made.rename(target)
    except subprocess.TimeoutExpired as error:
        raise EngineRefused("openvino", f"its conversion took over {_CONVERSION_SECONDS} s") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _convert(folder: Path, target: Path) -> None:
    """Write a model's graph with pooling and normalisation inside, and what it makes of the sample in float32.

    The sample is cut into tokens as workers cut texts: a model that its own tokenizer would be given others shows.
    """
    import numpy as np
    import openvino
    import torch
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer

    class Whole(torch.nn.Module):  # type: ignore[misc] # torch has no types here
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            found = self.model({"input_ids": input_ids, "attention_mask": attention_mask})["sentence_embedding"]
            return torch.nn.functional.normalize(found, dim=1)

    as_float32 = {"dtype": torch.float32}
    model = SentenceTransformer(str(folder), local_files_only=True, device="cpu", model_kwargs=as_float32).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(model.max_seq_length)
    sample = [encoding.ids for encoding in tokenizer.encode_batch(list(_SAMPLE))]
    example = {name: torch.ones((2, 8), dtype=torch.int64) for name in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        vectors = torch.nn.functional.normalize(model.encode(list(_SAMPLE), convert_to_tensor=True), dim=1).numpy()
    graph = openvino.convert_model(Whole(model), example_input=example)
    openvino.save_model(graph, target / "model.xml", compress_to_fp16=False)
    lengths = [len(ids) for ids in sample]
    np.savez(target / "sample.npz", ids=np.concatenate(sample), lengths=lengths, vectors=vectors)
    facts = {"pad": model.tokenizer.pad_token_id or 0, "dimension": vectors.shape[1]}
    (target / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    # It would tell its makers of each conversion; without it OpenVINO tells nobody.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    _convert(Path(sys.argv[1]), Path(sys.argv[2]))
