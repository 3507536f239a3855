"""Statements that run without a cursor: prepared once a connection, in whatever mode and state it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import psycopg
import pytest

from goqueue.config.settings import Settings
from goqueue.db.database import Connection, Database
from goqueue.db.prepared import PreparedStatement
from goqueue.db.server_connection import ServerConnection
from goqueue.errors import DatabaseRefusedError

ADD = PreparedStatement("INSERT INTO noted (number) VALUES ($1) RETURNING number, NULL")
PREPARED = "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'goqueue%%'"


@pytest.fixture(autouse=True)
def noted(database: Database) -> Iterator[None]:
    """A table of numbers."""
    with database.autocommit() as connection:
        connection.exec_driver_sql("CREATE TABLE noted (number int CHECK (number < 100))")
    yield
    with database.autocommit() as connection:
        connection.exec_driver_sql("DROP TABLE noted")


def numbers(database: Database) -> int:
    """How many numbers are committed."""
    with database.connection() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM noted").scalar_one())


def driver_of(connection: Connection) -> ServerConnection:
    """The driver's connection."""
    return cast("ServerConnection", connection.connection.driver_connection)


def test_it_is_prepared_once(database: Database) -> None:
    """Each run on a connection uses what the first one has prepared."""
    with database.autocommit() as connection:
        assert ADD.fetch_one(connection, [b"1"]) == [b"1", None]
        assert ADD.fetch_one(connection, [b"2"]) == [b"2", None]
        prepares = driver_of(connection).prepare_threshold is not None
        assert connection.exec_driver_sql(PREPARED).scalar_one() == int(prepares)
    assert numbers(database) == 2


def test_it_is_prepared_again_when_that_is_lost(database: Database) -> None:
    """After a rollback psycopg lets go of everything; the statement runs all the same, once."""
    with database.autocommit() as connection:
        ADD.fetch_one(connection, [b"1"])
        connection.exec_driver_sql("DEALLOCATE ALL")
        assert ADD.fetch_one(connection, [b"2"]) == [b"2", None]
    assert numbers(database) == 2


def test_behind_a_pooler_nothing_is_prepared(settings: Settings) -> None:
    """Where each statement may have another session, it is sent whole."""
    database = Database(settings.model_copy(update={"database_direct_url": settings.database_url}))
    with database.autocommit() as connection:
        assert ADD.fetch_one(connection, [b"1"]) == [b"1", None]
        assert connection.exec_driver_sql(PREPARED).scalar_one() == 0
    database.close()


def test_what_is_refused_is_an_error(database: Database) -> None:
    """A constraint, and a value that is none, are psycopg's errors; the connection goes on."""
    with pytest.raises(DatabaseRefusedError, match="number_check"), database.autocommit() as connection:
        ADD.fetch_one(connection, [b"100"])
    with pytest.raises(DatabaseRefusedError, match="integer"), database.autocommit() as connection:
        ADD.fetch_one(connection, [b"many"])
    with database.autocommit() as connection:
        with pytest.raises(psycopg.errors.UndefinedTable):
            PreparedStatement("SELECT number FROM nowhere").fetch_one(connection, [])
        ADD.fetch_one(connection, [b"1"])
    assert numbers(database) == 1


def test_it_is_no_part_of_a_transaction(database: Database) -> None:
    """A statement that is not prepared any more would end it."""
    with database.transaction() as connection, pytest.raises(AssertionError):
        ADD.fetch_one(connection, [b"1"])
