"""A plan in, the documents of the release out, embedded: what is still to be read is found, and handed to workers.

`embed_documents` finds the work, has it done on Ray (`prepare.py`, `embed_worker.py`), and draws up what the release
indexes.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from reindex.copies import copies_of
from reindex.embed_worker import IS_LASTING, OUTCOME_SCHEMA
from reindex.errors import NoDocumentIndexed
from reindex.parts import EmbeddingStore
from reindex.prepare import PENDING_SCHEMA, PREPARE_DOCUMENTS, content_beginnings
from reindex.records import CATALOG_SCHEMA, DOCUMENT_SCHEMA, PLAN_SCHEMA, REJECT_SCHEMA
from reindex.releases import DOCUMENTS_FILE, PLAN_FILE, REJECTS_FILE, ReleaseFiles
from reindex.tables import Tables, kept_on_disk
from reindex.tombstones import erased_keys

if TYPE_CHECKING:
    import numpy as np

# Of objects that look the same one is read first: the others are then found to be held, and need no embedding.
_PENDING = """
    select plan.key, plan.version, plan.etag, plan.bytes,
        coalesce(earlier.part, '') as earlier_part, coalesce(earlier.content, '') as earlier_content
    from (
        select *, row_number() over (partition by etag, bytes order by key) = 1 as is_first
        from plan where action = 'embed'
    ) as plan anti join known using (key, etag) anti join erased using (key) left join (
        select key, max(part) as part, arg_max(content, part) as content from {catalog} where part <> '' group by key
    ) as earlier using (key)
    where is_first = {firsts}
"""
# What the plan had for reuse, and what has been found since: `known` prefers the newest part of a document. Who may
# find it is always what the plan says, also of a text that stays as it was.
_CANDIDATES = """
    select key, version, etag, bytes, modified, action, content, chunks, tokens, part, acl
    from plan anti join erased using (key) where action in ('reuse', 'withhold')
    union all
    select plan.key, plan.version, plan.etag, plan.bytes, plan.modified,
        case when starts_with(found.part, '{release}') then 'embed' else 'reuse' end as action,
        found.content, found.chunks, found.tokens, found.part, plan.acl
    from plan join found using (key, etag) anti join erased using (key)
    where plan.action = 'embed' and found.part <> ''
    union all
    select key, live.version, live.etag, live.bytes, live.modified, 'reuse' as action,
        live.content, live.chunks, live.tokens, live.part, plan.acl
    from unread join live using (key) join plan using (key)
"""
# What is withheld stands for nobody: the plan did not count on it either.
_LISTED = "(select * from candidates where action <> 'withhold')"
_DOCUMENTS = "select * from candidates where action = 'withhold' or key not in (select key from copies)"
# What could not be read for now, and nobody else has read: where it is live, its earlier version stays.
_UNREAD = """
    select key, version, reason, detail, seconds, bytes from passing
    anti join found using (key, etag) anti join erased using (key)
"""
# Those of the plan, those of this release, members of documents that are indexed, and copies that are left out.
_REJECTS = """
    select plan.key, '' as member, plan.version, 'plan' as stage, plan.reason, plan.detail,
        coalesce(found.seconds, 0) as seconds, plan.bytes
    from plan left join found using (key, etag) anti join erased using (key) where plan.action = 'reject'
    union all
    select plan.key, '', plan.version, 'embed', found.reason, found.detail, found.seconds, plan.bytes
    from plan join found using (key, etag) anti join erased using (key)
    where plan.action = 'embed' and found.part = ''
    union all
    select key, '', version, 'embed', reason, detail, seconds, bytes from unread anti join live using (key)
    union all
    select key, '', version, 'embed', copies.reason, copies.detail, 0, bytes
    from candidates join copies using (key) where action <> 'withhold'
    union all
    select key, bad.member, version, 'embed', bad.reason, bad.detail, seconds, bytes from (
        select documents.*, found.seconds, unnest(found.members) as bad from documents join found using (key, etag)
    )
"""
_PASSING = f"select * from outcomes where reason <> '' and not {IS_LASTING}"
# Seconds of all writers together: at work, and waiting; and of the tasks that prepare, waiting for bytes, and parsing.
_CAME_TO = """
    select sum(embedded_tokens)::bigint as tokens, round(sum(part_bytes))::bigint as bytes,
        sum(truncated)::bigint as truncated, max(writer_memory) as writer_memory_bytes,
        sum(writer_seconds) as worked, sum(writer_waited) as idle, sum(waited) as fetching, sum(seconds) as parsing
    from outcomes
