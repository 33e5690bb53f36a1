"""Make an earlier release live again.

Give the corpus; the release before the live one comes back, or the one that you name. It is loaded into memory, checked
to be what was once measured, and the alias moves to it in one step. What is live now stays in memory for the corpus's
grace period, so that the way forward is as quick. The next run of the corpus begins from what is live then.
"""

from __future__ import annotations

from airflow.sdk import Param, dag

from reindex.naming import ROLLBACK_DAG
from reindex.settings import corpus_files
from reindex_airflow import hooks, tasks
from reindex_airflow.operators import ReloadOperator

corpora = list(corpus_files(hooks.corpora()))


@dag(
    dag_id=ROLLBACK_DAG,
    description="make an earlier release of a corpus live again",
    doc_md=__doc__,
    schedule=None,
    default_args=tasks.DEFAULTS,
    params={
        # No default: nobody goes back by a slip.
        "corpus": Param(type="string", enum=corpora, title="Corpus", description="whose alias moves back"),
        "release": Param(
            None,
            type=["null", "string"],
            title="Release",
            description="empty: the one before; or a name from `reindex releases CORPUS`, retained or green",
        ),
    },
    tags=["reindex", "rollback"],
)
def steps() -> None:
    chosen = tasks.choose_release()
    reloaded = ReloadOperator(corpus="{{ params.corpus }}", release=chosen)
    tasks.roll_back(reloaded.output)


if corpora:
    steps()
