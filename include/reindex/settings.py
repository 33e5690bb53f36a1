"""Everything configured: a corpus from its YAML file, addresses and credentials from the environment.

Only this module reads files and environment variables for the library; everything else receives values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from croniter import croniter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from reindex.errors import SettingsError, UnknownCorpus
from reindex.groups import MAX_GROUPS, check_group
from reindex.index_types import INDEX_TYPES
from reindex.naming import check_corpus_name, limits_fingerprint

PROJECT = Path(__file__).resolve().parents[2]
MAX_CHUNK_TOKENS = 254  # all-MiniLM-L6-v2 reads 256 tokens, two of which mark the ends of a text


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _cron(schedule: str | None) -> str | None:
    if schedule is not None and not croniter.is_valid(schedule):
        raise ValueError("is no cron expression, as in '0 2 * * *'; null: only when asked")
    return schedule


class Source(_Section):
    """Where the documents lie; patterns match the key after the prefix, as in `**/*.md`.

    `metadata` names the user metadata that a snapshot keeps, at a request for each object. `approximate_as_of` lets a
    bucket without versions be listed as of the past: without what has changed since. `duplicates` says whether a
    document is indexed under each of its keys, or under the first alone.
    """

    bucket: str
    prefix: str = ""
    include: tuple[str, ...] = ("**/*",)
    exclude: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()
    approximate_as_of: bool = False
    duplicates: Literal["each", "first"] = "each"

    def name_of(self, key: str) -> str:
        """Return an object's key after the prefix, which patterns and rules of permissions are matched against."""
        return key.removeprefix(self.prefix).lstrip("/")


class Parsing(_Section):
    """What is read beside plain documents: text in pictures, files in archives, the records of a file one by one."""

    ocr: bool = False
    archives: bool = False
    records: bool = False


class Limits(_Section):
    """The most that one document may take: what takes more is rejected by name, and tried again when these change.

    `expansion` is how many times larger than its file a compressed document may be; `nesting` how deep documents may
    lie in each other, as a message in a message.
    """

    megabytes: int = Field(200, ge=1)
    pages: int = Field(5_000, ge=1)
    seconds: int = Field(120, ge=1)
    memory_megabytes: int = Field(2_048, ge=256)
    characters: int = Field(20_000_000, ge=1)
    nesting: int = Field(3, ge=0)
    expansion: int = Field(200, ge=1)

    def fingerprint(self) -> str:
        """Return what changes with any of them: what they have rejected is tried again then."""
        return limits_fingerprint(self.model_dump())


def _rule_prefix(prefix: str) -> str:
    if prefix.startswith("/"):
        raise ValueError("is matched against the key after source.prefix, which never begins with a slash")
    return prefix


class PermissionRule(_Section):
    """Who may find the documents under a prefix: these groups; with none of them named, everyone.

    The prefix is matched against the key after `source.prefix`, as patterns are, letter by letter: `hr/` is a folder,
    `hr` would be `hr-public/` too, and the empty one is everything.
    """

    prefix: Annotated[str, AfterValidator(_rule_prefix)]
    groups: tuple[Annotated[str, AfterValidator(check_group)], ...] = Field(max_length=MAX_GROUPS)


class Permissions(_Section):
    """Who may find which document: the first rule that matches decides, or the object's own metadata.

    `metadata` names the user metadata that lists groups, with commas between them, or says `*` for everyone; it comes
    before the rules. What neither says is unknown, and a document of unknown permissions is found by nobody.
    """

    rules: tuple[PermissionRule, ...] = ()
    metadata: str | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _says_something(self) -> Permissions:
        if not self.rules and self.metadata is None:
            raise ValueError("needs rules, metadata or both: as it is, nobody would find anything")
        for place, rule in enumerate(self.rules):
            wider = next((other for other in self.rules[:place] if rule.prefix.startswith(other.prefix)), None)
            if wider:
                raise ValueError(
                    f"the rule for {rule.prefix!r} never decides: the one for {wider.prefix!r} comes before"
                )
        return self


class Chunks(_Section):
    """How a document is cut, in tokens of the embedding model.

    `heading_prefix` embeds each chunk with the headings above it; the text that is stored stays the document's own.
    """

    max_tokens: int = Field(MAX_CHUNK_TOKENS, ge=16, le=8192)
    overlap_tokens: int = Field(32, ge=0)
    heading_prefix: bool = False


class Embedding(_Section):
    model: str = "all-MiniLM-L6-v2"
    precision: Literal["auto", "float32", "bfloat16", "int8"] = "auto"
    query_prompt: str = ""
    passage_prompt: str = ""


def _known_index_type(name: str) -> str:
    if name not in INDEX_TYPES:
        raise ValueError(f"is not an index type; known: {', '.join(sorted(INDEX_TYPES))}")
    return name


