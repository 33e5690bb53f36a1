"""Every name that Reindex gives is built, and parsed, here: releases, collections, aliases, DAGs, ids, paths."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime

from reindex.errors import InvalidCorpusName

STATE_PREFIX = "reindex"
_CORPUS = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_MAX_CORPUS_LENGTH = 64
ROLLBACK_DAG = "reindex_roll_back"
# The corpus whose DAG would be called like the one that rolls back.
_RESERVED = "roll-back"
_AS_OF = "%Y%m%dT%H%M%SZ"


def check_corpus_name(name: str) -> str:
    """Return the name if Milvus, Airflow and the bucket can all carry it; raise InvalidCorpusName otherwise."""
    if name == _RESERVED or len(name) > _MAX_CORPUS_LENGTH or not _CORPUS.fullmatch(name):
        raise InvalidCorpusName(name)
    return name


def alias_name(corpus: str) -> str:
    """Return the name that readers query."""
    return corpus.replace("-", "_")


def dag_id(corpus: str) -> str:
    """Return the corpus's DAG; a name that is no corpus name gets dots for what it should not have."""
    allowed = "." if corpus == _RESERVED else "_"
    return f"reindex_{re.sub(r'[^a-z0-9-]', '.', corpus).replace('-', allowed)}"


def release_name(as_of: datetime, run_id: str) -> str:
    """Return `<as_of, UTC, compact>_<hash of the run id>`: a retry of a run finds its own work under it."""
    return f"{as_of.astimezone(UTC).strftime(_AS_OF)}_{_digest(run_id.encode(), size=4)}"


def collection_name(corpus: str, release: str) -> str:
    return f"{alias_name(corpus)}__{release}"


def collection_release(corpus: str, collection: str) -> str | None:
    """Return the release a collection belongs to, or None if it is not this corpus's."""
    prefix = f"{alias_name(corpus)}__"
    return collection.removeprefix(prefix) if collection.startswith(prefix) else None


def chunk_id(document: str, text: str, occurrence: int, *, member: str = "") -> str:
    """Return 32 hex digits from content alone: an edit elsewhere in the document leaves this id as it was.

    `member` is one of several documents in the object, or empty; `occurrence` counts earlier chunks of the same one
    with the same text, from 0.
    """
    # No key of an object holds a zero byte.
    key = f"{document}\x00{member}".encode() if member else document.encode()
    return _digest(len(key).to_bytes(4, "big") + key + occurrence.to_bytes(4, "big") + text.encode(), size=16)


def space_fingerprint(facts: dict[str, str]) -> str:
    """Return 16 hex digits for everything that decides a vector."""
    return _fingerprint(facts)


def limits_fingerprint(limits: dict[str, int]) -> str:
    """Return 16 hex digits for the limits within which documents are read."""
    return _fingerprint({name: str(value) for name, value in limits.items()})


def _fingerprint(facts: dict[str, str]) -> str:
    joined = "\x00".join(f"{key}={facts[key]}" for key in sorted(facts))
    return _digest(joined.encode(), size=8)


def content_hash(data: bytes, suffix: str) -> str:
    """Return 64 hex digits of a document's content: its bytes, and the suffix that decides how they are read."""
    return hashlib.sha256(suffix.encode() + b"\x00" + data).hexdigest()


def corpus_prefix(corpus: str) -> str:
    return f"{STATE_PREFIX}/{corpus}"


def release_prefix(corpus: str, release: str) -> str:
    return f"{corpus_prefix(corpus)}/releases/{release}"


def releases_prefix(corpus: str) -> str:
    """Return the folder of all the corpus's releases, with its slash."""
    return f"{corpus_prefix(corpus)}/releases/"


def rollback_key(corpus: str, rollback: str) -> str:
    """Return the record of one rollback, which is named as a release is: from the run that makes it."""
    return f"{corpus_prefix(corpus)}/rollbacks/{rollback}.json"


def spaces_prefix(corpus: str) -> str:
    """Return the folder of all the corpus's embedding spaces, with its slash."""
    return f"{corpus_prefix(corpus)}/spaces/"


def space_prefix(corpus: str, space: str) -> str:
    return f"{spaces_prefix(corpus)}{space}"


def tombstones_prefix(corpus: str) -> str:
    return f"{corpus_prefix(corpus)}/tombstones/"


def tombstone_key(corpus: str, key: str) -> str:
    """Return the place of a document's tombstone: its key hashed, since a key may hold anything and be long."""
    return f"{tombstones_prefix(corpus)}{_digest(key.encode(), size=16)}.json"


def import_file_name(number: int) -> str:
    return f"import/part-{number:05d}.parquet"


def job_name(corpus: str, release: str, stage: str, attempt: int) -> str:
    """Return the Ray submission id of one attempt at a stage."""
    return f"{corpus}-{release}-{stage}-{attempt}"


def _digest(data: bytes, *, size: int) -> str:
    return hashlib.blake2b(data, digest_size=size).hexdigest()
