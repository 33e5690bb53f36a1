"""Every way a run can fail, named.

ReindexError
├── TransientError          try again: the next attempt may well succeed
│   ├── ServiceUnavailable      a server does not answer
│   ├── ServerError             a server answers, with an error of its own
│   ├── ImportFailed            Milvus gave an import up
│   ├── IndexFailed             Milvus gave an index up
│   ├── NotLoaded               a collection is not in memory, as after a restart of Milvus
│   ├── JobFailed               a Ray job died without giving a reason of its own
│   ├── SandboxFailed           the process that documents are read in cannot be had
│   └── Stalled                 nothing has moved for too long
└── TerminalError           a person must act: trying again changes nothing
    ├── SettingsError           a corpus file or a variable says something that is not allowed
    ├── UnknownCorpus           no corpus file has that name
    ├── UnknownRelease          the corpus has no such release
    ├── NothingRead             no release has read its documents yet
    ├── InvalidCorpusName       a name that could not be a Milvus name
    ├── AccessRefused           wrong credentials
    ├── BucketMissing           the bucket is not there
    ├── InvalidMoment           a text that is no date and no time
    ├── FutureMoment            a moment that has not come yet
    ├── BackfillMoment          one moment for a backfill, each of whose runs has its own
    ├── PastUnknown             the bucket does not know what it held at that moment
    ├── FileMissing             a file of the state bucket that others speak of is gone
    ├── NothingToIndex          no object matches the corpus
    ├── NothingLeft             every document of a release was erased while it was made
    ├── NoDocumentIndexed       every document was rejected
    ├── ModelMissing            the embedding model cannot be had
    ├── EngineRefused           an engine cannot run the embedding model as it is
    ├── UnsupportedServer       a Milvus version without a row in the capability table
    ├── SchemaMismatch          readers of the alias would break
    ├── DoesNotFit              Milvus has not the memory for another release
    ├── CollectionIsLive        an alias names the collection that was to be dropped
    ├── AliasTaken              the alias's name belongs to a collection
    ├── InvalidRow              a row that Milvus would swallow silently
    ├── LedgerMismatch          a count does not agree
    ├── TooManyDeleted          deletions cannot be withheld, and nobody has allowed so many
    ├── TooManyRejects          more documents rejected than the corpus allows
    ├── RecallTooLow            the index misses too many true neighbours
    ├── WrongVectors            a vector is not what the model makes of its text, or is served as another
    ├── RelevanceWorse          readers would find less of what was judged than they do now
    ├── NotJudged               a release in int8 whose relevance could not be measured
    ├── TooSlow                 a search takes longer than the corpus allows
    ├── Drifted                 what readers get is no longer what was measured
    ├── GateBelowNoise          two builds of the same release differ by more than a gate allows
    ├── NotVerified             a release that nobody measured, or that changed since
    ├── ErasedDocument          a release still indexes a document that was erased
    ├── OlderThanLive           what is live shows the bucket at a later moment
    ├── PromotedMeanwhile       somebody else made another release live at the same time
    ├── NothingToGoBackTo       no release is left to roll back to
    ├── AlreadyLive             the release that was asked for is live
    ├── ReleaseDropped          a release whose collection is gone
    ├── NotLive                 the alias has no collection yet
    ├── PermissionsNotLive      the live release was made before the corpus had permissions
    ├── UnknownPassage          no passage of the live index has that id
    ├── InvalidQuery            a search that Milvus cannot read
    ├── BadJudgements           golden queries, or judgements, that cannot be read or fit nothing
    ├── RunRefused              the DAG cannot be triggered as asked
    ├── RunFailed               a run ended in failure
    ├── NothingToPut            a path to copy is not there or empty
    ├── StackDown               the embedded stack is not running
    ├── PortTaken               another program listens where the stack should
    └── ProgramFailed           a program of the stack did not come up

Every class takes its facts as arguments, passes them all on and formats in `__str__`, so that an error survives
pickling and the trip from a Ray job to Airflow (`to_record`, `from_record`).
"""

from __future__ import annotations

from typing import Any


class ReindexError(Exception):
    """The root: catch this to catch everything that Reindex itself reports."""

    def to_record(self) -> dict[str, Any]:
        """Return the error as JSON-able facts."""
        return {"error": type(self).__name__, "arguments": list(self.args)}


class TransientError(ReindexError):
    """Try again."""


class TerminalError(ReindexError):
    """A person must act."""