class Index(_Section):
    """The index that a release gets. `search` pins what searches set; empty: the least that meets the gate."""

    type: Annotated[str, AfterValidator(_known_index_type)] = "HNSW"
    metric: Literal["IP", "COSINE", "L2"] = "IP"
    params: dict[str, int] = Field(default_factory=lambda: {"M": 16, "efConstruction": 200})
    search: dict[str, int] = Field(default_factory=dict)


class Queries(_Section):
    """What recall is measured with: so many queries, the golden ones first, then those of `log`, then sampled ones.

    `log` is a file of queries that readers have asked, JSON lines with a `text` each: beside the corpus file, or
    `s3://bucket/key`.
    """

    count: int = Field(1_000, ge=200, le=100_000)
    log: str | None = Field(None, min_length=1)


class GateSlice(_Section):
    """A part of the index that readers search by a filter: one of a language, what a group may find, a prefix of keys.

    The prefix is matched against the key after `source.prefix`.
    """

    language: str | None = Field(None, min_length=1)
    group: Annotated[str, AfterValidator(check_group)] | None = None
    prefix: str | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _is_one_thing(self) -> GateSlice:
        if len([value for value in (self.language, self.group, self.prefix) if value is not None]) != 1:
            raise ValueError("a slice is exactly one of: language, group, prefix")
        return self


class Golden(_Section):
    """Questions with judged answers, in the shapes of BEIR: files beside the corpus file, or `s3://bucket/key`.

    A release may have `max_loss` less nDCG@10 than the live one.
    """

    queries: str = Field(min_length=1)
    qrels: str = Field(min_length=1)
    max_loss: float = Field(0.01, ge=0, le=1)


class Gate(_Section):
    """What a release must show before readers get it; shares are of 1.

    `max_p99_ms` bounds the 99th percentile of a search's milliseconds, one after the other; None: it is only reported.
    `memory_megabytes` bounds what one worker holds for exact search.
    """

    k: int = Field(10, ge=1, le=1000)
    min_recall: float = Field(0.95, ge=0, le=1)
    confidence: float = Field(0.95, gt=0.5, lt=1)
    max_rejected_share: float = Field(0.02, ge=0, le=1)
    max_deleted_share: float = Field(0.10, ge=0, le=1)
    queries: Queries = Queries()
    slices: tuple[GateSlice, ...] = Field((), max_length=20)
    golden: Golden | None = None
    max_p99_ms: float | None = Field(None, gt=0)
    memory_megabytes: int = Field(512, ge=64)


class Live(_Section):
    """What readers may feel of a release that is being built.

    Over `p99_ms`, the 99th percentile of their searches' milliseconds, its work pauses; None: over 1.5 times what it
    was at rest.
    """

    p99_ms: float | None = Field(None, gt=0)


class Retention(_Section):
    """What is kept: releases to go back to, the replaced one in memory, and embeddings that no release needs."""

    releases: int = Field(3, ge=1)
    grace_minutes: int = Field(30, ge=0)
    embeddings_days: int = Field(30, ge=0)


class Approval(_Section):
    """Which runs ask a person before they promote, and for how many hours: without an answer the alias stays."""

    runs: Literal["never", "manual", "all"] = "never"
    hours: float = Field(12, gt=0)


class Corpus(_Section):
    """One set of documents and everything configured for it."""

    name: Annotated[str, AfterValidator(check_corpus_name)]
    source: Source
    schedule: Annotated[str | None, AfterValidator(_cron)] = None
    parsing: Parsing = Parsing()
    limits: Limits = Limits()
    permissions: Permissions | None = None
    chunks: Chunks = Chunks()
    embedding: Embedding = Embedding()
    index: Index = Index()
    gate: Gate = Gate()
    live: Live = Live()
    retention: Retention = Retention()
    promote: Literal["auto", "never"] = "auto"
    approval: Approval = Approval()

    @model_validator(mode="after")
    def _fits_together(self) -> Corpus:
        if self.chunks.overlap_tokens >= self.chunks.max_tokens:
            raise ValueError("chunks.overlap_tokens must be smaller than chunks.max_tokens")
        if self.embedding.precision == "int8" and self.gate.golden is None:
            raise ValueError(
                "embedding.precision int8 needs gate.golden: whether its vectors are good enough, only the relevance "
                "gate can say"
            )
        kind = INDEX_TYPES[self.index.type]
        _check_params(f"index.params of {self.index.type}", self.index.params, kind.build)
        if self.index.search:
            _check_params(f"index.search of {self.index.type}", self.index.search, kind.search)
        return self


