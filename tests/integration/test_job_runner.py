"""A job that runs straight comes to the same as one that runs as Dramatiq does it, whatever it raises."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import dramatiq
import pytest
from dramatiq.errors import RateLimitExceeded, Retry
from dramatiq.middleware import SkipMessage
from dramatiq.worker import ConsumerThread, WorkerThread

import goqueue
from goqueue.config.settings import Settings
from goqueue.jobs import JobStatus
from goqueue.middleware.job_message import JobMessage
from goqueue.observability.job_context import job_context
from goqueue.worker.broker import JobBroker
from goqueue.worker.claiming.consumer import JobConsumer
from goqueue.worker.job_runner import JobRunner
from tests.support.engine import QUICK, process_of
from tests.support.factories import JobFactory


class ExpectedError(Exception):
    """What the actor names as final."""


class LooksOn(dramatiq.Middleware):
    """A user's middleware that has a hook around each run."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def after_process_message(self, broker: Any, message: Any, **_: Any) -> None:  # noqa: ARG002  (Dramatiq's signature)
        """Note that it was told."""
        self.told.append(message.actor_name)


def raises(make: Callable[..., BaseException], *args: Any, **options: Any) -> Callable[[], None]:
    """A handler that raises a new one of these."""

    def handler() -> None:
        raise make(*args, **options)

    return handler


HANDLERS: dict[str, Callable[[], Any]] = {
    "returns nothing": lambda: None,
    "returns a value": lambda: {"a": [1, "é", None]},
    "returns no JSON": object,
    "returns too much": lambda: "x" * 100_000,
    "raises": raises(ValueError, "wrong"),
    "raises what is final": raises(ExpectedError, "final"),
    "discards": raises(goqueue.Discard, "never again"),
    "snoozes": raises(goqueue.Snooze, 5),
    "asks for a retry": raises(Retry, "later", delay=1500),
    "asks for a retry after": raises(goqueue.RetryAfter, 7),
    "slows its queue down": raises(goqueue.RetryAfter, 7, scope="queue"),
    "is limited": raises(RateLimitExceeded, "too many"),
    "skips": raises(SkipMessage, "not now"),
    "exits": raises(SystemExit, 3),
    "is interrupted": raises(KeyboardInterrupt),
    "raises a group": raises(ExceptionGroup, "several", [ValueError("one"), KeyError("two")]),
}


@pytest.fixture
def overrides() -> dict[str, Any]:
    """A result of no more than this, and a lease that nobody renews."""
    return {**QUICK, "result_max_bytes": 1024, "heartbeat_seconds": 1.0, "lease_seconds": 600.0}


@pytest.fixture
def broker(settings: Settings, make_job: JobFactory) -> Iterator[JobBroker]:
    """A process without threads that knows a type for each handler."""
    with process_of(settings) as broker:
        broker.claimed_jobs.worker_id = make_job.worker_id
        for number, handler in enumerate(HANDLERS.values()):
            declare(broker, f"type{number}", handler, throws=(ExpectedError,))
        yield broker


def declare(broker: JobBroker, name: str, handler: Callable[..., Any], **options: Any) -> None:
    """Declare a plain actor on a broker."""
    dramatiq.actor(broker=broker, actor_name=name, **options)(handler)


def runner_of(broker: JobBroker) -> JobRunner:
    """What a worker thread runs jobs by."""
    queue: Any = broker.claimed_ahead.queue
    consumers = ConsumerThread(
        broker=broker, queue_name="default", prefetch=1, work_queue=queue, worker_timeout=1000
    )
    consumers.consumer = JobConsumer(broker, "default")
    thread = WorkerThread(
        broker=broker, consumers={"default": consumers}, work_queue=queue, worker_timeout=1000
    )
    return JobRunner(broker, thread)


def outcome_of(broker: JobBroker, make_job: JobFactory, name: str, **columns: Any) -> dict[str, Any]:
    """What a run of this handler comes to, without what differs from run to run."""
    number = list(HANDLERS).index(name)
    [message] = make_job.messages(make_job(type=f"type{number}", **columns))
    message.throws = broker.types.throws(message.actor_name)
    assert broker.slots.take(1) == 1
    broker.claimed_ahead.queue.put(message)
    taken: JobMessage = broker.claimed_ahead.queue.get(timeout=1)
    runner_of(broker).run(taken)
    assert broker.slots.held == 0
    assert broker.recorder.pending == 1
    [recorded], _ = broker.recorder._pending.take(1)  # noqa: SLF001  (the recorder does not run here)
    assert recorded is message
    assert job_context.get() is None
    assert broker.claimed_ahead.queue.unfinished_tasks == 0
    assert recorded._exception is None  # noqa: SLF001  (Dramatiq stuffs it there)
    assert recorded.outcome is not None
    outcome = asdict(recorded.outcome)
    for varies in ("job_id", "begun", "run_seconds"):
        del outcome[varies]
    return outcome


@pytest.mark.parametrize("max_retries", [0, 3])
@pytest.mark.parametrize("name", HANDLERS)
def test_both_ways_lead_to_the_same(
    broker: JobBroker,
    make_job: JobFactory,
    caplog: pytest.LogCaptureFixture,
    name: str,
    max_retries: int,
) -> None:
    """The same outcome, the same lines in the log, and nothing is left on the thread."""
    caplog.set_level(logging.INFO, logger="dramatiq")
    assert broker.runs_straight
    straight = outcome_of(broker, make_job, name, max_retries=max_retries)
    lines = [(record.levelname, record.msg) for record in caplog.records]
    caplog.clear()
    looks_on = LooksOn()
    broker.add_middleware(looks_on)
    assert not broker.runs_straight
    by_dramatiq = outcome_of(broker, make_job, name, max_retries=max_retries)
    without_value = [
        (record.levelname, record.msg)
        for record in caplog.records
        # Dramatiq cannot know that results are kept otherwise.
        if "returned a value" not in record.msg
    ]
    assert _comparable(straight) == _comparable(by_dramatiq)
    assert lines == without_value
    assert looks_on.told or name == "skips"
    expected = JobStatus.COMPLETED if name.startswith("returns") and "no JSON" not in name else None
    assert expected is None or name == "returns too much" or straight["status"] is expected


def _comparable(outcome: dict[str, Any]) -> dict[str, Any]:
    """An outcome without what Retries draws lots for."""
    delay = outcome["delay_seconds"]
    exact = delay in {0.0, 1.5, 5.0, 7.0}
    return {**outcome, "delay_seconds": delay if exact else delay > 0}


def test_a_job_with_a_callback_goes_dramatiqs_way(broker: JobBroker, make_job: JobFactory) -> None:
    """What its hooks enqueue becomes a follow-up."""
    declare(broker, "told", lambda _message, _result: None)
    declare(broker, "tells", lambda: 7, on_success="told")
    [message] = make_job.messages(make_job(type="tells"))
    broker.slots.take(1)
    broker.claimed_ahead.queue.put(message)
    runner_of(broker).run(broker.claimed_ahead.queue.get(timeout=1))
    assert message.outcome is not None
    assert [job.type for job in message.outcome.follow_ups] == ["told"]
