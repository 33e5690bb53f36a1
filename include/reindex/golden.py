"""What people have asked: read where the corpus file says, frozen with the release, and read again to measure it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from reindex.errors import BadJudgements, FileMissing, SettingsError
from reindex.judgements import QUERIES_SHAPE, Judgements, read_judgements
from reindex.releases import DOCUMENTS_FILE, GOLDEN_QRELS_FILE, GOLDEN_QUERIES_FILE, QUERY_LOG_FILE, ReleaseFiles
from reindex.settings import Corpus

_S3 = "s3://"


def freeze_questions(files: ReleaseFiles, corpus: Corpus, folder: Path) -> None:
    """Keep the golden queries, their judgements and the query log with the release, before anything is spent.

    Paths are relative to the folder of the corpus file. Raises SettingsError for a file that is not there, and
    BadJudgements for one that cannot be read.
    """
    gate = corpus.gate
    asked = {"gate.queries.log": (gate.queries.log, QUERY_LOG_FILE)}
    if gate.golden:
        asked["gate.golden.queries"] = (gate.golden.queries, GOLDEN_QUERIES_FILE)
        asked["gate.golden.qrels"] = (gate.golden.qrels, GOLDEN_QRELS_FILE)
    for key, (location, name) in asked.items():
        if location:
            files.store.write(files.bucket, files.key(name), _read(files, corpus, folder, key, location))
    frozen_judgements(files, corpus)
    frozen_log(files, corpus)


def frozen_judgements(files: ReleaseFiles, corpus: Corpus) -> Judgements | None:
    """Return the judgements that the release was begun with, or None if its corpus names none."""
    golden = corpus.gate.golden
    if golden is None:
        return None
    queries, qrels = (_frozen(files, name) for name in (GOLDEN_QUERIES_FILE, GOLDEN_QRELS_FILE))
    return read_judgements(queries, qrels, queries_file=golden.queries, qrels_file=golden.qrels)


def frozen_log(files: ReleaseFiles, corpus: Corpus) -> list[str]:
    """Return what readers have asked; raise BadJudgements for a line that is no query."""
    where = corpus.gate.queries.log
    if where is None:
        return []
    lines = [line for line in _frozen(files, QUERY_LOG_FILE).split(b"\n") if line.strip()]
    return [_query(line, where, number) for number, line in enumerate(lines, start=1)]


def document_names(files: ReleaseFiles, corpus: Corpus) -> Iterator[str]:
    """Yield the key of each document of the release, without the corpus's prefix."""
    for batch in files.store.read_batches(files.bucket, files.key(DOCUMENTS_FILE), columns=["key"]):
        yield from map(corpus.source.name_of, batch.column("key").to_pylist())


def _query(line: bytes, where: str, number: int) -> str:
    try:
        text = json.loads(line)["text"]
    except (ValueError, KeyError, TypeError, RecursionError):
        text = None
    if not isinstance(text, str) or not text.strip():
        raise BadJudgements(where, number, "is no query", QUERIES_SHAPE)
    return text.strip()


def _frozen(files: ReleaseFiles, name: str) -> bytes:
    data = files.store.read(files.bucket, files.key(name))
    if data is None:
        raise FileMissing(files.bucket, files.key(name))
    return data


def _read(files: ReleaseFiles, corpus: Corpus, folder: Path, key: str, location: str) -> bytes:
    if location.startswith(_S3):
        bucket, _, path = location.removeprefix(_S3).partition("/")
        data = files.store.read(bucket, path)
    else:
        file = folder / location
        data = file.read_bytes() if file.is_file() else None
    if data is None:
        raise SettingsError(f"corpus {corpus.name}", key, f"there is no file {location}")
    return data
