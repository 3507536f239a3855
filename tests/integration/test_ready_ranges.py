"""Ranges of ready jobs: a backlog that is drained quickly leaves by them, each job once and in its order."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import goqueue
from goqueue import failpoints
from goqueue.config.settings import Settings
from goqueue.dispatch import dispatcher as dispatcher_module
from goqueue.dispatch import range_dispatch, ready_looks, runway_state
from goqueue.dispatch.dispatcher import Dispatcher
from goqueue.engine import queue_rows as queue_store
from goqueue.engine.runway.runway import ReadyRange, Runway, parse
from goqueue.errors import RedisUnavailableError
from goqueue.jobs import Job
from goqueue.middleware.job_message import JobMessage
from goqueue.worker.broker import JobBroker
from goqueue.worker.claiming.consumer import JobConsumer
from tests.support.counted import counted
from tests.support.engine import QUICK, process_of
from tests.support.factories import JobFactory
from tests.support.servers.bare_runway import BareRunway

#: Of a range here.
JOBS = 5


@pytest.fixture
def overrides() -> dict[str, Any]:
    """Runways that are long from the first moment, and no patience for what was lost."""
    return {
        **QUICK,
        "fetch_block_seconds": 0.02,
        "runway_min": 8,
        "runway_max": 32,
        "lost_push_seconds": 0.05,
        # Nobody renews the lease here.
        "heartbeat_seconds": 1.0,
        "lease_seconds": 600.0,
    }


@pytest.fixture(autouse=True)
def small_and_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges of a few jobs, for every backlog; what is done now and then is done in each round."""
    monkeypatch.setattr(range_dispatch, "RANGES_FROM", 0)
    monkeypatch.setattr(range_dispatch, "RANGE_JOBS", JOBS)
    monkeypatch.setattr(range_dispatch, "LOST_SECONDS", 0.0)
    # On a slow machine every look would be one from the first row on, which pushes messages.
    monkeypatch.setattr(runway_state, "FIRST_ROW_SECONDS", 60.0)
    for name in ("WORKERS_SECONDS", "WAITING_SECONDS"):
        monkeypatch.setattr(dispatcher_module, name, 0.0)
    monkeypatch.setattr(ready_looks, "SLOW_SECONDS", math.inf)


@pytest.fixture
def broker(settings: Settings, make_job: JobFactory) -> Iterator[JobBroker]:
    """A process that has a lease, four threads' places, and no threads."""
    with process_of(settings) as broker:
        broker.claimed_jobs.worker_id = make_job.worker_id
        goqueue.actor(noop)
        broker.slots.observe(1e-5)
        try:
            yield broker
        finally:
            failpoints.configure("")


def noop() -> None:
    """Do nothing."""


@pytest.fixture
def dispatcher(broker: JobBroker) -> Dispatcher:
    """A dispatcher that has not looked yet."""
    with broker.database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE workers SET claims_ranges = true")
    return Dispatcher(broker.settings, broker.database, broker.runway)


def ranges_on(runway: Runway) -> list[ReadyRange]:
    """The ranges that stand on the runway now."""
    return list(runway.contents(["default"])[0].ranges)


def backlog(make_job: JobFactory, count: int) -> list[Job]:
    """Jobs in an order that is not the one of their ids."""
    start = datetime(2020, 1, 1, tzinfo=UTC)
    ranks = [start + timedelta(minutes=number * 7 % count) for number in range(count)]
    jobs = [make_job(rank=rank) for rank in ranks]
    return [job for _, job in sorted(zip(ranks, jobs, strict=True), key=lambda pair: (pair[0], pair[1].id))]


def dispatch_until_ranges(dispatcher: Dispatcher, consumer: JobConsumer) -> list[JobMessage]:
    """Run rounds until ranges are on the runway; what was claimed before them."""
    before: list[JobMessage] = []
    for _ in range(20):
        dispatcher.run_once()
        if ranges_on(dispatcher.unlimited._runway):  # noqa: SLF001  (the runway of the test itself)
            return before
        before += claim_some(consumer)
    raise AssertionError("no range was pushed")


def claim_some(consumer: JobConsumer) -> list[JobMessage]:
    """What one fetch brings; it is done with at once."""
    first = next(consumer)
    found = [] if first is None else [first, *consumer.take_claimed()]
    for one in found:
        consumer._broker.claimed_jobs.remove(one.current)  # noqa: SLF001  (as the recorder does)
    consumer._broker.slots.give_back(len(found))  # noqa: SLF001  (as the end of a run does)
    consumer._broker.runway.acknowledge("default", [one.message_id for one in found])  # noqa: SLF001  (as the recorder does)
    return found


