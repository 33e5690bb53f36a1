"""A corpus in, what its alias names out: the live release, and how it is searched by those who ask it in words."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reindex.embedders import find_model, load_embedder
from reindex.errors import NotLive
from reindex.index_types import Params
from reindex.naming import alias_name, collection_release
from reindex.releases import ReleaseFiles
from reindex.settings import Corpus
from reindex.store import VectorStore
from reindex.tuning import production_params

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveIndex:
    """The release that is live: `corpus` is what it was made with, whatever the corpus file says now."""

    files: ReleaseFiles
    corpus: Corpus
    collection: str

    @property
    def release(self) -> str:
        return self.files.release

    def embed_queries(self, texts: list[str]) -> np.ndarray:
        """Return the vectors of questions, shape (texts, dimension), as the release's own were made."""
        precision = self.files.needed_report("plan")["precision"]
        embedder = load_embedder(find_model(self.corpus.embedding.model), precision, threads=os.cpu_count() or 1)
        return embedder.embed([self.corpus.embedding.query_prompt + text for text in texts])

    def search_params(self, k: int) -> Params:
        """Return the parameters that readers search with."""
        return production_params(self.files, k)


def find_live(store: VectorStore, files: ReleaseFiles) -> LiveIndex:
    """Return what is live of the corpus that these files, of any of its releases, are of; raise NotLive."""
    alias = alias_name(files.corpus_name)
    collection = store.resolve_alias(alias) or ""
    release = collection_release(files.corpus_name, collection)
    if release is None:
        raise NotLive(alias)
    live = files.of(release)
    return LiveIndex(files=live, corpus=live.corpus(), collection=collection)
