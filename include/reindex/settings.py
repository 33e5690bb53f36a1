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
    """A mapping of the corpus file. The text below a field is its description in docs/corpus.md."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _cron(schedule: str | None) -> str | None:
    if schedule is not None and not croniter.is_valid(schedule):
        raise ValueError("is no cron expression, as in '0 2 * * *'; null: only when asked")
    return schedule


class Source(_Section):
    """Where the documents lie."""

    bucket: str
    """The bucket; best one that keeps versions, since its past can be listed exactly."""
    prefix: str = ""
    """What the keys of the documents begin with."""
    include: tuple[str, ...] = ("**/*",)
    """Patterns as in .gitignore, matched against the key after the prefix: `**/*.md`."""
    exclude: tuple[str, ...] = ()
    """The same, for what is left out of what `include` matches."""
    metadata: tuple[str, ...] = ()
    """Names of user metadata that a snapshot keeps; a request for each object."""
    approximate_as_of: bool = False
    """Whether a bucket without versions may be listed as of the past: as what has not changed since."""
    duplicates: Literal["each", "first"] = "each"
    """`first`: of documents with the same content and readers, only the first by key is indexed."""

    def name_of(self, key: str) -> str:
        """Return an object's key after the prefix, which patterns and rules of permissions are matched against."""
        return key.removeprefix(self.prefix).lstrip("/")


class Parsing(_Section):
    """What is read beside plain documents; a change embeds everything once more."""

    ocr: bool = False
    """The text in pictures, and on pages of a PDF that have none."""
    archives: bool = False
    """The files in zip and tar archives, each a document."""
    records: bool = False
    """The records of JSON and JSON Lines, each a document."""


class Limits(_Section):
    """The most that one document may take: what takes more is rejected by name, and tried again when these change."""

    megabytes: int = Field(200, ge=1)
    """The object's size; a larger one is not fetched."""
    pages: int = Field(5_000, ge=1)
    """Pages of a PDF."""
    seconds: int = Field(120, ge=1)
    """To parse and cut it, once it is fetched."""
    memory_megabytes: int = Field(2_048, ge=256)
    """What the process that reads it may allocate."""
    characters: int = Field(20_000_000, ge=1)
    """Of text, in all documents of an object together."""
    nesting: int = Field(3, ge=0)
    """How deep documents may lie in each other, as a message in a message."""
    expansion: int = Field(200, ge=1)
    """How many times larger than its file a compressed document may be."""

    def fingerprint(self) -> str:
        """Return what changes with any of them: what they have rejected is tried again then."""
        return limits_fingerprint(self.model_dump())


def _rule_prefix(prefix: str) -> str:
    if prefix.startswith("/"):
        raise ValueError("is matched against the key after source.prefix, which never begins with a slash")
    return prefix


class PermissionRule(_Section):
    """Who may find the documents under a prefix."""

    prefix: Annotated[str, AfterValidator(_rule_prefix)]
    """Matched against the key after `source.prefix`, letter by letter: `hr/` is a folder, `hr` would be `hr-public/`
    too, and the empty one is everything."""
    groups: tuple[Annotated[str, AfterValidator(check_group)], ...] = Field(max_length=MAX_GROUPS)
    """The groups that may; with none of them named, everyone."""


class Permissions(_Section):
    """Who may find which document. What neither key decides is found by nobody; at least one of them is needed."""

    rules: tuple[PermissionRule, ...] = ()
    """The first rule that matches decides, for objects without that metadata."""
    metadata: str | None = Field(None, min_length=1)
    """The user metadata that lists groups, with commas between them, or says `*` for everyone; it comes before the
    rules. A request for each object."""

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
    """How a document is cut; a change embeds everything once more."""

    max_tokens: int = Field(MAX_CHUNK_TOKENS, ge=16, le=8192)
    """Tokens of the embedding model in a chunk, at most; no more than the model reads beside its prompt."""
    overlap_tokens: int = Field(32, ge=0)
    """How far before its cut a chunk begins, at most; less than `max_tokens`."""
    heading_prefix: bool = False
    """Whether each chunk is embedded with the headings above it; the stored text stays the document's own."""


class Embedding(_Section):
    """What makes vectors of texts; a change, except of `query_prompt`, embeds everything once more."""

    model: str = "all-MiniLM-L6-v2"
    """A model of sentence-transformers: the one that comes packaged, a folder that every machine has, or a name on the
    Hugging Face hub."""
    precision: Literal["auto", "float32", "bfloat16", "int8"] = "auto"
    """`auto`: bfloat16 where the processor that plans multiplies it faster than float32, which is used elsewhere.
    `int8`: faster still, only by `gate.golden`, which must pass it beside what is live."""
    query_prompt: str = ""
    """What is put before a question when it is embedded."""
    passage_prompt: str = ""
    """What is put before a chunk when it is embedded."""


def _known_index_type(name: str) -> str:
    if name not in INDEX_TYPES:
        raise ValueError(f"is not an index type; known: {', '.join(sorted(INDEX_TYPES))}")
    return name


class Index(_Section):
    """The index that a release gets."""

    type: Annotated[str, AfterValidator(_known_index_type)] = "HNSW"
    """One of the [index types](#index-types)."""
    metric: Literal["IP", "COSINE", "L2"] = "IP"
    """How vectors are compared; another one than the live index has is refused."""
    params: dict[str, int] = Field(default_factory=lambda: {"M": 32, "efConstruction": 200})
    """Exactly the build parameters of the type."""
    search: dict[str, int] = Field(default_factory=dict)
    """Exactly the search parameters of the type, to pin them; left out: tuned each night, the quickest setting that
    meets the gate."""


