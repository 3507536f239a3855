"""Settings of queues, keys and types in the store, and from Python."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import goqueue
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine import job_rows as job_store
from goqueue.engine import queue_rows as queue_store
from goqueue.engine.runway.runway import Message
from goqueue.errors import InvalidJobError, KeyNotFoundError, QueueNotFoundError, TypeNotFoundError
from goqueue.instance import default
from goqueue.limits import queue_setting_rows as queue_settings
from goqueue.limits import type_setting_rows as type_settings
from goqueue.limits.settings import (
    Breaker,
    KeyLimits,
    OnConflict,
    QueueLimits,
    RateAlgorithm,
    RateLimit,
    TypeLimits,
)
from goqueue.worker.broker import JobBroker
from tests.support.engine import process_of
from tests.support.factories import JobFactory
from tests.support.hostile.wrong_settings import WRONG_QUEUE_SETTINGS, WRONG_TYPE_SETTINGS

RATE = RateLimit(10, 2.5, RateAlgorithm.TOKEN_BUCKET)


@pytest.fixture
def broker(settings: Settings) -> Iterator[JobBroker]:
    """A process that declares one type in one queue."""
    with process_of(settings) as broker:

        @goqueue.actor(name="call", queue="calls")
        def call() -> None:
            """Do nothing."""

        yield broker


def admitted(database: Database, job_id: int) -> bool:
    """Whether a job is let in."""
    with database.autocommit() as connection:
        return job_store.get(connection, job_id).admitted


def test_limits_are_kept_as_they_are_given(database: Database) -> None:
    """Whatever limits are set are read again, and a queue that was never configured has none."""
    limits = QueueLimits(
        concurrency=3,
        key_concurrency=1,
        on_conflict=OnConflict.DROP_NEW,
        fair=True,
        fifo=True,
        rate=RATE,
        key_rate=RateLimit(1, 60.0),
        ramp_seconds=12.5,
        slo_wait_seconds=0.25,
        slo_objective=0.999,
    )
    with database.transaction() as connection:
        queue_store.ensure(connection, ["a", "b"])
        queue_settings.set_limits(connection, "a", limits)
        assert queue_settings.limits_of(connection, "a") == limits
        assert queue_settings.limits_of(connection, "b") == queue_settings.DEFAULTS
        assert [found.name for found in queue_settings.limited(connection)] == ["a"]
        with pytest.raises(QueueNotFoundError):
            queue_settings.limits_of(connection, "c")
        with pytest.raises(QueueNotFoundError):
            queue_settings.set_limits(connection, "c", limits)


def test_changed_limits_decide_about_what_was_let_in(make_job: JobFactory, database: Database) -> None:
    """A change takes back what was let in of its queue, of its key or of its type, and nothing else."""
    jobs = {
        name: make_job(admitted=True, **columns).id
        for name, columns in {
            "a": {"queue": "a"},
            "a.k": {"queue": "a", "concurrency_key": "k"},
            "b": {"queue": "b", "type": "other"},
        }.items()
    }

    def let_in() -> set[str]:
        return {name for name, job_id in jobs.items() if admitted(database, job_id)}

    assert let_in() == {"a", "a.k", "b"}
    with database.transaction() as connection:
        queue_settings.set_key(connection, "a", "k", KeyLimits(2))
    assert let_in() == {"a", "b"}
    with database.transaction() as connection:
        assert queue_settings.set_limits(connection, "a", QueueLimits(concurrency=1)) == 1
    assert let_in() == {"b"}
    with database.transaction() as connection:
        type_settings.locked(connection, "other")
        type_settings.set_limits(connection, "other", TypeLimits(concurrency=1))
    assert let_in() == set()


def test_only_what_is_given_changes(broker: JobBroker) -> None:
    """A change leaves other settings; None takes one back to its default."""
    goqueue.configure_queue("calls", concurrency=5, fair=True, rate=RATE)
    assert goqueue.configure_queue("calls", key_concurrency=1) == QueueLimits(5, 1, fair=True, rate=RATE)
    rate = {"limit": 7, "period_seconds": 1}
    limits = goqueue.configure_queue("calls", concurrency=None, fair=None, rate=rate)
    assert limits == QueueLimits(None, 1, rate=RateLimit(7, 1.0))
    assert goqueue.configure_key("calls", "a/b", weight=3) == KeyLimits(3)
    assert goqueue.configure_key("calls", "a/b", concurrency=2) == KeyLimits(3, 2)
    assert default().flow.keys("calls") == {"a/b": KeyLimits(3, 2)}
    goqueue.configure_type("call", concurrency=2)
    changed = goqueue.configure_type("call", breaker=Breaker(minimum=2))
    assert changed.limits == TypeLimits(2, Breaker(minimum=2))
    with broker.database.autocommit() as connection:
        assert type_settings.type_limits(connection) == {"call": changed.limits}
    assert goqueue.configure_type("call", breaker=None).limits == TypeLimits(2)


def test_an_objective_is_a_setting_like_others(broker: JobBroker) -> None:
    """A wait and the part of jobs that keeps it are set and taken back, and do not govern the queue."""
    assert goqueue.configure_queue("calls", slo_wait_seconds=30).slo_objective == 0.99
    assert goqueue.configure_queue("calls", slo_objective=0.9) == QueueLimits(
        slo_wait_seconds=30.0, slo_objective=0.9
    )
    with broker.database.autocommit() as connection:
        assert queue_settings.limited(connection) == []
    assert goqueue.configure_queue("calls", slo_wait_seconds=None, slo_objective=None) == QueueLimits()


def test_a_change_closes_the_gate(broker: JobBroker) -> None:
    """After a change submits do not reach the runway: the dispatcher decides what may start."""
    goqueue.configure_queue("calls", concurrency=1)
    assert broker.runway.submit("calls", [Message(1, 0)]).added == 0


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        *WRONG_QUEUE_SETTINGS,
        pytest.param({"ramp_seconds": math.nan}, "ramp_seconds", id="not a number"),
        pytest.param({"slo_wait_seconds": math.inf}, "slo_wait_seconds", id="an endless wait"),
    ],
)
@pytest.mark.usefixtures("broker")
def test_wrong_settings_of_a_queue_are_refused(wrong: dict[str, Any], field: str) -> None:
    """What cannot be meant is an error that names the setting, and changes nothing."""
    with pytest.raises(InvalidJobError) as raised:
        goqueue.configure_queue("calls", **wrong)
    assert list(raised.value.fields) == [field]
    assert goqueue.configure_queue("calls") == QueueLimits()


@pytest.mark.parametrize(("wrong", "field"), WRONG_TYPE_SETTINGS)
@pytest.mark.usefixtures("broker")
def test_wrong_settings_of_a_type_are_refused(wrong: dict[str, Any], field: str) -> None:
    """What cannot be meant is an error that names the setting, and changes nothing."""
    with pytest.raises(InvalidJobError) as raised:
        goqueue.configure_type("call", **wrong)
    assert list(raised.value.fields) == [field]
    assert goqueue.configure_type("call").limits == TypeLimits()


@pytest.mark.parametrize(
    ("call", "field"),
    [
        pytest.param(lambda: goqueue.configure_key("calls", "", weight=1), "key", id="an empty key"),
        pytest.param(lambda: goqueue.configure_key("calls", "k", weight=1001), "weight", id="too heavy"),
        pytest.param(lambda: goqueue.pause_queue("calls", reason="a\0b"), "reason", id="a NUL"),
        pytest.param(lambda: goqueue.pause_queue("calls", seconds=0), "seconds", id="no time"),
        pytest.param(
            lambda: goqueue.pause_queue("calls", until=datetime(2999, 1, 1)),  # noqa: DTZ001
            "until",
            id="no zone",
        ),
        pytest.param(
            lambda: goqueue.pause_queue("calls", until=datetime.now(UTC) - timedelta(seconds=1)),
            "until",
            id="a time that has passed",
        ),
        pytest.param(
            lambda: goqueue.pause_queue("calls", until=datetime(2033, 1, 1, tzinfo=UTC), seconds=1),
            "seconds",
            id="two ends",
        ),
    ],
)
@pytest.mark.usefixtures("broker")
def test_a_wrong_key_or_pause_is_refused(call: Callable[[], Any], field: str) -> None:
    """What cannot be meant is an error that names the setting, and changes nothing."""
    with pytest.raises(InvalidJobError) as raised:
        call()
    assert list(raised.value.fields) == [field]


@pytest.mark.usefixtures("broker")
def test_what_is_not_there_cannot_be_configured() -> None:
    """Unknown queues, keys and types are errors of their own."""
    for call in (goqueue.configure_queue, goqueue.pause_queue, goqueue.resume_queue):
        with pytest.raises(QueueNotFoundError):
            call("nosuch")
    with pytest.raises(KeyNotFoundError):
        default().flow.delete_key("calls", "nosuch")
    with pytest.raises(TypeNotFoundError):
        goqueue.configure_type("nosuch", concurrency=1)
