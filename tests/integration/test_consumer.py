"""The consumer on real servers, without a worker: places and claims are kept in step, whatever fails when."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

import goqueue
from goqueue import failpoints
from goqueue.config.settings import Settings
from goqueue.engine import queue_rows as queue_store
from goqueue.engine.runway.runway import Fetched, Message
from goqueue.errors import RedisUnavailableError
from goqueue.jobs import QUARANTINE_QUEUE, AttemptOutcome, Job
from goqueue.middleware.job_message import JobMessage
from goqueue.worker.broker import JobBroker
from goqueue.worker.claiming.consumer import JobConsumer
from tests.support.counted import counted
from tests.support.engine import QUICK, Engine, process_of
from tests.support.factories import JobFactory
from tests.support.waiting import wait_until

ran: list[int] = []
may_end = threading.Event()


@pytest.fixture
def overrides() -> dict[str, Any]:
    """Short waits, four threads."""
    return {**QUICK, "fetch_block_seconds": 0.02}


@pytest.fixture
def broker(settings: Settings, make_job: JobFactory) -> Iterator[JobBroker]:
    """A process that has a lease and no threads."""
    with process_of(settings) as broker:
        broker.claimed_jobs.worker_id = make_job.worker_id

        @goqueue.actor(max_retries=3)
        def noop() -> int:
            ran.append(goqueue.current_job().id)
            may_end.wait(20)
            return 1

        yield broker


def push(broker: JobBroker, *jobs: Job, queue: str = "default") -> None:
    """Put the messages of these rows on a runway."""
    broker.runway.dispatch(queue, [Message(job.id, job.fence) for job in jobs], limit=100, closed=False)


def drain(consumer: JobConsumer, most: int = 50) -> list[JobMessage]:
    """Everything that a consumer yields now."""
    found: list[JobMessage] = []
    for _ in range(most):
        message = next(consumer)
        if message is None:
            break
        found.append(message)
    return found


def test_as_many_as_there_are_places_are_claimed_in_order(broker: JobBroker, make_job: JobFactory) -> None:
    """A batch takes what there is room for; the rest stays on the runway until places come back."""
    jobs = [make_job() for _ in range(6)]
    push(broker, *jobs)
    consumer = JobConsumer(broker, "default")
    messages = drain(consumer)
    assert [message.current.id for message in messages] == [job.id for job in jobs[:4]]
    assert broker.slots.held == 4
    assert set(broker.claimed_jobs.snapshot()) == {(job.id, 1) for job in jobs[:4]}
    assert broker.runway.lengths(["default"])[0][0] == 2


def test_stale_messages_cost_no_place(broker: JobBroker, make_job: JobFactory) -> None:
    """Messages without a claimable row are counted and acknowledged, and their places are free again."""
    jobs = [make_job(), make_job("completed"), make_job("running", fence=0, attempts=1)]
    push(broker, *jobs)
    before = counted("stale_deliveries_total")
    (message,) = drain(JobConsumer(broker, "default"))
    assert message.current.id == jobs[0].id
    assert counted("stale_deliveries_total") == before + 2
    assert broker.slots.held == 1
    assert broker.runway.lengths(["default"]) == [(0, 1)]


def test_a_paused_queue_is_not_started(broker: JobBroker, make_job: JobFactory) -> None:
    """A message that was pushed before the pause is dropped at the claim."""
    push(broker, make_job())
    with broker.database.autocommit() as connection:
        queue_store.pause(connection, "default")
    assert drain(JobConsumer(broker, "default")) == []
    assert broker.slots.held == 0


def cut_redis(*_: object, **__: object) -> None:
    """Be a Redis that does not answer."""
    raise RedisUnavailableError("Redis: cut")


def test_claims_survive_a_lost_acknowledgement(
    broker: JobBroker, make_job: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis failing while stale messages are dropped does not lose the jobs claimed beside them."""
    job = make_job()
    push(broker, make_job("completed"), job)
    monkeypatch.setattr(broker.runway, "acknowledge", cut_redis)
    messages = drain(JobConsumer(broker, "default"))
    assert [message.current.id for message in messages] == [job.id]
    assert broker.slots.held == 1


