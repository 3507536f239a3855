"""Admission in a real engine: concurrency limits, turns of keys, strict order, rates."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

import goqueue
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.dispatch.limited_queues import LimitedQueues
from goqueue.engine import job_rows as job_store
from goqueue.engine import queue_rows as queue_store
from goqueue.engine import ready_rows as ready_store
from goqueue.engine.runway.runway import Runway, parse
from goqueue.engine.transitions import claim as claim_store
from goqueue.engine.transitions.cancel import cancel
from goqueue.engine.transitions.record import record
from goqueue.jobs import AttemptOutcome, JobStatus, Outcome
from goqueue.limits import admission_rows as admission_store
from goqueue.limits import queue_setting_rows as queue_settings
from goqueue.limits import type_setting_rows as type_settings
from goqueue.limits.settings import KeyLimits, OnConflict, QueueLimits, RateAlgorithm, RateLimit, TypeLimits
from goqueue.scheduler.service import Counts
from goqueue.worker.broker import JobBroker
from tests.support.engine import QUICK, Engine, process_of
from tests.support.factories import JobFactory
from tests.support.waiting import wait_until


@pytest.fixture
def overrides() -> dict[str, Any]:
    """Nothing takes longer than a test wants to wait."""
    return QUICK | {"dispatch_idle_seconds": 0.01}


@pytest.fixture
def broker(settings: Settings) -> Iterator[JobBroker]:
    """A process of its own."""
    with process_of(settings) as broker:
        yield broker


class Track:
    """Notes what handlers do: in which order jobs start, and how many run at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.started: list[str] = []
        self.running: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.gate = threading.Event()

    def enter(self, key: str, name: str) -> None:
        """A handler starts."""
        with self._lock:
            self.started.append(name)
            self.running[key] = self.running.get(key, 0) + 1
            self.most[key] = max(self.most.get(key, 0), self.running[key])

    def leave(self, key: str) -> None:
        """A handler ends."""
        with self._lock:
            self.running[key] -= 1


def limit(database: Database, queue: str, limits: QueueLimits, **keys: KeyLimits) -> None:
    """Set the limits of a queue and of its keys."""
    with database.transaction() as connection:
        queue_store.ensure(connection, [queue])
        queue_settings.set_limits(connection, queue, limits)
        for key, own in keys.items():
            queue_settings.set_key(connection, queue, key, own)


def declare(track: Track, *, seconds: float = 0.0) -> Any:
    """An actor that tells the track."""

    @goqueue.actor(queue="limited", max_retries=0)
    def tracked(key: str, name: str) -> None:
        track.enter(key, name)
        until = time.monotonic() + seconds
        # In short waits: an interrupt reaches a thread only between them.
        while time.monotonic() < until and not track.gate.wait(0.005):
            pass
        track.leave(key)

    return tracked


def test_a_queue_runs_no_more_than_its_limit(broker: JobBroker) -> None:
    """Ten jobs, a limit of two, four threads: never more than two at once, and all complete."""
    track = Track()
    tracked = declare(track, seconds=0.02)
    limit(broker.database, "limited", QueueLimits(concurrency=2))
    with Engine(broker) as engine:
        ids = [goqueue.enqueue(tracked, {"key": "all", "name": str(n)}) for n in range(10)]
        for job_id in ids:
            engine.wait_for(job_id)
    assert track.most == {"all": 2}


def test_each_key_runs_no_more_than_its_limit(broker: JobBroker) -> None:
    """A limit of one a key, two for a key that has its own; keys do not disturb one another."""
    track = Track()
    tracked = declare(track, seconds=0.15)
    limit(broker.database, "limited", QueueLimits(key_concurrency=1), b=KeyLimits(concurrency=2))
    with Engine(broker) as engine:
        ids = [
            goqueue.enqueue(tracked, {"key": key, "name": key}, concurrency_key=key) for key in "aaaabbbbc"
        ]
        for job_id in ids:
            engine.wait_for(job_id)
    assert track.most == {"a": 1, "b": 2, "c": 1}


def test_keys_take_turns_by_weight(broker: JobBroker) -> None:
    """With one slot the order of starts is a, b, b, a, b, b, … while both have jobs, then the rest."""
    track = Track()
    tracked = declare(track)
    limit(broker.database, "limited", QueueLimits(concurrency=1, fair=True), b=KeyLimits(weight=2))
    ids = [
        goqueue.enqueue(tracked, {"key": key, "name": f"{key}{n}"}, concurrency_key=key)
        for key in "ab"
        for n in range(6)
    ]
    with Engine(broker) as engine:
        for job_id in ids:
            engine.wait_for(job_id)
    assert track.started[:9] == ["a0", "b0", "b1", "a1", "b2", "b3", "a2", "b4", "b5"]
    assert track.started[9:] == ["a3", "a4", "a5"]


