"""Statements that run so often that a cursor is too dear: prepared once a connection, sent as texts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import cast

from psycopg import errors, generators
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGresult
from sqlalchemy import Connection

from goqueue.db.server_connection import ServerConnection

__all__ = ["PreparedStatement"]

_NOT_PREPARED = b"26000"

_numbers = itertools.count(1)


class PreparedStatement:
    """A statement for connections in autocommit mode, whose parameters and values are texts.

    psycopg's cursor finds out anew, with each statement, how its parameters are written and its values read:
    of a single INSERT that is a third of what a client computes.

    Args:
        sql: names its parameters `$1`, `$2` and so on.
    """

    def __init__(self, sql: str) -> None:
        self._sql = sql.encode()
        self._name = b"goqueue_%d" % next(_numbers)

    def fetch_one(self, connection: Connection, parameters: Sequence[bytes]) -> list[bytes | None]:
        """Run the statement, and return the values of its one row.

        Raises:
            psycopg.Error: as a cursor does.
        """
        driver = cast("ServerConnection", connection.connection.driver_connection)
        # A transaction would be ended by finding that the statement is not prepared any more.
        assert driver.autocommit
        with driver.lock:
            result = self._run(driver, parameters)
        if result.status != ExecStatus.TUPLES_OK:
            raise errors.error_from_result(result, driver.info.encoding)
        return [result.get_value(0, column) for column in range(result.nfields)]

    def _run(self, driver: ServerConnection, parameters: Sequence[bytes]) -> PGresult:
        if driver.prepare_threshold is None:
            # A pooler may give each statement another session.
            driver.pgconn.send_query_params(self._sql, parameters)
            return _result(driver)
        if self._name not in driver.prepared and (refusal := self._prepare(driver)):
            return refusal
        driver.pgconn.send_query_prepared(self._name, parameters)
        result = _result(driver)
        if result.error_field(DiagnosticField.SQLSTATE) != _NOT_PREPARED:
            return result
        # After a rollback psycopg lets go of all that is prepared on a connection. Nothing was done.
        if refusal := self._prepare(driver):
            return refusal
        driver.pgconn.send_query_prepared(self._name, parameters)
        return _result(driver)

    def _prepare(self, driver: ServerConnection) -> PGresult | None:
        """Prepare the statement; the answer where that is refused."""
        driver.pgconn.send_prepare(self._name, self._sql)
        result = _result(driver)
        if result.status != ExecStatus.COMMAND_OK:
            return result
        driver.prepared.add(self._name)
        return None


def _result(driver: ServerConnection) -> PGresult:
    results: list[PGresult] = driver.wait(generators.execute(driver.pgconn))
    return results[-1]
