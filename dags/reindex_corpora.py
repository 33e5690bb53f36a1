"""Keep a Milvus collection true to a bucket of documents.

One DAG for each corpus file. A run lists the bucket, embeds on Ray, imports into a new collection, waits until it is
ready, measures it, and only then moves the alias that readers query. What a stage leaves behind lies in the state
bucket, under `reindex/<corpus>/releases/<release>/`.
"""

from __future__ import annotations

from airflow.sdk import DAG, CronTriggerTimetable, Param, dag

from reindex.errors import TerminalError
from reindex.naming import dag_id
from reindex.settings import Corpus, corpus_files, load_corpus
from reindex.snapshot import MOMENT_PATTERN
from reindex_airflow import hooks, tasks
from reindex_airflow.assets import live_index
from reindex_airflow.deadline import deadlines
from reindex_airflow.links import link_to_release
from reindex_airflow.operators import (
    BuildIndexOperator,
    BulkLoadOperator,
    EmbedOperator,
    RayJobOperator,
    VerifyOperator,
)

# Airflow shows what has no section, and folds a section away until somebody opens it.
_SELDOM = "Seldom needed"


def run_form(corpus: Corpus) -> dict[str, Param]:
    """Return what a person can ask of one run; every default fits a run that nobody asked anything of."""
    return {
        "promote": Param(
            None,
            type=["null", "string"],
            enum=[None, "auto", "never"],
            values_display={
                None: f"as the corpus file says ({corpus.promote}); a backfill: never",
                "auto": "auto: move the alias when every gate is passed",
                "never": "never: leave the release green",
            },
            title="Promote",
            description="whether the alias moves to the release; a backfill that asks for auto never moves it back",
        ),
        "as_of": Param(
            None,
            type=["null", "string"],
            format="date-time",
            # Airflow takes any text for a date-time unless a package is installed that it does not bring.
            pattern=MOMENT_PATTERN,
            title="As of",
            description="index the bucket as it was at this moment, as in 2026-03-01T02:00:00Z; "
            "empty, as in every backfill: at the run's own",
        ),
        "rebuild": Param(
            default=False,
            type="boolean",
            title="Rebuild",
            description="embed every document anew, and build a release even if nothing has changed",
            section=_SELDOM,
        ),
        "max_deleted": Param(
            None,
            type=["null", "integer"],
            minimum=0,
            title="Deletions allowed",
            description="let at most so many documents leave the index, whatever gate.max_deleted_share says "
            f"({corpus.gate.max_deleted_share:.0%})",
            section=_SELDOM,
        ),
    }


def reindex_dag(corpus: Corpus) -> DAG:
    @dag(
        dag_id=dag_id(corpus.name),
        description=f"s3://{corpus.source.bucket}/{corpus.source.prefix} to the alias that readers query",
        doc_md=__doc__,
        schedule=CronTriggerTimetable(corpus.schedule, timezone="UTC") if corpus.schedule else None,
        catchup=False,
        max_active_runs=1,
        default_args=tasks.DEFAULTS,
        params=run_form(corpus),
        deadline=deadlines(corpus),
        tags=["reindex", corpus.name],
    )
    def stages() -> None:
        release = tasks.snapshot_corpus(corpus.name)
        planned = tasks.plan_release(release, corpus.name)
        embedded = EmbedOperator(corpus=corpus.name, release=planned)
        assembled = RayJobOperator(stage="assemble", corpus=corpus.name, release=embedded.output)
        loaded = BulkLoadOperator(corpus=corpus.name, release=assembled.output)
        indexed = BuildIndexOperator(corpus=corpus.name, release=loaded.output)
        verified = VerifyOperator(corpus=corpus.name, release=indexed.output)
        asks = corpus.approval.runs != "never"
        # One that nobody has to approve is promoted though nobody was asked.
        rule = "none_failed_min_one_success" if asks else "all_success"
        promote = tasks.promote_release.override(outlets=[live_index(corpus.name)], trigger_rule=rule)
        promoted = promote(verified.output, corpus.name)
        if asks:
            asked = tasks.ask_for_approval(verified.output, corpus.name)
            asked >> tasks.approval(corpus) >> promoted
        promoted >> tasks.retire_releases(release, corpus.name)

    return link_to_release(stages())


def broken_dag(name: str) -> DAG:
    """Stand in for a corpus whose file cannot be read: its run fails with the reason, and the other corpora go on."""

    @dag(
        dag_id=dag_id(name),
        description="the corpus file cannot be read: see the log of the task",
        schedule="@daily",
        catchup=False,
        default_args=tasks.DEFAULTS,
        tags=["reindex", "broken"],
    )
    def stages() -> None:
        tasks.snapshot_corpus(name)

    return stages()


for name in corpus_files(hooks.corpora()):
    try:
        reindex_dag(load_corpus(name, hooks.corpora()))
    except TerminalError:
        broken_dag(name)