"""
_ERASED_SCHEMA = pa.schema([("key", pa.string())])


@dataclass(slots=True)
class Work:
    """What one attempt at embedding has to read, and the contents that need no embedding once read.

    `held` are the first 64 bits of each content hash, sorted: what looks held is looked up in full afterwards.
    """

    pending: pa.Table
    held: np.ndarray

    def blocks(self) -> Iterator[pa.Table]:
        """Yield what each task prepares."""
        for batch in self.pending.to_batches():
            for start in range(0, batch.num_rows, PREPARE_DOCUMENTS):
                yield pa.Table.from_batches([batch.slice(start, PREPARE_DOCUMENTS)])

    def without_held(self, keys: set[str]) -> Work:
        """Return the work on some of the documents again, this time taking nothing for held."""
        wanted = pa.array(sorted(keys), pa.string())
        return Work(pending=self.pending.filter(pc.is_in(self.pending.column("key"), wanted)), held=self.held[:0])


def embed_documents(
    files: ReleaseFiles, parts: EmbeddingStore, run: Callable[[Work], Iterable[pa.Table]], *, rebuild: bool
) -> dict[str, Any]:
    """Embed what the plan asks for and draw up the release's documents; `run` takes work through the chain.

    Raises NoDocumentIndexed if there is nothing to go on with.
    """
    started = time.monotonic()
    # What came out of the chain waits on disk, for it is as much as there are documents.
    with Tables() as outcomes:
        outcomes.add_rows("outcomes", [], OUTCOME_SCHEMA)
        for firsts in (True, False):
            work = begin_embedding(files, parts, rebuild=rebuild, firsts=firsts)
            while work.pending.num_rows:
                found = (batch for table in run(work) for batch in table.to_batches())
                attempt = outcomes.add_rows("outcomes", found, OUTCOME_SCHEMA)
                claimed = outcomes.batches(f"select * from {attempt} where is_held", OUTCOME_SCHEMA)
                work = work.without_held(recognise(parts, files.release, claimed, rebuild=rebuild))
        return finish_embedding(files, parts, outcomes, rebuild=rebuild, seconds=time.monotonic() - started)


def begin_embedding(files: ReleaseFiles, parts: EmbeddingStore, *, rebuild: bool, firsts: bool) -> Work:
    """Return what the plan wants read and nobody has read since: not this release before it died, nor another run.

    Of objects that look the same either the first alone, or the others. A rebuild takes nothing but what it has
    embedded itself.
    """
    with Tables() as tables:
        tables.add("plan", files.store, files.bucket, [files.key(PLAN_FILE)], PLAN_SCHEMA)
        _add_erased(tables, files)
        catalog = parts.add_catalog(tables, "known", release=files.release if rebuild else "")
        pending = tables.batches(_PENDING.format(catalog=catalog, firsts=firsts), PENDING_SCHEMA)
        return Work(pending=kept_on_disk(pending, PENDING_SCHEMA), held=_held_contents(tables))


def _add_erased(tables: Tables, files: ReleaseFiles) -> None:
    """Make a table of the documents erased from the corpus: a release may have been begun before they were."""
    erased = [{"key": key} for key in erased_keys(files.store, files.bucket, files.corpus_name)]
    tables.add_rows("erased", pa.Table.from_pylist(erased, schema=_ERASED_SCHEMA).to_batches(), _ERASED_SCHEMA)


def finish_embedding(
    files: ReleaseFiles, parts: EmbeddingStore, outcomes: Tables, *, rebuild: bool, seconds: float
) -> dict[str, Any]:
    """Write the release's documents and rejects, and return what it came to, earlier attempts included.

    `outcomes` has a table of that name. Raises NoDocumentIndexed if there is nothing to go on with.
    """
    parts.merge_catalog(files.release)
    with Tables() as tables:
        tables.add("plan", files.store, files.bucket, [files.key(PLAN_FILE)], PLAN_SCHEMA)
        _add_erased(tables, files)
        parts.add_catalog(tables, "found", release=files.release if rebuild else "")
        tables.add_rows("passing", outcomes.batches(_PASSING, OUTCOME_SCHEMA), OUTCOME_SCHEMA)
        tables.define("unread", _UNREAD)
        tables.add("live", files.store, files.bucket, _documents_of_live(files), DOCUMENT_SCHEMA)
        tables.define("candidates", _CANDIDATES.format(release=files.release))
        tables.define("copies", copies_of(_LISTED, files.corpus().source.duplicates))
        files.write_table(DOCUMENTS_FILE, DOCUMENT_SCHEMA, tables.batches(_DOCUMENTS, DOCUMENT_SCHEMA))
        tables.add("documents", files.store, files.bucket, [files.key(DOCUMENTS_FILE)], DOCUMENT_SCHEMA)
        files.write_table(REJECTS_FILE, REJECT_SCHEMA, tables.batches(_REJECTS, REJECT_SCHEMA))
        tables.add("rejects", files.store, files.bucket, [files.key(REJECTS_FILE)], REJECT_SCHEMA)
        report = {**_totals(tables, files.release), **_kept_earlier(tables)}
    came_to = outcomes.row(_CAME_TO)
    tokens = came_to.pop("tokens")
    return {
        **report,
        **{name: came_to[name] for name in ("bytes", "truncated", "writer_memory_bytes")},
        "tokens_a_second": round(tokens / seconds, 1) if seconds else 0,
        **writers_time(came_to),
        "engine": "; ".join(row["engine"] for row in outcomes.rows("select distinct engine from outcomes order by 1")),
    }


def writers_time(seconds: Mapping[str, float]) -> dict[str, float]:
    """Return the writers' seconds of work, and the shares of their time for which they waited, and for what.

    A writer without work waits for the tasks that prepare it, and these wait for bytes or parse.
    """
    worked, idle, fetching, parsing = (seconds[name] for name in ("worked", "idle", "fetching", "parsing"))
    idle_share = idle / (worked + idle) if worked + idle else 0.0
    for_bytes = fetching / (fetching + parsing) if fetching + parsing else 0.0
    return {
        "embedding_seconds": round(worked, 3),
        "wait_share": round(idle_share * for_bytes, 4),
        "parse_share": round(idle_share * (1 - for_bytes), 4),
    }


def _documents_of_live(files: ReleaseFiles) -> list[str]:
    """Return the documents of the release that the plan found live, if they are in the same embedding space."""
    plan = files.needed_report("plan")
    live = files.of(plan["live"]) if plan["live"] else None
    embedded = live.report("embed") if live else None
    return [live.key(DOCUMENTS_FILE)] if live and embedded and embedded["space"] == plan["space"] else []


def _kept_earlier(tables: Tables) -> dict[str, Any]:
    """Return how many documents stay as they were because they could not be read, and what to say of it."""
    kept = tables.row(
        "select count(*) as documents, min(key) as key, arg_min(detail, key) as detail "
        "from unread join live using (key)"
    )
    if not kept["documents"]:
        return {"kept_earlier": 0, "unread_warning": ""}
    return {
        "kept_earlier": kept["documents"],
        "unread_warning": f"{kept['documents']} documents could not be read and stay as they were, the first: "
        f"{kept['key']} ({kept['detail']}); the next run tries them again",
    }


def recognise(parts: EmbeddingStore, release: str, claimed: Iterable[pa.RecordBatch], *, rebuild: bool) -> set[str]:
    """Record the documents whose content is held under another key, and return the keys of those that it is not.

    A content is taken for held by 64 bits of its hash; here all of it decides.
    """
    with Tables() as tables:
        tables.add_rows("claimed", claimed, OUTCOME_SCHEMA)
        if not tables.row("select count(*) as documents from claimed")["documents"]:
            return set()
        parts.add_catalog(tables, "known", release=release if rebuild else "")
        tables.define("recognised", _RECOGNISED)
        rows = tables.batches(f"select {', '.join(CATALOG_SCHEMA.names)} from recognised", CATALOG_SCHEMA)
        parts.record(f"{release}-{uuid.uuid4().hex[:12]}", rows)
        return {row["key"] for row in tables.rows("select key from claimed anti join recognised using (key)")}


_RECOGNISED = """
    select claimed.key, claimed.version, claimed.etag, claimed.bytes, content, held.chunks, held.tokens, held.part,
        '' as reason, '' as detail, null as digest, 0 as embedded, 0 as embedded_tokens, held.members,
        claimed.seconds, claimed.limits
    from claimed join (
        select content, max(part) as part, arg_max(chunks, part) as chunks, arg_max(tokens, part) as tokens,
            arg_max(members, part) as members
        from known where part <> '' group by content
    ) as held using (content)
