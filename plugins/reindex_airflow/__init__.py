"""Airflow at the edge: tasks, operators and triggers that open a connection and call one stage."""