def test_places_survive_a_lost_put_back(
    broker: JobBroker, make_job: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis failing while surplus messages are put back leaves no place taken."""
    push(broker, *(make_job() for _ in range(4)))
    monkeypatch.setattr(broker.runway, "put_back", cut_redis)
    consumer = JobConsumer(broker, "default")
    fetch = consumer._fetch  # noqa: SLF001  (what happens between two steps)

    def fetch_while_another_takes_two() -> Fetched:
        fetched = fetch()
        broker.slots.take(2)
        return fetched

    monkeypatch.setattr(consumer, "_fetch", fetch_while_another_takes_two)
    assert next(consumer) is None
    assert broker.slots.held == 2


def test_places_survive_a_failed_claim(
    broker: JobBroker, make_job: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim that raises gives its places back, before or after PostgreSQL did it."""
    job = make_job()
    push(broker, job)
    failpoints.configure("after_claim:raise")
    try:
        with pytest.raises(failpoints.FailpointError):
            next(JobConsumer(broker, "default"))
    finally:
        failpoints.configure("")
    assert broker.slots.held == 0
    assert broker.claimed_jobs.snapshot() == {}
    monkeypatch.setattr("goqueue.worker.claiming.fetched_claims.claim", cut_redis)
    push(broker, make_job())
    assert drain(JobConsumer(broker, "default")) == []
    assert broker.slots.held == 0


def test_a_suspect_runs_only_in_an_idle_process(broker: JobBroker, make_job: JobFactory) -> None:
    """The quarantine takes one job, only when the process holds nothing, and then nobody else takes any."""
    suspect, good = make_job(quarantined=True), make_job()
    push(broker, suspect, queue=QUARANTINE_QUEUE)
    alone, other = JobConsumer(broker, QUARANTINE_QUEUE), JobConsumer(broker, "default")
    broker.slots.take(1)
    assert drain(alone) == []
    broker.slots.give_back()
    (message,) = drain(alone, most=1)
    assert (message.current.id, message.runway) == (suspect.id, QUARANTINE_QUEUE)
    push(broker, good)
    assert drain(other) == []
    broker.slots.give_back()
    assert [found.current.id for found in drain(other)] == [good.id]


def test_a_process_has_one_suspect_beside_others(broker: JobBroker, make_job: JobFactory) -> None:
    """A suspect comes before the queue's runway; the next one when it has ended; others start meanwhile."""
    suspects = [make_job(quarantined=True, suspicion=1) for _ in range(2)]
    push(broker, *(make_job() for _ in range(3)))
    messages = [Message(job.id, job.fence) for job in suspects]
    broker.runway.dispatch_suspects("default", messages, limit=9)
    consumer = JobConsumer(broker, "default")
    first, *others = drain(consumer)
    assert (first.current.id, first.current.suspect) == (suspects[0].id, True)
    assert not any(message.current.suspect for message in others)
    assert len(others) == 3
    # Another queue's consumer of the same process asked before, and was too late.
    assert consumer._claimer._take_places(messages[1:], Fetched([], suspects=True)) == []  # noqa: SLF001  (what happens between two steps)
    broker.slots.give_back(suspect=True)
    (second,) = drain(consumer)
    assert (second.current.id, second.current.suspect) == (suspects[1].id, True)


def test_without_a_lease_or_while_draining_nothing_is_fetched(
    broker: JobBroker, make_job: JobFactory
) -> None:
    """A process that holds no lease, or shuts down, leaves the runway alone."""
    push(broker, make_job())
    worker_id, broker.claimed_jobs.worker_id = broker.claimed_jobs.worker_id, 0
    assert drain(JobConsumer(broker, "default")) == []
    broker.claimed_jobs.worker_id = worker_id
    broker.draining.set()
    assert drain(JobConsumer(broker, "default")) == []
    assert broker.runway.lengths(["default"])[0][0] == 1


def test_what_was_not_handed_over_goes_back_unspent(broker: JobBroker, make_job: JobFactory) -> None:
    """A consumer that closes gives its claimed jobs back with no attempt counted."""
    jobs = [make_job() for _ in range(3)]
    push(broker, *jobs)
    consumer = JobConsumer(broker, "default")
    assert next(consumer) is not None
    consumer.close()
    assert broker.claimed_ahead.returner.flush()
    assert len(broker.claimed_jobs.snapshot()) == 1
    with broker.database.autocommit() as connection:
        rows = connection.exec_driver_sql("SELECT status, attempts FROM jobs ORDER BY id").fetchall()
        attempts = connection.exec_driver_sql("SELECT count(*) FROM attempts").scalar()
    assert [tuple(row) for row in rows] == [("running", 1), ("queued", 0), ("queued", 0)]
    assert attempts == 0
    assert broker.slots.held == 1


def test_a_stopped_job_that_waits_for_a_thread_never_starts(broker: JobBroker, make_job: JobFactory) -> None:
    """A claimed job that is taken away before a thread is free for it goes back without having run."""
    job = make_job()
    push(broker, job)
    (message,) = drain(JobConsumer(broker, "default"))
    assert not broker.interrupts.interrupt(message.current, AttemptOutcome.INTERRUPTED)
    ran.clear()
    assert broker.actors["noop"](*message.args) is None
    assert ran == []
    assert message.current.control == (AttemptOutcome.INTERRUPTED, 0.0)
    assert broker.interrupts.running() == []


def test_a_shutdown_gives_back_what_does_not_end(
    broker: JobBroker, make_job: JobFactory, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the grace period running and waiting jobs are queued again, none of their attempts spent."""
    ran.clear()
    may_end.clear()
    jobs = [make_job(payload={}) for _ in range(6)]
    engine = Engine(broker)
    with engine:
        wait_until(lambda: len(ran) == 4, what="four handlers")
        engine.worker.stop(timeout=100)
        with broker.database.autocommit() as connection:
            rows = connection.exec_driver_sql(
                "SELECT status, attempts, worker_id FROM jobs ORDER BY id"
            ).fetchall()
            lease = connection.exec_driver_sql(
                "SELECT count(*) FROM workers WHERE stopped_at IS NULL AND id > 1"
            )
        assert {tuple(row) for row in rows} == {("queued", 0, None)}
        assert len(jobs) == 6
        assert lease.scalar() == 0
        may_end.set()
        for thread in engine.worker.workers:
            thread.join(10)
        monkeypatch.setattr(engine.worker, "stop", lambda timeout: None)  # noqa: ARG005  (it is stopped)
    assert settings.worker_threads == 4


def test_who_runs_alone_starts_when_all_before_is_recorded(broker: JobBroker, make_job: JobFactory) -> None:
    """It may take the process along, and with it an outcome that is not written yet."""
    ended, lonely = make_job(quarantined=True, suspicion=2), make_job(quarantined=True, suspicion=2)
    push(broker, ended, lonely, queue=QUARANTINE_QUEUE)
    consumer = JobConsumer(broker, QUARANTINE_QUEUE)
    (message,) = drain(consumer)
    message.release()
    consumer.ack(message)
    assert broker.slots.held == 0
    assert drain(consumer) == []
    # As the recorder does when it has written it.
    broker.claimed_jobs.remove(message.current)
    (message,) = drain(consumer)
    assert message.current.id == lonely.id
