"""A handler that is told to slow down: `RetryAfter(scope="queue")`, on a real worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

import goqueue
from goqueue.config.settings import Settings
from goqueue.engine import job_rows as job_store
from goqueue.engine import queue_rows as queue_store
from goqueue.engine.new_job import new_job
from goqueue.instance import default
from tests.support.engine import QUICK, Engine, process_of
from tests.support.waiting import wait_until

runs: Counter[str] = Counter()


@pytest.fixture
def overrides() -> dict[str, Any]:
    """Quick, with a short ramp."""
    return QUICK | {"slow_down_ramp_seconds": 0.5}


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    """An engine with a type that is told to slow down at its first runs."""
    runs.clear()
    with process_of(settings) as broker:

        @goqueue.actor(name="call", queue="calls", max_retries=0)
        def call(seconds: str, times: int = 1) -> None:
            runs["call"] += 1
            if runs["call"] <= times:
                raise goqueue.RetryAfter(float(seconds), "429", scope="queue")

        with Engine(broker) as engine:
            yield engine


def create(engine: Engine, **payload: Any) -> int:
    """Create a job; its id."""
    return default().creator.one(new_job(engine.broker, "call", payload)).id


def throttled(engine: Engine) -> float:
    """For how long the queue is throttled."""
    with engine.broker.database.autocommit() as connection:
        (left,) = connection.exec_driver_sql(
            "SELECT coalesce(extract(epoch FROM throttled_until - now()), 0)::float "
            "FROM queues WHERE name = 'calls'"
        ).one()
    return float(left)


def test_a_slow_down_spends_no_attempt(engine: Engine) -> None:
    """A job that may run once only is told to slow down three times, and completes at its first attempt."""
    job_id = create(engine, seconds="0.05", times=3)
    job = engine.wait_for(job_id)
    assert (job.attempts, job.error, job.reason) == (1, None, None)
    assert [r[:2] for r in engine.attempts(job_id)] == [(1, "snoozed")] * 3 + [(1, "completed")]


def test_a_slow_down_holds_the_whole_queue(engine: Engine) -> None:
    """While it lasts no other job of the queue starts; its text is kept with the job."""
    job_id = create(engine, seconds="600")
    wait_until(lambda: throttled(engine) > 0)
    assert throttled(engine) == pytest.approx(600, abs=60)
    job = engine.job(job_id)
    assert (job.status, job.attempts, job.reason, job.error) == (
        "queued",
        0,
        "throttled",
        "RetryAfter: 429",
    )
    other = create(engine, seconds="0")
    with engine.broker.database.autocommit() as connection:
        queue = next(q for q in queue_store.list_all(connection) if q.name == "calls")
        assert queue.is_closed
        connection.exec_driver_sql("SELECT pg_sleep(0.3)")
        assert job_store.get(connection, other).status == "queued"
    assert runs["call"] == 1


def test_a_slow_down_of_no_number_is_a_failed_attempt(engine: Engine) -> None:
    """A NaN fails the attempt with an error that says so, and holds nothing up."""
    job = engine.wait_for(create(engine, seconds="nan"), "failed")
    assert (job.attempts, throttled(engine)) == (1, 0)
    assert job.error is not None
    assert "nan" in job.error


@pytest.mark.parametrize("seconds", ["1e9", "inf"])
def test_a_slow_down_is_a_day_at_most(engine: Engine, seconds: str) -> None:
    """Whatever the other side asks for, the queue is looked at again after a day."""
    create(engine, seconds=seconds)
    wait_until(lambda: throttled(engine) > 0)
    assert throttled(engine) == pytest.approx(86_400, abs=60)


def test_a_slow_down_of_no_time_is_over_at_once(engine: Engine) -> None:
    """A time that has passed holds nothing up."""
    assert engine.wait_for(create(engine, seconds="-5")).attempts == 1


def test_a_scope_is_job_or_queue() -> None:
    """Any other scope is an error where it is written."""
    with pytest.raises(ValueError, match="scope"):
        goqueue.RetryAfter(1, scope="world")  # type: ignore[arg-type]