class ServiceUnavailable(TransientError):
    def __init__(self, service: str, address: str, detail: str) -> None:
        super().__init__(service, address, detail)
        self.service, self.address, self.detail = service, address, detail

    def __str__(self) -> str:
        return (
            f"{self.service} does not answer at {self.address} ({self.detail}); "
            "see `reindex status`, and start the stack with `reindex up`"
        )


class ServerError(TransientError):
    def __init__(self, service: str, address: str, detail: str) -> None:
        super().__init__(service, address, detail)
        self.service, self.address, self.detail = service, address, detail

    def __str__(self) -> str:
        return f"{self.service} at {self.address} says: {self.detail}; its log may say more"


class ImportFailed(TransientError):
    def __init__(self, collection: str, file: str, reason: str) -> None:
        super().__init__(collection, file, reason)
        self.collection, self.file, self.reason = collection, file, reason

    def __str__(self) -> str:
        return (
            f"Milvus gave up importing {self.file} into {self.collection}: {self.reason}; "
            "a retry drops the collection and loads all of it again"
        )


class IndexFailed(TransientError):
    def __init__(self, index: str, reason: str) -> None:
        super().__init__(index, reason)
        self.index, self.reason = index, reason

    def __str__(self) -> str:
        return f"Milvus gave up building the index {self.index}: {self.reason or 'no reason given'}; see the Milvus log"


class NotLoaded(TransientError):
    def __init__(self, collection: str) -> None:
        super().__init__(collection)
        self.collection = collection

    def __str__(self) -> str:
        return f"{self.collection} is not in memory, as after a restart of Milvus; it is being loaded: try again"


class SandboxFailed(TransientError):
    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def __str__(self) -> str:
        return f"the process in which documents are read has ended: {self.detail or 'it said nothing'}"


class JobFailed(TransientError):
    def __init__(self, job: str, detail: str) -> None:
        super().__init__(job, detail)
        self.job, self.detail = job, detail

    def __str__(self) -> str:
        return f"the Ray job {self.job} died: {self.detail}; its log is in the Ray dashboard under Jobs"


class Stalled(TransientError):
    def __init__(self, stage: str, seconds: float, detail: str) -> None:
        super().__init__(stage, seconds, detail)
        self.stage, self.seconds, self.detail = stage, seconds, detail

    def __str__(self) -> str:
        return f"{self.stage} has not moved for {self.seconds:.0f} s ({self.detail}); look at the Milvus log"


class SettingsError(TerminalError):
    def __init__(self, where: str, key: str, problem: str) -> None:
        super().__init__(where, key, problem)
        self.where, self.key, self.problem = where, key, problem

    def __str__(self) -> str:
        return f"{self.where}: {self.key}: {self.problem}"


class UnknownCorpus(TerminalError):
    def __init__(self, name: str, folder: str, known: list[str]) -> None:
        super().__init__(name, folder, known)
        self.name, self.folder, self.known = name, folder, known

    def __str__(self) -> str:
        known = ", ".join(self.known) or "none"
        return f"no corpus is called {self.name!r}; {self.folder} has: {known}"


class UnknownRelease(TerminalError):
    def __init__(self, corpus: str, release: str) -> None:
        super().__init__(corpus, release)
        self.corpus, self.release = corpus, release

    def __str__(self) -> str:
        return f"{self.corpus} has no release {self.release}; `reindex releases {self.corpus}` lists what it has"


class NothingRead(TerminalError):
    def __init__(self, corpus: str, release: str) -> None:
        super().__init__(corpus, release)
        self.corpus, self.release = corpus, release

    def __str__(self) -> str:
        what = f"{self.release} has not" if self.release else f"no release of {self.corpus} has"
        return f"{what} read its documents, so nothing is known of rejects; `reindex releases {self.corpus}` lists them"


class InvalidCorpusName(TerminalError):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return (
            f"{self.name!r} is no name for a corpus: up to 64 lower-case letters, digits and single hyphens, "
            "beginning with a letter; and not roll-back or verify-live, whose DAGs are others"
        )


class AccessRefused(TerminalError):
    def __init__(self, service: str, address: str, detail: str) -> None:
        super().__init__(service, address, detail)
        self.service, self.address, self.detail = service, address, detail

    def __str__(self) -> str:
        return f"{self.service} at {self.address} refuses these credentials ({self.detail}); correct them and run again"


