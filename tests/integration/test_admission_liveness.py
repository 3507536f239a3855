"""What may run is let in: nothing that cannot start keeps others waiting, and no limit is read as another."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from goqueue.config.settings import Settings
from goqueue.db.database import Connection, Database
from goqueue.dispatch.limited_queues import LimitedQueues
from goqueue.engine import job_rows as job_store
from goqueue.engine import queue_rows as queue_store
from goqueue.engine.runway.runway import Runway
from goqueue.errors import DatabaseRefusedError
from goqueue.jobs import JobStatus
from goqueue.limits import admission_rows as admission_store
from goqueue.limits import queue_setting_rows as queue_settings
from goqueue.limits import type_setting_rows as type_settings
from goqueue.limits.admission_round import QueueAdmission
from goqueue.limits.settings import (
    Breaker,
    BreakerState,
    KeyLimits,
    OnConflict,
    QueueLimits,
    RateLimit,
    TypeLimits,
)
from tests.support.factories import JobFactory
from tests.support.waiting import wait_until

#: The window of these tests lets in half as many.
THREADS = 16
ROUNDS = 6
HOUR = 3600.0


@pytest.fixture
def queues(database: Database, settings: Settings, runway: Runway) -> LimitedQueues:
    """The admission of the queue `default`, as a dispatcher has it."""
    queues = LimitedQueues(settings, database, runway)
    queues.learn(["default"], {"default": THREADS})
    return queues


def limit(database: Database, limits: QueueLimits, **keys: KeyLimits) -> None:
    """Set the limits of the queue `default`, and of its keys."""
    with database.transaction() as connection:
        queue_store.ensure(connection, ["default"])
        queue_settings.set_limits(connection, "default", limits)
        for key, own in keys.items():
            queue_settings.set_key(connection, "default", key, own)


def close_type(database: Database, name: str) -> None:
    """Open the circuit breaker of a type."""
    with database.transaction() as connection:
        type_settings.locked(connection, name)
        type_settings.set_limits(connection, name, TypeLimits(breaker=Breaker()))
        connection.exec_driver_sql(
            "UPDATE types SET breaker_state = %(state)s, breaker_changed_at = now() WHERE name = %(name)s",
            {"state": BreakerState.OPEN.value, "name": name},
        )


def limit_type(database: Database, name: str, concurrency: int) -> None:
    """Limit how many jobs of a type run at once."""
    with database.transaction() as connection:
        type_settings.locked(connection, name)
        type_settings.set_limits(connection, name, TypeLimits(concurrency=concurrency))


def rounds(queues: LimitedQueues, count: int = ROUNDS) -> None:
    """Some rounds of admission."""
    for _ in range(count):
        queues.run(Counter())


def admitted(database: Database) -> set[int]:
    """Who was let in."""
    with database.autocommit() as connection:
        return {job.id for job in admission_store.let_in(connection, 1000)}


def status_of(database: Database, job_id: int) -> tuple[JobStatus, bool]:
    """Where a job stands, and whether it is asked to stop."""
    with database.autocommit() as connection:
        job = job_store.get(connection, job_id)
        asked = connection.exec_driver_sql(
            "SELECT cancel_requested_at IS NOT NULL FROM jobs WHERE id = %(id)s", {"id": job_id}
        ).scalar_one()
    return job.status, asked


def test_keys_of_a_closed_type_do_not_hide_the_keys_behind_them(
    database: Database, queues: LimitedQueues, make_job: JobFactory
) -> None:
    """Twenty tenants whose jobs a breaker holds back are passed over, however few are looked at at once."""
    limit(database, QueueLimits(fair=True))
    close_type(database, "broken")
    for number in range(20):
        make_job(type="broken", concurrency_key=f"a{number:02}")
    behind = make_job(concurrency_key="z").id
    rounds(queues)
    assert admitted(database) == {behind}


def test_keys_without_a_start_left_do_not_hide_the_keys_behind_them(
    database: Database, queues: LimitedQueues, make_job: JobFactory
) -> None:
    """Twenty tenants have used up their rates; one that came later has not."""
    limit(database, QueueLimits(key_rate=RateLimit(1, HOUR)))
    for number in range(20):
        make_job("completed", concurrency_key=f"a{number:02}")
        make_job(concurrency_key=f"a{number:02}")
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "INSERT INTO rate_grants (queue, key, job_id, fence, cost, used_at) "
            "SELECT queue, concurrency_key, id, 0, 1, now() FROM jobs WHERE status = 'completed'"
        )
    behind = make_job(concurrency_key="z").id
    rounds(queues)
    assert admitted(database) == {behind}


def test_held_up_keys_do_not_hide_the_keys_behind_them(
    database: Database, queues: LimitedQueues, make_job: JobFactory
) -> None:
    """In strict order twenty keys wait for the backoff of their oldest job; another does not."""
    limit(database, QueueLimits(fifo=True))
    later = datetime.now(UTC) + timedelta(hours=1)
    for number in range(20):
        make_job(concurrency_key=f"a{number:02}", available_at=later)
        make_job(concurrency_key=f"a{number:02}")
    behind = make_job(concurrency_key="z").id
    rounds(queues)
    assert admitted(database) == {behind}


def test_more_held_up_keys_than_a_round_looks_at_are_passed_over(
    database: Database, queues: LimitedQueues, make_job: JobFactory
) -> None:
    """The search goes on in the next round where the last one stopped."""
    limit(database, QueueLimits(fair=True))
    close_type(database, "broken")
    make_job(concurrency_key="a")
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "INSERT INTO jobs (queue, type, payload, concurrency_key, rank) "
            "SELECT 'default', 'broken', '{}', 'k' || lpad(n::text, 5, '0'), now() "
            "FROM generate_series(1, 3000) AS n"
        )
    behind = make_job(concurrency_key="z").id

    def is_in() -> bool:
        rounds(queues, 1)
        return behind in admitted(database)

    wait_until(is_in, what="the search to come around")


def test_keyless_jobs_do_not_begin_the_ring_anew_before_its_end(
    database: Database, queues: LimitedQueues, make_job: JobFactory
) -> None:
    """Jobs without a key take a turn where the ring ends, not where a page of it does."""
    limit(database, QueueLimits(fair=True))
    close_type(database, "broken")
    for number in range(20):
        make_job(concurrency_key=f"a{number:02}", type="broken")
    behind = make_job(concurrency_key="z").id
    for _ in range(60):
        make_job()
    rounds(queues, 2)
    assert behind in admitted(database)


def test_keyless_jobs_of_a_closed_type_do_not_hide_others(
    database: Database, queues: LimitedQueues, make_job: JobFactory
) -> None:
    """The turn of jobs without a key is not theirs."""
    limit(database, QueueLimits(fair=True))
    close_type(database, "broken")
    for _ in range(20):
        make_job(type="broken")
    behind = make_job().id
    rounds(queues)
    assert admitted(database) == {behind}


@pytest.mark.parametrize(
    "limits", [QueueLimits(concurrency=2), QueueLimits(fair=True, concurrency=2)], ids=str
)
def test_suspects_of_a_closed_type_do_not_hide_others(
    database: Database, queues: LimitedQueues, make_job: JobFactory, limits: QueueLimits
) -> None:
    """Jobs that killed their workers, of a type whose breaker is open, wait without holding anyone up."""
    limit(database, limits)
    close_type(database, "broken")
    for _ in range(20):
        make_job(type="broken", quarantined=True, suspicion=2, deaths=1)
    behind = make_job().id
    rounds(queues)
    assert admitted(database) == {behind}


def test_suspects_of_a_busy_key_do_not_hide_others(
    database: Database, queues: LimitedQueues, make_job: JobFactory
) -> None:
    """Twenty suspects wait for the slot of their key, and one of another key does not wait for them."""
    limit(database, QueueLimits(key_concurrency=1))
    make_job("running", concurrency_key="busy")
    for _ in range(20):
        make_job(quarantined=True, suspicion=2, deaths=1, concurrency_key="busy")
    other = make_job(quarantined=True, suspicion=2, deaths=1, concurrency_key="free").id
    rounds(queues)
    assert admitted(database) == {other}


def test_a_suspect_is_not_kept_waiting_by_other_keys(
    database: Database, queues: LimitedQueues, make_job: JobFactory
) -> None:
    """A key of which only a suspect waits gets its turn, while more keys wait than fit."""
    limit(database, QueueLimits(fair=True))
    for number in range(THREADS):
        make_job(concurrency_key=f"a{number:02}")
    suspect = make_job(quarantined=True, suspicion=2, deaths=1, concurrency_key="suspect").id
    rounds(queues, 1)
    assert suspect in admitted(database)


def test_a_suspect_spends_the_rate_of_its_key(
    database: Database, queues: LimitedQueues, make_job: JobFactory
) -> None:
    """The retry of a job that killed its worker is a start like any other."""
    limit(database, QueueLimits(key_rate=RateLimit(1, HOUR)))
    make_job(quarantined=True, suspicion=2, deaths=1, concurrency_key="k", attempts=1, fence=1)
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "INSERT INTO rate_grants (queue, key, job_id, fence, cost, used_at) "
            "SELECT queue, concurrency_key, id, 0, 1, now() FROM jobs"
        )
    rounds(queues)
    assert admitted(database) == set()


def test_suspects_that_wait_for_the_quarantine_leave_the_window_to_others(
    database: Database, settings: Settings, runway: Runway, make_job: JobFactory
) -> None:
    """They start one after the other, much later; a window is for what starts now."""
    limit(database, QueueLimits(concurrency=100))
    queues = LimitedQueues(settings, database, runway)
    queues.learn(["default"], {"default": 2})
    for _ in range(3):
        make_job(quarantined=True, suspicion=2, deaths=1)
    others = [make_job().id for _ in range(3)]
    rounds(queues)
    assert others[0] in admitted(database)


def test_a_job_whose_breaker_is_open_is_not_dropped(
    database: Database, queues: LimitedQueues, make_job: JobFactory
) -> None:
    """`drop_new` is about concurrency: behind an open breaker jobs stay queued, and others pass."""
    limit(database, QueueLimits(concurrency=5, on_conflict=OnConflict.DROP_NEW))
    close_type(database, "broken")
    waiting = [make_job(type="broken").id for _ in range(20)]
    other = make_job().id
    rounds(queues)
    assert {status_of(database, job_id)[0] for job_id in waiting} == {JobStatus.QUEUED}
    assert admitted(database) == {other}


def test_a_job_that_waits_for_a_ramp_is_not_dropped(
    database: Database, queues: LimitedQueues, make_job: JobFactory
) -> None:
    """At the beginning of a ramp one job may run; the limit of five is not reached by that."""
    limit(database, QueueLimits(concurrency=5, ramp_seconds=HOUR, on_conflict=OnConflict.DROP_NEW))
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE queues SET ramping_since = now(), ramping_until = now() + interval '1 hour'"
        )
    ids = [make_job().id for _ in range(3)]
    rounds(queues)
    assert {status_of(database, job_id)[0] for job_id in ids} == {JobStatus.QUEUED}


@pytest.mark.parametrize(
    "limits",
    [QueueLimits(concurrency=1), QueueLimits(concurrency=9, key_concurrency=1)],
    ids=["queue", "key"],
)
def test_a_job_that_waits_for_a_rate_is_not_dropped(
    database: Database, queues: LimitedQueues, make_job: JobFactory, limits: QueueLimits
) -> None:
    """No slot is taken: the jobs wait for a start that the rate allows."""
    limit(
        database,
        QueueLimits(
            limits.concurrency,
            limits.key_concurrency,
            rate=RateLimit(1, HOUR),
            on_conflict=OnConflict.DROP_NEW,
        ),
    )
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "INSERT INTO rate_grants (queue, key, job_id, fence, cost, used_at) "
            "SELECT 'default', 'k', id, 0, 1, now() FROM (SELECT %(id)s::bigint AS id) AS job",
            {"id": make_job("completed", concurrency_key="k").id},
        )
    ids = [make_job(concurrency_key="k").id for _ in range(2)]
    rounds(queues)
    assert {status_of(database, job_id)[0] for job_id in ids} == {JobStatus.QUEUED}


def test_an_open_breaker_cancels_nothing_that_runs(
    database: Database, queues: LimitedQueues, make_job: JobFactory
) -> None:
    """With `cancel_running` a job that could not start anyway takes nobody's place."""
    limit(database, QueueLimits(concurrency=5, on_conflict=OnConflict.CANCEL_RUNNING))
    close_type(database, "broken")
    running = make_job("running").id
    make_job(type="broken")
    rounds(queues)
    assert status_of(database, running) == (JobStatus.RUNNING, False)


