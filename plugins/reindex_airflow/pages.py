"""The pages that Reindex adds to Airflow, behind Airflow's own log-in, for those who may read the corpus's DAG."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep, get_user, requires_access_dag
from airflow.models.dag import DagModel
from airflow.models.hitl import HITLDetail
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from fastapi import Depends, FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from sqlalchemy import select

from reindex.errors import ReindexError
from reindex.live_search import live_search_facts
from reindex.naming import ROLLBACK_DAG, alias_name, dag_id, is_corpus_name, is_release_name
from reindex.overview import release_row
from reindex.records import REJECT_SCHEMA
from reindex.releases import RECALL_FILE, REJECTS_FILE, REPORT_FILE, STAGES, release_report
from reindex.settings import corpus_files
from reindex.site import render_corpora, render_corpus, render_rejects, render_release
from reindex.standing import Rights, Waiting, read_standing_of, releases_page
from reindex_airflow import hooks
from reindex_airflow.tasks import APPROVE_TASK

# Where a run is that waits for a person.
_PARKED = (TaskInstanceState.AWAITING_INPUT, TaskInstanceState.DEFERRED)
_SCRIPT = Path(__file__).with_name("acts.js")

# Names of documents and queries are on the pages, and could hold anything: nothing of them is ever run or fetched.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:",
    "X-Content-Type-Options": "nosniff",
}
# The one page with a script: it asks Airflow's own API, and nobody else.
_ACTING = {
    **_HEADERS,
    "Content-Security-Policy": f"{_HEADERS['Content-Security-Policy']}; script-src 'self'; connect-src 'self'",
}

# Airflow asks nobody who they are on a plugin's pages: each route would be open to all without this. The pages that
# FastAPI makes by itself would stay so, and are left out.
app = FastAPI(title="Reindex", dependencies=[Depends(get_user)], docs_url=None, redoc_url=None, openapi_url=None)


def readable_corpus(corpus: str, request: Request, user: GetUserDep) -> str:
    """Return the corpus of the address, if Airflow lets the user read its DAG."""
    requires_access_dag("GET", param_dag_id=dag_id(corpus))(request, user)
    return corpus


@app.get("/releases/{corpus}/{release}/report")
def show_report(corpus: Annotated[str, Depends(readable_corpus)], release: str) -> Response:
    """Answer with the page that `verify` left of a release."""
    page = None
    if is_corpus_name(corpus) and is_release_name(release):
        page = hooks.services().files(corpus, release).read_text(REPORT_FILE)
    if page is None:
        return _line(
            404, f"no report of release {release!r} of {corpus!r}: there is no such release, or it is not verified yet"
        )
    return HTMLResponse(page, headers=_HEADERS)


@app.get("/")
def show_corpora(request: Request, user: GetUserDep) -> Response:
    """Answer with all corpora whose DAGs the user may read."""
    services = hooks.services()
    store = services.objects()
    names = [name for name in sorted(corpus_files(hooks.corpora())) if _may(user, "GET", dag_id(name))]
    standings = [read_standing_of(store, services.state_bucket, name) for name in names]
    page = render_corpora(standings, _next_runs(names), _waiting(names), root=_root(request))
    return HTMLResponse(page, headers=_HEADERS)


@app.get("/corpora/{corpus}")
def show_corpus(
    corpus: Annotated[str, Depends(readable_corpus)], request: Request, user: GetUserDep, page: int = 1
) -> Response:
    """Answer with a corpus and one page of its releases."""
    if not is_corpus_name(corpus):
        return _line(404, f"no corpus {corpus!r}")
    services = hooks.services()
    store, bucket = services.objects(), services.state_bucket
    reports, pages = releases_page(store, bucket, corpus, page)
    collections, live = _collections(services, corpus)
    html = render_corpus(
        read_standing_of(store, bucket, corpus),
        [release_row(report, collections, live) for report in reports],
        _waiting([corpus])[corpus],
        Rights(
            run=_may(user, "POST", dag_id(corpus), DagAccessEntity.RUN),
            answer=_may(user, "PUT", dag_id(corpus), DagAccessEntity.HITL_DETAIL),
            roll_back=_may(user, "POST", ROLLBACK_DAG, DagAccessEntity.RUN),
        ),
        _form(corpus),
        page=page,
        pages=pages,
        root=_root(request),
    )
    return HTMLResponse(html, headers=_ACTING)


@app.get("/corpora/{corpus}/releases/{release}")
def show_release(corpus: Annotated[str, Depends(readable_corpus)], release: str, request: Request) -> Response:
    """Answer with what one release came to, or how far it is."""
    files = hooks.services().files(corpus, release)
    is_known = is_corpus_name(corpus) and is_release_name(release) and (files.report("snapshot") or files.failure())
    if not is_known:
        return _line(404, f"no release {release!r} of {corpus!r}")
    report = release_report(files)
    stage = next((stage for stage in STAGES if stage not in report["seconds"]), "")
    measured = files.read_json(RECALL_FILE) or live_search_facts(files)
    return HTMLResponse(render_release(report, files.progress(stage), measured, root=_root(request)), headers=_HEADERS)


@app.get("/corpora/{corpus}/releases/{release}/rejects")
def show_rejects(
    corpus: Annotated[str, Depends(readable_corpus)], release: str, request: Request, find: str = "", page: int = 1
) -> Response:
    """Answer with one page of what a release could not index, of what holds a text."""
    table = None
    if is_corpus_name(corpus) and is_release_name(release):
        files = hooks.services().files(corpus, release)
        table = files.store.read_table(files.bucket, files.key(REJECTS_FILE))
    if table is None:
        return _line(404, f"no rejects of release {release!r} of {corpus!r}: there is no such release, or not yet")
    rejects = table.select([name for name in REJECT_SCHEMA.names if name in table.schema.names])
    html = render_rejects(rejects, corpus=corpus, release=release, find=find, page=page, root=_root(request))
    return HTMLResponse(html, headers=_HEADERS)


@app.get("/acts.js")
def send_script() -> Response:
    """Answer with the script of the pages that do something."""
    return FileResponse(_SCRIPT, media_type="text/javascript", headers=_HEADERS)


def _may(user: GetUserDep, method: str, dag: str, entity: DagAccessEntity | None = None) -> bool:
    """Return whether the user may do this with a DAG, or with something of it."""
    return get_auth_manager().is_authorized_dag(
        method=method, access_entity=entity, details=DagDetails(id=dag), user=user
    )


def _form(corpus: str) -> list[dict[str, Any]]:
    """Return the parameters of a corpus's run, as its DAG declares them; none before Airflow has read the DAG."""
    found = SerializedDagModel.get(dag_id(corpus))
    params = found.dag.params if found else {}
    return [
        {"name": name, "schema": param.schema, "value": param.value, "description": param.description}
        for name in params
        for param in [params.get_param(name)]
    ]


