"""A snapshot, the catalog and the live release in, what to do with each document out: `plan.parquet`.

The decision is `PLAN`, one query over three tables, and `decide_deletions`; both need no bucket.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from reindex.copies import copies_of
from reindex.embedders import Model, check_window, resolve_precision, space_facts
from reindex.errors import GateBelowNoise, SettingsError, TooManyDeleted
from reindex.forecast import PlannedWork, check_fits, forecast_release
from reindex.naming import collection_release, noise_key, space_fingerprint
from reindex.parts import EmbeddingStore
from reindex.permissions import acl_of, narrowed
from reindex.records import ACL_COLUMN, DOCUMENT_SCHEMA, PLAN_SCHEMA, SNAPSHOT_SCHEMA, Action, CollectionInfo, Memory
from reindex.releases import DOCUMENTS_FILE, PLAN_FILE, SNAPSHOT_FILE, ReleaseFiles, finished_reports
from reindex.settings import Corpus, Gate
from reindex.store import check_readers_stay
from reindex.tables import Tables

BUILD, UNCHANGED = "build", "unchanged"
# So few deletions are never withheld, however small the corpus.
_ALWAYS_ALLOWED = 10
_NAMED_DELETIONS = 1000
_NAMED_IN_WARNING = 5

# Over the tables snapshot, known (one row for each key and ETag of the embedding space), copies (documents that another
# stands for), live (the live release's documents) and unlisted (who may find those of them that are no longer listed),
# with what to do with the latter.
PLAN = """
    select s.key, s.version, s.etag, s.bytes, s.modified,
        case when copies.key is not null then 'reject'
            when known.key is null then 'embed' when known.part = '' then 'reject' else 'reuse' end as action,
        coalesce(known.content, '') as content,
        coalesce(known.chunks, 0) as chunks, coalesce(known.tokens, 0) as tokens,
        coalesce(known.part, '') as part,
        coalesce(copies.reason, known.reason, '') as reason, coalesce(copies.detail, known.detail, '') as detail,
        s.acl
    from snapshot s left join known using (key, etag) left join copies using (key)
    union all
    select live.key, live.version, live.etag, live.bytes, live.modified, '{deleted}' as action,
        live.content, live.chunks, live.tokens, live.part, '' as reason, '' as detail, unlisted.acl
    from live join unlisted using (key)
"""
# A release from before there were permissions shows everything to everyone.
_UNLISTED = "select key, coalesce(acl, ['*']) as acl from live anti join snapshot using (key)"
_UNLISTED_SCHEMA = pa.schema([DOCUMENT_SCHEMA.field(name) for name in ("key", ACL_COLUMN)])

# A document that came back under another name is no loss: same ETag, same size, a key that is new.
_DELETIONS = """
    select coalesce(sum(gone.keys), 0)::bigint as deleted,
        coalesce(sum(least(gone.keys, coalesce(come.keys, 0))), 0)::bigint as moved
    from (select etag, bytes, count(*) as keys from live anti join snapshot using (key) group by all) as gone
    left join (select etag, bytes, count(*) as keys from snapshot anti join live using (key) group by all) as come
        using (etag, bytes)