def is_range(entry: Any) -> bool:
    """Whether an entry of a runway is a range."""
    return bool(parse([entry]).ranges)


def count_of(broker: JobBroker, condition: str) -> int:
    """The number of rows with this condition."""
    with broker.database.autocommit() as connection:
        found = connection.exec_driver_sql(f"SELECT count(*) FROM jobs WHERE {condition}").scalar_one()
    return int(found)


def status_of(broker: JobBroker, job_id: int) -> str:
    """The state of a job by its row."""
    with broker.database.autocommit() as connection:
        return str(connection.exec_driver_sql(f"SELECT status FROM jobs WHERE id = {job_id}").scalar_one())


def ids(messages: list[JobMessage]) -> list[int]:
    """The jobs of messages."""
    return [message.current.id for message in messages]


def run_all(dispatcher: Dispatcher, consumer: JobConsumer, count: int) -> list[int]:
    """Run rounds until so many jobs were claimed, or it was tried often enough; which."""
    seen: list[int] = []
    for _ in range(500):
        dispatcher.run_once()
        seen += ids(claim_some(consumer))
        if len(seen) == count:
            break
    return seen


@pytest.mark.parametrize("count", [33, 34, 64, 100, 257])
def test_a_backlog_leaves_by_ranges_each_job_once_and_in_order(
    broker: JobBroker, make_job: JobFactory, dispatcher: Dispatcher, count: int
) -> None:
    """Whatever the portions, nothing is left out, nothing comes twice, and no claim is made in vain."""
    expected = [job.id for job in backlog(make_job, count)]
    consumer, stale = JobConsumer(broker, "default"), counted("stale_deliveries_total")
    seen, had_ranges = [], False
    for _ in range(20 * count):
        dispatcher.run_once()
        had_ranges |= bool(ranges_on(broker.runway))
        seen += ids(claim_some(consumer))
        if len(seen) >= count:
            break
    dispatcher.run_once()
    assert seen == expected
    assert had_ranges
    assert counted("stale_deliveries_total") == stale
    assert ranges_on(broker.runway) == []
    assert ids(claim_some(consumer)) == []
    assert broker.slots.held == 0


def test_what_comes_into_a_range_is_claimed_with_it(
    broker: JobBroker, make_job: JobFactory, dispatcher: Dispatcher
) -> None:
    """A job that gets a place between the ends of a range starts in its turn, and once."""
    jobs = backlog(make_job, 60)
    consumer = JobConsumer(broker, "default")
    before = ids(dispatch_until_ranges(dispatcher, consumer))
    first = ranges_on(broker.runway)[0]
    between = datetime.fromisoformat(first.last[0]) - timedelta(seconds=1)
    newcomer = make_job(rank=between)
    seen = before
    while len(seen) < len(jobs) + 1:
        seen += ids(claim_some(consumer))
        dispatcher.run_once()
    assert len(set(seen)) == len(seen)
    assert seen.index(newcomer.id) < seen.index(jobs[-1].id)


