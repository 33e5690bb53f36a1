"""The index types that a corpus may ask for: how each is built, searched and tuned, what it weighs.

To add one, add a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Params = dict[str, int]
Ladder = Callable[[int, Params], list[Params]]

_FLOAT_BYTES = 4
# DISKANN keeps codes of this share of the vectors in memory, and a cache beside them; both are Milvus's defaults.
_DISKANN_SHARE = 0.125 + 0.1
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


def _ivf_sq8_bytes(rows: int, dimension: int, params: Params) -> int:
    """As IVF_FLAT, with a byte for each number of a vector."""
    return rows * (dimension + _ID_BYTES) + params["nlist"] * dimension * _FLOAT_BYTES


def _scann_bytes(rows: int, dimension: int, params: Params) -> int:
    """Vectors, kept to score again what codes of half a byte for each number have found, and the clusters' centres."""
    return rows * (dimension * _FLOAT_BYTES + dimension // 2 + _ID_BYTES) + params["nlist"] * dimension * _FLOAT_BYTES


def _diskann_bytes(rows: int, dimension: int, _: Params) -> int:
    return round(rows * dimension * _FLOAT_BYTES * _DISKANN_SHARE)


def _nothing_to_tune(_k: int, _params: Params) -> list[Params]:
    return [{}]


def _wider(name: str, most: int) -> Ladder:
    """Return the ladder of a parameter that may not lie below k: from there in doublings."""
    return lambda k, _: [{name: value} for value in _doublings(max(16, k), most)]


def _more_clusters(_k: int, params: Params) -> list[Params]:
    return [{"nprobe": value} for value in _doublings(1, params["nlist"])]


def _more_clusters_scored_again(k: int, params: Params) -> list[Params]:
    """SCANN: as many candidates scored again as are ten times asked for."""
    return [{**rung, "reorder_k": max(10 * k, 100)} for rung in _more_clusters(k, params)]


def _doublings(first: int, most: int) -> list[int]:
    """Return first, twice it, and so on, and last of all `most`."""
    values = [first]
    while values[-1] * 2 < most:
        values.append(values[-1] * 2)
    return [*values, most] if most > values[-1] else values


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexType:
    """What the server needs to build one kind of index, with the values it takes, and to search it.

    `search` names what a search sets, with the values it takes; `ladder` gives the settings to try, the quick before
    the thorough, from k and the build parameters. `remedy` says what finds more when no setting finds enough. `memory`
    gives the bytes that the loaded index takes, from rows, dimension and the build parameters; the formulas are those
    of "Index Explained" in Milvus's documentation.
    """

    build: dict[str, range]
    search: dict[str, range]
    ladder: Ladder
    remedy: str
    memory: Callable[[int, int, Params], int]

    def thorough(self, k: int, params: Params) -> Params:
        """Return the setting that finds the most."""
        return self.ladder(k, params)[-1]


_NLIST = {"nlist": range(1, 65_537)}
_NPROBE = {"nprobe": range(1, 65_537)}
_FEWER_CLUSTERS = "an index with a lower index.params.nlist looks at more rows a cluster"

INDEX_TYPES = {
    "FLAT": IndexType(
        build={},
        search={},
        ladder=_nothing_to_tune,
        remedy="FLAT compares every row: look at the rows",
        memory=_raw_bytes,
    ),
    "HNSW": IndexType(
        build={"M": range(2, 2049), "efConstruction": range(1, 65_537)},
        search={"ef": range(1, 32_769)},
        ladder=_wider("ef", 512),
        remedy="an index with a higher index.params.M, and efConstruction, finds more",
        memory=_hnsw_bytes,
    ),
    "IVF_FLAT": IndexType(
        build=_NLIST, search=_NPROBE, ladder=_more_clusters, remedy=_FEWER_CLUSTERS, memory=_ivf_flat_bytes
    ),
    "IVF_SQ8": IndexType(
        build=_NLIST,
        search=_NPROBE,
        ladder=_more_clusters,
        remedy="a byte a number is too little here: IVF_FLAT keeps them whole",
        memory=_ivf_sq8_bytes,
    ),
    "SCANN": IndexType(
        build=_NLIST,
        search={**_NPROBE, "reorder_k": range(1, 32_769)},
        ladder=_more_clusters_scored_again,
        remedy=_FEWER_CLUSTERS,
        memory=_scann_bytes,
    ),
    "DISKANN": IndexType(
        build={},
        search={"search_list": range(1, 65_536)},
        ladder=_wider("search_list", 512),
        remedy="HNSW finds more, in memory",
        memory=_diskann_bytes,
    ),
}


def at_least(params: Params, k: int) -> Params:
    """Return search parameters that can give k answers: a list of candidates may not be shorter."""
    return {name: value if name == "nprobe" else max(value, k) for name, value in params.items()}
