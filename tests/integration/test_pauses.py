"""Pauses: why, by whom, until when; and how a queue goes on after one."""

from __future__ import annotations

import threading

import pytest

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine import queue_rows as queue_store
from goqueue.engine.queue_rows import Queue
from goqueue.limits import queue_setting_rows as queue_settings
from goqueue.limits.pause_service import Pauses
from goqueue.limits.settings import QueueLimits
from tests.support.factories import JobFactory
from tests.support.shared_database import emptied_database, module_settings
from tests.support.waiting import wait_until

settings = module_settings
database = emptied_database


@pytest.fixture
def queue(database: Database) -> str:
    """A queue."""
    with database.autocommit() as connection:
        queue_store.ensure(connection, ["default"])
    return "default"


def row(database: Database, name: str = "default") -> Queue:
    """The queue as everybody sees it."""
    with database.autocommit() as connection:
        return next(queue for queue in queue_store.list_all(connection) if queue.name == name)


def ramp(database: Database) -> float | None:
    """How far the ramp of the queue has come; None: it has none."""
    with database.autocommit() as connection:
        limited = queue_settings.limited(connection)
    return limited[0].ramp if limited else None


def age_pause(database: Database, seconds: float) -> None:
    """Let time pass: everything about the pause was so much earlier."""
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE queues SET "
            + ", ".join(
                f"{name} = {name} - make_interval(secs => %(s)s)"
                for name in ("paused_at", "paused_until", "ramping_since", "ramping_until", "throttled_until")
            ),
            {"s": seconds},
        )


def test_a_pause_says_why_by_whom_and_until_when(database: Database, queue: str) -> None:
    """Everything that was said of a pause is in the queue's row, and gone after the resume."""
    with database.autocommit() as connection:
        paused = queue_store.pause(connection, queue, reason="deploy", author="ann", seconds=60)
        assert paused == row(database)
        assert (paused.pause_reason, paused.paused_by, paused.is_closed) == ("deploy", "ann", True)
        assert paused.paused_at is not None
        assert paused.paused_until is not None
        assert (paused.paused_until - paused.paused_at).total_seconds() == 60
        resumed = queue_store.resume(connection, queue)
    assert resumed == Queue(queue, None, paused.created_at)


def test_a_second_pause_changes_its_end(database: Database, queue: str) -> None:
    """Pausing again keeps the time, and the reason and author where none is given; the end is the new one."""
    with database.autocommit() as connection:
        first = queue_store.pause(connection, queue, reason="deploy", author="ann", seconds=60)
        second = queue_store.pause(connection, queue, author="bob")
    assert second == first._replace(paused_by="bob", paused_until=None)


def test_a_pause_ends_everywhere_at_once(
    database: Database,
    queue: str,
    make_job: JobFactory,
) -> None:
    """When its end has come a queue is open, before anything cleared its row; the next pause is a new one."""
    with database.autocommit() as connection:
        queue_store.pause(connection, queue, reason="deploy", seconds=60)
    assert len(make_job.claim(make_job())) == 0
    age_pause(database, 61)
    assert len(make_job.claim(make_job())) == 1
    assert row(database) == Queue(queue, None, row(database).created_at)
    with database.autocommit() as connection:
        again = queue_store.pause(connection, queue)
        assert again.pause_reason is None
        (now,) = connection.exec_driver_sql("SELECT now()").one()
    assert again.paused_at is not None
    assert (now - again.paused_at).total_seconds() < 30


def test_the_row_of_an_ended_pause_is_cleared(database: Database, queue: str, settings: Settings) -> None:
    """A round of the service clears what has ended, wakes the dispatcher, and leaves the others."""
    woken = threading.Event()
    service = Pauses(settings, database, lambda _: None, woken.set)
    with database.autocommit() as connection:
        queue_store.ensure(connection, ["other"])
        queue_store.pause(connection, "other")
        queue_store.pause(connection, queue, reason="deploy", seconds=60)
    assert service.run_once() == {"resumed": 0}
    assert not woken.is_set()
    age_pause(database, 61)
    assert service.run_once() == {"resumed": 1}
    assert woken.is_set()
    with database.autocommit() as connection:
        left = connection.exec_driver_sql("SELECT name FROM queues WHERE paused_at IS NOT NULL").scalars()
        assert list(left) == ["other"]


