"""A night's release in memory, imported into a store and ready to be measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from reindex.bench import Bench
from reindex.naming import collection_name
from reindex.records import Hit
from reindex.releases import ReleaseFiles
from reindex.slices import Slice
from reindex.store import ExactStore
from tests.fakes import STATE_BUCKET, exact_store
from tests.nights import MODEL, CountingEmbedder, Nights

T = TypeVar("T")


@dataclass(slots=True)
class PoorStore(ExactStore):
    """Finds only so much as `quality` gives, from the search parameters and the slice's name: the rest is left out."""

    quality: Callable[[dict[str, int], str], float] = lambda _params, _slice: 1.0

    def search(
        self,
        name: str,
        vectors: Sequence[Sequence[float]],
        *,
        k: int,
        params: dict[str, int],
        columns: Sequence[str] = (),
        expression: str = "",
        groups: Sequence[str] | None = None,
        within: Slice | None = None,
        is_strong: bool = True,
    ) -> list[list[Hit]]:
        answers = ExactStore.search(
            self,
            name,
            vectors,
            k=k,
            params=params,
            columns=columns,
            expression=expression,
            groups=groups,
            within=within,
            is_strong=is_strong,
        )
        share = self.quality(params, within.name if within else "")
        # A passage finds itself first.
        return [answer[: max(1, round(share * len(answer)))] for answer in answers]


def imported(nights: Nights, files: ReleaseFiles, store: ExactStore) -> None:
    """Import the release's files into a collection of its own, as `load` and `index` do."""
    collection = collection_name(nights.corpus.name, files.release)
    store.create_collection(collection, dimension=MODEL.dimension, index=nights.corpus.index)
    loaded = []
    for file in files.needed_report("assemble")["files"]:
        state = store.import_state(store.submit_import(collection, file["file"]))
        loaded.append({"file": file["file"], "rows": file["rows"], "imported": state.rows})
    store.load(collection)
    rows = sum(file["rows"] for file in loaded)
    files.write_report("load", 0, {"collection": collection, "rows": rows, "files": loaded})


def bench_of(nights: Nights, store: ExactStore | None = None) -> Bench:
    """Return what it takes to measure the newest release: its collection in a store, and the model that made it."""
    files = nights.live_files()
    held = store or exact_store(files)
    if held.describe(collection_name(nights.corpus.name, files.release)) is None:
        imported(nights, files, held)

    @contextmanager
    def connect() -> Iterator[ExactStore]:
        yield held

    def spread(keys: Sequence[str], work: Callable[[Iterable[pa.RecordBatch]], T]) -> list[T]:
        return [work(files.store.read_batches(STATE_BUCKET, key, rows=7)) for key in keys]

    return Bench(
        files=files,
        corpus=files.corpus(),
        parts=nights.parts(files),
        store=held,
        connect=connect,
        embed=embed,
        spread=spread,
    )


def embed(_: ReleaseFiles, texts: list[str]) -> Any:
    return CountingEmbedder(MODEL.dimension).embed(texts)


class OtherEmbedder(CountingEmbedder):
    """Another model: the same words, counted from the last."""

    def embed(self, texts: list[str], tokens: list[list[int]] | None = None) -> Any:
        return np.ascontiguousarray(super().embed(texts)[:, ::-1])
