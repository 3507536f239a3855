"""Deleting by age: what goes, what stays, and never more than a batch at once."""

from __future__ import annotations

from typing import Any

import pytest

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine import cleaning_rows as cleaning
from goqueue.engine.workers import worker_rows as worker_store
from goqueue.jobs import FINAL_STATUSES, JobStatus
from goqueue.scheduler.cleaner import BATCH, Cleaner
from tests.support.factories import JobFactory
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

RETENTION = {"completed": 100.0, "failed": 200.0, "cancelled": 300.0, "expired": 400.0}


@pytest.fixture
def cleaner(settings: Settings, database: Database) -> Cleaner:
    """A cleaner with another age for each state."""
    ages = {f"{status}_retention_seconds": age for status, age in RETENTION.items()}
    return Cleaner(settings.model_copy(update=ages), database, lambda _seconds: None)


def grow_old(database: Database, table: str, column: str, seconds: float) -> None:
    """Set the time of every row of a table back."""
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            f"UPDATE {table} SET {column} = {column} - make_interval(secs => %(s)s)", {"s": seconds}
        )


def count(database: Database, table: str = "jobs") -> int:
    """Rows of a table."""
    with database.autocommit() as connection:
        number: Any = connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar()
    return int(number)


@pytest.mark.parametrize("status", sorted(FINAL_STATUSES))
def test_each_state_has_its_own_age(
    make_job: JobFactory, cleaner: Cleaner, database: Database, status: JobStatus
) -> None:
    """A final job goes when it is older than its state's age, and not before."""
    make_job(status)
    grow_old(database, "jobs", "finished_at", RETENTION[status] - 5)
    assert sum(cleaner.run_once().values()) == 0
    grow_old(database, "jobs", "finished_at", 10)
    assert cleaner.run_once()[status] == 1
    assert count(database) == 0


@pytest.mark.parametrize("status", sorted(set(JobStatus) - FINAL_STATUSES))
def test_unfinished_jobs_never_go(
    make_job: JobFactory, cleaner: Cleaner, database: Database, status: JobStatus
) -> None:
    """However old, a job that is not final stays."""
    make_job(status)
    grow_old(database, "jobs", "created_at", 10**9)
    grow_old(database, "jobs", "updated_at", 10**9)
    assert sum(cleaner.run_once().values()) == 0
    assert count(database) == 1


def test_attempts_go_with_their_jobs(make_job: JobFactory, cleaner: Cleaner, database: Database) -> None:
    """A deleted job takes its attempt rows along, and no others."""
    old, kept = make_job("completed"), make_job("running")
    for fence, job in enumerate((old, old, kept), 1):
        make_job.attempt(job, fence=fence)
    grow_old(database, "jobs", "finished_at", 10**6)
    assert cleaner.run_once()["completed"] == 1
    assert count(database, "attempts") == 1


def test_a_batch_is_bounded_and_takes_the_oldest(cleaner: Cleaner, database: Database) -> None:
    """One round deletes at most a batch of each kind, the oldest first."""
    assert BATCH == 1000
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "INSERT INTO jobs (queue, type, payload, status, created_at, finished_at) "
            "SELECT 'q', 't', '{}', 'completed', now() - make_interval(secs => 4000 - n), "
            "now() - make_interval(secs => 3501 - n) FROM generate_series(1, 2500) AS n"
        )
    rounds = []
    while True:
        rounds.append(cleaner.run_once()["completed"])
        if not rounds[-1]:
            break
        with database.autocommit() as connection:
            left: Any = connection.exec_driver_sql(
                "SELECT coalesce(max(extract(epoch FROM now() - finished_at)), 0) FROM jobs"
            ).scalar()
        assert left < 1000 + 2500 - sum(rounds) + 30
    assert rounds == [1000, 1000, 500, 0]


def test_full_batches_follow_each_other_at_once(settings: Settings, database: Database) -> None:
    """The cleaner pauses only when no batch was full."""
    pauses: list[float] = []
    cleaner = Cleaner(settings, database, pauses.append)
    cleaner.pause({"completed": BATCH, "failed": 0})
    assert pauses == []
    cleaner.pause({"completed": BATCH - 1, "failed": 0})
    assert pauses == [settings.clean_interval_seconds]


def test_what_is_left_to_be_looked_through_is_at_once(settings: Settings, database: Database) -> None:
    """Beside more old jobs than one look sees the next look goes on behind them, without a pause."""
    pauses: list[float] = []
    cleaner = Cleaner(settings, database, pauses.append)
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "INSERT INTO jobs (queue, type, payload, status, created_at, finished_at) "
            "SELECT 'q', 't', '{}', CASE WHEN n > %(page)s THEN 'completed' ELSE 'failed' END, "
            "now() - interval '1 year', CASE WHEN n > %(page)s THEN now() - interval '1 year' ELSE now() END "
            "FROM generate_series(1, %(page)s + 1) AS n",
            {"page": cleaning.PAGE},
        )
    counts = cleaner.run_once()
    assert counts["completed"] == 0
    cleaner.pause(counts)
    assert pauses == []
    counts = cleaner.run_once()
    assert counts["completed"] == 1
    cleaner.pause(counts)
    assert pauses == [settings.clean_interval_seconds]


def test_a_row_that_somebody_works_on_is_left_for_later(make_job: JobFactory, database: Database) -> None:
    """A locked row is skipped, not waited for."""
    locked, free = make_job("failed"), make_job("failed")
    grow_old(database, "jobs", "finished_at", 1000)
    with database.transaction() as holder, database.autocommit() as connection:
        holder.exec_driver_sql("SELECT FROM jobs WHERE id = %(id)s FOR UPDATE", {"id": locked.id})
        assert cleaning.delete_jobs(connection, JobStatus.FAILED, age_seconds=1, limit=10) == 1
        remaining = connection.exec_driver_sql("SELECT id FROM jobs").scalars().all()
    assert remaining == [locked.id]
    assert free.id != locked.id


def test_idempotency_keys_are_forgotten(cleaner: Cleaner, database: Database) -> None:
    """A key older than its retention goes; a younger one stays."""
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "INSERT INTO idempotency_keys (key, request_hash, created_at) VALUES "
            "('old', 'h', now() - interval '25 hours'), ('new', 'h', now() - interval '23 hours')"
        )
    assert cleaner.run_once()["idempotency_keys"] == 1
    with database.autocommit() as connection:
        assert connection.exec_driver_sql("SELECT key FROM idempotency_keys").scalars().all() == ["new"]


def test_stopped_workers_are_forgotten(make_job: JobFactory, cleaner: Cleaner, database: Database) -> None:
    """A worker that stopped long ago goes, unless jobs still run under it; a live one stays."""
    gone, holding, alive = make_job.worker(), make_job.worker(), make_job.worker(silent_seconds=10**6)
    make_job("running", worker_id=holding)
    with database.autocommit() as connection:
        for worker_id in (gone, holding):
            worker_store.stop(connection, worker_id)
    assert cleaner.run_once()["workers"] == 0
    grow_old(database, "workers", "stopped_at", 3601)
    assert cleaner.run_once()["workers"] == 1
    with database.autocommit() as connection:
        left = set(connection.exec_driver_sql("SELECT id FROM workers").scalars())
    assert left - {make_job.worker_id} == {holding, alive}
