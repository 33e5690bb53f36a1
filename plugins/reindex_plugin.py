"""The one file that Airflow's plugin loader reads: it registers what `reindex_airflow` has for the web interface."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from reindex_airflow.operators import RayJobLink


class ReindexPlugin(AirflowPlugin):
    name = "reindex"
    operator_extra_links = [RayJobLink()]  # noqa: RUF012 - Airflow reads a class attribute