def test_strict_order_within_a_key(broker: JobBroker) -> None:
    """The jobs of a key start one after the other in the order of creation, whatever their priority."""
    track = Track()
    tracked = declare(track, seconds=0.005)
    limit(broker.database, "limited", QueueLimits(fifo=True))
    ids = [
        goqueue.enqueue(tracked, {"key": key, "name": f"{key}{n}"}, concurrency_key=key, priority=n)
        for n in range(5)
        for key in "xy"
    ]
    with Engine(broker) as engine:
        for job_id in ids:
            engine.wait_for(job_id)
    assert track.most == {"x": 1, "y": 1}
    for key in "xy":
        assert [name for name in track.started if name[0] == key] == [f"{key}{n}" for n in range(5)]


@pytest.mark.parametrize("algorithm", list(RateAlgorithm), ids=str)
def test_no_window_holds_more_starts_than_the_rate(broker: JobBroker, algorithm: RateAlgorithm) -> None:
    """Fifteen jobs at five a half second: no window holds more, by the times in the rows."""
    tracked = declare(Track())
    rate = RateLimit(5, 0.5, algorithm)
    limit(broker.database, "limited", QueueLimits(rate=rate))
    with Engine(broker) as engine:
        ids = [goqueue.enqueue(tracked, {"key": "k", "name": str(n)}) for n in range(15)]
        for job_id in ids:
            engine.wait_for(job_id)
        starts = [
            row[0] for row in engine.rows("SELECT extract(epoch FROM started_at)::float FROM jobs ORDER BY 1")
        ]
    allowed = 5 if algorithm is RateAlgorithm.SLIDING_WINDOW else 10
    assert all(later - earlier >= 0.5 for earlier, later in zip(starts, starts[allowed:], strict=False))


def test_a_dropped_job_is_cancelled(broker: JobBroker) -> None:
    """With `drop_new` a job that finds the limit reached is cancelled, and says why."""
    track = Track()
    tracked = declare(track, seconds=30)
    limit(broker.database, "limited", QueueLimits(concurrency=1, on_conflict=OnConflict.DROP_NEW))
    with Engine(broker) as engine:
        first = goqueue.enqueue(tracked, {"key": "k", "name": "first"})
        engine.wait_for(first, "running")
        second = goqueue.enqueue(tracked, {"key": "k", "name": "second"})
        assert engine.wait_for(second, "cancelled").reason == "dropped"
        track.gate.set()
        engine.wait_for(first)


def test_a_newer_job_supersedes_the_running_one(broker: JobBroker) -> None:
    """With `cancel_running` the newest job of a key runs, and the older one is cancelled."""
    track = Track()
    tracked = declare(track, seconds=30)
    limit(broker.database, "limited", QueueLimits(key_concurrency=1, on_conflict=OnConflict.CANCEL_RUNNING))
    with Engine(broker) as engine:
        first = goqueue.enqueue(tracked, {"key": "k", "name": "first"}, concurrency_key="k")
        engine.wait_for(first, "running")
        second = goqueue.enqueue(tracked, {"key": "k", "name": "second"}, concurrency_key="k")
        engine.wait_for(first, "cancelled")
        engine.wait_for(second, "running")
        track.gate.set()
        engine.wait_for(second)


def test_a_limit_that_is_set_later_holds_for_what_waits(broker: JobBroker) -> None:
    """Jobs that are on the runway already are not started past a new limit."""
    track = Track()
    tracked = declare(track, seconds=30)
    with Engine(broker) as engine:
        ids = [goqueue.enqueue(tracked, {"key": "k", "name": str(n)}) for n in range(12)]
        wait_until(lambda: len(track.started) == 4, what="four threads to be busy")
        limit(broker.database, "limited", QueueLimits(concurrency=1))
        track.gate.set()
        for job_id in ids:
            engine.wait_for(job_id)
    assert len(track.started) == 12


def governed(database: Database, settings: Settings, runway: Runway, *names: str) -> LimitedQueues:
    """The admission of some queues, as a dispatcher has it."""
    queues = LimitedQueues(settings, database, runway)
    queues.learn(names, dict.fromkeys(names, 16))
    return queues


