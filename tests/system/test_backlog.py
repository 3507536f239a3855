"""A hundred thousand queued jobs, and every bulk operation at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import Connection

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.dispatch.dispatcher import Dispatcher
from goqueue.engine import cleaning_rows as cleaning
from goqueue.engine import new_job_rows as new_job_store
from goqueue.engine.listing import listing_rows as job_lists
from goqueue.engine.listing.filters import JobFilter
from goqueue.engine.runway.runway import Runway
from goqueue.engine.transitions import cancel as cancel_store
from goqueue.engine.transitions import retry as retry_store
from goqueue.engine.transitions.claim import claim
from goqueue.engine.workers import worker_rows as worker_store
from goqueue.jobs import JobStatus, NewJob
from goqueue.scheduler.rescuer import Rescuer
from tests.support.processes.stack import Stack
from tests.support.waiting import wait_until

JOBS = 100_000
CHUNK = 10_000
REDIS_MAX_BYTES = 32 * 1024 * 1024
START_SECONDS = 1.0

BULK_JOBS = 2_000
BULK_SECONDS = 20.0


def test_a_hundred_thousand_jobs_wait_in_postgresql_alone(data_folder: Path) -> None:
    """Redis stays under 32 MB, a page costs what it did, and an urgent job starts within 1 s."""
    with Stack(data_folder) as stack:
        stack.collector.close()
        stack.collector.submit("slow", 1_000, seconds=0.02)
        blocks = [_blocks_of_a_page(stack)]
        for _ in range(JOBS // CHUNK):
            stack.collector.submit("slow", CHUNK, seconds=0.02)
        blocks.append(_blocks_of_a_page(stack))
        assert blocks[1] <= blocks[0] + 20
        stack.scheduler()
        stack.workers(1, threads=8)
        wait_until(lambda: stack.count("completed") >= 100, 20, "the workers to be at it")
        (urgent,) = stack.collector.submit("quick", priority=100)
        wait = "SELECT extract(epoch FROM started_at - created_at) FROM jobs"
        is_done = f"{wait} WHERE id = %s AND status = 'completed'"
        wait_until(lambda: stack.rows(is_done, (urgent,)), 10, "the urgent job to complete")
        waited = float(stack.rows(is_done, (urgent,))[0][0])
        assert waited <= START_SECONDS
        assert stack.count("queued") >= JOBS - 5_000
        memory = _used_memory(stack)
        print(f"\nused_memory {memory:,}; blocks of a page {blocks}; the urgent job waited {waited:.3f} s")  # noqa: T201
        assert memory < REDIS_MAX_BYTES


def test_bulk_work_of_every_kind_at_once_deadlocks_nobody(
    settings: Settings, database: Database, runway: Runway
) -> None:
    """Retry, cancel, clean-up, claim, rescue, dispatch of the same 2,000 rows: no error reaches a caller."""
    jobs = [NewJob(queue="default", type="noop", payload="{}", max_retries=20) for _ in range(BULK_JOBS)]
    with database.autocommit() as connection:
        connection.exec_driver_sql("INSERT INTO queues (name) VALUES ('default') ON CONFLICT DO NOTHING")
        ids = new_job_store.insert_many(connection, jobs)
    bulk = _BulkWork(settings, database, ids)
    dispatcher = Dispatcher(settings, database, runway)
    rescuer = Rescuer(settings, database, lambda _seconds: None)
    steps: list[Callable[[], object]] = [
        bulk.retry,
        bulk.retry,
        bulk.cancel,
        bulk.cancel,
        bulk.clean,
        bulk.claim_and_vanish,
        dispatcher.run_once,
        rescuer.run_once,
    ]
    rounds, errors = _at_once(steps, BULK_SECONDS)
    with database.autocommit() as connection:
        deadlocks = _deadlocks(connection)
    print(f"\nbulk rounds {rounds}, deadlocks settled by a repeat {deadlocks}")  # noqa: T201  (always told)
    assert errors == []
    assert min(rounds) > 0


class _BulkWork:
    """What clients and workers do to the same rows."""

    def __init__(self, settings: Settings, database: Database, ids: list[int]) -> None:
        self._settings = settings
        self._database = database
        self._ids = ids
        self._forwards = False

    def _some(self) -> list[int]:
        """All rows, in one order and then in the other."""
        self._forwards = not self._forwards
        return self._ids if self._forwards else self._ids[::-1]

    def retry(self) -> None:
        with self._database.autocommit() as connection:
            retry_store.retry(connection, self._some())

    def cancel(self) -> None:
        with self._database.autocommit() as connection:
            cancel_store.cancel(connection, self._some()[: BULK_JOBS // 2])

    def clean(self) -> None:
        with self._database.autocommit() as connection:
            cleaning.delete_jobs(connection, JobStatus.CANCELLED, age_seconds=0.5, limit=5)

    def claim_and_vanish(self) -> None:
        """A worker takes what it gets and is gone."""
        with self._database.autocommit() as connection:
            worker = worker_store.register(connection, hostname="test", pid=1, queues=["default"], threads=8)
            rows = connection.exec_driver_sql("SELECT id, fence FROM jobs WHERE status = 'queued'").fetchall()
            messages = [(row[0], row[1]) for row in reversed(rows)]
            claim(connection, messages, worker_id=worker, lease_seconds=15)
            worker_store.stop(connection, worker)


def _at_once(steps: list[Callable[[], object]], seconds: float) -> tuple[list[int], list[BaseException]]:
    """Run each step again and again in a thread of its own; how often, and what they raised."""
    rounds = [0] * len(steps)
    errors: list[BaseException] = []
    ends_at = time.monotonic() + seconds

    def repeat(number: int, step: Callable[[], object]) -> None:
        while time.monotonic() < ends_at and not errors:
            try:
                step()
            except Exception as error:  # noqa: BLE001  (any error is the test's failure)
                errors.append(error)
            rounds[number] += 1

    threads = [threading.Thread(target=repeat, args=pair) for pair in enumerate(steps)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return rounds, errors


def _used_memory(stack: Stack) -> int:
    memory = cast("dict[str, int]", stack.redis.info("memory"))
    return memory["used_memory"]


def _blocks_of_a_page(stack: Stack) -> int:
    """How many blocks of the table and its indexes PostgreSQL touches for the first page of `GET /jobs`."""
    with stack.database.autocommit() as connection:
        before = _touched(connection)
        jobs, more = job_lists.page(connection, JobFilter(queue="chaos"), limit=50)
        touched = _touched(connection) - before
    assert len(jobs) == 50
    assert more
    return touched


def _touched(connection: Connection) -> int:
    connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")
    row = connection.exec_driver_sql(
        "SELECT coalesce(heap_blks_hit, 0) + coalesce(heap_blks_read, 0) + coalesce(idx_blks_hit, 0) "
        "+ coalesce(idx_blks_read, 0) FROM pg_statio_user_tables WHERE relname = 'jobs'"
    ).fetchone()
    assert row is not None
    return int(row[0])


def _deadlocks(connection: Connection) -> int:
    sql = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    return int(connection.exec_driver_sql(sql).scalar_one())


@pytest.fixture
def overrides() -> dict[str, object]:
    """More connections than threads."""
    return {"database_pool_size": 16}
