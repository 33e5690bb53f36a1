"""The links of a task: to its Ray job, to the page of its release, and to what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink, conf
from airflow.sdk.execution_time.xcom import XCom

if TYPE_CHECKING:
    from airflow.sdk import DAG, Context

PAGES_PREFIX = "/reindex"
JOB_KEY = "ray_job"
_PAGE_KEY = "release_page"


class RayJobLink(BaseOperatorLink):
    """From a task to its job in the Ray dashboard."""

    name = "Ray job"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002 - Airflow's signature
        return str(XCom.get_value(ti_key=ti_key, key=JOB_KEY) or "")


class ReportLink(BaseOperatorLink):
    """From the task that verifies a release to the page of what it measured."""

    name = "Report"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002 - Airflow's signature
        return _page(f"releases/{operator.corpus}/{operator.release}/report")


class ReleaseLink(BaseOperatorLink):
    """From any task of a run to the page of its release, which the run's first task has named."""

    name = "Release"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        named_by = operator.dag.roots[0].task_id
        page = XCom.get_one(key=_PAGE_KEY, dag_id=ti_key.dag_id, run_id=ti_key.run_id, task_id=named_by)
        return str(page or "")


class CheckedReleaseLink(BaseOperatorLink):
    """From a check to the page of the release that it measures."""

    name = "Release"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002 - Airflow's signature
        return _release_page(operator.corpus, operator.live)


def link_to_release(dag: DAG) -> DAG:
    """Lead from every task of a DAG to its run's release: operators take no links when they are made."""
    for task in dag.tasks:
        task.operator_extra_links = (*task.operator_extra_links, ReleaseLink())
    return dag


def name_release(context: Context, corpus: str, release: str) -> str:
    """Tell the links of the run's tasks which release it is about, and return it."""
    context["ti"].xcom_push(key=_PAGE_KEY, value=_release_page(corpus, release))
    return release


def _page(path: str) -> str:
    return f"{conf.get('api', 'base_url', fallback='').rstrip('/')}{PAGES_PREFIX}/{path}"


def _release_page(corpus: str, release: str) -> str:
    return _page(f"corpora/{corpus}/releases/{release}")
