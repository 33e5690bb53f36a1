"""The `reindex` command. Every command takes `--json`; an error is one line on stderr and exit status 1."""

from __future__ import annotations

import getpass
import os
import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from reindex import stack
from reindex.display import (
    err,
    out,
    print_check,
    print_erasure,
    print_evaluation,
    print_explanation,
    print_hits,
    print_json,
    print_live,
    print_rejects,
    print_report,
    print_retired,
    print_table,
    stage_line,
)
from reindex.erase import Erasure, erase_document
from reindex.errors import FileMissing, ReindexError, SettingsError, UnknownRelease
from reindex.evaluate import evaluate_live
from reindex.explain import explain_passage
from reindex.groups import check_group
from reindex.judgements import read_judgements
from reindex.live_index import find_live
from reindex.naming import (
    CHECK_DAG,
    ROLLBACK_DAG,
    alias_name,
    collection_release,
    dag_id,
    is_release_name,
    rollback_key,
)
from reindex.overview import rejects_of, release_row
from reindex.permissions import reader_groups
from reindex.releases import ReleaseFiles, read_live, read_summaries, release_names, release_report
from reindex.retire import retire_releases
from reindex.runs import CHECK, ROLLBACK, Airflow, Run
from reindex.settings import (
    Corpus,
    airflow_connection,
    corpora_folder,
    corpus_files,
    find_corpus,
    load_corpus,
    milvus_connection,
    s3_connection,
    state_bucket,
)
from reindex.snapshot import check_has_come, read_moment
from reindex.storage import ObjectStore
from reindex.store import readable_columns
from reindex.upload import put_files

if TYPE_CHECKING:
    from reindex.milvus import MilvusStore

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON value instead of text")]
CorpusName = Annotated[str, typer.Argument(metavar="CORPUS")]
_LATER = "comes in a later version"


@app.command()
def up(as_json: AsJson = False) -> None:
    """Start the embedded stack, or what is missing of it, and wait until it is healthy."""
    stack.up(_home(), os.environ, _say_unless(as_json))
    status(as_json)


@app.command()
def down(as_json: AsJson = False) -> None:
    """Stop the embedded stack; what it holds stays."""
    stack.down(_home(), _say_unless(as_json))
    if as_json:
        print_json({"running": False})


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show the programs of the embedded stack; exit status 1 unless all are healthy."""
    programs = stack.status(_home())
    rows = [
        {**asdict(program), "log": str(program.log), "resident_mb": round(program.resident_mb)} for program in programs
    ]
    print_json(rows) if as_json else print_table([{**row, "pid": str(row["pid"] or "")} for row in rows])
    if programs and not as_json:
        airflow = _environment()["REINDEX_AIRFLOW_URL"]
        out.print(
            f"\nReindex: {airflow}/plugin/reindex, in Airflow; users admin and viewer, "
            f"passwords: grep airflow_ {_home() / 'stack.json'}",
            soft_wrap=True,
        )
    if not programs or any(program.state != "healthy" for program in programs):
        raise typer.Exit(1)


@app.command()
def corpora(as_json: AsJson = False) -> None:
    """List the corpora and what is live of each; exit status 1 if a corpus file cannot be read."""
    with _milvus() as store:
        rows = [_corpus_row(name, store) for name in corpus_files(corpora_folder(_environment()))]
    print_json(rows) if as_json else print_table(rows)
    if any(row["problem"] for row in rows):
        raise typer.Exit(1)


@app.command()
def put(corpus: CorpusName, paths: list[Path], as_json: AsJson = False) -> None:
    """Copy files or folders into the corpus's bucket; a folder's files keep their paths below it."""
    source = _corpus(corpus).source
    facts = {"corpus": corpus, **put_files(_objects(), source, paths)}
    print_json(facts) if as_json else out.print(
        f"{facts['copied']} files copied to s3://{source.bucket}/{source.prefix}, "
        f"{facts['unchanged']} were there already"
    )


@app.command()
def run(
    corpus: CorpusName,
    promote: Annotated[
        Literal["auto", "ask", "never"] | None, typer.Option(help="default: as the corpus file says")
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="embed everything anew, changed or not")] = False,
    as_of: Annotated[
        str | None,
        typer.Option(metavar="T", help="index the bucket as it was then: a date or date-time, UTC if no zone"),
    ] = None,
    max_deleted: Annotated[
        int | None, typer.Option(min=0, help="let so many documents leave the index at most")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the corpus's DAG, show where it is and print its report; exit status 0 only if it succeeded."""
    asked = {"--promote ask": promote == "ask" or None}
    for option in (name for name, value in asked.items() if value is not None):
        raise SettingsError("reindex run", option, _LATER)
    settings = _corpus(corpus)
    conf = {
        "promote": promote,
        "rebuild": rebuild,
        "max_deleted": max_deleted,
        "as_of": None if as_of is None else _moment(as_of),
    }
    _check_bucket(settings)
    with closing(Airflow(airflow_connection(_environment()))) as airflow:
        started = airflow.trigger(dag_id(corpus), conf=conf)
        files = _files(corpus, started.name)
        _follow(airflow, started, files, quiet=as_json)
    report = release_report(files)
    print_json(report) if as_json else print_report(report)


