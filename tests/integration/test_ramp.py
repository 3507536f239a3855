"""After a pause or a slow-down admission ramps up: one job at a time first, then more and more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import goqueue
from goqueue.config.settings import Settings
from goqueue.engine.new_job import new_job
from goqueue.instance import default
from tests.support.engine import QUICK, Engine, process_of
from tests.support.waiting import wait_until

JOBS, THREADS, RAMP_SECONDS = 80, 4, 2.0

#: How many jobs ran at the start of each, itself included, and how far the ramp had come then.
_STARTS = """
    SELECT extract(epoch FROM started.started_at - queues.ramping_since)::float / %(ramp)s,
           (SELECT count(*) FROM attempts AS other
            WHERE other.started_at <= started.started_at AND other.finished_at > started.started_at)
    FROM attempts AS started CROSS JOIN queues
    WHERE queues.name = 'calls' AND started.outcome = 'completed' ORDER BY 1
"""


@pytest.fixture
def overrides() -> dict[str, Any]:
    """Quick, with the ramp of a slow-down."""
    return QUICK | {"worker_threads": THREADS, "slow_down_ramp_seconds": RAMP_SECONDS}


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    """An engine with a type that takes a moment, and may be told to slow down at its first run."""
    with process_of(settings) as broker:

        @goqueue.actor(name="call", queue="calls")
        def call(slow_down: bool) -> None:
            if slow_down and goqueue.current_job().fence == 1:
                raise goqueue.RetryAfter(0.3, scope="queue")
            time.sleep(0.03)

        with Engine(broker) as engine:
            yield engine


def after_a_pause(_engine: Engine) -> None:
    """The queue is paused, with an end."""
    goqueue.configure_queue("calls", ramp_seconds=RAMP_SECONDS)
    goqueue.pause_queue("calls", seconds=0.5)


def after_a_slow_down(engine: Engine) -> None:
    """A job was told to slow down."""
    default().creator.one(new_job(engine.broker, "call", {"slow_down": True}))
    throttled = "SELECT FROM queues WHERE name = 'calls' AND throttled_until IS NOT NULL"
    wait_until(lambda: engine.rows(throttled), what="the queue to be slowed down")


@pytest.mark.parametrize("slow_down", [after_a_pause, after_a_slow_down])
def test_what_runs_at_once_grows(engine: Engine, slow_down: Callable[[Engine], None]) -> None:
    """At no start there run more jobs than the ramp allows then, and before its end there run several."""
    slow_down(engine)
    for job_id in default().creator.many([new_job(engine.broker, "call", {"slow_down": False})] * JOBS):
        engine.wait_for(job_id)
    starts = engine.rows(_STARTS, ramp=RAMP_SECONDS)
    in_ramp = [(ramp, running) for ramp, running in starts if ramp < 1]
    assert in_ramp[0][0] > 0
    assert [(ramp, running) for ramp, running in in_ramp if running > max(1, THREADS * ramp)] == []
    assert max(running for _, running in in_ramp) > 1