def admitted(database: Database) -> list[int]:
    """Who was let in."""
    with database.autocommit() as connection:
        return [job.id for job in admission_store.let_in(connection, 1000)]


def run(queues: LimitedQueues) -> Counts:
    """A round of every queue."""
    counts: Counts = Counter()
    queues.run(counts)
    return counts


def test_a_type_is_limited_over_all_queues(
    database: Database, settings: Settings, runway: Runway, make_job: JobFactory
) -> None:
    """Slots of a type are counted over the queues that its jobs are in; other types pass by."""
    with database.transaction() as connection:
        type_settings.locked(connection, "heavy")
        type_settings.set_limits(connection, "heavy", TypeLimits(concurrency=3))
    make_job("running", queue="a", type="heavy")
    heavy = [make_job(queue=queue, type="heavy").id for queue in "aabb"]
    light = make_job(queue="a", type="light").id
    assert run(governed(database, settings, runway, "a", "b"))["admitted"] == 3
    assert set(admitted(database)) == {*heavy[:2], light}


def test_two_dispatchers_let_in_no_more_than_the_limit(
    database: Database, settings: Settings, runway: Runway, make_job: JobFactory
) -> None:
    """A round holds the lock of its queue, so that whoever believes to lead counts what others let in."""
    limit(database, "default", QueueLimits(concurrency=5))
    for _ in range(40):
        make_job()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: run(governed(database, settings, runway, "default")), range(12)))
    assert len(admitted(database)) == 5


def test_a_suspect_needs_a_slot_and_starts_alone(
    database: Database, settings: Settings, runway: Runway, make_job: JobFactory
) -> None:
    """It is let in like any other job, but goes to the quarantine's runway, and only then."""
    limit(database, "default", QueueLimits(concurrency=1))
    running = make_job("running")
    suspect = make_job(quarantined=True, suspicion=2, deaths=1)
    queues = governed(database, settings, runway, "default")
    assert run(queues)["admitted"] == 0
    with database.autocommit() as connection:
        assert ready_store.next_quarantined(connection, 10) == []
        record(
            connection,
            [Outcome(running.id, 1, JobStatus.COMPLETED, AttemptOutcome.COMPLETED)],
            worker_id=make_job.worker_id,
        )
    assert run(queues)["admitted"] == 1
    assert runway.lengths(["default"]) == [(0, 0)]
    with database.autocommit() as connection:
        assert [job.id for job in ready_store.next_quarantined(connection, 10)] == [suspect.id]


def test_a_suspect_beside_others_needs_a_slot_and_comes_first(
    database: Database, settings: Settings, runway: Runway, make_job: JobFactory
) -> None:
    """It is let in before all others, also while suspects wait to run alone, and has a runway of its own."""
    limit(database, "default", QueueLimits(concurrency=5))
    alone = [make_job(quarantined=True, suspicion=2, deaths=1).id for _ in range(20)]
    others = [make_job().id for _ in range(5)]
    suspect = make_job(quarantined=True, suspicion=1).id
    queues = governed(database, settings, runway, "default")
    assert run(queues)["admitted"] == 5
    with database.autocommit() as connection:
        assert [job.id for job in ready_store.next_suspects(connection, 10)] == [suspect]
        assert [job.id for job in ready_store.next_quarantined(connection, 99)] == alone[:1]
    assert [message.job_id for message in parse(runway.fetch("default", 9, block_seconds=0.01))[0]] == others[
        :3
    ]


def test_a_claim_refuses_what_was_not_let_in(database: Database, make_job: JobFactory) -> None:
    """Whatever a wiped or restored Redis brings to a worker: the limit holds."""
    limit(database, "default", QueueLimits(concurrency=1))
    job = make_job()
    with database.autocommit() as connection:
        claim = partial(claim_store.claim, worker_id=make_job.worker_id, lease_seconds=60)
        assert claim(connection, [(job.id, job.fence)]) == []
        connection.exec_driver_sql("UPDATE jobs SET admitted = true")
        assert [claimed.id for claimed in claim(connection, [(job.id, job.fence)])] == [job.id]


def test_what_never_started_gives_its_tokens_back(
    database: Database, settings: Settings, runway: Runway, make_job: JobFactory
) -> None:
    """A job that is cancelled after it was let in has not spent anything."""
    limit(database, "default", QueueLimits(rate=RateLimit(2, 3600)))
    first, second, third = (make_job().id for _ in range(3))
    queues = governed(database, settings, runway, "default")
    run(queues)
    assert admitted(database) == [first, second]
    with database.autocommit() as connection:
        cancel(connection, [first])
    run(queues)
    assert admitted(database) == [second, third]


