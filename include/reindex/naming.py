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
CHECK_DAG = "reindex_verify_live"
# The corpora whose DAGs would be called like these.
_RESERVED = ("roll-back", "verify-live")
CHECK_PREFIX = "check-"
_TWIN = "__aa"
# Digests of passages are added up modulo this, which fits every database's integers.
DIGESTS = 2**56
_AS_OF = "%Y%m%dT%H%M%SZ"
RELEASE_PATTERN = "[0-9]{8}T[0-9]{6}Z_[0-9a-f]{8}"
_RELEASE = re.compile(RELEASE_PATTERN)


def check_corpus_name(name: str) -> str:
    """Return the name if Milvus, Airflow and the bucket can all carry it; raise InvalidCorpusName otherwise."""
    if not is_corpus_name(name):
        raise InvalidCorpusName(name)
    return name


def is_corpus_name(name: str) -> bool:
    return name not in _RESERVED and len(name) <= _MAX_CORPUS_LENGTH and _CORPUS.fullmatch(name) is not None


def alias_name(corpus: str) -> str:
    """Return the name that readers query."""
    return corpus.replace("-", "_")


def dag_id(corpus: str) -> str:
    """Return the corpus's DAG; a name that is no corpus name gets dots for what it should not have."""
    allowed = "." if corpus in _RESERVED else "_"
    return f"reindex_{re.sub(r'[^a-z0-9-]', '.', corpus).replace('-', allowed)}"


def release_name(as_of: datetime, run_id: str) -> str:
    """Return `<as_of, UTC, compact>_<hash of the run id>`: a retry of a run finds its own work under it."""
    return f"{as_of.astimezone(UTC).strftime(_AS_OF)}_{_digest(run_id.encode(), size=4)}"


def check_name(moment: datetime, run_id: str) -> str:
    """Return the name of one check of what is live: its files are found by it, as those of a release are."""
    return CHECK_PREFIX + release_name(moment, run_id)


def is_release_name(name: str) -> bool:
    """Return whether it is a release's name, or a check's: what comes from an address becomes no path otherwise."""
    return _RELEASE.fullmatch(name.removeprefix(CHECK_PREFIX)) is not None


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


def passage_digest(text: str, vector: bytes | memoryview) -> int:
    """Return a number below DIGESTS for a text and its float32 vector; those of a document's passages are added up."""
    digest = hashlib.blake2b(memoryview(vector).nbytes.to_bytes(4, "big"), digest_size=7)
    digest.update(vector)
    digest.update(text.encode())
    return int.from_bytes(digest.digest(), "big")


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
    """Return the folder of a release, or of a check, which leaves files of the same kinds."""
    return f"{checks_prefix(corpus) if release.startswith(CHECK_PREFIX) else releases_prefix(corpus)}{release}"


def checks_prefix(corpus: str) -> str:
    """Return the folder of all checks of what is live, with its slash."""
    return f"{corpus_prefix(corpus)}/checks/"


def noise_key(corpus: str) -> str:
    """Return the record of how much two builds of the same release differ."""
    return f"{corpus_prefix(corpus)}/noise.json"


def twin_name(collection: str) -> str:
    """Return the collection that the same files are loaded into once more, to see how much two builds differ."""
    return f"{collection}{_TWIN}"


def is_twin(corpus: str, collection: str) -> bool:
    return collection.startswith(f"{alias_name(corpus)}__") and collection.endswith(_TWIN)


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
