"""Events: what is written down, while somebody listens, and how it is read without a gap."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest

from goqueue.db.database import Database
from goqueue.engine import report_rows
from goqueue.engine.report_rows import Progress, Report
from goqueue.engine.transitions.cancel import cancel
from goqueue.engine.transitions.claim import claim
from goqueue.engine.transitions.expire import expire
from goqueue.engine.transitions.give_back import give_back
from goqueue.engine.transitions.record import record
from goqueue.engine.transitions.rescue import rescue
from goqueue.engine.transitions.retry import retry
from goqueue.engine.workers import worker_rows
from goqueue.errors import DatabaseUnavailableError
from goqueue.events import subscription_rows
from goqueue.events.cursor import Cursor
from goqueue.events.event import Event, EventKind
from goqueue.events.feed import EventFeed
from goqueue.events.subscriptions import Subscriptions
from goqueue.jobs import AttemptOutcome, Job, JobStatus, Outcome
from tests.support.factories import LEASE_SECONDS, JobFactory
from tests.support.shared_database import emptied_database, module_settings
from tests.support.waiting import wait_until

settings = module_settings
database = emptied_database

WATCHED = ("jobs", "queues", "types", "schedules", "schedule_ticks", "workers", "attempt_progress")
TRIGGERS = """
    SELECT count(*) FROM pg_trigger
    WHERE tgname ~ '_event_' AND tgrelid = ANY (%(tables)s::text[]::regclass[])