@app.command()
def releases(corpus: CorpusName, as_json: AsJson = False) -> None:
    """List the corpus's releases, newest first: state, rows, recall, seconds."""
    _corpus(corpus)
    objects, bucket = _objects(), state_bucket(_environment())
    with _milvus() as store:
        collections = set(store.collections())
        live = store.resolve_alias(alias_name(corpus))
    rows = [
        release_row(report, collections, live)
        for report in read_summaries(
            objects, bucket, corpus, sorted(release_names(objects, bucket, corpus), reverse=True)
        )
    ]
    if as_json:
        print_json(rows)
        return
    print_table([{name: value for name, value in row.items() if name != "failed"} for row in rows])
    for row in rows:
        if row["failed"]:
            out.print(f"{row['release']} failed in {row['failed']}", markup=False, soft_wrap=True)


@app.command()
def rejects(
    corpus: CorpusName,
    release: Annotated[str | None, typer.Option(metavar="RELEASE", help="default: the newest that has read")] = None,
    as_json: AsJson = False,
) -> None:
    """List what could not be indexed, and why: of the newest release that has read its documents, or of a named one."""
    _corpus(corpus)
    name, rows = rejects_of(_objects(), state_bucket(_environment()), corpus, release)
    print_json({"release": name, "rejects": rows}) if as_json else print_rejects(name, rows)


@app.command()
def rollback(
    corpus: CorpusName,
    to: Annotated[str | None, typer.Option(metavar="RELEASE", help="default: the one before the live one")] = None,
    as_json: AsJson = False,
) -> None:
    """Make an earlier release live again, whatever the corpus file says now, and print what is live."""
    find_corpus(corpus, corpora_folder(_environment()))
    if to and not is_release_name(to):
        # Airflow would answer with a pattern.
        raise UnknownRelease(corpus, to)
    with closing(Airflow(airflow_connection(_environment()))) as airflow:
        started = airflow.trigger(ROLLBACK_DAG, conf={"corpus": corpus, "release": to}, kind=ROLLBACK)
        _follow(airflow, started, None, quiet=True)
    bucket, key = state_bucket(_environment()), rollback_key(corpus, started.name)
    facts = _objects().read_json(bucket, key)
    if facts is None:
        raise FileMissing(bucket, key)
    print_json(facts) if as_json else print_live(facts)


