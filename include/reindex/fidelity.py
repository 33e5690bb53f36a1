"""Whether vectors are what they are said to be: made by the release's model from their text, and served as written.

Exact search over wrong vectors agrees with an index over the same ones: recall does not see them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
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


def cosines_to_model(
    rows: Sequence[dict[str, Any]],
    corpus: Corpus,
    embed: Callable[[list[str]], np.ndarray],
    known: Mapping[str, float],
) -> list[tuple[str, float]]:
    """Embed some rows' texts once more; return a name of each text and vector, and the cosine of the two vectors.

    Names that are `known` have their cosine there: the same text and vector were set beside each other before.
    """
    import numpy as np

    given = _passages_given(rows, corpus)
    stored = np.asarray([row[VECTOR_COLUMN] for row in rows], "float32")
    names = [_name_of(text, vector) for text, vector in zip(given, stored, strict=True)]
    new = [place for place, name in enumerate(names) if name not in known]
    made = _cosines(stored[new], embed([given[place] for place in new])).tolist() if new else []
    found = {names[place]: cosine for place, cosine in zip(new, made, strict=True)}
    return [(name, found[name] if name in found else known[name]) for name in names]


def check_fidelity(
    rows: Sequence[dict[str, Any]], corpus: Corpus, made: Sequence[float], served: dict[str, list[float]]
) -> Fidelity:
    """Look at some rows' cosines to what the model makes of their texts, and to what the server returns."""
    import numpy as np

    stored = np.asarray([row[VECTOR_COLUMN] for row in rows], "float32")
    returned = np.asarray([served.get(row[ID_COLUMN], [0.0] * stored.shape[1]) for row in rows], "float32")
    to_model, to_served = np.asarray(made), _cosines(stored, returned)
    lowest_made = _LOWEST_INT8_COSINE if corpus.embedding.precision == "int8" else _LOWEST_COSINE
    # Written so that NaN is wrong too.
    wrong = ~((to_model >= lowest_made) & (to_served >= _LOWEST_COSINE))
    return Fidelity(
        checked=len(rows),
        lowest_cosine=float(to_model.min()),
        lowest_served=float(to_served.min()),
        wrong=tuple(dict.fromkeys(row["document"] for row, is_wrong in zip(rows, wrong, strict=True) if is_wrong)),
    )


def _passages_given(rows: Sequence[dict[str, Any]], corpus: Corpus) -> list[str]:
    """Return what the model was given for some rows."""
    prompt, has_prefix = corpus.embedding.passage_prompt, corpus.chunks.heading_prefix
    return [prompt + embedded_text(row["section"], row["text"], heading_prefix=has_prefix) for row in rows]


def served_vectors(store: VectorStore, collection: str, ids: Sequence[str]) -> dict[str, list[float]]:
    """Return what the server holds for some ids."""
    found = store.fetch(collection, ID_COLUMN, ids, [ID_COLUMN, VECTOR_COLUMN])
    return {row[ID_COLUMN]: row[VECTOR_COLUMN] for row in found}


def require_fidelity(found: Fidelity) -> None:
    """Raise WrongVectors, with the documents, if a vector is not what it is said to be."""
    if found.wrong:
        raise WrongVectors(found.checked, list(found.wrong), min(found.lowest_cosine, found.lowest_served))


def _name_of(text: str, vector: np.ndarray) -> str:
    return hashlib.blake2b(text.encode() + vector.tobytes(), digest_size=16).hexdigest()


def _cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    import numpy as np

    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosines: np.ndarray = (left * right).sum(1) / np.where(lengths, lengths, 1)
    return cosines