"""


@pytest.fixture
def feed(database: Database) -> EventFeed:
    """The feed of a database whose changes are written down."""
    Subscriptions(database).keep("test", 60)
    return EventFeed(database)


def number(database: Database, sql: str, **parameters: Any) -> int:
    """The number that a query answers."""
    with database.autocommit() as connection:
        return int(connection.exec_driver_sql(sql, parameters).scalar_one())


def run(database: Database, sql: str, **parameters: Any) -> None:
    """Run a statement."""
    with database.autocommit() as connection:
        connection.exec_driver_sql(sql, parameters)


def triggers(database: Database) -> int:
    """How many triggers write events."""
    return number(database, TRIGGERS, tables=list(WATCHED))


def events_since(feed: EventFeed, cursor: Cursor) -> list[Event]:
    """All events behind a cursor."""
    return feed.read(cursor).events


def kinds_since(feed: EventFeed, cursor: Cursor) -> list[str]:
    """The kinds of all events behind a cursor."""
    return [event.kind for event in events_since(feed, cursor)]


def outcome(job: Job, status: JobStatus, how: AttemptOutcome, **values: Any) -> Outcome:
    """The end of an attempt of a running job."""
    return Outcome(job.id, job.fence, status, how, run_seconds=0.1, **values)


def test_without_a_subscriber_there_is_no_trigger(database: Database, make_job: JobFactory) -> None:
    """Who listens to nothing pays for nothing: there is nothing that would write an event."""
    with database.transaction() as connection:
        subscription_rows.stop_writing(connection, after_seconds=-100)
    assert triggers(database) == 0
    make_job()
    assert number(database, "SELECT count(*) FROM events") == 0


def test_the_first_subscription_makes_the_triggers_and_the_end_of_the_last_drops_them(
    database: Database,
) -> None:
    """They stay for a while after the last lease, for a client that comes back."""
    with database.transaction() as connection:
        subscription_rows.stop_writing(connection, after_seconds=-100)
    subscriptions = Subscriptions(database)
    subscriptions.keep("one", 60)
    subscriptions.keep("other", 60)
    assert triggers(database) == 13
    subscriptions.end("one")
    for after_seconds, left in ((0, 13), (300, 13)):
        with database.transaction() as connection:
            assert not subscription_rows.stop_writing(connection, after_seconds=after_seconds)
        assert triggers(database) == left
        subscriptions.end("other")
    with database.transaction() as connection:
        assert subscription_rows.stop_writing(connection, after_seconds=-1)
    assert triggers(database) == 0


def test_the_triggers_wait_shortly_for_a_transaction_that_stays_open(database: Database) -> None:
    """A transaction of minutes keeps them from being made, and they hold nobody up: that is refused."""
    with database.transaction() as connection:
        subscription_rows.stop_writing(connection, after_seconds=-100)
    waits: list[float] = []
    subscriptions = Subscriptions(database, wait=waits.append)
    with database.transaction() as connection:
        connection.exec_driver_sql("UPDATE queues SET paused_at = NULL")
        with pytest.raises(DatabaseUnavailableError) as refusal:
            subscriptions.keep("test", 60)
    assert refusal.value.may_be_the_statement
    assert len(waits) == 4
    subscriptions.keep("test", 60)
    assert triggers(database) == 13


def test_a_vacuum_is_waited_for_until_it_gives_way(database: Database) -> None:
    """It may take minutes, so the last try waits for as long as PostgreSQL takes to end an automatic one."""
    with database.transaction() as connection:
        subscription_rows.stop_writing(connection, after_seconds=-100)
    waits: list[float] = []
    keeping = threading.Thread(target=lambda: Subscriptions(database, wait=waits.append).keep("test", 60))
    with database.transaction() as connection:
        # As a vacuum locks it.
        connection.exec_driver_sql("LOCK TABLE jobs IN SHARE UPDATE EXCLUSIVE MODE")
        keeping.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'jobs'::regclass AND NOT granted"
        wait_until(lambda: len(waits) == 4 and number(database, waiting) == 1)
    keeping.join(30)
    assert triggers(database) == 13


def test_every_change_of_a_job_is_an_event(database: Database, make_job: JobFactory, feed: EventFeed) -> None:
    """A job that is claimed, retried, snoozed, interrupted and completed says each of it, in order."""
    start = feed.now()
    job = make_job()
    for fence, (status, how) in enumerate(
        [
            (JobStatus.QUEUED, AttemptOutcome.FAILED),
            (JobStatus.QUEUED, AttemptOutcome.SNOOZED),
            (JobStatus.QUEUED, AttemptOutcome.INTERRUPTED),
            (JobStatus.COMPLETED, AttemptOutcome.COMPLETED),
        ]
    ):
        with database.autocommit() as connection:
            [claimed] = claim(
                connection, [(job.id, fence)], worker_id=make_job.worker_id, lease_seconds=LEASE_SECONDS
            )
            ended = Outcome(job.id, claimed.fence, status, how, refund=how is not AttemptOutcome.FAILED)
            assert record(connection, [ended], worker_id=make_job.worker_id).keys
    events = [event for event in events_since(feed, start) if event.job_id == job.id]
    assert [event.kind for event in events] == [
        "job.created",
        "job.started",
        "job.retried",
        "job.started",
        "job.snoozed",
        "job.started",
        "job.interrupted",
        "job.started",
        "job.completed",
    ]
    assert {(event.queue, event.type) for event in events} == {("default", "noop")}
    assert events[1].data["worker_id"] == make_job.worker_id
    assert events[1].data["attempt"] == 1
    assert events[-1].data["status"] == "completed"


def test_the_other_ways_of_a_job_are_told_apart(
    database: Database, make_job: JobFactory, feed: EventFeed
) -> None:
    """Given back, taken from a lost worker, asked to stop, cancelled, expired, failed, replayed, edited."""
    returned, rescued, asked = (make_job(JobStatus.RUNNING) for _ in range(3))
    cancelled, expired, edited = (make_job() for _ in range(3))
    failing, blocked = make_job(JobStatus.RUNNING), make_job(JobStatus.BLOCKED)
    lost = make_job.worker()
    run(database, "UPDATE jobs SET worker_id = %(w)s WHERE id = %(id)s", w=lost, id=rescued.id)
    run(database, "UPDATE workers SET stopped_at = now() WHERE id = %(w)s", w=lost)
    run(database, "UPDATE jobs SET expires_at = now() WHERE id = %(id)s", id=expired.id)
    start = feed.now()
    with database.autocommit() as connection:
        give_back(connection, [(returned.id, 1)], worker_id=make_job.worker_id)
        rescue(connection, max_deaths=3)
        cancel(connection, [asked.id, cancelled.id])
        expire(connection, limit=10)
        record(
            connection,
            [outcome(failing, JobStatus.FAILED, AttemptOutcome.FAILED, error="boom", reason="discarded")],
            worker_id=make_job.worker_id,
        )
        retry(connection, [failing.id])
        connection.exec_driver_sql(
            "UPDATE jobs SET priority = 7, updated_at = clock_timestamp() WHERE id = %(id)s",
            {"id": edited.id},
        )
        connection.exec_driver_sql(
            "UPDATE jobs SET status = 'queued', rank = now() WHERE id = %(id)s", {"id": blocked.id}
        )
    told = [(event.job_id, event.kind) for event in events_since(feed, start)]
    # The two of one statement come in either order.
    assert sorted(told[2:4]) == sorted([(asked.id, "job.cancel_requested"), (cancelled.id, "job.cancelled")])
    assert told[:2] + told[4:] == [
        (returned.id, "job.returned"),
        (rescued.id, "job.interrupted"),
        (expired.id, "job.expired"),
        (failing.id, "job.failed"),
        (failing.id, "job.replayed"),
        (edited.id, "job.edited"),
        (blocked.id, "job.released"),
    ]


def test_what_an_admission_changes_of_a_waiting_job_is_no_event(
    database: Database, make_job: JobFactory, feed: EventFeed
) -> None:
    """Being let in, and getting a place in the order, are not the client's affair."""
    job = make_job()
    start = feed.now()
    run(
        database,
        "UPDATE jobs SET admitted = true, rank = now(), updated_at = now() WHERE id = %(id)s",
        id=job.id,
    )
    assert kinds_since(feed, start) == []


