"""Slots of async jobs: what a worker tells of them, and jobs that take several."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

import goqueue
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.engine.workers import worker_rows as worker_store
from goqueue.engine.workers.worker_slot_rows import slots_by_queue
from goqueue.instance import default
from goqueue.jobs import QUARANTINE_QUEUE
from goqueue.worker.process import warn_of_wide_types
from tests.support.engine import Engine, running_engine
from tests.support.waiting import wait_until

THREADS = 2
SLOTS = 6
LEASE = 15.0

#: Slots that the running handlers take, and the most at once.
taken: Counter[str] = Counter()
most: Counter[str] = Counter()
gate = threading.Event()


async def hold(name: str, slots: int) -> None:
    """Take the slots until the gate opens."""
    taken[name] += slots
    most[name] = max(most[name], taken[name])
    try:
        while not gate.is_set():  # noqa: ASYNC110  (the gate is a thread's)
            await asyncio.sleep(0.005)
    finally:
        taken[name] -= slots


def declare() -> None:
    """Declare types of both kinds, in queues of one kind and of both."""

    @goqueue.actor(queue="loop", max_retries=0)
    async def narrow() -> None:
        await hold("loop", 1)

    @goqueue.actor(queue="loop", slots=4, max_retries=0)
    async def wide() -> None:
        await hold("loop", 4)

    @goqueue.actor(queue="loop", slots=SLOTS + 1, max_retries=0)
    async def too_wide() -> None:
        await hold("loop", SLOTS + 1)

    @goqueue.actor(queue="both", slots=3, max_retries=0)
    async def beside() -> None:
        await hold("loop", 3)

    @goqueue.actor(queue="both", max_retries=0)
    def plain() -> None:
        """Do nothing."""

    @goqueue.actor(queue="both", slots=THREADS + 1, max_retries=0)
    def too_wide_for_threads() -> None:
        """Do nothing."""


@pytest.fixture(scope="module")
def engine(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> Iterator[Engine]:
    """An engine that all tests of this module share."""
    changes = {"worker_threads": THREADS, "worker_async_slots": SLOTS, "heartbeat_seconds": 0.2}
    with running_engine(postgres, valkey, "async_slots", declare, **changes) as engine:
        yield engine


@pytest.fixture(autouse=True)
def _from_the_start(engine: Engine) -> Iterator[None]:
    gate.clear()
    most.clear()
    yield
    gate.set()
    slots = engine.broker.slots
    wait_until(lambda: (slots.held, slots.asynchronous.held) == (0, 0), what="free places")
    assert slots.asynchronous.free == SLOTS


def create(engine: Engine, name: str, **options: Any) -> int:
    """Create a job of a declared type."""
    return default().create(engine.broker.actors[name], {}, **options)


def test_a_worker_tells_its_slots_by_queue(engine: Engine) -> None:
    """A queue has the slots of the loop, the threads, or both, by the types that are declared for it."""
    with engine.broker.database.autocommit() as connection:
        by_queue = slots_by_queue(connection, lease_seconds=LEASE)
        (worker,) = worker_store.list_all(connection, lease_seconds=LEASE)
    assert {name: by_queue[name] for name in ("loop", "both", QUARANTINE_QUEUE)} == {
        "loop": SLOTS,
        "both": SLOTS + THREADS,
        QUARANTINE_QUEUE: THREADS,
    }
    assert (worker.threads, worker.async_slots) == (THREADS, SLOTS)
    assert set(worker.async_types) == {"narrow", "wide", "too_wide", "beside"}


def test_a_heartbeat_tells_the_slots_that_are_taken(engine: Engine) -> None:
    """As the busy threads, and beside them."""
    ids = [create(engine, name) for name in ("wide", "narrow")]
    told = "SELECT busy, async_busy FROM workers"
    wait_until(lambda: engine.rows(told) == [(0, 5)], what="the heartbeat")
    gate.set()
    for job_id in ids:
        engine.wait_for(job_id)
    wait_until(lambda: engine.rows(told) == [(0, 0)], what="the next heartbeat")


def test_a_type_that_is_declared_later_is_told(engine: Engine) -> None:
    """With the next heartbeat its queue has slots of the loop."""

    @goqueue.actor(queue="later", max_retries=0)
    def first() -> None:
        """Do nothing."""

    @goqueue.actor(queue="loop", max_retries=0)
    async def second() -> None:
        """Do nothing."""

    wait_until(
        lambda: engine.rows("SELECT FROM workers WHERE 'second' = ANY (async_types)") == [()],
        what="the heartbeat",
    )


def test_async_jobs_that_take_several_slots_share_them(engine: Engine) -> None:
    """The slots of all that run are never more than there are, and what needs more than are free waits."""
    names = ["wide", "narrow", "wide", "narrow", "narrow", "wide"]
    ids = [create(engine, name) for name in names]
    wait_until(lambda: taken["loop"] >= 3, what="slots that are taken")
    gate.set()
    for job_id in ids:
        job = engine.wait_for(job_id)
        assert (job.status, job.attempts) == ("completed", 1)
    assert 4 <= most["loop"] <= SLOTS


def test_a_mixed_queue_has_wide_async_jobs(engine: Engine) -> None:
    """Beside them its threads go on."""
    ids = [create(engine, "beside") for _ in range(3)]
    wait_until(lambda: taken["loop"] == SLOTS, what="two of three")
    for _ in range(3):
        assert engine.wait_for(create(engine, "plain")).attempts == 1
    gate.set()
    for job_id in ids:
        assert engine.wait_for(job_id).attempts == 1
    assert most["loop"] == SLOTS


def test_what_takes_more_than_there_are_is_refused(engine: Engine) -> None:
    """A job with more slots than its kind has is never claimed, says so, and keeps nothing waiting."""
    ids = [create(engine, name) for name in ("too_wide", "too_wide_for_threads")]
    gate.set()
    for name in ("narrow", "plain", "wide", "beside"):
        assert engine.wait_for(create(engine, name)).attempts == 1
    why = [default().explain(job_id).reasons for job_id in ids]
    assert [[reason.code for reason in reasons] for reasons in why] == [["workers_too_small"]] * 2
    assert [reasons[0].evidence for reasons in why] == [
        {"queue": "loop", "slots": SLOTS + 1, "workers": 1, "most_async_slots": SLOTS},
        {"queue": "both", "slots": THREADS + 1, "workers": 1, "most_threads": THREADS},
    ]
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        warn_of_wide_types(engine.broker, {"loop", "both"})
    assert [(line["event"], line["type"], line["slots"]) for line in lines] == [
        ("worker_too_small", "too_wide", SLOTS + 1),
        ("worker_too_small", "too_wide_for_threads", THREADS + 1),
    ]
    for job_id in ids:
        default().cancel(job_id)


def test_without_room_it_takes_slots_that_are_kept_for_it(engine: Engine) -> None:
    """Where narrow jobs come without end, a wide one starts all the same."""
    done = threading.Event()
    gate.set()

    def feed() -> None:
        while not done.is_set():
            engine.wait_for(create(engine, "narrow"))

    feeders = [threading.Thread(target=feed) for _ in range(SLOTS)]
    for feeder in feeders:
        feeder.start()
    try:
        assert engine.wait_for(create(engine, "wide", slots=SLOTS)).attempts == 1
    finally:
        done.set()
        for feeder in feeders:
            feeder.join()
