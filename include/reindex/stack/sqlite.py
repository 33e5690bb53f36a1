"""Airflow's database on SQLite, where several processes write: a transaction that will write says so at its beginning.

A transaction that has read before it writes is refused at once, whatever the timeout, if another has written since
(https://www.sqlite.org/rescode.html#busy_snapshot). Python's driver begins one before the first write, which is right,
but for savepoints: those begin as readers. Airflow opens one for each run of a backfill.
"""

from __future__ import annotations

from sqlalchemy import Connection, Engine, event


def write_from_savepoints_on() -> None:
    """Make every savepoint outside a transaction wait its turn to write, for all engines of this process."""
    event.listen(Engine, "savepoint", _begin)


def _begin(connection: Connection, _: str | None) -> None:
    if connection.dialect.driver != "pysqlite":
        return
    database = connection.connection.dbapi_connection
    if database is not None and not database.in_transaction:
        database.execute("BEGIN IMMEDIATE")