"""
_CHANGES = """
    select count(*) as changes from plan left join live using (key)
    where plan.action in ('embed', 'withdraw')
        or (plan.action = 'reuse' and live.content is distinct from plan.content)
        or (plan.action = 'reject' and live.key is not null)
        or (plan.action in ('reuse', 'withhold') and live.acl is distinct from plan.acl)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a run was asked beside its corpus: embed everything anew, and how many deletions it may make at most."""

    rebuild: bool = False
    max_deleted: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuerySide:
    """What the vector database has: the collection behind the alias, its memory, None where it does not say, and the
    rows of loaded collections that give way before a new one is loaded.
    """

    live: CollectionInfo | None
    memory: Memory | None = None
    leaving_rows: int = 0


def plan_release(
    files: ReleaseFiles, corpus: Corpus, model: Model, query_side: QuerySide, asked: Asked
) -> dict[str, Any]:
    """Write the plan; raise SchemaMismatch, SettingsError, TooManyDeleted, DoesNotFit or GateBelowNoise beforehand.

    Readers of the live index must not break, no chunk may be longer than the model reads, and there must be memory for
    one more release. The outcome is `unchanged` when a release would be the live one again, and that has not drifted.
    """
    check_window(corpus, model)
    check_noise(files, corpus)
    check_readers_stay(query_side.live, model.dimension, corpus.index.metric)
    precision = resolve_precision(corpus.embedding.precision)
    facts = space_facts(corpus, model, precision)
    space = space_fingerprint(facts)
    before = _live_release(files, query_side.live)
    if precision == "int8" and before is None:
        problem = "is int8, which is judged beside a live release, and none is live: make the first one with auto"
        raise SettingsError(f"corpus {corpus.name}", "embedding.precision", problem)
    limits = corpus.limits.fingerprint()
    parts = EmbeddingStore(files.store, files.bucket, corpus.name, space, limits=limits)
    parts.describe(facts)
    new_settings = _changed_settings(corpus, space, before)
    with Tables() as tables:
        _add_inputs(tables, files, parts, before, rebuild=asked.rebuild)
        tables.define("copies", copies_of("snapshot join known using (key, etag)", corpus.source.duplicates))
        _add_unlisted(tables, corpus, before)
        deleted, moved, were_live = _count_deletions(tables)
        is_withheld = decide_deletions(deleted - moved, were_live, corpus.gate, asked.max_deleted)
        if is_withheld and "embedding space" in new_settings:
            raise TooManyDeleted(deleted, were_live, corpus.gate.max_deleted_share)
        fate = Action.WITHHOLD if is_withheld else Action.WITHDRAW
        files.write_table(PLAN_FILE, PLAN_SCHEMA, tables.batches(PLAN.format(deleted=fate), PLAN_SCHEMA))
        tables.add("plan", files.store, files.bucket, [files.key(PLAN_FILE)], PLAN_SCHEMA)
        changes = tables.row(_CHANGES)["changes"]
        counts = _count_actions(tables)
        withheld = _some_keys(tables, Action.WITHHOLD)
    is_good = before is not None and not before.has_drifted()
    is_unchanged = is_good and not changes and not new_settings and not asked.rebuild
    planned = _planned_work(counts, before, query_side)
    forecast = forecast_release(
        planned, dimension=model.dimension, index=corpus.index, past=_past(files), memory=query_side.memory
    )
    if not is_unchanged:
        check_fits(forecast)
    return {
        **counts,
        **({} if is_unchanged else {"forecast": forecast.to_dict()}),
        "moved": moved,
        "withheld_keys": withheld,
        "warning": _warning(counts[Action.WITHHOLD.value], withheld, asked.max_deleted),
        "max_deleted": asked.max_deleted,
        "rebuild": asked.rebuild,
        "changed_settings": new_settings,
        "outcome": UNCHANGED if is_unchanged else BUILD,
        "live": before.release if before else "",
        "space": space,
        "precision": precision,
        "dimension": model.dimension,
    }


def check_noise(files: ReleaseFiles, corpus: Corpus) -> None:
    """Raise GateBelowNoise if a release could lose more by chance than the gate allows, as far as that was measured."""
    noise = files.store.read_json(files.bucket, noise_key(corpus.name)) or {}
    golden, loss = corpus.gate.golden, noise.get("ndcg")
    if golden and loss is not None and noise["index"] == corpus.index.model_dump() and golden.max_loss < loss:
        raise GateBelowNoise(golden.max_loss, loss)


def decide_deletions(deleted: int, live: int, gate: Gate, max_deleted: int | None) -> bool:
    """Return whether deletions are withheld: more than the corpus's share of the live documents, and more than a few.

    A number that a person has allowed takes the place of the share: at most so many, or none.
    """
    if max_deleted is not None:
        return deleted > max_deleted
    return deleted > _ALWAYS_ALLOWED and deleted > gate.max_deleted_share * live


def _warning(count: int, keys: list[str], max_deleted: int | None) -> str:
    """Return what a person must know of deletions that were withheld."""
    if not count:
        return ""
    allowed = "gate.max_deleted_share allows" if max_deleted is None else f"the {max_deleted} allowed"
    named = ", ".join(keys[:_NAMED_IN_WARNING]) + (", …" if count > _NAMED_IN_WARNING else "")
    return (
        f"{count} documents are no longer listed, more than {allowed}: they stay indexed ({named}); "
        f"if they are meant to go, run again with --max-deleted {count}"
    )


def _planned_work(counts: dict[str, Any], live: ReleaseFiles | None, query_side: QuerySide) -> PlannedWork:
    return PlannedWork(
        embed_documents=counts[Action.EMBED.value],
        embed_bytes=counts["embed_bytes"],
        known_documents=counts[Action.REUSE.value] + counts[Action.WITHHOLD.value],
        known_chunks=counts["known_chunks"],
        known_tokens=counts["known_tokens"],
        live_rows=live.needed_report("embed")["chunks"] if live else 0,
        leaving_rows=query_side.leaving_rows,
    )


def _past(files: ReleaseFiles) -> list[dict[str, dict[str, Any]]]:
    return finished_reports(files.store, files.bucket, files.corpus_name)


def _live_release(files: ReleaseFiles, live: CollectionInfo | None) -> ReleaseFiles | None:
    """Return the files of the release behind the alias, which is the truth about what is live."""
    release = collection_release(files.corpus_name, live.name) if live else None
    return files.of(release) if release and files.of(release).report("embed") else None


def _changed_settings(corpus: Corpus, space: str, live: ReleaseFiles | None) -> list[str]:
    """Return which settings make a new index of the same documents."""
    if live is None:
        return []
    was = live.corpus()
    pairs = {
        "embedding space": (space, live.needed_report("embed")["space"]),
        "embedding.query_prompt": (corpus.embedding.query_prompt, was.embedding.query_prompt),
        "index": (corpus.index, was.index),
    }
    return [name for name, (now, before) in pairs.items() if now != before]


def _add_inputs(
    tables: Tables, files: ReleaseFiles, parts: EmbeddingStore, live: ReleaseFiles | None, *, rebuild: bool
) -> None:
    tables.add("snapshot", files.store, files.bucket, [files.key(SNAPSHOT_FILE)], SNAPSHOT_SCHEMA)
    live_documents = [live.key(DOCUMENTS_FILE)] if live else []
    tables.add("live", files.store, files.bucket, live_documents, DOCUMENT_SCHEMA)
    # Of what this release has embedded itself there is nothing yet: a rebuild knows nothing.
    parts.add_catalog(tables, "known", release=files.release if rebuild else "")


def _add_unlisted(tables: Tables, corpus: Corpus, live: ReleaseFiles | None) -> None:
    """Say who may find what is no longer listed: whoever might, and, if permissions have changed, by today's rules too.

    What its metadata would say today nobody knows, so that it opens to nobody new.
    """
    were = live.corpus() if live else corpus
    is_as_it_was = (were.permissions, were.source.prefix) == (corpus.permissions, corpus.source.prefix)

    def rows() -> Iterator[pa.RecordBatch]:
        for batch in tables.batches(_UNLISTED, _UNLISTED_SCHEMA):
            yield batch if is_as_it_was else _narrowed(batch, corpus)

    tables.add_rows("unlisted", rows(), _UNLISTED_SCHEMA)


def _narrowed(unlisted: pa.RecordBatch, corpus: Corpus) -> pa.RecordBatch:
    keys, acls = (unlisted.column(name) for name in _UNLISTED_SCHEMA.names)
    today = (acl_of(key, "{}", corpus.permissions, corpus.source) for key in keys.to_pylist())
    both = [narrowed(before, now) for before, now in zip(acls.to_pylist(), today, strict=True)]
    return pa.RecordBatch.from_arrays([keys, pa.array(both, acls.type)], schema=_UNLISTED_SCHEMA)


def _count_deletions(tables: Tables) -> tuple[int, int, int]:
    found = tables.row(_DELETIONS)
    return found["deleted"], found["moved"], tables.row("select count(*) as live from live")["live"]


def _count_actions(tables: Tables) -> dict[str, Any]:
    found = {
        row["action"]: row
        for row in tables.rows(
            "select action, count(*) as documents, sum(bytes)::bigint as bytes, sum(chunks)::bigint as chunks, "
            "sum(tokens)::bigint as tokens from plan group by action"
        )
    }
    nothing = {"documents": 0, "bytes": 0, "chunks": 0, "tokens": 0}
    by_action = {action: found.get(action.value, nothing) for action in Action}
    listed = (Action.EMBED, Action.REUSE, Action.REJECT)
    return {
        "documents": sum(by_action[action]["documents"] for action in listed),
        **{action.value: counts["documents"] for action, counts in by_action.items()},
        "embed_bytes": by_action[Action.EMBED]["bytes"],
        "known_chunks": by_action[Action.REUSE]["chunks"] + by_action[Action.WITHHOLD]["chunks"],
        "known_tokens": by_action[Action.REUSE]["tokens"] + by_action[Action.WITHHOLD]["tokens"],
    }


def _some_keys(tables: Tables, action: Action) -> list[str]:
    rows = tables.rows(f"select key from plan where action = '{action}' order by key limit {_NAMED_DELETIONS}")
    return [row["key"] for row in rows]
