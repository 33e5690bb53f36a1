"""The pages that Reindex adds to Airflow, behind Airflow's own log-in, for those who may read the corpus's DAG."""

from __future__ import annotations

from typing import Annotated

from airflow.api_fastapi.core_api.security import GetUserDep, get_user, requires_access_dag
from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response

from reindex.errors import ReindexError
from reindex.naming import dag_id, is_corpus_name, is_release_name
from reindex.releases import REPORT_FILE
from reindex_airflow import hooks

# Names of documents and queries are on the pages, and could hold anything: nothing of them is ever run or fetched.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:",
    "X-Content-Type-Options": "nosniff",
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


@app.exception_handler(ReindexError)
def say_what_failed(request: Request, error: ReindexError) -> Response:  # noqa: ARG001 - FastAPI's signature
    return _line(503, str(error))


def _line(status: int, text: str) -> Response:
    return PlainTextResponse(f"{text}\n", status, headers=_HEADERS)
