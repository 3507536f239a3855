"""A row with a moment that no reader can hold is set aside; every other row of every queue goes on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from goqueue.broker.runway import Runway, parse
from goqueue.config import Settings
from goqueue.db import Database
from goqueue.jobs import JobStatus
from goqueue.services import dispatcher as dispatcher_module
from goqueue.services.dispatcher import Dispatcher
from goqueue.store import jobs as job_store
from tests.support.factories import JobFactory

#: Moments that PostgreSQL keeps and Python does not, or that rank arithmetic leads out of either.
MOMENTS = [
    pytest.param("0001-01-01 00:00:00+00", id="year one"),
    pytest.param("4713-01-01 00:00:00+00 BC", id="the first year of PostgreSQL"),
    pytest.param("-infinity", id="minus infinity"),
    pytest.param("9999-12-31 23:59:59+00", id="the last year of Python"),
    pytest.param("10000-01-01 00:00:00+00", id="beyond Python"),
    pytest.param("294276-12-31 23:59:59+00", id="the last year of PostgreSQL"),
    pytest.param("infinity", id="infinity"),
]


@pytest.fixture
def overrides() -> dict[str, Any]:
    """A dispatcher that does everything soon."""
    return {"dispatch_idle_seconds": 0.02}


@pytest.fixture(autouse=True)
def every_round_does_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done now and then is done in each round."""
    for name in ("WORKERS_SECONDS", "WAITING_SECONDS", "FIRST_ROW_SECONDS", "SET_ASIDE_SECONDS"):
        monkeypatch.setattr(dispatcher_module, name, 0.0, raising=False)


@pytest.fixture
def unchecked(database: Database) -> Database:
    """The database without the constraint that keeps such moments out."""
    with database.autocommit() as connection:
        connection.exec_driver_sql("ALTER TABLE jobs DROP CONSTRAINT IF EXISTS jobs_moments_check")
        connection.exec_driver_sql("ALTER TABLE queues DROP CONSTRAINT IF EXISTS queues_moments_check")
        connection.exec_driver_sql("ALTER TABLE schedules DROP CONSTRAINT IF EXISTS schedules_moments_check")
    return database


def poison(database: Database, count: int = 1, **columns: str) -> list[int]:
    """Insert jobs of the queue `poisoned` by hand."""
    values = {"queue": "poisoned", "type": "noop", "payload": "{}"} | columns
    names, places = ", ".join(values), ", ".join(f"%({name})s" for name in values)
    with database.autocommit() as connection:
        connection.exec_driver_sql("INSERT INTO queues (name) VALUES ('poisoned') ON CONFLICT DO NOTHING")
        rows = connection.exec_driver_sql(
            f"INSERT INTO jobs ({names}) SELECT {places} FROM generate_series(1, {count}) RETURNING id",
            values,
        )
        return [row[0] for row in rows]


def fetch(runway: Runway, queue: str) -> list[int]:
    """The ids that are on a runway, taken off it."""
    messages, garbage = parse(runway.fetch(queue, 1000, block_seconds=0.01))
    assert garbage == []
    return [message.job_id for message in messages]


def healthy(make_job: JobFactory) -> dict[str, int]:
    """A job of each way to become ready, each in a queue of its own: queue → its id."""
    past = datetime(2026, 1, 1, tzinfo=UTC)
    return {
        "backlog": make_job(queue="backlog").id,
        "retries": make_job(queue="retries", available_at=past, attempts=1).id,
        "runat": make_job(queue="runat", available_at=past).id,
        "governed": make_job(queue="governed").id,
    }


@pytest.mark.parametrize("column", ["available_at", "rank", "both"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_poisoned_row_of_one_queue_stops_no_other(
    unchecked: Database,
    settings: Settings,
    runway: Runway,
    make_job: JobFactory,
    moment: str,
    column: str,
) -> None:
    """Whatever moment a row of one queue has, the jobs of all others are dispatched in the same rounds."""
    columns = {"available_at": moment, "rank": moment} if column == "both" else {column: moment}
    poison(unchecked, **columns, priority="100")
    expected = healthy(make_job)
    with unchecked.autocommit() as connection:
        connection.exec_driver_sql("UPDATE queues SET concurrency = 5 WHERE name = 'governed'")
    dispatcher = Dispatcher(settings, unchecked, runway)
    for _ in range(3):
        dispatcher.run_once()
    assert {queue: fetch(runway, queue) for queue in expected} == {
        queue: [job_id] for queue, job_id in expected.items()
    }


def test_three_hundred_jobs_of_year_one_stop_nothing(
    unchecked: Database, settings: Settings, runway: Runway, make_job: JobFactory
) -> None:
    """Three hundred urgent jobs of year one are dead letters that say why, and every other queue goes on."""
    ids = poison(unchecked, 300, available_at="0001-01-01 00:00:00+00", priority="100")
    expected = healthy(make_job)
    dispatcher = Dispatcher(settings, unchecked, runway)
    for _ in range(3):
        dispatcher.run_once()
    assert {queue: fetch(runway, queue) for queue in expected} == {
        queue: [job_id] for queue, job_id in expected.items()
    }
    with unchecked.autocommit() as connection:
        jobs = job_store.get_many(connection, ids)
    assert {(job.status, job.reason) for job in jobs} == {(JobStatus.FAILED, "unreadable")}
    assert all("available_at" in (job.error or "") for job in jobs)
