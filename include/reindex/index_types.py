"""The index types that a corpus may ask for, and how each is searched. To add one, add a row."""

from __future__ import annotations

from dataclasses import dataclass

Params = dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexType:
    """What the server needs to build one kind of index, with the values it takes, and to search it."""

    build: dict[str, range]
    search: Params

    def search_params(self, k: int) -> Params:
        """Return the parameters production searches with; HNSW refuses an `ef` below k."""
        return {name: max(value, k) if name == "ef" else value for name, value in self.search.items()}


INDEX_TYPES = {
    "FLAT": IndexType(build={}, search={}),
    "HNSW": IndexType(build={"M": range(2, 2049), "efConstruction": range(1, 65_537)}, search={"ef": 100}),
    "IVF_FLAT": IndexType(build={"nlist": range(1, 65_537)}, search={"nprobe": 32}),
}