def _waiting(corpora: list[str]) -> dict[str, list[Waiting]]:
    """Return the runs of each corpus that wait for a person."""
    names = {dag_id(name): name for name in corpora}
    asked = (
        select(TaskInstance.dag_id, TaskInstance.run_id, HITLDetail.subject)
        .join(HITLDetail, HITLDetail.ti_id == TaskInstance.id)
        .where(TaskInstance.dag_id.in_(names), TaskInstance.task_id == APPROVE_TASK)
        .where(HITLDetail.responded_at.is_(None), TaskInstance.state.in_(_PARKED))
        .order_by(TaskInstance.run_id)
    )
    waiting: dict[str, list[Waiting]] = {name: [] for name in corpora}
    with create_session() as session:
        for dag, run, question in session.execute(asked):
            waiting[names[dag]].append(Waiting(run=run, question=question))
    return waiting


def _next_runs(corpora: list[str]) -> dict[str, str]:
    """Return when each corpus is run next, where it has a schedule."""
    names = {dag_id(name): name for name in corpora}
    asked = select(DagModel.dag_id, DagModel.next_dagrun_create_after, DagModel.is_paused)
    with create_session() as session:
        rows = session.execute(asked.where(DagModel.dag_id.in_(names))).all()
    return {
        names[dag]: "paused" if is_paused else at.strftime("%Y-%m-%d %H:%M UTC") for dag, at, is_paused in rows if at
    }


def _collections(services: hooks.Services, corpus: str) -> tuple[set[str], str | None]:
    """Return Milvus's collections and the live one; none if it does not answer: the rest of the page is still true."""
    with suppress(ReindexError), services.milvus_store() as store:
        return set(store.collections()), store.resolve_alias(alias_name(corpus))
    return set(), None


def _root(request: Request) -> str:
    return str(request.scope.get("root_path", "")).rstrip("/")


@app.exception_handler(ReindexError)
def say_what_failed(request: Request, error: ReindexError) -> Response:  # noqa: ARG001 - FastAPI's signature
    return _line(503, str(error))


def _line(status: int, text: str) -> Response:
    return PlainTextResponse(f"{text}\n", status, headers=_HEADERS)
