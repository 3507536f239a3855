"""The schema: as the models say, up and down and up again, and closed to impossible rows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from pydantic import SecretStr

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.db.tables import metadata
from goqueue.dev.embedded import EmbeddedPostgres
from goqueue.errors import DatabaseRefusedError
from goqueue.jobs import JobStatus
from goqueue.migrations.upgrade import current_revision, downgrade, head_revision, upgrade
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

CATALOG = {
    "checks": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
    "WHERE contype = 'c' AND connamespace = 'public'::regnamespace",
    "keys": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
    "WHERE contype IN ('p', 'u', 'f') AND connamespace = 'public'::regnamespace AND conrelid <> "
    "coalesce(to_regclass('alembic_version'), 0)",
    "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' "
    "AND tablename <> 'alembic_version'",
    "columns": "SELECT table_name, column_name, data_type, is_nullable, column_default, is_identity "
    "FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'",
}


@pytest.fixture
def fresh(postgres: EmbeddedPostgres) -> Iterator[Database]:
    """A database without a schema."""
    postgres.create_database("fresh")
    database = Database(Settings(database_url=SecretStr(postgres.url_for("fresh"))))
    yield database
    database.close()
    postgres.drop_database("fresh")


def catalog(database: Database) -> dict[str, set[tuple[Any, ...]]]:
    """What PostgreSQL knows of the schema."""
    with database.autocommit() as connection:
        return {
            name: {tuple(map(plain_default, row)) for row in connection.exec_driver_sql(sql).fetchall()}
            for name, sql in CATALOG.items()
        }


def plain_default(value: Any) -> Any:
    """A column's default however it is written: `'0'::smallint` is `0`."""
    return re.sub(r"^'([a-z0-9]*)'::[\w ]+$", r"\1", value) if isinstance(value, str) else value


def revision(database: Database) -> str | None:
    """The revision that a database has."""
    with database.autocommit() as connection:
        return current_revision(connection)


def test_the_migrated_schema_is_what_the_models_say(database: Database) -> None:
    """Alembic finds no difference between the migrated schema and the models."""
    with database.transaction() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_checks_keys_and_indexes_are_what_the_models_say(database: Database, fresh: Database) -> None:
    """A schema made from the models has the same constraints, indexes, defaults and identities."""
    with fresh.transaction() as connection:
        metadata.create_all(connection)
    migrated, modelled = catalog(database), catalog(fresh)
    for name in CATALOG:
        assert migrated[name] == modelled[name], name


def test_storage_settings_are_set(database: Database) -> None:
    """The hot tables have room for updates on their pages and an autovacuum that keeps up."""
    with database.autocommit() as connection:
        options: dict[str, list[str]] = {
            row[0]: row[1]
            for row in connection.exec_driver_sql(
                "SELECT relname, reloptions FROM pg_class WHERE reloptions IS NOT NULL AND relkind = 'r'"
            )
        }
    assert "fillfactor=50" in options["jobs"]
    assert "autovacuum_vacuum_scale_factor=0.01" in options["jobs"]
    assert "fillfactor=50" in options["workers"]
    assert any(option.startswith("autovacuum") for option in options["attempts"])


def test_one_step_down_and_up_again(fresh: Database) -> None:
    """Each step can be taken back and taken again, down to nothing, and leaves the same schema."""
    upgrade(fresh)
    assert revision(fresh) == head_revision()
    before = catalog(fresh)
    downgrade(fresh, "-1")
    assert revision(fresh) != head_revision()
    upgrade(fresh)
    assert catalog(fresh) == before
    downgrade(fresh, "base")
    assert catalog(fresh)["columns"] == set()
    upgrade(fresh)
    assert catalog(fresh) == before


def test_upgrading_twice_changes_nothing(fresh: Database) -> None:
    """An upgrade of an upgraded schema does nothing."""
    upgrade(fresh)
    before = catalog(fresh)
    upgrade(fresh)
    assert (catalog(fresh), revision(fresh)) == (before, head_revision())


UPGRADE = """
from goqueue.config.settings import load_settings
from goqueue.db.database import Database
from goqueue.migrations.upgrade import upgrade
upgrade(Database(load_settings()))
"""


def test_upgrades_at_once_run_one_after_the_other(fresh: Database, postgres: EmbeddedPostgres) -> None:
    """Replicas that migrate at the same moment all succeed, and the schema is made once."""
    environment = {**os.environ, "GOQUEUE_DATABASE_URL": postgres.url_for("fresh")}
    replicas = [subprocess.Popen([sys.executable, "-c", UPGRADE], env=environment) for _ in range(3)]
    assert [replica.wait(60) for replica in replicas] == [0, 0, 0]
    assert revision(fresh) == head_revision()


