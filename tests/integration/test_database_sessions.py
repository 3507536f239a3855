"""What every session of PostgreSQL is told at its start."""

from __future__ import annotations

import pytest
from psycopg.errors import lookup
from pydantic import SecretStr
from sqlalchemy.exc import DBAPIError, PendingRollbackError

from goqueue.config import Settings
from goqueue.db import Database
from goqueue.errors import DatabaseRefusedError, DatabaseUnavailableError


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("timezone", "UTC"),
        # Images of PostgreSQL have it on; compiling a statement takes longer than running any of ours.
        ("jit", "off"),
        # tests/integration/test_places.py shows what for.
        ("enable_seqscan", "off"),
        ("statement_timeout", "30s"),
        ("lock_timeout", "5s"),
        ("idle_in_transaction_session_timeout", "10s"),
    ],
)
def test_a_session_has_the_setting(database: Database, setting: str, value: str) -> None:
    """It is in force before the first statement."""
    with database.autocommit() as connection:
        assert connection.exec_driver_sql(f"SHOW {setting}").scalar() == value


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (lookup("25006")("cannot execute UPDATE in a read-only transaction"), DatabaseUnavailableError),
        (DBAPIError("SELECT", {}, lookup("25006")("read-only")), DatabaseUnavailableError),
        (PendingRollbackError("the connection broke"), DatabaseUnavailableError),
        (lookup("23505")("duplicate key"), DatabaseRefusedError),
    ],
    ids=["driver", "SQLAlchemy", "broken", "refusal"],
)
@pytest.mark.parametrize("how", ["autocommit", "connection"])
def test_both_ways_to_a_connection_translate_alike(
    database: Database, error: Exception, kind: type[Exception], how: str
) -> None:
    """Whoever uses a connection sees an error of ours, however the connection was taken."""
    with pytest.raises(kind), getattr(database, how)():
        raise error


def test_an_idle_connection_from_before_an_outage_is_not_used_again(database: Database) -> None:
    """A server that said that it is read-only is left: each connection is replaced before its next use."""
    with database.autocommit() as one, database.autocommit() as other:
        before = {one.connection.driver_connection, other.connection.driver_connection}
    with pytest.raises(DatabaseUnavailableError), database.autocommit():
        raise lookup("25006")("read-only")
    with database.autocommit() as one, database.autocommit() as other, database.connection() as third:
        used = {c.connection.driver_connection for c in (one, other, third)}
    assert not used & before


def test_settings_lead_to_a_server_that_is_told_the_time_outs(settings: Settings) -> None:
    """Options of the URL are kept beside those of the session, and ours go last."""
    url = settings.database_url.get_secret_value()
    with_options = settings.model_copy(
        update={"database_url": SecretStr(f"{url}?options=-c%20work_mem%3D5MB%20-c%20lock_timeout%3D9")}
    )
    database = Database(with_options)
    with database.autocommit() as connection:
        assert connection.exec_driver_sql("SHOW work_mem").scalar() == "5MB"
        assert connection.exec_driver_sql("SHOW lock_timeout").scalar() == "5s"
    database.close()
