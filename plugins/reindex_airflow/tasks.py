"""The stages that run inside an Airflow task: each opens its connections, calls one stage and passes the release on."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import get_current_context, task
from airflow.sdk.definitions.retry_policy import ExceptionRetryPolicy, RetryAction, RetryRule
from airflow.sdk.exceptions import AirflowSkipException

from reindex.check import begin_check
from reindex.embedders import find_model
from reindex.errors import NotLive, OlderThanLive, SettingsError
from reindex.golden import freeze_questions
from reindex.naming import alias_name, check_name, is_corpus_name, release_name
from reindex.plan import UNCHANGED, Asked, QuerySide
from reindex.plan import plan_release as plan
from reindex.promote import promote_release as promote
from reindex.promote import wants_approval, wants_promotion
from reindex.releases import read_live, release_report, run_stage
from reindex.retire import leaving_rows
from reindex.retire import retire_releases as retire
from reindex.rollback import begin_rollback, finish_rollback
from reindex.rollback import roll_back as go_back
from reindex.settings import Corpus, corpus_files, load_corpus
from reindex.snapshot import choose_moment, take_snapshot
from reindex_airflow import hooks
from reindex_airflow.assets import ROLLED_BACK, live_index
from reindex_airflow.links import name_release
from reindex_airflow.operators import VERDICT_KEY, tell_metrics

if TYPE_CHECKING:
    from airflow.sdk import Context

# One policy for every task: what a person must mend fails at once, everything else is tried again.
DEFAULTS: dict[str, Any] = {
    "owner": "reindex",
    "retries": 2,
    "retry_delay": timedelta(seconds=15),
    "retry_exponential_backoff": 2.0,
    "retry_policy": ExceptionRetryPolicy(rules=[RetryRule("reindex.errors.TerminalError", RetryAction.FAIL)]),
}
PROMOTION_POOL = "promotion"
APPROVE_TASK = "approve"
_LOG = logging.getLogger(__name__)


def refuse_unknown(context: Context) -> None:
    """Raise SettingsError for a parameter that the form does not have: Airflow takes any, a misspelt one among them."""
    known = context["dag"].params
    for name in context["dag_run"].conf or {}:
        # Airflow has some of its own there.
        if name not in known and not name.startswith("airflow/"):
            raise SettingsError("the run's parameters", name, f"unknown; allowed here: {', '.join(known)}")


@task(task_id="snapshot")
def snapshot_corpus(corpus: str) -> str:
    """List the corpus's bucket as of the run's moment and freeze the listing, with the settings, as a new release.

    The moment is the parameter `as_of`, else the logical date, else when the run was due. **Fails** when the bucket is
    missing, refuses the credentials, holds nothing the corpus includes, or is asked for a past that it has not kept;
    and when the run was given a parameter that there is not.
    """
    context = get_current_context()
    settings = load_corpus(corpus, hooks.corpora())
    refuse_unknown(context)
    run = context["dag_run"]
    moment = choose_moment(
        asked=context["params"].get("as_of"),
        run_type=run.run_type.value,
        logical_date=run.logical_date,
        run_after=run.run_after,
    )
    release = release_name(moment.as_of, run.run_id)
    files = hooks.services().files(corpus, release)

    def work() -> dict[str, Any]:
        freeze_questions(files, settings, hooks.corpora())
        return take_snapshot(files, settings, as_of=moment.as_of, is_past=moment.is_past)

    run_stage(files, "snapshot", work)
    return name_release(context, corpus, release)


@task.short_circuit(task_id="plan", ignore_downstream_trigger_rules=False)
def plan_release(release: str, corpus: str) -> str:
    """Decide what to do with each document, before anything is spent.

    **Ends the run** as unchanged when a release would be the same as the live one: what follows is skipped, but for
    `retire`. **Warns**, and goes on without them, when more documents have gone than the corpus allows. **Fails** when
    readers of the live index would break: another dimension, another metric, a name already taken.
    """
    services = hooks.services()
    files = services.files(corpus, release)
    settings = files.corpus()
    params = get_current_context()["params"]
    asked = Asked(rebuild=params["rebuild"], max_deleted=params["max_deleted"])

    def work() -> dict[str, Any]:
        with services.milvus_store() as store:
            store.capabilities()
            alias = alias_name(corpus)
            live = store.describe(alias) if store.resolve_alias(alias) else None
            leaving = leaving_rows(store, files, settings.retention)
            query_side = QuerySide(live=live, memory=store.memory(), leaving_rows=leaving)
        return plan(files, settings, find_model(settings.embedding.model), query_side, asked)

    report = run_stage(files, "plan", work)
    if report["warning"]:
        _LOG.warning("%s", report["warning"])
    if report["outcome"] == UNCHANGED:
        _LOG.info("unchanged: the live release %s stands", report["live"])
        return ""
    return release


@task.short_circuit(task_id="ask", ignore_downstream_trigger_rules=False)
def ask_for_approval(release: str, corpus: str) -> bool:
    """Decide whether a person is to approve this release: not where the run would not promote it anyway."""
    context = get_current_context()
    settings = hooks.services().files(corpus, release).corpus()
    run_type = context["dag_run"].run_type.value
    is_promoted = wants_promotion(context["params"]["promote"], settings.promote, is_backfill=run_type == "backfill")
    return is_promoted and wants_approval(settings.approval.runs, is_manual=run_type == "manual")


def approval(corpus: Corpus) -> ApprovalOperator:
    """Return the task that waits for a person, who finds in it what was measured."""
    return ApprovalOperator(
        task_id=APPROVE_TASK,
        subject=f"Promote {{{{ ti.xcom_pull(task_ids='verify') }}}} of {corpus.name}?",
        body="{{ ti.xcom_pull(task_ids='verify', key='" + VERDICT_KEY + "') }}",
        defaults=ApprovalOperator.REJECT,
        response_timeout=timedelta(hours=corpus.approval.hours),
        doc_md=(
            "Wait for a person, under *Required Actions*; no worker waits meanwhile.\n\n"
            "**Rejects** by itself when nobody has answered in time: the release then stays green."
        ),
    )


@task(task_id="promote", pool=PROMOTION_POOL)
def promote_release(release: str, corpus: str) -> str:
    """Move the alias to the verified release in one step, and prove it on fresh connections.

    **Skipped** when the run was asked never to promote, and in a backfill that was not asked to, or whose release is
    older than what is live. **Fails** when the collection is not the one that was measured; the alias then stays where
    it was.
    """
    context = get_current_context()
    services = hooks.services()
    files = services.files(corpus, release)
    run = context["dag_run"]
    is_backfill = run.run_type.value == "backfill"
    if not wants_promotion(context["params"]["promote"], files.corpus().promote, is_backfill=is_backfill):
        raise AirflowSkipException(f"{release} is verified and stays green: this run was not asked to promote it")
    by = f"{run.run_type.value} run {run.run_id}{_approved_by(context['ti'])}"
    try:
        report = run_stage(files, "promote", lambda: promote(services.milvus_store, files, by=by))
    except OlderThanLive as error:
        if not is_backfill:
            raise
        # What a backfill makes is meant to be older.
        files.forget_failure()
        raise AirflowSkipException(str(error)) from error
    live, _ = read_live(files.store, files.bucket, corpus)
    if live is None or live.release != release:
        raise AirflowSkipException(f"{release} was promoted before, and another release is live now")
    facts = release_report(files)
    context["outlet_events"][live_index(corpus)].extra = {
        "release": release,
        "collection": report["collection"],
        **{name: facts[name] for name in ("as_of", "indexed", "rejected", "rows", "recall", "search_params")},
    }
    return release


@task(task_id="retire", pool=PROMOTION_POOL, trigger_rule="none_failed")
def retire_releases(release: str, corpus: str) -> None:
    """Give back the memory of releases kept only to go back to, and drop those beyond the corpus's retention.

    Never touches a collection that an alias names.
    """
    services = hooks.services()
    files = services.files(corpus, release)

    def work() -> dict[str, Any]:
        with services.milvus_store() as store:
            return retire(store, files, files.corpus().retention)

    run_stage(files, "retire", work)
    tell_metrics(files)


@task(task_id="choose")
def choose_release() -> str:
    """Choose the release to go back to: the one that was named, or the one before the live one.

    **Fails** when there is none, or when the one that was named is live, was dropped or was never verified.
    """
    context = get_current_context()
    refuse_unknown(context)
    run, params = context["dag_run"], context["params"]
    services = hooks.services()
    rollback = release_name(run.logical_date or run.run_after, run.run_id)
    files = services.files(params["corpus"], rollback)
    with services.milvus_store() as store:
        chosen = begin_rollback(store, files, rollback, asked=params["release"], by=_who(run))
    return name_release(context, params["corpus"], chosen)


@task(task_id="roll_back", pool=PROMOTION_POOL, outlets=[ROLLED_BACK])
def roll_back(release: str) -> None:
    """Check the release, measure its recall again, move the alias to it in one step, and prove it.

    **Fails** when the collection is not the one that was measured, or finds fewer true neighbours than its floor
    allows; the alias then stays where it was.
    """
    context = get_current_context()
    run, corpus = context["dag_run"], context["params"]["corpus"]
    services = hooks.services()
    files = services.files(corpus, release)
    report = go_back(services.milvus_store, files, by=_who(run))
    finish_rollback(files, release_name(run.logical_date or run.run_after, run.run_id), report)
    extra = {"release": release, "collection": report["collection"]}
    context["outlet_events"][ROLLED_BACK].add(live_index(corpus), extra=extra)


@task(task_id="choose")
def choose_checks() -> list[dict[str, str]]:
    """Begin a check of what is live of each corpus, or of the one that was asked for.

    **Skipped** when nothing is live yet. **Fails** when nothing is live of the corpus that was asked for.
    """
    context = get_current_context()
    refuse_unknown(context)
    run, asked, with_noise = context["dag_run"], context["params"]["corpus"], context["params"]["noise"]
    services = hooks.services()
    check = check_name(run.logical_date or run.run_after, run.run_id)
    corpora = [asked] if asked else filter(is_corpus_name, corpus_files(hooks.corpora()))
    with services.milvus_store() as store:
        begun = [
            {"corpus": corpus, "release": check, "live": live}
            for corpus in corpora
            if (live := begin_check(store, services.files(corpus, check), with_noise=with_noise))
        ]
    if asked and not begun:
        raise NotLive(alias_name(asked))
    if not begun:
        raise AirflowSkipException("nothing is live yet")
    return begun


def _approved_by(ti: Any) -> str:
    """Return who approved the release, where somebody was asked."""
    answer = ti.xcom_pull(task_ids=APPROVE_TASK)
    return f", approved by {answer['responded_by_user']['name']}" if answer else ""


def _who(run: Any) -> str:
    return f"{run.triggering_user_name or 'somebody'}, rollback {run.run_id}"