@app.command()
def verify(
    corpus: CorpusName,
    noise: Annotated[
        bool, typer.Option("--noise", help="build the live index once more, and measure how much the two differ")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure what is live once more; exit status 0 only if it still passes every gate that it was asked for."""
    find_corpus(corpus, corpora_folder(_environment()))
    with closing(Airflow(airflow_connection(_environment()))) as airflow:
        started = airflow.trigger(CHECK_DAG, conf={"corpus": corpus, "noise": noise}, kind=CHECK)
        _follow(airflow, started, None, quiet=True)
    facts = _files(corpus, started.name).needed_report("check")
    print_json(facts) if as_json else print_check(facts)


@app.command()
def retire(
    corpus: CorpusName,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would go, and why")] = False,
    as_json: AsJson = False,
) -> None:
    """Unload and drop what the corpus's retention does not keep, as every run does at its end; never what is live."""
    retention = _corpus(corpus).retention
    with _milvus() as store:
        # No release is this command's own.
        report = retire_releases(store, _files(corpus, ""), retention, dry_run=dry_run)
    print_json({**report, "dry_run": dry_run}) if as_json else print_retired(report, dry_run=dry_run)


@app.command()
def search(
    corpus: CorpusName,
    text: str,
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="hits at most")] = 10,
    expression: Annotated[str, typer.Option("--filter", help="a Milvus filter, as: document like 'a/%'")] = "",
    groups: Annotated[
        list[str] | None, typer.Option("--as", metavar="GROUP", help="search as its members do; may be repeated")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Search the corpus through its alias, as its readers do."""
    settings = _corpus(corpus)
    asked = [_group(name) for name in groups or ()]
    with _milvus() as store:
        live = find_live(store, _files(corpus, ""))
    readers = reader_groups(settings.permissions, live.corpus.permissions, asked, live.release)
    vector, params = live.embed_queries([text])[0].tolist(), live.search_params(k)
    # The collection that was asked about, even if the alias has moved on since: it is known what readers may find.
    collection = live.collection
    with _milvus() as store:
        columns = readable_columns(store, collection)
        found = store.search(
            collection, [vector], k=k, params=params, columns=columns, expression=expression, groups=readers
        )[0]
    hits = [{"score": hit.score, **{name: hit.fields[name] for name in columns}} for hit in found]
    if readers is not None and not readers:
        err.print("permissions apply: only what everyone may find is searched; --as GROUP searches what a group may")
    print_json(hits) if as_json else print_hits(hits)


@app.command()
def explain(corpus: CorpusName, passage: Annotated[str, typer.Argument(metavar="ID")], as_json: AsJson = False) -> None:
    """Show where a hit comes from, by its id: document, version, place in it, part, release, who promoted it."""
    _corpus(corpus)
    with _milvus() as store:
        # Which release it is, the alias says.
        found = explain_passage(store, _files(corpus, ""), passage)
    print_json(found) if as_json else print_explanation(found)


@app.command()
def erase(
    corpus: CorpusName,
    key: Annotated[str, typer.Argument(metavar="KEY", help="as it is in the bucket, with the corpus's prefix")],
    reason: Annotated[str, typer.Option(help="kept with the tombstone")],
    as_json: AsJson = False,
) -> None:
    """Erase a document for good, from every release; exit status 0 only if a scan finds none of it and no run goes on.

    The object in the source bucket is not deleted: say so to whoever owns it.
    """
    source, bucket = _corpus(corpus).source, state_bucket(_environment())
    with _milvus() as store:
        erasure = Erasure(objects=_objects(), vectors=store, bucket=bucket, corpus=corpus, key=key)
        report = erase_document(erasure, source, reason=reason, by=_user())
    print_json(report) if as_json else print_erasure(report)
    if report["left"] or report["going_on"]:
        raise typer.Exit(1)


@app.command(name="eval")
def evaluate(
    corpus: CorpusName,
    queries: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help='golden queries: {"_id": …, "text": …} on each line')
    ],
    qrels: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="judgements: query id, document id, grade on each line")
    ],
    as_json: AsJson = False,
) -> None:
    """Measure how relevant the live index's answers to golden queries are; permissions hide nothing from it."""
    _corpus(corpus)
    judgements = read_judgements(
        queries.read_bytes(), qrels.read_bytes(), queries_file=str(queries), qrels_file=str(qrels)
    )
    with _milvus() as store:
        live = find_live(store, _files(corpus, ""))
        report = evaluate_live(store, live, judgements, embed=live.embed_queries, qrels_file=str(qrels))
    print_json(report) if as_json else print_evaluation(report)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except ReindexError as error:
        err.print(f"reindex: {error}", markup=False)
        sys.exit(1)


def _home() -> Path:
    return Path(os.environ.get("REINDEX_HOME", ".reindex")).absolute()


def _user() -> str:
    """Return who gives the command; a container may run as a number that has no name."""
    try:
        return getpass.getuser()
    except KeyError:
        return f"user {os.getuid()}"


def _environment() -> dict[str, str]:
    """Return the variables that name the servers: those that are set, then those of the embedded stack."""
    return {**stack.stack_environment(_home()), **os.environ}


def _corpus(name: str) -> Corpus:
    return load_corpus(name, corpora_folder(_environment()))


def _objects() -> ObjectStore:
    return ObjectStore(s3_connection(_environment()))


def _milvus() -> MilvusStore:
    """Open a connection to Milvus; use it as a context manager."""
    # Here, because its client takes a third of the time that a command takes to start, and many do without.
    from reindex.milvus import MilvusStore

    return MilvusStore(milvus_connection(_environment()))


def _group(name: str) -> str:
    try:
        return check_group(name)
    except ValueError as error:
        raise SettingsError("reindex search", "--as", str(error)) from error


def _files(corpus: str, release: str) -> ReleaseFiles:
    return ReleaseFiles(_objects(), state_bucket(_environment()), corpus, release)


def _moment(text: str) -> str:
    """Return a moment as a run is told it; raise InvalidMoment or FutureMoment before there is a run."""
    moment = read_moment(text)
    check_has_come(moment)
    return moment.isoformat()


def _check_bucket(corpus: Corpus) -> None:
    """Ask for the first object: a missing bucket or a wrong password is said before a run is begun."""
    next(_objects().list_objects(corpus.source.bucket, corpus.source.prefix), None)


def _follow(airflow: Airflow, run: Run, files: ReleaseFiles | None, *, quiet: bool) -> None:
    """Wait for a run and show where it is, with what a release's files say of it; raise why it failed."""
    over: set[str] = set()
    with err.status(f"{run.name}: waiting for Airflow") as line:
        for state in airflow.follow(run, is_shown=err.is_terminal or not quiet):
            for stage in (name for name, of in state.stages.items() if of == "success" and name not in over):
                over.add(stage)
                if files and not quiet:
                    out.print(stage_line(stage, files.report(stage) or {}))
            line.update(f"{run.name}: {state.current}{_progress(files, state.current) if files else ''}")
    if state.state != "success":
        raise airflow.failure(run)


def _progress(files: ReleaseFiles, stage: str) -> str:
    return "".join(f", {count:,} {name}" for name, count in files.progress(stage).items())


def _corpus_row(name: str, store: MilvusStore) -> dict[str, Any]:
    row = {"corpus": name, "alias": alias_name(name), "schedule": "", "live": "", "since": "", "problem": ""}
    try:
        row["schedule"] = _corpus(name).schedule or "when asked"
    except ReindexError as error:
        return {**row, "problem": str(error)}
    collection = store.resolve_alias(alias_name(name))
    live, _ = read_live(_objects(), state_bucket(_environment()), name)
    since = live.since if live and live.collection == collection else ""
    return {**row, "live": collection_release(name, collection or "") or collection or "", "since": since}


def _say_unless(as_json: bool) -> Any:
    return (lambda _: None) if as_json else out.print