def test_a_full_type_supersedes_a_job_of_that_type(
    database: Database, queues: LimitedQueues, make_job: JobFactory
) -> None:
    """With `cancel_running` the slot that is taken is one that helps."""
    limit(database, QueueLimits(concurrency=5, on_conflict=OnConflict.CANCEL_RUNNING))
    limit_type(database, "heavy", 1)
    light = make_job("running").id
    heavy = make_job("running", type="heavy").id
    make_job(type="heavy")
    rounds(queues)
    assert status_of(database, light) == (JobStatus.RUNNING, False)
    assert status_of(database, heavy) == (JobStatus.RUNNING, True)


def test_the_limit_of_one_key_supersedes_a_job_of_that_key(
    database: Database, queues: LimitedQueues, make_job: JobFactory
) -> None:
    """Also where only this key has a limit."""
    limit(
        database, QueueLimits(fair=True, on_conflict=OnConflict.CANCEL_RUNNING), mine=KeyLimits(concurrency=1)
    )
    other = make_job("running", concurrency_key="other").id
    mine = make_job("running", concurrency_key="mine").id
    make_job(concurrency_key="mine")
    rounds(queues)
    assert status_of(database, other) == (JobStatus.RUNNING, False)
    assert status_of(database, mine) == (JobStatus.RUNNING, True)


