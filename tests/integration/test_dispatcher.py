"""The dispatcher: ready rows become messages, by rank, as many as fit, and what was lost comes again."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.dispatch import dispatcher as dispatcher_module
from goqueue.dispatch import ready_looks, runway_state
from goqueue.dispatch.dispatcher import Dispatcher
from goqueue.engine import new_job_rows as new_job_store
from goqueue.engine import queue_rows as queue_store
from goqueue.engine.create import JobCreator
from goqueue.engine.runway.runway import Message, Runway, parse
from goqueue.jobs import QUARANTINE_QUEUE, NewJob
from tests.support.factories import JobFactory
from tests.support.servers.bare_runway import BareRunway
from tests.support.waiting import wait_until


@pytest.fixture
def overrides() -> dict[str, Any]:
    """A short runway, and no patience for lost pushes."""
    return {"runway_min": 4, "runway_max": 64, "lost_push_seconds": 0.05, "dispatch_idle_seconds": 0.02}


@pytest.fixture(autouse=True)
def every_round_does_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done now and then is done in each round, so that one round shows it."""
    for name in ("WORKERS_SECONDS", "WAITING_SECONDS"):
        monkeypatch.setattr(dispatcher_module, name, 0.0)
    for name in ("FIRST_ROW_SECONDS", "FIRST_ROW_REST"):
        monkeypatch.setattr(runway_state, name, 0.0)
    monkeypatch.setattr(ready_looks, "SLOW_SECONDS", math.inf)


@pytest.fixture
def dispatcher(settings: Settings, database: Database, runway: Runway) -> Dispatcher:
    """A dispatcher that has not looked yet."""
    return Dispatcher(settings, database, runway)


def fetch(runway: Runway, queue: str = "default", count: int = 100) -> list[int]:
    """The ids that are on a runway, taken off it."""
    messages, _, _, garbage = parse(runway.fetch(queue, count, block_seconds=0.01))
    assert garbage == []
    return [message.job_id for message in messages]


def fetched_with_suspects(runway: Runway, queue: str = "default") -> tuple[list[int], bool]:
    """What a process that has no suspect fetches, and whether they are suspects."""
    fetched = runway.take(queue, 100, block_seconds=0.01, suspects=True)
    return [message.job_id for message in parse(fetched.entries)[0]], fetched.suspects


def claim(make_job: JobFactory, runway: Runway, ids: list[int]) -> None:
    """Do what a worker does with what it fetched."""
    assert len(make_job.claim(*ids)) == len(ids)
    runway.acknowledge("default", [Message(job_id, 0).key for job_id in ids])


def test_ready_rows_become_messages_in_order(
    make_job: JobFactory, dispatcher: Dispatcher, runway: Runway
) -> None:
    """One round pushes what is ready, by rank; a second one adds nothing."""
    jobs = [make_job() for _ in range(3)]
    assert dispatcher.run_once()["pushed"] == 3
    assert dispatcher.run_once()["pushed"] == 0
    assert fetch(runway) == [job.id for job in jobs]


def test_a_backlog_leaves_in_rank_order_to_its_end(
    make_job: JobFactory, dispatcher: Dispatcher, runway: Runway
) -> None:
    """Refills keep the order, whatever the portions; nothing is left out, nothing comes twice."""
    ranks = [datetime(2020, 1, 1 + number * 7 % 28, tzinfo=UTC) for number in range(150)]
    jobs = [make_job(rank=rank) for rank in ranks]
    expected = [
        job.id for _, job in sorted(zip(ranks, jobs, strict=True), key=lambda pair: (pair[0], pair[1].id))
    ]
    seen: list[int] = []
    while len(seen) < len(jobs):
        dispatcher.run_once()
        taken = fetch(runway, count=3)
        assert taken
        claim(make_job, runway, taken)
        seen += taken
    assert seen == expected
    assert dispatcher.run_once()["pushed"] == 0


def test_an_urgent_newcomer_overtakes_a_backlog(
    make_job: JobFactory, dispatcher: Dispatcher, runway: Runway, database: Database
) -> None:
    """A job of high priority created last is pushed with the next refill, before the rest of the backlog."""
    for _ in range(60):
        make_job()
    dispatcher.run_once()
    with database.autocommit() as connection:
        urgent = new_job_store.insert(connection, NewJob("default", "noop", "{}", priority=100))
    claim(make_job, runway, fetch(runway))
    dispatcher.run_once()
    assert fetch(runway)[0] == urgent.id


