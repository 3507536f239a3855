"""A round of a background role costs the same beside any number of jobs that have completed.

The releaser once asked for `status = 'blocked'` where the index is on `rare_state`: every five seconds it
read the whole table, which at ten million jobs took two to three seconds each time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.scheduler.process import SchedulerProcess
from tests.support.factories import JobFactory
from tests.support.shared_database import module_settings
from tests.support.waiting import wait_until

settings = module_settings

HISTORY = 30_000

#: The rows of `jobs` that a round may read here, where a handful of jobs have not completed.
ROWS_MAX = 500

#: The cleaner looks at one page of the oldest jobs, to see whether these are old enough.
PAGES = {"cleaner": 10_000}

ROLES = [
    "dispatcher",
    "rescuer",
    "expirer",
    "releaser",
    "pauses",
    "breakers",
    "bulk_operator",
    "cron",
    "horizon_watch",
    "roller",
    "counter",
    "indexer",
    "reencrypter",
    "webhooks",
    "cleaner",
]

# As workers have recorded them, long enough ago that nobody counts them any more: the trigger would say that
# they completed without a worker.
_HISTORY = """
    INSERT INTO jobs (queue, type, status, payload, attempts, fence, created_at, started_at, finished_at)
    SELECT 'default', 'noop', 'completed', '{}', 1, 1, now() - interval '5 days', now() - interval '5 days',
           now() - interval '5 days' FROM generate_series(1, %s)
"""
_READ = """
    SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0) FROM pg_stat_user_tables
    WHERE relname = 'jobs'
"""
_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'goqueue-scheduler%%'"


@pytest.fixture(scope="module")
def observer(settings: Settings) -> Iterator[psycopg.Connection]:
    """A session beside a history of completed jobs and a few others, which knows what was read of them.

    The tests of this file delete nothing: what sessions read counts when they tell it, which may be later.
    """
    database = Database(settings)
    make_job = JobFactory(database)
    with psycopg.connect(settings.database_url.get_secret_value(), autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(_HISTORY, (HISTORY,))
        connection.execute("RESET session_replication_role")
        connection.execute("ANALYZE jobs")
        for status in ("queued", "running", "blocked", "failed", "cancelled", "expired"):
            make_job(status)
        database.close()
        yield connection


def process_of(settings: Settings) -> SchedulerProcess:
    """A scheduler that leads."""
    process = SchedulerProcess(settings)
    assert process._leader.try_to_lead()  # noqa: SLF001  (the leader of a whole process)
    return process


def test_all_roles_are_here(settings: Settings) -> None:
    """The list of this file has every role that a scheduler runs."""
    process = SchedulerProcess(settings)
    try:
        services = process._services(threading.Event())  # noqa: SLF001  (the roles of a whole process)
        assert sorted(service.name for service in services) == sorted(ROLES)
    finally:
        process.close()


@pytest.mark.parametrize("role", ROLES)
def test_a_round_reads_no_history(settings: Settings, observer: psycopg.Connection, role: str) -> None:
    """Two rounds, of which the second goes on where the first one ended."""
    before = rows_read(observer)
    process = process_of(settings)
    try:
        services = {service.name: service for service in process._services(threading.Event())}  # noqa: SLF001
        services[role].run_once()
        services[role].run_once()
    finally:
        process.close()
    # A session tells what it has read when it ends.
    wait_until(lambda: not observer.execute(_SESSIONS).fetchone()[0], what="its sessions have ended")  # type: ignore[index]
    assert rows_read(observer) - before <= 2 * (ROWS_MAX + PAGES.get(role, 0))


def rows_read(observer: psycopg.Connection) -> int:
    """Rows of `jobs` that all sessions that have ended, and this one, have read."""
    observer.execute("SELECT pg_stat_force_next_flush()")
    observer.execute("SELECT pg_stat_clear_snapshot()")
    row = observer.execute(_READ).fetchone()
    assert row is not None
    return int(row[0])
