"""A foreign transaction that locks rows: what it locks waits for it, and nothing else does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest

import goqueue
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.dispatch.dispatcher import Dispatcher
from goqueue.engine import job_rows as job_store
from goqueue.engine.runway.runway import Message, Runway
from goqueue.instance import default
from goqueue.jobs import NewJob
from goqueue.scheduler.expirer import Expirer
from goqueue.scheduler.releaser import Releaser
from goqueue.scheduler.rescuer import Rescuer
from tests.support.engine import QUICK, Engine, process_of
from tests.support.factories import JobFactory
from tests.support.waiting import wait_until

#: The longest that anything waits for a lock that does not come, and a little for a loaded machine.
BOUND_SECONDS = 8.0


@pytest.fixture
def overrides() -> dict[str, Any]:
    """Quick processes, which wait for no lock for long."""
    return {**QUICK, "database_lock_timeout_seconds": 1.0}


@contextmanager
def locked(settings: Settings, sql: str, *parameters: Any) -> Iterator[None]:
    """A foreign transaction holds the locks of these rows inside the block."""
    url = settings.without_pooler().database_url.get_secret_value()
    with psycopg.connect(url) as connection:
        assert connection.execute(f"{sql} FOR UPDATE".encode(), parameters).rowcount
        yield
        connection.rollback()


def status_of(database: Database, job_id: int) -> str:
    """The state of a job."""
    with database.autocommit() as connection:
        return job_store.get(connection, job_id).status.value


def relate(database: Database, parent_id: int, child_id: int) -> None:
    """Let one job wait for another."""
    with database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE jobs SET has_dependants = true WHERE id = %s", (parent_id,))
        connection.exec_driver_sql(
            "INSERT INTO dependencies (job_id, parent_id, on_parent_failure) VALUES (%s, %s, 'fail')",
            (child_id, parent_id),
        )


def test_a_locked_ready_row_stops_no_other_start(settings: Settings, make_job: JobFactory) -> None:
    """Jobs of its own queue and of all others start; the locked one when its lock is gone."""
    with process_of(settings) as broker:

        @goqueue.actor(queue="first")
        def work() -> None:
            pass

        broker.declare_queue("second")
        jobs = [make_job(queue=queue, type="work") for queue in ("first", "first", "second")]
        lock = ExitStack()
        lock.enter_context(locked(settings, "SELECT FROM jobs WHERE id = %s", jobs[0].id))
        with lock, Engine(broker) as engine:
            began_at = time.monotonic()
            more = [default().creator.one(NewJob(queue, "work", "{}")) for queue in ("first", "second")]
            for job in [*jobs[1:], *more]:
                engine.wait_for(job.id)
            assert time.monotonic() - began_at < BOUND_SECONDS
            assert engine.job(jobs[0].id).status == "queued"
            lock.close()
            engine.wait_for(jobs[0].id)


def test_a_locked_claim_keeps_its_message(settings: Settings, make_job: JobFactory) -> None:
    """A message whose row is locked is no stale one: it is not forgotten."""
    with process_of(settings) as broker:
        broker.claimed_jobs.worker_id = make_job.worker_id
        job, stale = make_job(), make_job("completed")
        consumer = broker.consume("default")
        broker.runway.dispatch("default", [Message(job.id, 0), Message(stale.id, 0)], limit=9, closed=False)
        with locked(settings, "SELECT FROM jobs WHERE id = %s", job.id):
            assert next(consumer) is None
        assert broker.runway.lengths(["default"]) == [(0, 1)]
        assert broker.slots.busy == 0


@pytest.mark.parametrize("what", ["row", "child"])
def test_a_locked_row_stops_no_other_expiry(
    settings: Settings, database: Database, make_job: JobFactory, what: str
) -> None:
    """Late jobs end; what is locked, or waits for one and is locked, follows."""
    past = "2020-01-01T00:00:00Z"
    jobs = [make_job(expires_at=past, available_at="2019-01-01T00:00:00Z") for _ in range(3)]
    child = make_job("blocked")
    relate(database, jobs[0].id, child.id)
    held = jobs[0] if what == "row" else child
    expirer = Expirer(settings, database, time.sleep)
    with locked(settings, "SELECT FROM jobs WHERE id = %s", held.id):
        began_at = time.monotonic()
        expirer.run_once()
        assert time.monotonic() - began_at < BOUND_SECONDS
        assert [status_of(database, job.id) for job in jobs[1:]] == ["expired"] * 2
    expirer.run_once()
    sweep(settings, database)
    assert status_of(database, jobs[0].id) == "expired"
    assert status_of(database, child.id) == "failed"


def sweep(settings: Settings, database: Database) -> None:
    """One walk of the releaser."""
    runway = Runway(settings)
    Releaser(settings, database, time.sleep, runway).run_once()
    runway.close()


@pytest.mark.parametrize("what", ["row", "child", "worker"])
def test_a_locked_row_stops_no_other_rescue(
    settings: Settings, database: Database, make_job: JobFactory, what: str
) -> None:
    """Jobs of lost workers are taken back; what is locked follows."""
    workers = [make_job.worker(silent_seconds=60) for _ in range(2)]
    jobs = [
        make_job("running", worker_id=worker, attempts=1, max_retries=0)
        for worker in workers
        for _ in range(2)
    ]
    child = make_job("blocked")
    relate(database, jobs[0].id, child.id)
    at_once = settings.model_copy(update={"heartbeat_seconds": 0.0})
    rescuer = Rescuer(at_once, database, time.sleep)
    table, held = (
        ("workers", workers[0]) if what == "worker" else ("jobs", (jobs[0] if what == "row" else child).id)
    )
    with locked(settings, f"SELECT FROM {table} WHERE id = %s", held):
        began_at = time.monotonic()
        rescuer.run_once()
        assert time.monotonic() - began_at < BOUND_SECONDS
        assert "running" not in {status_of(database, job.id) for job in jobs[2:]}
    rescuer.run_once()
    sweep(settings, database)
    assert "running" not in {status_of(database, job.id) for job in jobs}


@pytest.mark.parametrize("what", ["queue", "job"])
def test_a_locked_row_stops_no_other_admission(
    settings: Settings, database: Database, make_job: JobFactory, what: str
) -> None:
    """Queues with limits let in what they may, but for what is locked."""
    jobs = [make_job(queue=queue) for queue in ("limited", "limited", "other")]
    with database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE queues SET concurrency = 5")
    runway = Runway(settings)
    make_job.worker(queues=["limited", "other"])
    dispatcher = Dispatcher(settings, database, runway)
    table, column, held = ("queues", "name", "limited") if what == "queue" else ("jobs", "id", jobs[0].id)
    with locked(settings, f"SELECT FROM {table} WHERE {column} = %s", held):
        began_at = time.monotonic()
        dispatcher.run_once()
        assert time.monotonic() - began_at < BOUND_SECONDS
        assert is_admitted(database, jobs[2].id)
        assert is_admitted(database, jobs[1].id) == (what == "job")
    wait_until(lambda: dispatcher.run_once() and is_admitted(database, jobs[0].id), 10, "the locked one")
    runway.close()


def is_admitted(database: Database, job_id: int) -> bool:
    """Whether a job was let in."""
    with database.autocommit() as connection:
        return job_store.get(connection, job_id).admitted