def test_a_backlog_closes_the_gate_and_its_end_opens_it(
    make_job: JobFactory, dispatcher: Dispatcher, runway: Runway
) -> None:
    """While rows wait in PostgreSQL only the dispatcher pushes; afterwards submits are direct again."""
    for _ in range(10):
        make_job()
    dispatcher.run_once()
    assert runway.submit("default", [Message(10**9, 0)]).added == 0
    while taken := fetch(runway):
        claim(make_job, runway, taken)
        dispatcher.run_once()
    dispatcher.run_once()
    assert runway.submit("default", [Message(10**9, 0)]).added == 1


def test_a_submit_behind_a_backlog_is_dispatched(
    make_job: JobFactory, dispatcher: Dispatcher, runway: Runway, settings: Settings, database: Database
) -> None:
    """A job created while the gate is closed is not lost: it comes in its turn."""
    for _ in range(6):
        make_job()
    dispatcher.run_once()
    job = JobCreator(settings, database, runway).one(NewJob("default", "noop", "{}"))
    seen: list[int] = []
    while taken := fetch(runway):
        claim(make_job, runway, taken)
        seen += taken
        dispatcher.run_once()
    assert seen[-1] == job.id
    assert len(seen) == 7


def test_a_wiped_redis_is_filled_again(
    make_job: JobFactory, dispatcher: Dispatcher, runway: Runway, bare_runway: BareRunway
) -> None:
    """After FLUSHALL the next rounds push what is still queued."""
    jobs = [make_job() for _ in range(3)]
    dispatcher.run_once()
    bare_runway.wipe()
    assert dispatcher.run_once()["pushed"] == 3
    assert fetch(runway) == [job.id for job in jobs]


def test_a_wipe_in_a_backlog_loses_nothing(
    make_job: JobFactory, dispatcher: Dispatcher, runway: Runway, bare_runway: BareRunway
) -> None:
    """Rows that were behind and before the frontier when Redis was wiped all come, in the end."""
    jobs = {make_job().id for _ in range(40)}
    dispatcher.run_once()
    claim(make_job, runway, taken := fetch(runway, count=3))
    dispatcher.run_once()
    bare_runway.wipe()
    seen = set(taken)

    def drained() -> bool:
        dispatcher.run_once()
        found = fetch(runway)
        claim(make_job, runway, found)
        seen.update(found)
        return seen == jobs

    wait_until(drained, what="every job")


def test_a_lost_fetch_is_pushed_again(make_job: JobFactory, dispatcher: Dispatcher, runway: Runway) -> None:
    """A message that was popped and never claimed comes again after `lost_push_seconds`, and is counted."""
    job = make_job()
    dispatcher.run_once()
    assert fetch(runway) == [job.id]
    again = 0

    def came_again() -> bool:
        nonlocal again
        again += dispatcher.run_once()["again"]
        return again == 1

    wait_until(came_again, what="the lost message")
    assert fetch(runway) == [job.id]


def test_suspects_go_to_the_quarantine_alone(
    make_job: JobFactory, dispatcher: Dispatcher, runway: Runway
) -> None:
    """Who runs alone is on the quarantine's runway and on no other."""
    suspect, good = make_job(quarantined=True, suspicion=2), make_job()
    counts = dispatcher.run_once()
    assert (counts["suspects"], counts["pushed"]) == (1, 1)
    assert fetch(runway) == [good.id]
    assert fetch(runway, QUARANTINE_QUEUE) == [suspect.id]


def test_suspects_that_run_beside_others_come_first(
    make_job: JobFactory, dispatcher: Dispatcher, runway: Runway
) -> None:
    """They lie apart, a queue each, and are fetched before all others, by rank."""
    goods = [make_job() for _ in range(3)]
    suspects = [make_job(quarantined=True, suspicion=1) for _ in range(2)]
    other = make_job(queue="other", quarantined=True, suspicion=1)
    counts = dispatcher.run_once()
    assert (counts["suspects"], counts["pushed"]) == (3, 3)
    assert fetched_with_suspects(runway) == ([job.id for job in suspects], True)
    assert fetched_with_suspects(runway) == ([job.id for job in goods], False)
    assert fetched_with_suspects(runway, "other") == ([other.id], True)
    assert fetch(runway, QUARANTINE_QUEUE) == []


