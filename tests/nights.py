"""Whole nights in memory: a bucket as a dictionary of documents in, a release out, through the real stages."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest
from tokenizers import Tokenizer

from reindex.assemble import assemble_import
from reindex.embed import Work, embed_documents
from reindex.embed_worker import PART_DOCUMENTS, PartWriter
from reindex.embedders import EMBEDDERS, Model, Precision, find_model, load_embedder
from reindex.naming import collection_name
from reindex.parts import EmbeddingStore
from reindex.permissions import acl_of
from reindex.plan import UNCHANGED, Asked, QuerySide, plan_release
from reindex.prepare import EmbedTask, prepare_documents
from reindex.reading import Reader
from reindex.records import SNAPSHOT_SCHEMA, CollectionInfo, Memory
from reindex.releases import ReleaseFiles
from reindex.sandbox import Sandbox
from reindex.settings import Chunks, Corpus, Limits, Parsing
from reindex.tombstones import erased_keys
from tests.fakes import STATE_BUCKET, MemoryObjectStore, WordLengthEmbedder, a_corpus

MODEL = find_model("all-MiniLM-L6-v2")
PREFIX = "docs/"
_TOKENIZER = Tokenizer.from_file(str(MODEL.tokenizer_file))
_TOKENIZER.no_padding()
_TOKENIZER.no_truncation()


class CountingEmbedder(WordLengthEmbedder):
    """Counts what it is given."""

    texts = 0

    def embed(self, texts: list[str], tokens: list[list[int]] | None = None) -> Any:
        CountingEmbedder.texts += len(texts)
        # What is handed on is what the model's own tokenizer makes of the text.
        assert tokens is None or tokens == [encoding.ids for encoding in _TOKENIZER.encode_batch(texts)]
        return super().embed(texts)


class RememberingSandbox(Sandbox):
    """Reads no bytes twice under the same settings, whichever test asks: most of a night's time goes to reading."""

    read: ClassVar[dict[tuple[Any, ...], str]] = {}

    def __init__(self, settings: tuple[Any, ...], limits: Limits) -> None:
        super().__init__(partial(Reader, *settings), limits)
        self._settings = settings

    def run(self, key: str, data: bytes) -> Any:
        asked = (self._settings, key, data)
        if asked not in self.read:
            self.read[asked] = json.dumps(super().run(key, data))
        return json.loads(self.read[asked])


@lru_cache(maxsize=2)
def remembering_sandbox(
    policy: Chunks, tokenizer_file: Path, prompt: str, parsing: Parsing, limits: Limits
) -> RememberingSandbox:
    return RememberingSandbox((policy, tokenizer_file, prompt, parsing, limits), limits)


