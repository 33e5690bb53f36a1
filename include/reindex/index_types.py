"""The index types that a corpus may ask for: how each is built and searched, what it weighs. To add one, add a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Params = dict[str, int]

_FLOAT_BYTES = 4
_LINK_BYTES = 4
_ID_BYTES = 8


def _raw_bytes(rows: int, dimension: int, _: Params) -> int:
    return rows * dimension * _FLOAT_BYTES


def _hnsw_bytes(rows: int, dimension: int, params: Params) -> int:
    """Vectors and links. Milvus's documentation counts M links a row, hnswlib keeps 2 M of them on its base layer.

    The layers above hold one row in M, and are left out.
    """
    return rows * (dimension * _FLOAT_BYTES + 2 * params["M"] * _LINK_BYTES)


def _ivf_flat_bytes(rows: int, dimension: int, params: Params) -> int:
    """Vectors, each with its id, and the clusters' centres, as faiss keeps them."""
    return rows * (dimension * _FLOAT_BYTES + _ID_BYTES) + params["nlist"] * dimension * _FLOAT_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexType:
    """What the server needs to build one kind of index, with the values it takes, and to search it.

    `memory` gives the bytes that the loaded index takes, from rows, dimension and the build parameters; the formulas
    are those of "Index Explained" in Milvus's documentation.
    """

    build: dict[str, range]
    search: Params
    memory: Callable[[int, int, Params], int]

    def search_params(self, k: int) -> Params:
        """Return the parameters production searches with; HNSW refuses an `ef` below k."""
        return {name: max(value, k) if name == "ef" else value for name, value in self.search.items()}


INDEX_TYPES = {
    "FLAT": IndexType(build={}, search={}, memory=_raw_bytes),
    "HNSW": IndexType(
        build={"M": range(2, 2049), "efConstruction": range(1, 65_537)}, search={"ef": 100}, memory=_hnsw_bytes
    ),
    "IVF_FLAT": IndexType(build={"nlist": range(1, 65_537)}, search={"nprobe": 32}, memory=_ivf_flat_bytes),
}