def test_a_job_that_costs_more_than_the_limit_starts_alone(
    database: Database, settings: Settings, runway: Runway, make_job: JobFactory
) -> None:
    """It waits until the whole window is free, holds up those behind it meanwhile, and uses all of it."""
    limit(database, "default", QueueLimits(rate=RateLimit(5, 3600)))
    small = make_job(rate_cost=1).id
    large = make_job(rate_cost=50).id
    make_job(rate_cost=1)
    queues = governed(database, settings, runway, "default")
    run(queues)
    assert admitted(database) == [small]
    with database.autocommit() as connection:
        cancel(connection, [small])
    run(queues)
    assert admitted(database) == [large]


LIMITED_TO_FOUR = {
    "queue": (QueueLimits(concurrency=4), None),
    "key": (QueueLimits(key_concurrency=4), None),
    "type": (QueueLimits(), 4),
}


@pytest.mark.parametrize("which", LIMITED_TO_FOUR)
def test_a_job_takes_several_slots_of_a_limit(
    database: Database, settings: Settings, runway: Runway, make_job: JobFactory, which: str
) -> None:
    """Costs add up, one that lacks slots holds up those behind it, one above the limit takes all of it."""
    limits, of_type = LIMITED_TO_FOUR[which]
    limit(database, "default", limits)
    if of_type is not None:
        with database.transaction() as connection:
            type_settings.locked(connection, "noop")
            type_settings.set_limits(connection, "noop", TypeLimits(concurrency=of_type))
    three, two, one, whole, last = (
        make_job(limit_cost=cost, concurrency_key="k").id for cost in (3, 2, 1, 9, 1)
    )
    queues = governed(database, settings, runway, "default")
    held = [[three], [two, one], [whole], [last]]
    for these in held:
        run(queues)
        assert admitted(database) == these
        run(queues)
        assert admitted(database) == these
        with database.autocommit() as connection:
            cancel(connection, these)
    assert one < whole


def test_a_job_that_takes_more_slots_than_are_free_is_dropped(
    database: Database, settings: Settings, runway: Runway, make_job: JobFactory
) -> None:
    """Where jobs without a slot are dropped; one behind it that takes fewer has its slot."""
    limit(database, "default", QueueLimits(concurrency=2, on_conflict=OnConflict.DROP_NEW))
    running = make_job("running").id
    large = make_job(limit_cost=2).id
    small = make_job().id
    queues = governed(database, settings, runway, "default")
    run(queues)
    run(queues)
    assert admitted(database) == [small]
    with database.autocommit() as connection:
        assert job_store.get(connection, large).reason == "dropped"
        assert job_store.get(connection, running).status == JobStatus.RUNNING


def test_admission_ramps_up_after_a_pause(
    database: Database, settings: Settings, runway: Runway, make_job: JobFactory
) -> None:
    """In the middle of the ramp half of the sixteen threads' worth may run, at its end all that wait."""
    limit(database, "default", QueueLimits(ramp_seconds=1000))
    for _ in range(60):
        make_job()
    queues = governed(database, settings, runway, "default")
    shares = {0: 1, 500: 8, 1000: 8}
    for elapsed, expected in shares.items():
        with database.autocommit() as connection:
            connection.exec_driver_sql(
                "UPDATE queues SET ramping_since = now() - make_interval(secs => %(s)s), "
                "ramping_until = now() + make_interval(secs => 1000 - %(s)s)",
                {"s": elapsed},
            )
        run(queues)
        assert len(admitted(database)) >= expected
        if elapsed < 1000:
            assert len(admitted(database)) == expected


def test_keyless_jobs_share_one_turn(
    database: Database, settings: Settings, runway: Runway, make_job: JobFactory
) -> None:
    """In a fair queue jobs without a key are one more tenant, not the last one."""
    limit(database, "default", QueueLimits(fair=True, concurrency=4))
    keyed = [make_job(concurrency_key=key).id for key in "aaabbb"]
    keyless = [make_job().id for _ in range(3)]
    run(governed(database, settings, runway, "default"))
    let_in = admitted(database)
    assert len(let_in) == 4
    assert set(let_in) & set(keyless)
    assert set(let_in) & set(keyed)
