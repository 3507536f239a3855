"""What every session of PostgreSQL is told at its start."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg.errors import lookup
from pydantic import SecretStr
from sqlalchemy.exc import DBAPIError, PendingRollbackError

from goqueue.config.bounds import FIRST_MOMENT, LAST_MOMENT
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.dev.embedded import EmbeddedPostgres
from goqueue.engine import job_rows as job_store
from goqueue.engine.transitions.record import record
from goqueue.errors import ConfigurationError, DatabaseRefusedError, DatabaseUnavailableError
from goqueue.jobs import AttemptOutcome, JobStatus, Outcome
from goqueue.ops.checks import check_database
from tests.support.factories import JobFactory


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("timezone", "UTC"),
        # Images of PostgreSQL have it on; compiling a statement takes longer than running any of ours.
        ("jit", "off"),
        # tests/integration/test_places.py shows what for.
        ("enable_seqscan", "off"),
        ("statement_timeout", "30s"),
        ("DateStyle", "ISO, MDY"),
        ("client_encoding", "UTF8"),
        ("default_transaction_isolation", "read committed"),
        ("lock_timeout", "5s"),
        ("idle_in_transaction_session_timeout", "10s"),
    ],
)
def test_a_session_has_the_setting(database: Database, setting: str, value: str) -> None:
    """It is in force before the first statement."""
    with database.autocommit() as connection:
        assert connection.exec_driver_sql(f"SHOW {setting}").scalar() == value


#: What a server, a database or a role may have as its default, and what would break by it.
DEFAULTS = {
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kolkata",
    "extra_float_digits": "-15",
    "standard_conforming_strings": "off",
    "bytea_output": "escape",
    "client_encoding": "LATIN1",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_default_of_the_database_changes_nothing(settings: Settings, database: Database, name: str) -> None:
    """A job is created, claimed, read and recorded as ever, whatever the database has as its default."""
    with database.autocommit() as connection:
        own = connection.exec_driver_sql("SELECT current_database()").scalar()
        connection.exec_driver_sql(f"ALTER DATABASE {own} SET {name} = '{DEFAULTS[name]}'")
    fresh = Database(settings)
    try:
        lives_a_whole_life(fresh)
    finally:
        fresh.close()
    check_database(settings)


def lives_a_whole_life(database: Database) -> None:
    """Create a job, claim it and record it, and read it back."""
    make_job = JobFactory(database)
    start = datetime(2026, 3, 4, 5, 6, 7, 123456, tzinfo=UTC)
    job = make_job(payload={"text": "żółć 🎉", "number": 0.1}, available_at=start, rank=start)
    assert (job.available_at, job.payload) == (start, {"text": "żółć 🎉", "number": 0.1})
    (claimed,) = make_job.claim(job)
    with database.autocommit() as connection:
        outcome = Outcome(
            job.id,
            claimed.fence,
            JobStatus.COMPLETED,
            AttemptOutcome.COMPLETED,
            result='{"a": 0.1234567890123}',
        )
        recorded = record(connection, [outcome], worker_id=make_job.worker_id)
        assert recorded.keys == {(job.id, claimed.fence)}
        assert job_store.get(connection, job.id).result == {"a": 0.1234567890123}
        assert abs(claimed.claimed_at - time.time()) < 300


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_of_another_encoding_is_refused(
    postgres: EmbeddedPostgres, settings: Settings, encoding: str
) -> None:
    """`goqueue check` says in one line that such a database cannot keep every payload."""
    name = f"of_{encoding.lower()}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0"
        )
    try:
        other = settings.model_copy(update={"database_url": SecretStr(postgres.url_for(name))})
        with pytest.raises(
            ConfigurationError, match=f"expected a database with the encoding UTF8.*{encoding}"
        ):
            check_database(other)
    finally:
        postgres.drop_database(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("infinity", LAST_MOMENT),
        ("-infinity", FIRST_MOMENT),
        ("4713-01-01 00:00:00+00 BC", FIRST_MOMENT),
        ("0001-01-01 00:00:00+00", FIRST_MOMENT),
        ("294276-12-31 23:59:59+00", LAST_MOMENT),
        ("2026-01-02 03:04:05.000006+00", datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)),
    ],
)
def test_every_moment_is_read(database: Database, text: str, expected: datetime) -> None:
    """A moment that Python cannot hold, or not compute with, is read as the nearest one that it can."""
    with database.autocommit() as connection:
        found = connection.exec_driver_sql("SELECT %(text)s::timestamptz", {"text": text}).scalar()
    assert found == expected


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
