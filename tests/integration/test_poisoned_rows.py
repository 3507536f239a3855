"""A row with a moment that no reader can hold is set aside; every other row of every queue goes on."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

import pytest

import goqueue
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.dispatch import dispatcher as dispatcher_module
from goqueue.dispatch import ready_looks, runway_state
from goqueue.dispatch.dispatcher import Dispatcher
from goqueue.engine import job_rows as job_store
from goqueue.engine.runway.runway import Message, Runway, parse
from goqueue.errors import DatabaseRefusedError
from goqueue.insight.roller import Roller
from goqueue.jobs import JobStatus, NewJob
from goqueue.limits.breaker_service import Breakers
from goqueue.limits.pause_service import Pauses
from goqueue.scheduler import parts
from goqueue.scheduler.cleaner import Cleaner
from goqueue.scheduler.expirer import Expirer
from goqueue.scheduler.loop_watch import LoopWatch
from goqueue.scheduler.releaser import Releaser
from goqueue.scheduler.rescuer import Rescuer
from goqueue.scheduler.service import Service
from goqueue.schedules import scheduling
from goqueue.schedules.rules import Source
from goqueue.schedules.service import CronScheduler
from goqueue.schedules.settings import ScheduleSettings
from goqueue.worker.claiming.claimer import Claimer
from tests.support.engine import process_of
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
    for name in ("WORKERS_SECONDS", "WAITING_SECONDS", "SET_ASIDE_SECONDS"):
        monkeypatch.setattr(dispatcher_module, name, 0.0)
    for name in ("FIRST_ROW_SECONDS", "FIRST_ROW_REST"):
        monkeypatch.setattr(runway_state, name, 0.0)


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
    messages, _, _, garbage = parse(runway.fetch(queue, 1000, block_seconds=0.01))
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
    poison(unchecked, 1, **columns, priority="100")
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


def test_a_queue_that_cannot_be_read_stops_no_other(
    database: Database,
    settings: Settings,
    runway: Runway,
    make_job: JobFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where reading the queues together fails, each is read alone; the lag tells, the liveness does not."""
    expected = healthy(make_job)
    make_job(queue="poisoned")
    look = ready_looks.ReadyLooks.read

    def refuse(self: Any, connection: Any, wanted: Any) -> Any:
        if "poisoned" in wanted:
            raise DatabaseRefusedError("nobody can read this")
        return look(self, connection, wanted)

    monkeypatch.setattr(ready_looks.ReadyLooks, "read", refuse)
    dispatcher = Dispatcher(settings, database, runway)
    for _ in range(2):
        dispatcher.run_once()
    assert {queue: fetch(runway, queue) for queue in expected} == {
        queue: [job_id] for queue, job_id in expected.items()
    }
    assert fetch(runway, "poisoned") == []
    assert dispatcher.parts.failing_seconds() > 0
    assert dispatcher.stands_still(0) == []


