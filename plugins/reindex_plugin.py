"""The one file that Airflow's plugin loader reads: it registers what `reindex_airflow` has for the web interface.

Where plugins are loaded at once (`core.lazy_load_plugins`), the scheduler imports and reads here, once, what each of
its tasks would anew: they are forked from it.
"""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

import reindex.milvus  # noqa: F401 - what a task opens its connection with
import reindex_airflow.tasks  # noqa: F401 - what the DAGs import
from reindex.storage import learn_protocol
from reindex_airflow.links import PAGES_PREFIX, CheckedReleaseLink, RayJobLink, ReleaseLink, ReportLink

learn_protocol()


class ReindexPlugin(AirflowPlugin):
    name = "reindex"
    operator_extra_links = [RayJobLink(), ReportLink(), ReleaseLink(), CheckedReleaseLink()]  # noqa: RUF012 - Airflow reads a class attribute

    external_views = [  # noqa: RUF012 - as above
        {
            "name": "Reindex",
            "href": f"{PAGES_PREFIX}/",
            "destination": "nav",
            "url_route": "reindex",
            "nav_top_level": True,
        }
    ]

    @property
    def fastapi_apps(self) -> list[dict[str, Any]]:
        # The API server alone asks for them: no task is to pay for importing Airflow's log-in.
        from reindex_airflow.pages import app

        return [{"app": app, "url_prefix": PAGES_PREFIX, "name": "Reindex"}]
