"""A PostgreSQL whose clock can be set, for those who ask it by `now()`: every statement of GoQueue."""

from __future__ import annotations

from goqueue.db.database import Database

#: A function of the same name that sessions find before PostgreSQL's own.
_SHIFTED = (
    "CREATE SCHEMA shifted",
    "CREATE TABLE shifted.clock (seconds float NOT NULL)",
    "INSERT INTO shifted.clock VALUES (0)",
    """
    CREATE FUNCTION shifted.now() RETURNS timestamptz LANGUAGE sql STABLE AS
        'SELECT pg_catalog.now() + make_interval(secs => seconds) FROM shifted.clock'
    """,
    """
    DO $$ BEGIN
        EXECUTE 'ALTER DATABASE ' || current_database() || ' SET search_path = shifted, pg_catalog, public';
    END $$
    """,
)


def install(database: Database) -> None:
    """Let all sessions that begin from now on read the clock that `set_clock` sets."""
    with database.autocommit() as connection:
        for statement in _SHIFTED:
            connection.exec_driver_sql(statement)
    database.close()


def set_clock(database: Database, seconds: float) -> None:
    """Set PostgreSQL's clock to so many seconds after the real time."""
    with database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE shifted.clock SET seconds = %(seconds)s", {"seconds": seconds})
