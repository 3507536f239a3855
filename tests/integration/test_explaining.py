"""Why is it not running? Asked of a real engine, from Python and on the command line."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import goqueue
from goqueue.cli import main
from goqueue.config.settings import Settings
from goqueue.engine import queue_rows as queue_store
from goqueue.errors import JobNotFoundError
from goqueue.insight.explain import Explanation, ReasonCode
from goqueue.jobs import JobStatus
from goqueue.limits import queue_setting_rows as queue_settings
from goqueue.limits.settings import QueueLimits, RateAlgorithm, RateLimit
from goqueue.worker.broker import JobBroker
from tests.support.engine import QUICK, Engine, process_of
from tests.support.waiting import wait_until


@pytest.fixture
def overrides() -> dict[str, Any]:
    """Nothing takes longer than a test wants to wait; one job after the other."""
    return QUICK | {"dispatch_idle_seconds": 0.01, "worker_threads": 2}


@pytest.fixture
def broker(settings: Settings) -> Iterator[JobBroker]:
    """A process of its own."""
    with process_of(settings) as broker:
        yield broker


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What the handlers of the tests wait for."""
    gate = threading.Event()
    yield gate
    gate.set()


def declare(handler: Callable[[], None]) -> Any:
    """An actor in the queue `explained`."""

    @goqueue.actor(queue="explained", max_retries=1, min_backoff_seconds=600.0, jitter=False)
    def explained() -> None:
        handler()

    return explained


def wait_for(gate: threading.Event) -> Callable[[], None]:
    """A handler that waits in short steps: an interrupt reaches a thread only between them."""

    def handler() -> None:
        while not gate.wait(0.01):
            pass

    return handler


def limit(broker: JobBroker, **limits: Any) -> None:
    """Limit the queue of the tests."""
    with broker.database.transaction() as connection:
        queue_store.ensure(connection, ["explained"])
        queue_settings.set_limits(connection, "explained", QueueLimits(**limits))


def reason_of(job_id: int, code: ReasonCode) -> Explanation:
    """The explanation, as soon as this is the reason that decides."""
    seen: list[Explanation] = []

    def holds() -> bool:
        seen[:] = [goqueue.explain(job_id)]
        return bool(seen[0].reasons) and seen[0].reasons[0].code is code

    try:
        wait_until(holds, what=f"job {job_id} to be {code}")
    except AssertionError as error:
        raise AssertionError(f"{error}: {seen}") from None
    return seen[0]


def test_an_unknown_job_is_an_error(broker: JobBroker) -> None:
    """There is nothing to explain about a job that does not exist."""
    assert broker
    with pytest.raises(JobNotFoundError):
        goqueue.explain(4711)


def test_a_limit_is_held_by_the_job_that_runs(broker: JobBroker, gate: threading.Event) -> None:
    """A job behind a limit names the one that runs, and ends with a sentence that it has ended."""
    actor = declare(wait_for(gate))
    limit(broker, concurrency=1)
    with Engine(broker) as engine:
        running = goqueue.enqueue(actor, {})
        engine.wait_for(running, JobStatus.RUNNING)
        waiting = goqueue.enqueue(actor, {})
        reason = reason_of(waiting, ReasonCode.LIMIT_REACHED).reasons[0]
        assert [(held["id"], held["status"]) for held in reason.evidence["held_by"]] == [(running, "running")]
        assert reason_of(running, ReasonCode.RUNNING).reasons[0].evidence["begun_at"] is not None
        gate.set()
        engine.wait_for(waiting)
    finished = goqueue.explain(waiting)
    assert (finished.status, finished.reasons) == (JobStatus.COMPLETED, ())
    assert f"job {waiting} has ended: it is completed since " in finished.summary


def test_without_limits_the_threads_are_what_it_waits_for(broker: JobBroker, gate: threading.Event) -> None:
    """When handlers keep every thread, the first job waits for one of them, the next ones for those ahead."""
    actor = declare(wait_for(gate))
    with Engine(broker) as engine:
        for job_id in [goqueue.enqueue(actor, {}) for _ in range(2)]:
            engine.wait_for(job_id, JobStatus.RUNNING)
        first, second = [goqueue.enqueue(actor, {}) for _ in range(2)]
        assert reason_of(first, ReasonCode.WORKERS_BUSY).ahead == 0
        behind = reason_of(second, ReasonCode.JOBS_AHEAD)
        assert behind.ahead == 1
        assert behind.rate_per_second
        assert behind.expected_start_at is not None
        gate.set()


