"""Whether vectors are what they are said to be: made by the release's model from their text, and served as written.

Exact search over wrong vectors agrees with an index over the same ones: recall does not see them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reindex.chunk import embedded_text
from reindex.errors import WrongVectors
from reindex.openvino_engine import AGREEMENT
from reindex.records import ID_COLUMN, VECTOR_COLUMN
from reindex.settings import Corpus
from reindex.store import VectorStore

if TYPE_CHECKING:
    import numpy as np

# Where a tenth of the vectors is wrong, one that is not among so many is a chance of one in 700,000.
CHECKED_PASSAGES = 128
# The same model in bfloat16, in other batches, stays over 0.999; another model's vectors are near 0.
_LOWEST_COSINE = 0.99
# Processors round int8 differently. Of two angles to float32, each at most x, the one between is at most 2x.
_LOWEST_INT8_COSINE = 2 * AGREEMENT["int8"] ** 2 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """How many passages were looked at, and the lowest cosine: to what the model makes now, and to what is served."""

    checked: int
    lowest_cosine: float
    lowest_served: float
    wrong: tuple[str, ...]


def check_fidelity(
    rows: Sequence[dict[str, Any]],
    corpus: Corpus,
    embed: Callable[[list[str]], np.ndarray],
    served: dict[str, list[float]],
) -> Fidelity:
    """Embed some rows' texts once more and set them beside their vectors; and these beside what the server returns."""
    import numpy as np

    prompt, has_prefix = corpus.embedding.passage_prompt, corpus.chunks.heading_prefix
    texts = [prompt + embedded_text(row["section"], row["text"], heading_prefix=has_prefix) for row in rows]
    stored = np.asarray([row[VECTOR_COLUMN] for row in rows], "float32")
    returned = np.asarray([served.get(row[ID_COLUMN], [0.0] * stored.shape[1]) for row in rows], "float32")
    made, kept = _cosines(stored, embed(texts)), _cosines(stored, returned)
    lowest_made = _LOWEST_INT8_COSINE if corpus.embedding.precision == "int8" else _LOWEST_COSINE
    wrong = (made < lowest_made) | (kept < _LOWEST_COSINE)
    return Fidelity(
        checked=len(rows),
        lowest_cosine=float(made.min()),
        lowest_served=float(kept.min()),
        wrong=tuple(dict.fromkeys(row["document"] for row, is_wrong in zip(rows, wrong, strict=True) if is_wrong)),
    )


def served_vectors(store: VectorStore, collection: str, ids: Sequence[str]) -> dict[str, list[float]]:
    """Return what the server holds for some ids."""
    found = store.fetch(collection, ID_COLUMN, ids, [ID_COLUMN, VECTOR_COLUMN])
    return {row[ID_COLUMN]: row[VECTOR_COLUMN] for row in found}


def require_fidelity(found: Fidelity) -> None:
    """Raise WrongVectors, with the documents, if a vector is not what it is said to be."""
    if found.wrong:
        raise WrongVectors(found.checked, list(found.wrong), min(found.lowest_cosine, found.lowest_served))


def _cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    import numpy as np

    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosines: np.ndarray = (left * right).sum(1) / np.where(lengths, lengths, 1)
    return cosines
