"""Measure what readers get once more.

Milvus rearranges its segments by itself and builds another index over each: what a release has passed with need not
hold for ever. Every morning the live index of each corpus is asked as its readers ask, and set against exact search
over the files that it was imported from; vectors are compared, and every row is counted. Nothing is moved or mended:
**a failed task means that readers get less than they should**, and its log says what. No corpus waits for another's
check to pass.
"""

from __future__ import annotations

from airflow.sdk import CronTriggerTimetable, Param, dag

from reindex.naming import CHECK_DAG
from reindex.settings import corpus_files
from reindex_airflow import hooks, tasks
from reindex_airflow.operators import RAY_POOL, STAGE_DOCS, CheckOperator

corpora = list(corpus_files(hooks.corpora()))


@dag(
    dag_id=CHECK_DAG,
    description="measure what is live once more, every morning",
    doc_md=__doc__,
    schedule=CronTriggerTimetable("0 6 * * *", timezone="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args=tasks.DEFAULTS,
    params={
        "corpus": Param(
            None,
            type=["null", "string"],
            enum=[None, *corpora],
            # All of them: a value without a text of its own would be shown with that of None.
            values_display={None: "all that have a live index", **{name: name for name in corpora}},
            title="Corpus",
            description="whose live index to measure",
        ),
        "noise": Param(
            default=False,
            type="boolean",
            title="Noise",
            description="build the live index once more beside it, and measure how much the two differ by chance",
        ),
    },
    tags=["reindex", "verify"],
)
def steps() -> None:
    CheckOperator.partial(
        task_id="check",
        doc_md=STAGE_DOCS["check"],
        pool=RAY_POOL,
        map_index_template="{{ task.corpus }}",
    ).expand_kwargs(tasks.choose_checks())


if corpora:
    steps()