@pytest.mark.parametrize("algorithm", list(RateAlgorithm))
def test_a_rate_is_free_when_it_was_foretold(broker: JobBroker, algorithm: RateAlgorithm) -> None:
    """The job that a rate limit stops starts when the explanation said that the limit is free."""
    actor = declare(lambda: None)
    limit(broker, rate=RateLimit(2, 3.0, algorithm))
    with Engine(broker) as engine:
        for job_id in [goqueue.enqueue(actor, {}) for _ in range(2)]:
            engine.wait_for(job_id)
        stopped = goqueue.enqueue(actor, {})
        found: list[datetime] = []

        def is_foretold() -> bool:
            seconds = goqueue.explain(stopped).reasons[0].evidence.get("free_in_seconds")
            if seconds is not None:
                found.append(datetime.now(UTC) + timedelta(seconds=seconds))
            return seconds is not None

        wait_until(is_foretold)
        started_at = engine.wait_for(stopped).started_at
    assert started_at is not None
    assert found[0] - timedelta(seconds=0.3) < started_at < found[0] + timedelta(seconds=3)


def test_in_strict_order_the_older_job_is_named(broker: JobBroker, gate: threading.Event) -> None:
    """A job of a key names the older one that runs."""
    actor = declare(wait_for(gate))
    limit(broker, fifo=True)
    with Engine(broker) as engine:
        older = goqueue.enqueue(actor, {}, concurrency_key="a")
        engine.wait_for(older, JobStatus.RUNNING)
        younger = goqueue.enqueue(actor, {}, concurrency_key="a")
        assert reason_of(younger, ReasonCode.KEY_BLOCKED).reasons[0].evidence["job_id"] == older
        gate.set()


def test_a_failed_attempt_is_told_with_its_error(broker: JobBroker) -> None:
    """A job that waits for its retry says after which attempt, and which error it was."""

    def fail() -> None:
        raise ConnectionError("refused by the other side")

    actor = declare(fail)
    with Engine(broker):
        reason = reason_of(goqueue.enqueue(actor, {}), ReasonCode.WAITS_FOR_TIME).reasons[0]
    assert (reason.evidence["kind"], reason.evidence["attempt"]) == ("backoff", 1)
    assert "refused by the other side" in reason.message


def test_a_snooze_is_no_failure(broker: JobBroker) -> None:
    """A job that its handler snoozed says so."""

    def snooze() -> None:
        raise goqueue.Snooze(600)

    actor = declare(snooze)
    with Engine(broker):
        reason = reason_of(goqueue.enqueue(actor, {}), ReasonCode.WAITS_FOR_TIME).reasons[0]
    assert reason.evidence["kind"] == "snooze"


def test_a_handler_slows_its_queue_down(broker: JobBroker) -> None:
    """After a handler's RetryAfter for the queue, its other jobs say until when nothing starts."""

    def slow_down() -> None:
        raise goqueue.RetryAfter(600, scope="queue")

    actor = declare(slow_down)
    with Engine(broker):
        goqueue.enqueue(actor, {})
        other = goqueue.enqueue(actor, {}, delay_seconds=0.5)
        wait_until(lambda: "queue_throttled" in [reason.code for reason in goqueue.explain(other).reasons])


def test_the_command_prints_it(broker: JobBroker, capsys: pytest.CaptureFixture[str]) -> None:
    """`goqueue explain` prints the sentence and each reason on a line; an unknown id is exit code 1."""
    with broker.database.transaction() as connection:
        queue_store.ensure(connection, ["explained"])
        queue_store.pause(connection, "explained", reason="a fire", author="ada")
    job_id = goqueue.enqueue(declare(lambda: None), {})
    assert main(["explain", str(job_id)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"job {job_id} does not run: the queue 'explained' is paused by ada (a fire)")
    assert lines[1].startswith("  1. queue_paused: ")
    assert lines[2].startswith("  2. no_worker: ")
    assert main(["explain", "4711"]) == 1
    assert capsys.readouterr().err == "goqueue: there is no job 4711\n"


@pytest.mark.parametrize("wrong", ["0", "-1", "x", "9223372036854775808"])
def test_the_command_refuses_what_is_no_id(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be a job's id is a wrong argument."""
    with pytest.raises(SystemExit) as exit_:
        main(["explain", wrong])
    assert exit_.value.code == 2
    assert "usage: goqueue" in capsys.readouterr().err