def test_an_urgent_newcomer_comes_before_the_rest(
    broker: JobBroker, make_job: JobFactory, dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job of a place before all ranges is pushed by itself with the next look, and what is out is not."""
    jobs = backlog(make_job, 100)
    consumer, stale = JobConsumer(broker, "default"), counted("stale_deliveries_total")
    seen = ids(dispatch_until_ranges(dispatcher, consumer))
    for name in ("FIRST_ROW_SECONDS", "FIRST_ROW_REST"):
        monkeypatch.setattr(runway_state, name, 0.0)
    dispatcher.unlimited.states["default"].first_row_at = 0.0
    urgent = make_job(rank=datetime(2019, 1, 1, tzinfo=UTC))
    while len(seen) < len(jobs) + 1:
        seen += ids(claim_some(consumer))
        dispatcher.run_once()
    assert sorted(seen) == sorted([*(job.id for job in jobs), urgent.id])
    assert len(seen) - seen.index(urgent.id) > 20
    assert counted("stale_deliveries_total") == stale


@pytest.mark.parametrize("first_row_seconds", [0.0, 0.01, 60.0])
def test_no_more_is_claimed_than_there_are_places(
    broker: JobBroker,
    make_job: JobFactory,
    dispatcher: Dispatcher,
    monkeypatch: pytest.MonkeyPatch,
    first_row_seconds: float,
) -> None:
    """The rest of a range goes back to the head of the runway, and is claimed next."""
    expected = [job.id for job in backlog(make_job, 60)]
    consumer = JobConsumer(broker, "default")
    seen = ids(dispatch_until_ranges(dispatcher, consumer))
    broker.slots.observe(10.0)  # as many places as threads, for long jobs
    for name in ("FIRST_ROW_SECONDS", "FIRST_ROW_REST"):
        monkeypatch.setattr(runway_state, name, first_row_seconds)
    while len(seen) < 60:
        claimed = claim_some(consumer)
        assert len(claimed) <= broker.slots.threads
        seen += ids(claimed)
        dispatcher.run_once()
    assert seen == expected


def test_a_range_that_was_fetched_and_never_claimed_is_forgotten(
    broker: JobBroker, make_job: JobFactory, dispatcher: Dispatcher
) -> None:
    """Its jobs are dispatched again, in their order."""
    jobs = backlog(make_job, 60)
    consumer = JobConsumer(broker, "default")
    seen = ids(dispatch_until_ranges(dispatcher, consumer))
    lost = parse(broker.runway.fetch("default", 2, block_seconds=None))
    assert lost.ranges or lost.messages
    seen += run_all(dispatcher, consumer, len(jobs) - len(seen))
    assert sorted(seen) == sorted(job.id for job in jobs)
    assert ranges_on(broker.runway) == []


def test_a_wiped_redis_loses_nothing(broker: JobBroker, make_job: JobFactory, dispatcher: Dispatcher) -> None:
    """The dispatcher finds the jobs of lost ranges by their rows."""
    jobs = backlog(make_job, 80)
    consumer = JobConsumer(broker, "default")
    seen = ids(dispatch_until_ranges(dispatcher, consumer))
    BareRunway(broker.settings).redis.flushall()
    seen += run_all(dispatcher, consumer, len(jobs) - len(seen))
    assert sorted(seen) == sorted(job.id for job in jobs)


def test_a_pause_takes_the_ranges_off_the_runway(
    broker: JobBroker, make_job: JobFactory, dispatcher: Dispatcher
) -> None:
    """Nothing of a range starts in a paused queue, also where one was fetched before the pause."""
    backlog(make_job, 60)
    consumer = JobConsumer(broker, "default")
    dispatch_until_ranges(dispatcher, consumer)
    with broker.database.autocommit() as connection:
        queue_store.pause(connection, "default")
    assert claim_some(consumer) == []
    broker.runway.close_gate("default")
    dispatcher.run_once()
    assert broker.runway.contents(["default"])[0].entries == 0
    assert broker.slots.held == 0


def test_an_older_worker_gets_messages(
    broker: JobBroker, make_job: JobFactory, dispatcher: Dispatcher
) -> None:
    """While a worker listens that does not say that it claims ranges, none is pushed to its queue."""
    with broker.database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE workers SET claims_ranges = false")
    expected = [job.id for job in backlog(make_job, 60)]
    consumer, seen = JobConsumer(broker, "default"), list[int]()
    while len(seen) < 60:
        dispatcher.run_once()
        assert ranges_on(broker.runway) == []
        seen += ids(claim_some(consumer))
    assert seen == expected


def test_jobs_that_not_every_worker_knows_are_told_apart(
    broker: JobBroker, make_job: JobFactory, dispatcher: Dispatcher
) -> None:
    """Behind a row of a type that no worker knows the others start, and the claim takes no such row."""
    known = [make_job() for _ in range(50)]
    make_job(type="of another release")
    known += [make_job() for _ in range(50)]
    with broker.database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE workers SET signature = 's', types = '{noop}', schemas = '{x}', claims_ranges = true"
        )
    seen = run_all(dispatcher, JobConsumer(broker, "default"), len(known))
    assert sorted(seen) == [job.id for job in known]


def test_a_lost_answer_to_a_claim_gives_the_jobs_back(
    broker: JobBroker, make_job: JobFactory, dispatcher: Dispatcher
) -> None:
    """Which jobs were claimed is read from the record; they go back, and so do their places."""
    jobs = backlog(make_job, 60)
    consumer = JobConsumer(broker, "default")
    dispatch_until_ranges(dispatcher, consumer)
    bare = BareRunway(broker.settings)
    while not is_range(bare.redis.lindex(bare.key("runway"), 0)):
        claim_some(consumer)
    failpoints.configure("after_claim:raise")
    with pytest.raises(failpoints.FailpointError):
        next(consumer)
    failpoints.configure("")
    assert broker.slots.held == 0
    assert broker.claimed_ahead.returner.flush()
    # Nor is what this test claimed before known here any more.
    assert count_of(broker, "status = 'running' OR attempts > 0") == 0
    seen = run_all(dispatcher, consumer, len(jobs))
    assert sorted(seen) == sorted(job.id for job in jobs)


def test_places_survive_a_lost_put_back(
    broker: JobBroker, make_job: JobFactory, dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis failing while ranges are put back leaves no place taken, and their jobs come again."""
    jobs = backlog(make_job, 60)
    consumer = JobConsumer(broker, "default")
    seen = ids(dispatch_until_ranges(dispatcher, consumer))
    with monkeypatch.context() as cut:

        def cut_redis(*_: object, **__: object) -> None:
            raise RedisUnavailableError("Redis: cut")

        cut.setattr(broker.runway, "put_back", cut_redis)
        cut.setattr(broker.runway, "end_ranges", cut_redis)
        for _ in range(5):
            seen += ids(claim_some(consumer))
    assert broker.slots.held == 0
    seen += run_all(dispatcher, consumer, len(jobs) - len(seen))
    assert sorted(seen) == sorted(job.id for job in jobs)


def test_a_row_that_postgresql_refuses_holds_up_no_other(
    broker: JobBroker, make_job: JobFactory, dispatcher: Dispatcher
) -> None:
    """A range with a row whose claim PostgreSQL refuses is claimed job by job, and that one is set aside."""
    jobs = backlog(make_job, 60)
    consumer = JobConsumer(broker, "default")
    seen = ids(dispatch_until_ranges(dispatcher, consumer))
    bad = jobs[len(seen) + 12]
    with broker.database.autocommit() as connection:
        connection.exec_driver_sql(
            f"ALTER TABLE jobs ADD CONSTRAINT refused CHECK (id <> {bad.id} OR attempts = 0)"
        )
    try:
        seen += run_all(dispatcher, consumer, len(jobs) - 1 - len(seen))
    finally:
        with broker.database.autocommit() as connection:
            connection.exec_driver_sql("ALTER TABLE jobs DROP CONSTRAINT refused")
        status = status_of(broker, bad.id)
    assert sorted(seen) == sorted(job.id for job in jobs if job is not bad)
    assert status == "failed"


def test_ranges_of_both_kinds_give_what_there_is_room_for(
    broker: JobBroker, dispatcher: Dispatcher, make_job: JobFactory
) -> None:
    """While no thread is free, the async jobs of a range are claimed, in order; the others when one is."""

    async def noop_async() -> None:
        """Do nothing, on the event loop."""

    goqueue.actor(noop_async)
    start = datetime(2020, 1, 1, tzinfo=UTC)
    # Fewer of the others than the runway has places for: what stands there is looked through.
    names = (["noop"] + ["noop_async"] * 19) * 4
    jobs = [make_job(type=name, rank=start + timedelta(minutes=number)) for number, name in enumerate(names)]
    consumer = JobConsumer(broker, "default")
    threads = broker.slots.take(10_000)
    claimed: list[JobMessage] = []
    had_ranges = False
    for _ in range(60):
        dispatcher.run_once()
        had_ranges |= bool(ranges_on(broker.runway))
        claimed += async_ones(consumer)
    assert had_ranges
    assert ids(claimed) == [job.id for job in jobs if job.type == "noop_async"]
    assert count_of(broker, "status = 'running'") == 76
    broker.slots.give_back(threads)
    for _ in range(60):
        dispatcher.run_once()
        claimed += claim_some(consumer)
    assert sorted(ids(claimed)) == [job.id for job in jobs]
    assert count_of(broker, "status = 'running' AND fence = 1") == 80


def async_ones(consumer: JobConsumer) -> list[JobMessage]:
    """What one fetch brings, all of it async; it is done with at once."""
    first = next(consumer)
    found = [] if first is None else [first, *consumer.take_claimed()]
    broker = consumer._broker  # noqa: SLF001  (as the recorder and the end of a run do)
    for one in found:
        broker.claimed_jobs.remove(one.current)
    broker.slots.leave([one.current for one in found])
    broker.runway.acknowledge("default", [one.message_id for one in found])
    return found