class Nights:
    """One corpus and its nights; `live` is what the alias names."""

    def __init__(self) -> None:
        self.store = MemoryObjectStore()
        self.corpus = a_corpus(embedding={"precision": "float32"}, chunks={"max_tokens": 200})
        self.model: Model = MODEL
        self.live: str | None = None
        self.number = 0
        self.part_documents = PART_DOCUMENTS
        self.memory: Memory | None = None
        self.metadata: dict[str, dict[str, str]] = {}

    def put(self, documents: dict[str, str | bytes]) -> None:
        """Make the bucket hold exactly these documents."""
        for _, key in [held for held in self.store.objects if held[0] == "sources"]:
            self.store.delete("sources", key)
        for name, content in documents.items():
            self.store.write("sources", PREFIX + name, content.encode() if isinstance(content, str) else content)

    def begin(self) -> ReleaseFiles:
        """Begin the next night's release: its settings and its snapshot."""
        self.number += 1
        release = f"202601{self.number:02}T020000Z_abcd1234"
        files = ReleaseFiles(self.store, STATE_BUCKET, self.corpus.name, release)
        files.freeze_corpus(self.corpus)
        erased = erased_keys(self.store, STATE_BUCKET, self.corpus.name)
        rows = [self._listed(key) for key in self.store.keys("sources", PREFIX) if key not in erased]
        table = pa.Table.from_pylist(rows, schema=SNAPSHOT_SCHEMA)
        files.write_table("snapshot.parquet", SNAPSHOT_SCHEMA, table.to_batches())
        files.write_report("snapshot", 0, {"documents": len(rows), "bytes": 0, "as_of": f"2026-01-{self.number:02}"})
        return files

    def _listed(self, key: str) -> dict[str, Any]:
        metadata = json.dumps(self.metadata.get(key.removeprefix(PREFIX), {}))
        return {
            "metadata": metadata,
            "acl": acl_of(key, metadata, self.corpus.permissions, self.corpus.source),
            "key": key,
            "version": "",
            "etag": self.store.etag("sources", key),
            "bytes": len(self.store.objects["sources", key]),
            "modified": datetime(2026, 1, self.number, tzinfo=UTC),
        }

    def plan(self, files: ReleaseFiles, **asked: Any) -> dict[str, Any]:
        live = None
        if self.live:
            name = collection_name(self.corpus.name, self.live)
            live = CollectionInfo(name=name, id=1, dimension=self.model.dimension, metric=self.corpus.index.metric)
        return files.write_report(
            "plan",
            0,
            plan_release(files, self.corpus, self.model, QuerySide(live=live, memory=self.memory), Asked(**asked)),
        )

    def parts(self, files: ReleaseFiles) -> EmbeddingStore:
        space, limits = files.needed_report("plan")["space"], self.corpus.limits.fingerprint()
        return EmbeddingStore(self.store, STATE_BUCKET, self.corpus.name, space, limits=limits)

    def chain(self, files: ReleaseFiles, work: Work) -> list[pa.Table]:
        """Do what the Ray chain does, in this process."""
        plan = files.needed_report("plan")
        task = EmbedTask(
            corpus=self.corpus,
            model=self.model,
            precision=plan["precision"],
            store=self.store,
            state_bucket=STATE_BUCKET,
            release=files.release,
            space=plan["space"],
            threads=1,
        )
        writer = PartWriter(task, load_embedder(task.model, task.precision, threads=1))
        prepared = pa.concat_tables([prepare_documents(block, task, work.held) for block in work.blocks()])
        starts = range(0, prepared.num_rows, self.part_documents)
        return [writer(prepared.slice(start, self.part_documents)) for start in starts]

    def embed(self, files: ReleaseFiles) -> dict[str, Any]:
        plan = files.needed_report("plan")
        report = embed_documents(
            files, self.parts(files), lambda work: self.chain(files, work), rebuild=plan["rebuild"]
        )
        return files.write_report("embed", 0, {"space": plan["space"], **report})

    def run(self, documents: dict[str, str | bytes] | None = None, **asked: Any) -> dict[str, Any]:
        """Take one night through plan, embed, assemble and promotion; return the plan's and the embedding's counts."""
        if documents is not None:
            self.put(documents)
        files = self.begin()
        plan = self.plan(files, **asked)
        if plan["outcome"] == UNCHANGED:
            return {**plan, "release": files.release}
        report = self.embed(files)
        assembled = assemble_import(files, self.parts(files), dimension=self.model.dimension, max_file_bytes=2**20)
        files.write_report("assemble", 0, assembled)
        self.live = files.release
        return {**plan, **report, "rows": assembled["rows"], "plan_embed": plan["embed"]}

    def texts(self, release: str | None = None) -> dict[str, list[str]]:
        """Return the texts of each document of a release, as its import files hold them."""
        files = ReleaseFiles(self.store, STATE_BUCKET, self.corpus.name, release or self.live or "")
        found: dict[str, list[str]] = {}
        for file in files.needed_report("assemble")["files"]:
            for batch in self.store.read_batches(STATE_BUCKET, file["file"]):
                for row in batch.to_pylist():
                    found.setdefault(row["document"].removeprefix(PREFIX), []).append(row["text"])
        return found

    def live_files(self) -> ReleaseFiles:
        return ReleaseFiles(self.store, STATE_BUCKET, self.corpus.name, self.live or "")

    def ids(self) -> set[str]:
        files = self.live_files()
        names = [file["file"].removeprefix(files.key("")) for file in files.needed_report("assemble")["files"]]
        return {chunk for name in names for chunk in files.read_column(name, "id")}


def counting_embedder(model: Model, precision: Precision, threads: int) -> CountingEmbedder:
    return CountingEmbedder(model.dimension)


def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Embed by word lengths, and remember what was read."""
    for engine in EMBEDDERS:
        monkeypatch.setitem(EMBEDDERS, engine, counting_embedder)
    monkeypatch.setattr("reindex.prepare._sandbox", remembering_sandbox)
    CountingEmbedder.texts = 0


def with_settings(corpus: Corpus, **changes: dict[str, Any]) -> Corpus:
    return Corpus.model_validate({**corpus.model_dump(), **changes})