def test_an_event_holds_nothing_that_a_job_holds(
    database: Database, make_job: JobFactory, feed: EventFeed
) -> None:
    """No payload, no result, no error, no message: whoever reads all of `events` learns none of it."""
    start = feed.now()
    job = make_job(JobStatus.RUNNING, payload={"card": "secret-1"})
    with database.autocommit() as connection:
        report_rows.write_progress(connection, [Report(job.id, 1, Progress(0.5, "secret-2", 0.0), [])])
        report_rows.write_progress(connection, [Report(job.id, 1, Progress(0.7, "secret-3", 0.0), [])])
        ended = outcome(
            job,
            JobStatus.FAILED,
            AttemptOutcome.FAILED,
            error="secret-4",
            traceback="secret-5",
            result='"secret-6"',
        )
        record(connection, [ended], worker_id=make_job.worker_id)
    events = events_since(feed, start)
    kinds = [event.kind for event in events if event.job_id]
    assert kinds == ["job.created", "job.progress", "job.progress", "job.failed"]
    assert [event.data["progress"] for event in events if event.kind == "job.progress"] == [0.5, 0.7]
    assert number(database, "SELECT count(*) FROM events WHERE events::text LIKE '%%secret%%'") == 0


def test_queues_breakers_schedules_and_workers_are_told_of(
    database: Database, make_job: JobFactory, feed: EventFeed
) -> None:
    """What happens to what jobs depend on are events as well; a heartbeat is none."""
    make_job.worker()
    start = feed.now()
    with database.autocommit() as connection:
        for statement in (
            "INSERT INTO queues (name) VALUES ('mail')",
            "UPDATE queues SET paused_at = now(), pause_reason = 'tea' WHERE name = 'mail'",
            "UPDATE queues SET paused_at = NULL, pause_reason = NULL WHERE name = 'mail'",
            "UPDATE queues SET concurrency = 3 WHERE name = 'mail'",
            "UPDATE queues SET throttled_until = now() WHERE name = 'mail'",
            "INSERT INTO types (name, breaker) VALUES ('noop', '{}')",
            "UPDATE types SET breaker_state = 'open'",
            "UPDATE types SET breaker_state = 'half_open', probes_let_in = 1",
            "UPDATE types SET breaker_state = 'closed'",
            """INSERT INTO schedules (name, cron, queue, type, payload, next_at, due_at)
               VALUES ('nightly', '@daily', 'mail', 'noop', '{}', now(), now())""",
            "UPDATE schedules SET next_at = now(), due_at = now()",
            """INSERT INTO schedule_ticks (schedule_id, nominal_at, outcome, job_id)
               SELECT id, now(), 'fired', 1 FROM schedules""",
            """INSERT INTO schedule_ticks (schedule_id, nominal_at, outcome)
               SELECT id, now() - interval '1 s', 'missed' FROM schedules""",
            "UPDATE schedules SET paused_at = now(), next_at = NULL, due_at = NULL, updated_at = now()",
            "UPDATE schedules SET paused_at = NULL, updated_at = now()",
            "UPDATE schedules SET priority = 3, updated_at = now()",
            "DELETE FROM schedules",
        ):
            connection.exec_driver_sql(statement)
        worker = make_job.worker()
        worker_rows.renew(connection, worker, busy=3)
        for change in ("command = 'quiet'", "command = NULL", "command = 'stop'", "stopped_at = now()"):
            connection.exec_driver_sql(f"UPDATE workers SET {change} WHERE id = {worker}")
        connection.exec_driver_sql(f"UPDATE workers SET stopped_at = now(), lost = true WHERE id <> {worker}")
    events = events_since(feed, start)
    assert [event.kind for event in events] == [
        "queue.paused",
        "queue.resumed",
        "queue.changed",
        "breaker.opened",
        "breaker.half_opened",
        "breaker.closed",
        "schedule.created",
        "schedule.fired",
        "schedule.skipped",
        "schedule.paused",
        "schedule.resumed",
        "schedule.changed",
        "schedule.deleted",
        "worker.started",
        "worker.quieted",
        "worker.resumed",
        "worker.stopping",
        "worker.stopped",
        "worker.lost",
    ]
    assert events[0].queue == "mail"
    assert events[0].data["reason"] == "tea"
    assert events[3].type == "noop"
    assert events[8].data["outcome"] == "missed"
    assert events[7].data["schedule"] == "nightly"


def test_every_kind_that_the_triggers_write_has_a_name(database: Database) -> None:
    """The enumeration and the functions of the triggers agree."""
    with database.autocommit() as connection:
        sources = connection.exec_driver_sql(
            "SELECT string_agg(prosrc, ' ') FROM pg_proc WHERE proname LIKE 'goqueue_event_of%%'"
        ).scalar_one()
    written = set(re.findall(r"'((?:job|queue|breaker|schedule|worker)\.[a-z_]+)'", sources))
    assert written == {kind.value for kind in EventKind if not kind.startswith("webhook.")}