def test_a_dispatch_that_stands_still_is_told(
    database: Database,
    settings: Settings,
    runway: Runway,
    make_job: JobFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When no queue can be read, or nothing becomes due, the liveness of the scheduler says so; then not."""
    make_job()

    def refuse(*_: Any, **__: Any) -> Any:
        raise DatabaseRefusedError("nobody can read this")

    dispatcher = Dispatcher(settings, database, runway)
    with monkeypatch.context() as patch:
        patch.setattr(ready_looks.ReadyLooks, "read", refuse)
        patch.setattr(ready_looks.DueLooks, "make_due", refuse)
        dispatcher.run_once()
        told = dispatcher.stands_still(0)
    assert [line.partition(" has failed")[0] for line in told] == [
        "dispatcher: make due",
        "dispatcher: reading every queue",
    ]
    monkeypatch.setattr(parts, "REST_SECONDS", 0.0)
    dispatcher.parts._rests.clear()  # noqa: SLF001  (a rest that is over)
    dispatcher.run_once()
    assert dispatcher.stands_still(0) == []


def test_a_loop_that_fails_in_every_round_is_told(settings: Settings) -> None:
    """A role whose rounds all fail is told, unless a server does not answer, until a round succeeds."""
    watch = LoopWatch(settings.model_copy(update={"liveness_seconds": -60.0}))
    watch.begin("cleaner")
    watch.fail("cleaner")
    assert any("failed in every round" in line for line in watch.stuck())
    watch.postpone("cleaner")
    assert not any("failed in every round" in line for line in watch.stuck())
    watch.fail("cleaner")
    watch.rest("cleaner")
    assert not any("failed in every round" in line for line in watch.stuck())


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("column", ["expires_at", "deadline_at", "started_at", "cancel_requested_at"])
def test_no_loop_is_stopped_by_a_row(
    unchecked: Database, settings: Settings, runway: Runway, make_job: JobFactory, moment: str, column: str
) -> None:
    """Claim, rescue, expiry, forced cancels, release, rollups and cleaning go on beside such a row."""
    poison(unchecked, 1, **{column: moment}, rank="2026-01-01 00:00:00+00")
    lost = make_job.worker()
    running = make_job("running", queue="poisoned", worker_id=lost)
    with unchecked.autocommit() as connection:
        connection.exec_driver_sql(
            f"UPDATE jobs SET {column} = %(moment)s WHERE id = %(id)s", {"moment": moment, "id": running.id}
        )
        connection.exec_driver_sql("UPDATE workers SET stopped_at = now() WHERE id = %(id)s", {"id": lost})
    other = make_job("running", queue="other", worker_id=lost)
    pause = threading.Event().wait
    services: list[Service] = [
        Dispatcher(settings, unchecked, runway),
        Rescuer(settings, unchecked, pause),
        Expirer(settings, unchecked, pause),
        Releaser(settings, unchecked, pause, runway),
        Pauses(settings, unchecked, pause, bool),
        Roller(settings, unchecked, pause),
        Cleaner(settings, unchecked, pause),
    ]
    for service in services:
        service.run_once()
    with unchecked.autocommit() as connection:
        assert job_store.get(connection, other.id).status is not JobStatus.RUNNING


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_poisoned_schedule_stops_no_other(unchecked: Database, settings: Settings, moment: str) -> None:
    """Whatever moment a schedule has as its next, the others fire."""
    job = NewJob(queue="noop", type="noop", payload="{}")
    for name in ("poisoned", "healthy"):
        every_minute = ScheduleSettings.model_validate({"cron": "* * * * *"})
        scheduling.create(unchecked, every_minute.definition(name, job, Source.API))
    with unchecked.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE schedules SET next_at = %(moment)s, due_at = %(moment)s WHERE name = 'poisoned'",
            {"moment": moment},
        )
        connection.exec_driver_sql(
            "UPDATE schedules SET next_at = date_trunc('minute', now()), due_at = now() "
            "WHERE name = 'healthy'"
        )
    CronScheduler(settings, unchecked, threading.Event().wait).run_once()
    with unchecked.autocommit() as connection:
        fired = connection.exec_driver_sql(
            "SELECT count(*) FROM schedule_ticks JOIN schedules ON schedules.id = schedule_id "
            "WHERE name = 'healthy' AND outcome = 'fired'"
        ).scalar()
    assert fired == 1


def test_a_claim_that_is_refused_sets_the_row_aside(
    settings: Settings, make_job: JobFactory, database: Database
) -> None:
    """A row that the constraint refuses to change is a dead letter; its batch-mates are claimed."""
    bad, good = make_job(queue="noop"), make_job(queue="noop")
    with database.autocommit() as connection:
        check = connection.exec_driver_sql(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'jobs_moments_check'"
        ).scalar()
        connection.exec_driver_sql("ALTER TABLE jobs DROP CONSTRAINT jobs_moments_check")
        connection.exec_driver_sql(
            "UPDATE jobs SET expires_at = 'infinity' WHERE id = %(id)s", {"id": bad.id}
        )
        connection.exec_driver_sql(f"ALTER TABLE jobs ADD CONSTRAINT jobs_moments_check {check} NOT VALID")
    with process_of(settings) as broker:

        @goqueue.actor
        def noop() -> None:
            """Is claimed here, and never run."""

    broker.claimed_jobs.worker_id = make_job.worker_id
    claimed = Claimer(broker, "noop")._claim_rows([Message(bad.id, 0), Message(good.id, 0)])  # noqa: SLF001  (a fault in one statement)
    assert [job.id for job in claimed] == [good.id]
    with database.autocommit() as connection:
        found = job_store.get(connection, bad.id)
    assert (found.status, found.reason) == (JobStatus.FAILED, "unreadable")


def test_a_breaker_that_nobody_can_read_stops_its_type_alone(
    unchecked: Database, settings: Settings, runway: Runway, make_job: JobFactory
) -> None:
    """Of a type whose breaker was written by hand nothing starts; other limited queues go on."""
    with unchecked.autocommit() as connection:
        connection.exec_driver_sql("INSERT INTO types (name, breaker) VALUES ('broken', '{\"what\": 1}')")
        connection.exec_driver_sql("INSERT INTO queues (name, concurrency) VALUES ('governed', 5)")
    good, bad = make_job(queue="governed"), make_job(queue="governed", type="broken")
    dispatcher = Dispatcher(settings, unchecked, runway)
    for _ in range(2):
        dispatcher.run_once()
    assert fetch(runway, "governed") == [good.id]
    Breakers(settings, unchecked, threading.Event().wait, bool).run_once()
    with unchecked.autocommit() as connection:
        assert job_store.get(connection, bad.id).status is JobStatus.QUEUED