def test_a_new_key_supersedes_the_oldest_of_a_full_queue(
    database: Database, queues: LimitedQueues, make_job: JobFactory
) -> None:
    """It is the queue that is full, not the key, which holds nothing that could be cancelled."""
    limit(database, QueueLimits(concurrency=1, key_concurrency=1, on_conflict=OnConflict.CANCEL_RUNNING))
    running = make_job("running", concurrency_key="old").id
    make_job(concurrency_key="new")
    rounds(queues)
    assert status_of(database, running) == (JobStatus.RUNNING, True)


def test_a_queue_whose_round_fails_stops_no_other(
    database: Database,
    settings: Settings,
    runway: Runway,
    make_job: JobFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A round that raises is logged; the rounds of the queues behind it come as always."""
    limit(database, QueueLimits(concurrency=5))
    queues = LimitedQueues(settings, database, runway)
    queues.learn(["a", "default"], {})
    make_job(queue="a")
    behind = make_job().id
    real = QueueAdmission.round

    def fails(self: QueueAdmission, connection: Connection) -> object:
        if self.queue == "a":
            raise DatabaseRefusedError("PostgreSQL: integer out of range")
        return real(self, connection)

    monkeypatch.setattr(QueueAdmission, "round", fails)
    rounds(queues)
    assert admitted(database) == {behind}