def test_a_pause_takes_suspects_off_as_well(
    make_job: JobFactory, dispatcher: Dispatcher, runway: Runway
) -> None:
    """What lies ready to be fetched goes with the queue's runway."""
    make_job(quarantined=True, suspicion=1)
    dispatcher.run_once()
    runway.close_gate("default")
    assert fetched_with_suspects(runway) == ([], False)


def test_what_was_started_once_goes_to_the_front(
    make_job: JobFactory, dispatcher: Dispatcher, runway: Runway
) -> None:
    """It comes before all others in its own order, once, also where the dispatcher was quicker."""
    jobs = [make_job() for _ in range(4)]
    dispatcher.run_once()
    again = [make_job().id, jobs[2].id]
    runway.push_to_front("default", [Message(job_id, 0) for job_id in again])
    assert fetch(runway) == [*again, jobs[0].id, jobs[1].id, jobs[3].id]
    runway.push_to_front("default", [Message(again[1], 0)])
    assert fetch(runway) == []


def test_what_becomes_due_is_pushed(make_job: JobFactory, dispatcher: Dispatcher, runway: Runway) -> None:
    """Run-ats and retries join the order when their time has come, and not before."""
    due = make_job(available_at=datetime(2020, 1, 1, tzinfo=UTC), attempts=1)
    make_job(available_at=datetime(2999, 1, 1, tzinfo=UTC))
    counts = dispatcher.run_once()
    assert (counts["due"], counts["pushed"]) == (1, 1)
    assert fetch(runway) == [due.id]


def test_a_paused_queue_gets_nothing(
    make_job: JobFactory, dispatcher: Dispatcher, runway: Runway, database: Database
) -> None:
    """Rows of a paused queue stay where they are, its gate stays closed, and resuming lets them go."""
    job = make_job()
    for paused in (True, False):
        with database.autocommit() as connection:
            (queue_store.pause if paused else queue_store.resume)(connection, "default")
        if paused:
            runway.close_gate("default")
        dispatcher.run_once()
        dispatcher.run_once()
        if paused:
            assert runway.submit("default", [Message(10**9, 0)]).added == 0
        assert fetch(runway) == ([] if paused else [job.id])


def test_the_runway_grows_while_it_is_found_empty_and_shrinks_again(
    make_job: JobFactory, dispatcher: Dispatcher, runway: Runway
) -> None:
    """A backlog that drains between rounds makes the runway longer, to its most; slow workers, shorter."""
    for _ in range(400):
        make_job()
    lengths = []
    for _ in range(5):
        dispatcher.run_once()
        taken = fetch(runway)
        lengths.append(len(taken))
        claim(make_job, runway, taken)
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1] == 64
    limit = dispatcher.unlimited.states["default"].limit
    dispatcher.run_once()
    for _ in range(60):
        claim(make_job, runway, fetch(runway, count=1))
        dispatcher.run_once()
    assert dispatcher.unlimited.states["default"].limit < limit


def test_a_new_dispatcher_goes_on_where_another_stopped(
    make_job: JobFactory, dispatcher: Dispatcher, runway: Runway, settings: Settings, database: Database
) -> None:
    """A dispatcher keeps no state that matters: another one that takes over pushes nothing twice."""
    jobs = [make_job() for _ in range(4)]
    dispatcher.run_once()
    other = Dispatcher(settings, database, runway)
    assert other.run_once()["pushed"] == 0
    assert fetch(runway) == [job.id for job in jobs]


def test_old_hash_entries_are_swept(
    dispatcher: Dispatcher, bare_runway: BareRunway, make_job: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries that a dead worker could not acknowledge are dropped after their time."""
    make_job("completed")
    bare_runway.redis.hset(bare_runway.key("messages"), "1.0", "1")
    monkeypatch.setattr(dispatcher_module, "SWEEP_SECONDS", 0.0)
    dispatcher._next.clear()  # noqa: SLF001  (a pause that is over)
    assert dispatcher.run_once()["forgotten"] == 1
