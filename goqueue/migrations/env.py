"""Alembic's entry: one connection, under time-outs and an advisory lock, one transaction a migration."""

from __future__ import annotations

import time

from alembic import context
from sqlalchemy import Connection

from goqueue.db.tables import metadata

#: Two `goqueue migrate` at once (two replicas that start together) run one after the other.
MIGRATION_LOCK = 7_310_001

#: A migration that cannot get its lock must fail before the queries queued up behind it become an outage.
LOCK_TIMEOUT_SECONDS = 5
STATEMENT_TIMEOUT_SECONDS = 600

#: How often one that waits for another migration asks for the lock.
LOCK_POLL_SECONDS = 0.2


def run(connection: Connection) -> None:
    """Run the migrations that are asked for on this connection."""
    connection.exec_driver_sql(f"SET statement_timeout = '{STATEMENT_TIMEOUT_SECONDS}s'")
    # The client waits as long as the server works on it; the advisory lock is held for as long as a migration.
    connection.connection.driver_connection.answer_seconds = STATEMENT_TIMEOUT_SECONDS  # type: ignore[union-attr]
    connection.exec_driver_sql("SET lock_timeout = 0")
    connection.exec_driver_sql("SET idle_in_transaction_session_timeout = 0")
    _lock(connection)
    connection.exec_driver_sql(f"SET lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'")
    connection.commit()
    try:
        context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=True)
        with context.begin_transaction():
            context.run_migrations()
    finally:
        connection.rollback()
        connection.exec_driver_sql(f"SELECT pg_advisory_unlock({MIGRATION_LOCK})")
        connection.exec_driver_sql("RESET ALL")
        connection.commit()


def _lock(connection: Connection) -> None:
    """Wait for the lock, without a snapshot meanwhile: CREATE INDEX CONCURRENTLY waits for all that have one."""
    until = time.monotonic() + STATEMENT_TIMEOUT_SECONDS
    while not connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({MIGRATION_LOCK})").scalar_one():
        connection.commit()
        if time.monotonic() > until:
            raise TimeoutError("another migration has been running for ten minutes")
        time.sleep(LOCK_POLL_SECONDS)


run(context.config.attributes["connection"])