class BucketMissing(TerminalError):
    def __init__(self, bucket: str, address: str) -> None:
        super().__init__(bucket, address)
        self.bucket, self.address = bucket, address

    def __str__(self) -> str:
        return f"there is no bucket {self.bucket!r} at {self.address}; create it or correct source.bucket"


class FileMissing(TerminalError):
    def __init__(self, bucket: str, key: str) -> None:
        super().__init__(bucket, key)
        self.bucket, self.key = bucket, key

    def __str__(self) -> str:
        return (
            f"s3://{self.bucket}/{self.key} is gone, though it is still spoken of; start a new run: "
            "with --rebuild, if it was a part"
        )


class InvalidMoment(TerminalError):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"as_of {self.text!r} is no moment; write it as 2026-03-01 (midnight, UTC) or 2026-03-01T02:00:00+00:00"


class FutureMoment(TerminalError):
    def __init__(self, as_of: str) -> None:
        super().__init__(as_of)
        self.as_of = as_of

    def __str__(self) -> str:
        return f"the moment {self.as_of} has not come yet, so no bucket can be listed as of then; name an earlier one"


class BackfillMoment(TerminalError):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return (
            f"as_of {self.text!r} was given to a backfill, whose runs would all be about that one moment; "
            "leave it empty: each run is about its own night"
        )


class PastUnknown(TerminalError):
    def __init__(self, bucket: str, as_of: str, reason: str) -> None:
        super().__init__(bucket, as_of, reason)
        self.bucket, self.as_of, self.reason = bucket, as_of, reason

    def __str__(self) -> str:
        return (
            f"bucket {self.bucket!r} does not know what it held at {self.as_of}: {self.reason}; "
            "switch versioning on to list later moments exactly, or index what has not changed since "
            "with source.approximate_as_of: true"
        )


class NothingToIndex(TerminalError):
    def __init__(self, bucket: str, prefix: str, moment: str) -> None:
        super().__init__(bucket, prefix, moment)
        self.bucket, self.prefix, self.moment = bucket, prefix, moment

    def __str__(self) -> str:
        when = f"held at {self.moment}" if self.moment else "holds"
        return (
            f"s3://{self.bucket}/{self.prefix} {when} no object that the corpus includes; "
            "the live index stays as it is: put documents there (`reindex put`) or correct source in the corpus file"
        )


class NoDocumentIndexed(TerminalError):
    def __init__(self, documents: int, first_reason: str) -> None:
        super().__init__(documents, first_reason)
        self.documents, self.first_reason = documents, first_reason

    def __str__(self) -> str:
        return (
            f"all {self.documents} documents were rejected, the first because: {self.first_reason}; "
            "rejects.parquet of the release names each"
        )


class NothingLeft(TerminalError):
    def __init__(self, release: str) -> None:
        super().__init__(release)
        self.release = release

    def __str__(self) -> str:
        return f"release {self.release} holds nothing: its documents were erased while it was made; start a new run"


class ModelMissing(TerminalError):
    def __init__(self, name: str, detail: str) -> None:
        super().__init__(name, detail)
        self.name, self.detail = name, detail

    def __str__(self) -> str:
        return f"the embedding model {self.name!r} cannot be had: {self.detail}; correct `embedding`"


class EngineRefused(TerminalError):
    """Whoever wants vectors tries the next engine, and says so."""

    def __init__(self, engine: str, detail: str) -> None:
        super().__init__(engine, detail)
        self.engine, self.detail = engine, detail

    def __str__(self) -> str:
        return f"{self.engine} cannot run the model as it is: {self.detail}"


class UnsupportedServer(TerminalError):
    def __init__(self, version: str, known: list[str]) -> None:
        super().__init__(version, known)
        self.version, self.known = version, known

    def __str__(self) -> str:
        return f"Milvus {self.version} has no row in the capability table; known: {', '.join(self.known)}"


class SchemaMismatch(TerminalError):
    def __init__(self, collection: str, what: str, found: str, needed: str) -> None:
        super().__init__(collection, what, found, needed)
        self.collection, self.what, self.found, self.needed = collection, what, found, needed

    def __str__(self) -> str:
        return (
            f"the live collection {self.collection} has {self.what} {self.found}, the corpus makes {self.needed}: "
            "its readers would break; give the new kind of vector a corpus of its own"
        )


