"""Make an earlier release live again.

Give the corpus; the release before the live one comes back, or the one that you name. It is loaded into memory, checked
to be what was once measured, and the alias moves to it in one step. What is live now stays in memory for the corpus's
grace period, so that the way forward is as quick. The next run of the corpus begins from what is live then.
"""

from __future__ import annotations

from airflow.sdk import Param, dag

from reindex.naming import RELEASE_PATTERN, ROLLBACK_DAG
from reindex.settings import corpus_files
from reindex_airflow import hooks, tasks
from reindex_airflow.links import link_to_release
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
            pattern=f"^{RELEASE_PATTERN}$",
            title="Release",
            description="empty: the one before the live one; or the name of one that is retained or green, "
            "as in 20260301T020000Z_0a1b2c3d",
        ),
    },
    tags=["reindex", "rollback"],
)
def steps() -> None:
    chosen = tasks.choose_release()
    reloaded = ReloadOperator(corpus="{{ params.corpus }}", release=chosen)
    tasks.roll_back(reloaded.output)


if corpora:
    link_to_release(steps())