@pytest.mark.parametrize("ends_by_itself", [True, False], ids=["at its end", "by a resume"])
def test_admission_ramps_up_after_a_pause(database: Database, queue: str, ends_by_itself: bool) -> None:
    """A queue with a ramp is governed from the end of a pause until the ramp is over, however it ended."""
    with database.transaction() as connection:
        queue_settings.set_limits(connection, queue, QueueLimits(ramp_seconds=100))
    assert ramp(database) is None
    with database.autocommit() as connection:
        queue_store.pause(connection, queue, seconds=60)
        assert queue_settings.limited(connection) == []
        if ends_by_itself:
            age_pause(database, 60)
        else:
            queue_store.resume(connection, queue)
    assert ramp(database) == pytest.approx(0, abs=0.3)
    age_pause(database, 50)
    assert ramp(database) == pytest.approx(0.5, abs=0.3)
    age_pause(database, 51)
    assert ramp(database) is None


def test_a_resume_of_what_was_not_paused_starts_no_ramp(database: Database, queue: str) -> None:
    """Resuming an open queue slows nothing down."""
    with database.transaction() as connection:
        queue_settings.set_limits(connection, queue, QueueLimits(ramp_seconds=100))
        queue_store.resume(connection, queue)
    assert ramp(database) is None


def test_a_pause_takes_back_what_was_let_in(database: Database, queue: str, make_job: JobFactory) -> None:
    """What was let in and has not started is decided about again after the pause."""
    job = make_job(admitted=True)
    with database.autocommit() as connection:
        queue_store.pause(connection, queue)
        (admitted,) = connection.exec_driver_sql(
            "SELECT admitted FROM jobs WHERE id = %(id)s", {"id": job.id}
        ).one()
    assert not admitted


def test_a_slow_down_closes_the_queue_and_ramps_up(
    database: Database,
    queue: str,
    make_job: JobFactory,
) -> None:
    """Nothing starts before its end; then the queue ramps up, by its own ramp or by the default."""
    with database.transaction() as connection:
        assert queue_store.slow_down(connection, queue, seconds=60, ramp_seconds=10)
    assert row(database).is_closed
    assert row(database).throttled_until is not None
    assert len(make_job.claim(make_job())) == 0
    age_pause(database, 61)
    assert row(database).throttled_until is None
    assert ramp(database) == pytest.approx(0.1, abs=0.3)
    age_pause(database, 10)
    assert ramp(database) is None
    assert len(make_job.claim(make_job())) == 1


def test_slow_downs_do_not_shorten_each_other(database: Database, queue: str) -> None:
    """Of many slow-downs at once the longest counts, and who says nothing new changes nothing."""
    told: list[bool] = []

    def slow_down(seconds: float) -> None:
        with database.transaction() as connection:
            told.append(queue_store.slow_down(connection, queue, seconds=seconds, ramp_seconds=10))

    threads = [threading.Thread(target=slow_down, args=(seconds,)) for seconds in (60, 5, 30, 1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.autocommit() as connection:
        (left,) = connection.exec_driver_sql(
            "SELECT extract(epoch FROM throttled_until - now())::float FROM queues"
        ).one()
    assert left == pytest.approx(60, abs=5)
    slow_down(1)
    assert told[-1] is False


def test_a_pause_within_a_slow_down_ramps_after_both(database: Database, queue: str) -> None:
    """A pause that ends while the queue is throttled does not start the ramp before that is over, too."""
    with database.transaction() as connection:
        queue_settings.set_limits(connection, queue, QueueLimits(ramp_seconds=100))
        queue_store.slow_down(connection, queue, seconds=60, ramp_seconds=10)
        queue_store.pause(connection, queue, seconds=1)
    age_pause(database, 60.5)
    wait_until(lambda: ramp(database) is not None)
    assert ramp(database) == pytest.approx(0, abs=0.3)


@pytest.mark.parametrize("paused", [False, True], ids=["throttled", "throttled and paused"])
def test_a_resume_ends_a_slow_down(database: Database, queue: str, paused: bool) -> None:
    """Somebody who knows better opens the queue at once; it ramps up as it would have done later."""
    with database.transaction() as connection:
        queue_store.slow_down(connection, queue, seconds=86_400, ramp_seconds=100)
        if paused:
            queue_store.pause(connection, queue)
        assert not queue_store.resume(connection, queue).is_closed
    assert ramp(database) == pytest.approx(0, abs=0.3)
    age_pause(database, 101)
    assert ramp(database) is None