class DoesNotFit(TerminalError):
    def __init__(
        self,
        needed_bytes: int,
        used_bytes: int,
        limit_bytes: int,
        usable_share: float,
        what: str = "the new release",
    ) -> None:
        super().__init__(needed_bytes, used_bytes, limit_bytes, usable_share, what)
        self.needed_bytes, self.used_bytes = needed_bytes, used_bytes
        self.limit_bytes, self.usable_share, self.what = limit_bytes, usable_share, what

    def __str__(self) -> str:
        return (
            f"{self.what} needs {_gib(self.needed_bytes)} of Milvus's memory beside the {_gib(self.used_bytes)} in "
            f"use, and Milvus loads nothing above {self.usable_share:.0%} of its {_gib(self.limit_bytes)}; nothing was "
            "spent: give it more (and raise REINDEX_MILVUS_MEMORY_BYTES, where that is set), build a smaller index "
            "(index in the corpus file), or keep fewer releases in memory (retention.grace_minutes)"
        )


class CollectionIsLive(TerminalError):
    def __init__(self, collection: str, aliases: list[str]) -> None:
        super().__init__(collection, aliases)
        self.collection, self.aliases = collection, aliases

    def __str__(self) -> str:
        return (
            f"{self.collection} is what {', '.join(self.aliases)} names, so it cannot be built again; start a new run"
        )


class AliasTaken(TerminalError):
    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self.alias = alias

    def __str__(self) -> str:
        return (
            f"Milvus has a collection called {self.alias}, so no alias can be; rename the corpus or drop the collection"
        )


class InvalidRow(TerminalError):
    def __init__(self, file: str, row: str, problem: str) -> None:
        super().__init__(file, row, problem)
        self.file, self.row, self.problem = file, row, problem

    def __str__(self) -> str:
        return f"{self.file}: row {self.row}: {self.problem}; Milvus would take it silently, so the release stops here"