"""


def _totals(tables: Tables, release: str) -> dict[str, Any]:
    documents = tables.row(
        "select count(*) as documents, count(*) filter (action = 'reuse') as reused, "
        "count(*) filter (action = 'embed') as embedded, count(*) filter (action = 'withhold') as withheld, "
        "sum(chunks)::bigint as chunks, sum(tokens)::bigint as tokens from documents"
    )
    mine = tables.row(
        "select sum(embedded)::bigint as chunks_embedded, sum(embedded_tokens)::bigint as tokens_embedded, "
        "sum(bytes)::bigint as bytes_embedded from found anti join erased using (key) "
        f"where starts_with(part, '{release}') and embedded > 0"
    )
    reasons = tables.rows(
        "select reason, count(*) as documents from rejects where member = '' group by reason order by reason"
    )
    if not documents["documents"]:
        first = tables.rows("select key, reason, detail from rejects where member = '' order by key limit 1")
        rejected = sum(row["documents"] for row in reasons)
        why = [f"{row['key']}: {row['reason']} ({row['detail']})" for row in first] or ["erased since they were listed"]
        raise NoDocumentIndexed(rejected, why[0])
    return {
        **documents,
        **mine,
        "chunks_reused": documents["chunks"] - mine["chunks_embedded"],
        "rejected": sum(row["documents"] for row in reasons),
        "rejected_by_reason": {row["reason"]: row["documents"] for row in reasons},
    }


def _held_contents(tables: Tables) -> np.ndarray:
    import numpy as np

    # As text, because the sixteen digits of an unsigned number do not fit the database's own integers.
    query = "select distinct content[1:16] as beginning from known where part <> ''"
    batches = tables.batches(query, pa.schema([("beginning", pa.string())]))
    found = [content_beginnings(batch.column(0).to_pylist()) for batch in batches]
    return np.sort(np.concatenate([np.empty(0, "uint64"), *found]))
