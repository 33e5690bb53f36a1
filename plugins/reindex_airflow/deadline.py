"""A run that is not over when it should be, told by Airflow's triggerer: a line in its log, and a metric."""

from __future__ import annotations

import logging
from typing import Any

from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference
from airflow.sdk.observability import stats

from reindex.settings import Corpus
from reindex.signals import LATE_METRIC

_LOG = logging.getLogger(__name__)


def deadlines(corpus: Corpus) -> list[DeadlineAlert]:
    """Return what tells that a run of the corpus is late; nothing for one without a deadline."""
    if corpus.deadline_hours is None:
        return []
    return [
        DeadlineAlert(
            name="deadline_hours",
            # A run that somebody starts has no logical date, and one that is cleared gets its time anew.
            reference=DeadlineReference.DAGRUN_QUEUED_AT,
            # Seconds, though a timedelta is asked for: with one, Airflow 3.3.2 fails to clear any task of the run.
            interval=corpus.deadline_hours * 3600,  # type: ignore[arg-type]
            callback=AsyncCallback(tell_late, kwargs={"corpus": corpus.name, "hours": corpus.deadline_hours}),
        )
    ]


async def tell_late(corpus: str, hours: float, context: dict[str, Any]) -> None:
    """Tell that a run has missed its deadline, unless a backfill made it: those wait for each other."""
    run = context["dag_run"]
    if run["run_type"] == "backfill":
        return
    _LOG.warning(
        "%s is late: %s, queued at %s, is %s after more than %g hours; readers keep what is live",
        corpus,
        run["dag_run_id"],
        run["queued_at"],
        run["state"],
        hours,
    )
    stats.incr(LATE_METRIC, tags={"corpus": corpus})