def _check_params(what: str, params: dict[str, int], allowed: dict[str, range]) -> None:
    if set(params) != set(allowed):
        raise ValueError(f"{what} are exactly: {', '.join(allowed) or 'none'}")
    for name, value in params.items():
        if value not in allowed[name]:
            raise ValueError(f"{what}: {name} lies between {allowed[name][0]} and {allowed[name][-1]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Connection:
    endpoint: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class MilvusConnection:
    """`token` is `user:password`, or empty where the server asks for none.

    `memory_bytes` is what its query side may take, where that is less than the server itself believes.
    """

    uri: str
    token: str
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RayConnection:
    url: str
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AirflowConnection:
    url: str
    username: str
    password: str


def s3_connection(environment: Mapping[str, str]) -> S3Connection:
    return S3Connection(
        endpoint=_needed(environment, "REINDEX_S3_ENDPOINT"),
        access_key=_needed(environment, "REINDEX_S3_ACCESS_KEY"),
        secret_key=_needed(environment, "REINDEX_S3_SECRET_KEY"),
        region=environment.get("REINDEX_S3_REGION", "us-east-1"),
    )


def milvus_connection(environment: Mapping[str, str]) -> MilvusConnection:
    return MilvusConnection(
        uri=_needed(environment, "REINDEX_MILVUS_URI"),
        token=environment.get("REINDEX_MILVUS_TOKEN", ""),
        memory_bytes=milvus_memory_bytes(environment),
    )


def milvus_memory_bytes(environment: Mapping[str, str]) -> int | None:
    """Return what Milvus may take where somebody has said so; raise SettingsError for what is no number of bytes."""
    value = environment.get("REINDEX_MILVUS_MEMORY_BYTES", "")
    return byte_count(value, where="the environment", key="REINDEX_MILVUS_MEMORY_BYTES") if value else None


def byte_count(value: str, *, where: str, key: str) -> int:
    """Return a number of bytes above zero; raise SettingsError for anything else."""
    if not value.isdecimal() or not int(value):
        raise SettingsError(where, key, f"{value!r} is no number of bytes, as in 8589934592")
    return int(value)


def airflow_connection(environment: Mapping[str, str]) -> AirflowConnection:
    return AirflowConnection(
        url=_needed(environment, "REINDEX_AIRFLOW_URL"),
        username=_needed(environment, "REINDEX_AIRFLOW_USERNAME"),
        password=_needed(environment, "REINDEX_AIRFLOW_PASSWORD"),
    )


def state_bucket(environment: Mapping[str, str]) -> str:
    """Return the bucket that holds Reindex's state; Milvus imports from its own bucket only, so it is the same one."""
    return environment.get("REINDEX_STATE_BUCKET", "reindex")


def models_folder(environment: Mapping[str, str]) -> Path:
    """Return where this machine keeps models as its engine has converted them; what is lost is made again."""
    chosen = environment.get("REINDEX_MODELS")
    return Path(chosen) if chosen else Path.home() / ".cache" / "reindex" / "models"


def corpora_folder(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("REINDEX_CORPORA", PROJECT / "include" / "corpora"))


def corpus_files(folder: Path) -> dict[str, Path]:
    """Return the corpus files by corpus name, which is the file's."""
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_corpus(name: str, folder: Path) -> Path:
    """Return the corpus's file, whatever it says; raise UnknownCorpus."""
    files = corpus_files(folder)
    if name not in files:
        raise UnknownCorpus(name, str(folder), sorted(files))
    return files[name]


def load_corpus(name: str, folder: Path) -> Corpus:
    """Read one corpus; raise UnknownCorpus or SettingsError, which says the file, the key and what is allowed."""
    file = find_corpus(name, folder)
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SettingsError(str(file), "the file", "is not UTF-8 text") from error
    return read_corpus(text, where=str(file), name=name)


def read_corpus(text: str, *, where: str, name: str) -> Corpus:
    """Parse a corpus file's text; `where` is what an error calls it."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(where, "the file", f"is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise SettingsError(where, "the file", "holds no mapping of keys to values")
    try:
        corpus = Corpus.model_validate(content)
    except ValidationError as error:
        raise _first_problem(error, where) from error
    if corpus.name != name:
        raise SettingsError(where, "name", f"is {corpus.name!r}, but the file's name says {name!r}: make them equal")
    return corpus


def _first_problem(error: ValidationError, where: str) -> SettingsError:
    problem = error.errors()[0]
    path = [str(step) for step in problem["loc"]]
    if problem["type"] == "extra_forbidden":
        allowed = ", ".join(_keys_beside(path))
        return SettingsError(where, ".".join(path), f"unknown key; allowed here: {allowed}")
    return SettingsError(where, ".".join(path) or "the file", problem["msg"].removeprefix("Value error, "))


def _keys_beside(path: list[str]) -> list[str]:
    section: type[BaseModel] = Corpus
    for step in path[:-1]:
        # A number is a place in a list, whose sections are those of the list's own step.
        if step in section.model_fields:
            section = next(_sections_in(section.model_fields[step].annotation), section)
    return list(section.model_fields)


def _sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the sections that an annotation speaks of: itself, or in a list, or one that may be left out."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _sections_in(inner)


def _needed(environment: Mapping[str, str], variable: str) -> str:
    value = environment.get(variable)
    if not value:
        raise SettingsError("the environment", variable, "is not set; `reindex up` starts a stack that sets it")
    return value