class Queries(_Section):
    """What recall is measured with: the golden queries first, then those of `log`, then sampled ones."""

    count: int = Field(1_000, ge=200, le=100_000)
    """How many queries in all."""
    log: str | None = Field(None, min_length=1)
    """Queries that readers have asked, JSON lines with a `text` each: a file beside this one, or `s3://bucket/key`."""


class GateSlice(_Section):
    """A part of the index that readers search by a filter, to be found as well as everything: exactly one of these."""

    language: str | None = Field(None, min_length=1)
    """Chunks in this language, a code of ISO 639-3: `eng`."""
    group: Annotated[str, AfterValidator(check_group)] | None = None
    """What the members of this group may find."""
    prefix: str | None = Field(None, min_length=1)
    """Documents whose key after `source.prefix` begins so."""

    @model_validator(mode="after")
    def _is_one_thing(self) -> GateSlice:
        if len([value for value in (self.language, self.group, self.prefix) if value is not None]) != 1:
            raise ValueError("a slice is exactly one of: language, group, prefix")
        return self


class Golden(_Section):
    """Questions with [judged answers](operating.md#is-it-still-relevant): files beside this one, or `s3://bucket/key`."""

    queries: str = Field(min_length=1)
    """The questions."""
    qrels: str = Field(min_length=1)
    """The judgements."""
    max_loss: float = Field(0.01, ge=0, le=1)
    """How much less nDCG@10 than the live release's is let pass."""


class Gate(_Section):
    """What a release must show before readers get it; shares are of 1."""

    k: int = Field(10, ge=1, le=1000)
    """How many answers to a query are looked at."""
    min_recall: float = Field(0.95, ge=0, le=1)
    """The floor for the lower bound of recall@k, in every slice."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """How sure that bound is."""
    max_rejected_share: float = Field(0.02, ge=0, le=1)
    """Of the listed documents that are rejected, the most."""
    max_deleted_share: float = Field(0.10, ge=0, le=1)
    """Of the live documents that are no longer listed, the most; above it, and above ten, none leaves the index."""
    queries: Queries = Queries()
    """What recall is measured with."""
    slices: tuple[GateSlice, ...] = Field((), max_length=20)
    """What readers search by a filter; each must be found as well as everything."""
    golden: Golden | None = None
    """Judged questions; null: relevance is not verified."""
    max_p99_ms: float | None = Field(None, gt=0)
    """A ceiling for the 99th percentile of a search's milliseconds, one after the other; null: it is only reported."""
    memory_megabytes: int = Field(512, ge=64)
    """What exact search may hold on one worker."""


class Live(_Section):
    """What readers may feel of a release that is being built."""

    p99_ms: float | None = Field(None, gt=0)
    """Work pauses while the 99th percentile of searches' milliseconds is over this; null: over 1.5 times what it was
    at rest."""


class Retention(_Section):
    """What is kept, and for how long."""

    releases: int = Field(3, ge=1)
    """Releases that were live last, the live one among them, to go back to."""
    grace_minutes: int = Field(30, ge=0)
    """How long the one that was replaced stays in memory."""
    embeddings_days: int = Field(30, ge=0)
    """How long embeddings stay that no kept release needs."""


class Approval(_Section):
    """Whether a person approves a release, in Airflow under *Required Actions*, before it is promoted."""

    runs: Literal["never", "manual", "all"] = "never"
    """Which runs ask."""
    hours: float = Field(12, gt=0)
    """How long they wait; without an answer the release stays green."""


class Corpus(_Section):
    """One set of documents and everything configured for it."""

    name: Annotated[str, AfterValidator(check_corpus_name)]
    """The file's name without `.yaml`: up to 64 lower-case letters, digits and single hyphens, a letter first. The
    alias has the same name, with underscores for hyphens."""
    source: Source
    """Where the documents lie."""
    schedule: Annotated[str | None, AfterValidator(_cron)] = None
    """Cron, UTC, as in `0 2 * * *`; null: only when asked."""
    deadline_hours: float | None = Field(None, gt=0, le=168)
    """A run that has not succeeded so many hours after it was queued is told as late; null: none is."""
    parsing: Parsing = Parsing()
    """What is read beside plain documents."""
    limits: Limits = Limits()
    """The most that one document may take."""
    permissions: Permissions | None = None
    """Who may find which document; left out: everyone may find everything."""
    chunks: Chunks = Chunks()
    """How a document is cut."""
    embedding: Embedding = Embedding()
    """What makes vectors of texts."""
    index: Index = Index()
    """The index that a release gets."""
    gate: Gate = Gate()
    """What a release must show before readers get it."""
    live: Live = Live()
    """What readers may feel of a release that is being built."""
    retention: Retention = Retention()
    """What is kept, and for how long."""
    promote: Literal["auto", "never"] = "auto"
    """`never`: releases stay green: verified, and named by no alias."""
    approval: Approval = Approval()
    """Whether a person approves a release before it is promoted."""

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
            section = next(sections_in(section.model_fields[step].annotation), section)
    return list(section.model_fields)


def sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the sections that an annotation speaks of: itself, or in a list, or one that may be left out."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from sections_in(inner)


def _needed(environment: Mapping[str, str], variable: str) -> str:
    value = environment.get(variable)
    if not value:
        raise SettingsError("the environment", variable, "is not set; `reindex up` starts a stack that sets it")
    return value