class LedgerMismatch(TerminalError):
    def __init__(self, problems: list[str]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return f"the ledger does not add up: {'; '.join(self.problems)}"


class TooManyDeleted(TerminalError):
    def __init__(self, deleted: int, live: int, ceiling: float) -> None:
        super().__init__(deleted, live, ceiling)
        self.deleted, self.live, self.ceiling = deleted, live, ceiling

    def __str__(self) -> str:
        return (
            f"{self.deleted} of {self.live} live documents are no longer listed, more than gate.max_deleted_share "
            f"{self.ceiling:g} allows, and they cannot be kept: the embedding space has changed, and what is deleted "
            f"cannot be embedded again; put them back, or allow it with --max-deleted {self.deleted}"
        )


class TooManyRejects(TerminalError):
    def __init__(self, rejected: int, listed: int, ceiling: float, first: str) -> None:
        super().__init__(rejected, listed, ceiling, first)
        self.rejected, self.listed, self.ceiling, self.first = rejected, listed, ceiling, first

    def __str__(self) -> str:
        return (
            f"{self.rejected} of {self.listed} documents were rejected, more than gate.max_rejected_share "
            f"{self.ceiling:g} allows, the first: {self.first}: "
            "rejects.parquet of the release names each"
        )


class RecallTooLow(TerminalError):
    def __init__(
        self, k: int, bound: float, floor: float, mean: float, poor_share: float, where: str = "", advice: str = ""
    ) -> None:
        super().__init__(k, bound, floor, mean, poor_share, where, advice)
        self.k, self.bound, self.floor, self.mean, self.poor_share = k, bound, floor, mean, poor_share
        self.where, self.advice = where, advice

    def __str__(self) -> str:
        return (
            f"recall@{self.k}{f' of the slice {self.where}' if self.where else ''} is {self.mean:.4f}, its lower bound "
            f"{self.bound:.4f} against a floor of {self.floor:g}, {self.poor_share:.1%} of the queries under 0.5: "
            f"{self.advice or 'build a denser index (index.params) or lower gate.min_recall'}"
        )


class WrongVectors(TerminalError):
    def __init__(self, checked: int, documents: list[str], cosine: float) -> None:
        super().__init__(checked, documents, cosine)
        self.checked, self.documents, self.cosine = checked, documents, cosine

    def __str__(self) -> str:
        return (
            f"vectors are not what the model makes of their text, or are served as others: of {self.checked} passages "
            f"looked at, those of {len(self.documents)} documents, the first {self.documents[0]}, cosine down to "
            f"{self.cosine:.3f}: were two models mixed? `reindex run CORPUS --rebuild` embeds anew"
        )


class RelevanceWorse(TerminalError):
    def __init__(self, candidate: float, live: float, high: float, max_loss: float, queries: int) -> None:
        super().__init__(candidate, live, high, max_loss, queries)
        self.candidate, self.live, self.high, self.max_loss, self.queries = candidate, live, high, max_loss, queries

    def __str__(self) -> str:
        return (
            f"nDCG@10 is {self.candidate:.4f}, {self.live:.4f} of what is live, over {self.queries} golden queries: "
            f"worse by {-self.high:.4f} at the least, more than gate.golden.max_loss {self.max_loss:g} allows: "
            "the release's report says whether the search, the texts or the model lost it"
        )


class NotJudged(TerminalError):
    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return (
            f"{self.why}; vectors in int8 go live only by the relevance gate: mend gate.golden, or set "
            "embedding.precision to auto"
        )


class TooSlow(TerminalError):
    def __init__(self, p99: float, ceiling: float, params: str) -> None:
        super().__init__(p99, ceiling, params)
        self.p99, self.ceiling, self.params = p99, ceiling, params

    def __str__(self) -> str:
        return (
            f"the 99th percentile of a search is {self.p99:g} ms, over gate.max_p99_ms {self.ceiling:g}"
            f"{f', with {self.params}' if self.params else ''}: give Milvus more room, "
            "ask for less recall, or raise the ceiling"
        )


class Drifted(TerminalError):
    def __init__(self, corpus: str, release: str, problems: list[str]) -> None:
        super().__init__(corpus, release, problems)
        self.corpus, self.release, self.problems = corpus, release, problems

    def __str__(self) -> str:
        return (
            f"the live index of {self.corpus}, {self.release}, has drifted: {'; '.join(self.problems)}; readers still "
            f"get it: roll back (`reindex rollback {self.corpus}`) or run again"
        )


class GateBelowNoise(TerminalError):
    def __init__(self, max_loss: float, noise: float) -> None:
        super().__init__(max_loss, noise)
        self.max_loss, self.noise = max_loss, noise

    def __str__(self) -> str:
        return (
            f"gate.golden.max_loss {self.max_loss:g} is below the noise of {self.noise:g} between two builds of the "
            "same release: it would stop releases by chance; raise it, or build a denser index (index.params) and "
            "measure the noise again (`reindex verify CORPUS --noise`)"
        )


class NotVerified(TerminalError):
    def __init__(self, release: str, problem: str) -> None:
        super().__init__(release, problem)
        self.release, self.problem = release, problem

    def __str__(self) -> str:
        return (
            f"release {self.release} cannot go live: {self.problem}; "
            "the alias stays where it was: start a new run, or name another release"
        )


class ErasedDocument(TerminalError):
    def __init__(self, corpus: str, release: str, documents: int) -> None:
        super().__init__(corpus, release, documents)
        self.corpus, self.release, self.documents = corpus, release, documents

    def __str__(self) -> str:
        # Not by key: this is kept with the release, and the tombstones alone may name what was erased.
        return (
            f"release {self.release} still indexes {self.documents} documents that were erased from {self.corpus}; the "
            "alias stays where it was: run `reindex erase` for them once more, then start a new run"
        )


class OlderThanLive(TerminalError):
    def __init__(self, release: str, live: str) -> None:
        super().__init__(release, live)
        self.release, self.live = release, live

    def __str__(self) -> str:
        return (
            f"release {self.release} shows the bucket as it was before {self.live}, which is live: "
            "promotion goes forward only, so the alias stays where it is; "
            f"to go back on purpose: `reindex rollback CORPUS --to {self.release}`"
        )


class PromotedMeanwhile(TerminalError):
    def __init__(self, release: str, winner: str, by: str) -> None:
        super().__init__(release, winner, by)
        self.release, self.winner, self.by = release, winner, by

    def __str__(self) -> str:
        return (
            f"release {self.release} is not live: {self.by} made {self.winner} live at the same moment, "
            "and the alias stays there; run again if this one is to replace it"
        )


class NothingToGoBackTo(TerminalError):
    def __init__(self, corpus: str) -> None:
        super().__init__(corpus)
        self.corpus = corpus

    def __str__(self) -> str:
        return (
            f"{self.corpus} has no release to go back to: none before the live one is verified and still has its "
            f"collection; see `reindex releases {self.corpus}`, raise retention.releases for the next time"
        )


class AlreadyLive(TerminalError):
    def __init__(self, corpus: str, release: str) -> None:
        super().__init__(corpus, release)
        self.corpus, self.release = corpus, release

    def __str__(self) -> str:
        return f"release {self.release} is what {self.corpus} serves already; nothing was changed"


class ReleaseDropped(TerminalError):
    def __init__(self, corpus: str, release: str) -> None:
        super().__init__(corpus, release)
        self.corpus, self.release = corpus, release

    def __str__(self) -> str:
        return (
            f"release {self.release} has no collection any more, so {self.corpus} cannot go back to it; "
            f"`reindex releases {self.corpus}` shows which are retained"
        )


class NotLive(TerminalError):
    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self.alias = alias

    def __str__(self) -> str:
        return f"nothing has been promoted to the alias {self.alias} yet; run the corpus first (`reindex run`)"


class PermissionsNotLive(TerminalError):
    def __init__(self, release: str) -> None:
        super().__init__(release)
        self.release = release

    def __str__(self) -> str:
        return (
            f"{self.release}, which is live, knows no permissions: run the corpus again, and search when that is live"
        )


class UnknownPassage(TerminalError):
    def __init__(self, corpus: str, passage: str, release: str) -> None:
        super().__init__(corpus, passage, release)
        self.corpus, self.passage, self.release = corpus, passage, release

    def __str__(self) -> str:
        return (
            f"{self.release}, which is live, has no passage with the id {self.passage!r}; "
            f"`reindex search {self.corpus} TEXT --json` shows the ids of what it finds"
        )


class InvalidQuery(TerminalError):
    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def __str__(self) -> str:
        return f"Milvus cannot read this search: {self.detail}"


class BadJudgements(TerminalError):
    def __init__(self, file: str, line: int, problem: str, expected: str) -> None:
        super().__init__(file, line, problem, expected)
        self.file, self.line, self.problem, self.expected = file, line, problem, expected

    def __str__(self) -> str:
        place = f"{self.file}, line {self.line}" if self.line else self.file
        return f"{place}: {self.problem}; expected: {self.expected}"


class RunRefused(TerminalError):
    def __init__(self, dag: str, problem: str) -> None:
        super().__init__(dag, problem)
        self.dag, self.problem = dag, problem

    def __str__(self) -> str:
        return f"Airflow does not start {self.dag}: {self.problem}"


class RunFailed(TerminalError):
    def __init__(self, run: str, stage: str, reason: str) -> None:
        super().__init__(run, stage, reason)
        self.run, self.stage, self.reason = run, stage, reason

    def __str__(self) -> str:
        return f"{self.run} failed in {self.stage}: {self.reason}"


class NothingToPut(TerminalError):
    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"{self.path} {self.problem}; nothing was copied"


class StackDown(TerminalError):
    def __init__(self, home: str) -> None:
        super().__init__(home)
        self.home = home

    def __str__(self) -> str:
        return f"the stack of {self.home} is not running; start it with `reindex up`"


class PortTaken(TerminalError):
    def __init__(self, port: int, name: str, variable: str) -> None:
        super().__init__(port, name, variable)
        self.port, self.name, self.variable = port, name, variable

    def __str__(self) -> str:
        return (
            f"port {self.port} ({self.name}) is taken by another program; "
            f"free it or choose another with {self.variable}=PORT"
        )


class ProgramFailed(TerminalError):
    def __init__(self, program: str, seconds: float, log: str, last_line: str) -> None:
        super().__init__(program, seconds, log, last_line)
        self.program, self.seconds, self.log, self.last_line = program, seconds, log, last_line

    def __str__(self) -> str:
        return f"{self.program} did not come up within {self.seconds:.0f} s: {self.last_line}; see {self.log}"


def _gib(amount: int) -> str:
    return f"{amount / 2**30:,.2f} GiB"


def _leaves(root: type[ReindexError]) -> dict[str, type[ReindexError]]:
    found = {root.__name__: root}
    for child in root.__subclasses__():
        found |= _leaves(child)
    return found


ERRORS = _leaves(ReindexError)


def from_record(record: dict[str, Any]) -> ReindexError:
    """Rebuild an error from `to_record`; an unknown name becomes a `JobFailed` with the record as its detail."""
    error = ERRORS.get(str(record.get("error")))
    if error is None:
        return JobFailed("unknown", str(record))
    return error(*record.get("arguments", []))