def test_a_migration_leaves_its_connection_as_it_was(fresh: Database) -> None:
    """The time-outs of a migration do not stay on the pooled connection, and its lock is released."""
    upgrade(fresh)
    with fresh.autocommit() as connection:
        assert connection.exec_driver_sql("SHOW lock_timeout").scalar() == "5s"
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == "30s"
        locks = connection.exec_driver_sql(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        assert locks.scalar() == 0


IMPOSSIBLE = {
    "an unknown status": {"status": "'asleep'"},
    "final without a time": {"status": "'completed'"},
    "a time without being final": {"finished_at": "now()"},
    "held though not running": {"worker_id": "1"},
    "attempts below zero": {"attempts": "-1"},
    "attempts beyond retries": {"attempts": "5", "max_retries": "3"},
    "retries below zero": {"max_retries": "-1"},
    "retries above twenty": {"max_retries": "21"},
    "priority too low": {"priority": "-101"},
    "priority too high": {"priority": "101"},
    "fence below zero": {"fence": "-1"},
    "deaths below zero": {"deaths": "-1"},
    "no payload": {"payload": "NULL"},
    "a payload that is not json": {"payload": "'{'"},
    "no queue": {"queue": "NULL"},
    "no type": {"type": "NULL"},
}


@pytest.mark.parametrize("how", IMPOSSIBLE)
def test_impossible_jobs_are_refused(database: Database, how: str) -> None:
    """PostgreSQL itself refuses a row that no rule of the state machine allows."""
    values = {"queue": "'q'", "type": "'t'", "payload": "'{}'", **IMPOSSIBLE[how]}
    with pytest.raises(DatabaseRefusedError), database.autocommit() as connection:
        connection.exec_driver_sql(
            f"INSERT INTO jobs ({', '.join(values)}) VALUES ({', '.join(values.values())})"
        )


@pytest.mark.parametrize("status", list(JobStatus))
def test_every_status_has_a_possible_row(database: Database, status: JobStatus) -> None:
    """Each state of the enum is one that the table takes."""
    final = status in {JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED}
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "INSERT INTO jobs (queue, type, payload, status, finished_at) "
            f"VALUES ('q', 't', '{{}}', '{status}', {'now()' if final else 'NULL'})"
        )


@pytest.mark.parametrize(
    ("columns", "values"),
    [
        ("user_agent", "'nobody'"),
        ("key_hash, issuer, subject, user_name, claims", "'a', 'b', 'c', 'd', '{}'"),
        ("issuer, subject, claims", "'b', 'c', '{}'"),
        ("issuer, subject, user_name", "'b', 'c', 'd'"),
        ("subject, user_name, claims", "'c', 'd', '{}'"),
        ("key_hash, id_token", "'a', 'b'"),
    ],
)
def test_a_session_is_of_a_key_or_of_a_user(database: Database, columns: str, values: str) -> None:
    """Of one of them, and of a whole one."""
    statement = (
        f"INSERT INTO dashboard_sessions (name_hash, expires_at, {columns}) VALUES ('x', now(), {values})"
    )
    with (
        pytest.raises(DatabaseRefusedError, match="dashboard_sessions_owner_check"),
        database.autocommit() as connection,
    ):
        connection.exec_driver_sql(statement)


def test_a_claim_has_one_attempt_row(database: Database) -> None:
    """A second attempt row of the same claim, and an outcome that does not exist, are refused."""
    insert = (
        "INSERT INTO attempts (job_id, fence, attempt, outcome, started_at, run_seconds) "
        "VALUES (1, 1, 1, '{}', now(), 0)"
    )
    with database.autocommit() as connection:
        connection.exec_driver_sql(insert.format("completed"))
    for outcome in ("completed", "vanished"):
        with pytest.raises(DatabaseRefusedError), database.autocommit() as connection:
            connection.exec_driver_sql(insert.format(outcome))


def test_rows_of_before_are_moved_within_the_bounds(fresh: Database) -> None:
    """What an older release accepted does not stop the migration, and every reader can read it afterwards."""
    upgrade(fresh, "0004")
    with fresh.autocommit() as connection:
        connection.exec_driver_sql(
            "INSERT INTO jobs (queue, type, payload, priority, available_at, rank, expires_at) VALUES "
            "('a', 'noop', '{}', 100, '0001-01-01', '0001-12-31 22:20:00+00 BC', 'infinity'), "
            "('a', 'noop', '{}', 0, '20000-01-01', NULL, NULL), "
            "('a', 'noop', '{}', 0, '2026-01-01', NULL, NULL)"
        )
        connection.exec_driver_sql(
            "INSERT INTO queues (name, paused_at, paused_until, ramping_until) "
            "VALUES ('a', '2026-01-01', '9999-12-31', '10000-01-02')"
        )
    upgrade(fresh)
    with fresh.autocommit() as connection:
        jobs = connection.exec_driver_sql(
            "SELECT extract(year FROM available_at)::int, extract(year FROM rank)::int, "
            "extract(year FROM expires_at)::int FROM jobs ORDER BY id"
        ).fetchall()
        queue = connection.exec_driver_sql(
            "SELECT extract(year FROM paused_until)::int, extract(year FROM ramping_until)::int FROM queues"
        ).fetchone()
    assert [tuple(row) for row in jobs] == [(1970, 1970, 2990), (2990, None, None), (2026, None, None)]
    assert queue is not None
    assert tuple(queue) == (2990, 2990)


@pytest.mark.parametrize("moment", ["0001-01-01", "infinity", "-infinity", "20000-01-01", "1899-12-31"])
@pytest.mark.parametrize("column", ["available_at", "rank", "expires_at", "deadline_at"])
def test_a_moment_beyond_the_bounds_is_no_row(database: Database, column: str, moment: str) -> None:
    """The database refuses a moment that some reader could not hold, whoever writes it."""
    with pytest.raises(DatabaseRefusedError, match="jobs_moments_check"), database.autocommit() as connection:
        connection.exec_driver_sql(
            f"INSERT INTO jobs (queue, type, payload, {column}) VALUES ('a', 'noop', '{{}}', %(moment)s)",
            {"moment": moment},
        )
