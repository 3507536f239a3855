"""Jobs that a process claimed ahead of its threads: none is held up, and none begins that should not."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any

import dramatiq
import pytest

import goqueue
from goqueue import failpoints
from goqueue.config.settings import Settings
from goqueue.dispatch.dispatcher import Dispatcher
from goqueue.engine import queue_rows as queue_store
from goqueue.engine.runway.runway import Message
from goqueue.engine.transitions.cancel import cancel
from goqueue.engine.transitions.claim import claim
from goqueue.engine.transitions.give_back import GivenBack
from goqueue.errors import DatabaseUnavailableError
from goqueue.instance import default
from goqueue.jobs import AttemptOutcome, Job, JobStatus
from goqueue.limits import admission_rows as admission_store
from goqueue.limits import queue_setting_rows as queue_settings
from goqueue.limits import rate_rows as rate_store
from goqueue.limits.queue_rates import QueueRates
from goqueue.limits.settings import QueueLimits
from goqueue.middleware.job_message import JobMessage
from goqueue.scheduler.service import run_loop
from goqueue.worker.broker import JobBroker
from goqueue.worker.claiming import claimed_ahead as watching
from goqueue.worker.claiming import claims, wanted_changes
from goqueue.worker.claiming import returner as returning
from goqueue.worker.claiming.claims import Key
from goqueue.worker.claiming.consumer import JobConsumer
from tests.support.counted import counted
from tests.support.engine import QUICK, Engine, process_of
from tests.support.factories import JobFactory
from tests.support.waiting import wait_until

#: Ids of jobs whose handlers began, in that order.
began: list[int] = []
may_end = threading.Event()
pause = threading.Event()


@pytest.fixture
def overrides() -> dict[str, Any]:
    """Four threads, a runway that holds what these tests push, and leases that outlive a busy machine."""
    return {
        **QUICK,
        "heartbeat_seconds": 0.5,
        "lease_seconds": 10.0,
        "fetch_block_seconds": 0.05,
        "runway_min": 500,
    }


@pytest.fixture
def broker(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobBroker]:
    """A process that knows long jobs, short ones and ones of a hundredth of a second."""
    began.clear()
    may_end.clear()
    # Two of them live in one process here, and must not take each other for one that is gone.
    monkeypatch.setattr("goqueue.worker.lease.host_key", lambda: None)
    with process_of(settings) as broker:
        declare(broker)
        try:
            yield broker
        finally:
            failpoints.configure("")
            may_end.set()


def declare(broker: JobBroker) -> None:
    """Declare the types on a broker."""

    def long() -> None:
        began.append(goqueue.current_job().id)
        may_end.wait(30)

    def short() -> None:
        began.append(goqueue.current_job().id)

    def brief() -> None:
        began.append(goqueue.current_job().id)
        pause.wait(0.015)

    for function in (long, short, brief):
        dramatiq.actor(broker=broker, actor_name=function.__name__, max_retries=3)(function)


@pytest.fixture
def engine(broker: JobBroker) -> Iterator[Engine]:
    """The process at work; it has learnt that jobs are short, and nobody dispatches."""
    # Before the first fetch, which else would ask for no more than there are threads.
    broker.slots.observe(1e-4)
    with Engine(broker, dispatches=False) as engine:
        wait_until(lambda: broker.claimed_jobs.worker_id, what="the lease")
        yield engine
        may_end.set()


@pytest.fixture
def other(broker: JobBroker, settings: Settings) -> Iterator[JobBroker]:
    """Another process, of the same types, that is not at work yet."""
    second = JobBroker(settings, submit=broker._submit)  # noqa: SLF001  (a second process in this one)
    declare(second)
    yield second
    second.close()


def push(broker: JobBroker, jobs: list[Job]) -> None:
    """Put the messages of these rows on the runway, all at once."""
    broker.runway.dispatch("default", [Message(job.id, job.fence) for job in jobs], limit=1000, closed=False)


def rows(broker: JobBroker, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query."""
    with broker.database.autocommit() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(sql).fetchall()]


def states(broker: JobBroker, jobs: list[Job]) -> set[tuple[Any, ...]]:
    """The status, attempts and worker that these jobs have."""
    ids = ",".join(str(job.id) for job in jobs)
    return set(rows(broker, f"SELECT status, attempts, worker_id FROM jobs WHERE id IN ({ids})"))


def went_back(broker: JobBroker, jobs: list[Job]) -> bool:
    """Whether each of these jobs was claimed, and is queued again with no attempt counted."""
    ids = ",".join(str(job.id) for job in jobs)
    return rows(broker, f"SELECT DISTINCT status, attempts, fence > 0 FROM jobs WHERE id IN ({ids})") == [
        ("queued", 0, True)
    ]


def count_of(reason: str) -> float:
    """How many jobs were given back for this reason."""
    return counted("jobs_given_back_total", reason=reason)


def hold_up(
    engine: Engine, make_job: JobFactory, *, long: int = 4, behind: int = 40, kind: str = "short"
) -> list[Job]:
    """Let long jobs run, with others claimed behind them; these others."""
    slow = [make_job(type="long") for _ in range(long)]
    quick = [make_job(type=kind) for _ in range(behind)]
    push(engine.broker, slow + quick)
    wait_until(lambda: {job.id for job in slow} <= set(began), what="the long jobs")
    return quick


def claim_by_hand(broker: JobBroker, jobs: list[Job]) -> list[JobMessage]:
    """Claim jobs for a process that has no threads."""
    push(broker, jobs)
    consumer = JobConsumer(broker, "default")
    found = [message for _ in jobs if (message := next(consumer)) is not None]
    assert [message.current.id for message in found] == [job.id for job in jobs]
    return found


@pytest.fixture
def idle(broker: JobBroker, make_job: JobFactory) -> JobBroker:
    """The process with a lease and without threads."""
    broker.claimed_jobs.worker_id = make_job.worker_id
    broker.slots.observe(1e-4)
    return broker


# A thread is busy for longer


def test_what_waits_behind_long_jobs_goes_back_unspent(engine: Engine, make_job: JobFactory) -> None:
    """Short jobs claimed behind long ones are queued again while those run: no attempt, no attempt row."""
    slow = [make_job(type="long") for _ in range(4)]
    quick = [make_job(type="short") for _ in range(40)]
    push(engine.broker, slow + quick)
    wait_until(lambda: went_back(engine.broker, quick), what="the return")
    assert {status for status, *_ in states(engine.broker, slow)} == {"running"}
    assert rows(engine.broker, "SELECT * FROM attempts") == []
    assert len(began) == 4


def test_a_free_process_runs_them_while_the_long_ones_run(
    engine: Engine, other: JobBroker, make_job: JobFactory
) -> None:
    """What one process claimed behind long jobs ends elsewhere before these do, and runs once."""
    slow = [make_job(type="long") for _ in range(4)]
    quick = [make_job(type="short") for _ in range(192)]
    push(engine.broker, slow + quick)
    wait_until(lambda: len(began) >= 4, what="the long jobs")
    with Engine(other, dispatches=False):
        wait_until(
            lambda: {row[:2] for row in states(engine.broker, quick)} == {("completed", 1)},
            what="the short jobs",
        )
        assert {status for status, *_ in states(engine.broker, slow)} == {"running"}
        assert sorted(began) == [job.id for job in slow + quick]
        may_end.set()
        wait_until(
            lambda: {row[0] for row in states(engine.broker, slow)} == {"completed"}, what="the long jobs"
        )


def test_what_still_moves_is_shared_with_a_process_that_has_nothing_to_do(
    engine: Engine, other: JobBroker, make_job: JobFactory
) -> None:
    """One thread works off what was claimed; a process with free threads gets what waits behind it."""
    other.slots.take(4)
    with Engine(other, dispatches=False):
        quick = hold_up(engine, make_job, long=3, behind=100, kind="brief")
        wait_until(lambda: len(began) > 3, what="the first of them")
        other.slots.give_back(4)
        wait_until(
            lambda: {row[:2] for row in states(engine.broker, quick)} == {("completed", 1)},
            what="the brief jobs",
        )
        workers = dict(rows(engine.broker, "SELECT worker_id, count(*) FROM attempts GROUP BY 1"))
        assert len(workers) == 2
        assert len(began) == len(set(began))
        may_end.set()


def test_a_stop_gives_back_at_once_what_has_not_begun(engine: Engine, make_job: JobFactory) -> None:
    """A process that is told to stop keeps what runs for its grace period, and nothing else."""
    broker = engine.broker
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watching, "RETURN_SECONDS", 1000.0)
        patch.setattr(watching, "LONGEST_WAIT_SECONDS", 1000.0)
        patch.setattr(claims, "STALE_SECONDS", 1000.0)
        quick = hold_up(engine, make_job)
        wait_until(lambda: {row[0] for row in states(broker, quick)} == {"running"}, what="the claim")
        stopping = threading.Thread(target=engine.worker.stop, args=(20_000,))
        stopping.start()
        wait_until(lambda: went_back(broker, quick), what="the return")
        assert len(began) == 4
        assert stopping.is_alive()
        may_end.set()
        stopping.join(20)
        patch.setattr(engine.worker, "stop", lambda timeout: None)  # noqa: ARG005  (it is stopped)
        engine.__exit__(None, None, None)


@pytest.mark.parametrize("overrides", [{**QUICK, "lease_seconds": 10.0, "runway_min": 8, "runway_max": 8}])
def test_an_urgent_job_overtakes_what_was_claimed_before_it(engine: Engine, make_job: JobFactory) -> None:
    """Given back, jobs are in the order of their rank: an urgent one waits for a short runway at most."""
    broker = engine.broker
    slow = [make_job(type="long") for _ in range(4)]
    quick = [make_job(type="short") for _ in range(100)]
    push(broker, slow + quick)
    broker.runway.dispatch("default", [], limit=8, closed=False)
    wait_until(lambda: went_back(broker, quick), what="the return")
    assert len(began) == 4
    urgent = make_job(type="short", priority=100)
    with broker.database.autocommit() as connection:
        connection.exec_driver_sql(
            f"UPDATE jobs SET rank = now() - interval '100 minutes' WHERE id = {urgent.id}"
        )
    ended = threading.Event()
    dispatcher = threading.Thread(target=_dispatch_until, args=(engine, ended))
    dispatcher.start()
    try:
        may_end.set()
        wait_until(lambda: len(began) == 105, what="all of them")
    finally:
        ended.set()
        dispatcher.join()
    # It came last: behind it are all that did not fit on the runway.
    assert began.index(urgent.id) < 50


def _dispatch_until(engine: Engine, ended: threading.Event) -> None:
    run_loop(Dispatcher(engine.settings, engine.broker.database, engine.broker.runway), ended)


# What people want of it


def test_a_pause_takes_back_what_has_not_begun(
    engine: Engine, make_job: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs that one thread works off stop beginning when their queue is paused, and go back unspent."""
    monkeypatch.setattr(watching, "LONGEST_WAIT_SECONDS", 1000.0)
    quick = hold_up(engine, make_job, long=3, behind=100, kind="brief")
    wait_until(lambda: len(began) > 5, what="the first of them")
    with engine.broker.database.autocommit() as connection:
        queue_store.pause(connection, "default")
    wait_until(
        lambda: {row[:2] for row in states(engine.broker, quick)} == {("completed", 1), ("queued", 0)},
        what="the return",
    )
    done = len(began)
    assert done < 60
    assert rows(engine.broker, "SELECT DISTINCT outcome FROM attempts") == [("completed",)]
    may_end.set()
    wait_until(lambda: not engine.broker.claimed_jobs.snapshot(), what="the end of the long jobs")
    assert len(began) == done


def test_a_cancel_ends_what_has_not_begun(
    engine: Engine, make_job: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claimed job that somebody cancels before it begins is cancelled and never runs; no attempt row."""
    monkeypatch.setattr(watching, "LONGEST_WAIT_SECONDS", 1000.0)
    quick = hold_up(engine, make_job, long=3, behind=100, kind="brief")
    wait_until(lambda: len(began) > 5, what="the first of them")
    last = quick[50:]
    with engine.broker.database.autocommit() as connection:
        cancel(connection, [job.id for job in last])
    wait_until(
        lambda: {row[:2] for row in states(engine.broker, last)} == {("cancelled", 0)},
        what="the end of these",
    )
    assert not {job.id for job in last} & set(began)
    ids = ",".join(str(job.id) for job in last)
    assert rows(engine.broker, f"SELECT * FROM attempts WHERE job_id IN ({ids})") == []


def test_the_end_of_a_cancelled_claim_is_told_to_those_that_wait_for_it(
    idle: JobBroker, make_job: JobFactory
) -> None:
    """A claimed job that is cancelled before it begins settles its dependants in the same transaction."""
    (message,) = claim_by_hand(idle, [make_job(type="short", has_dependants=True)])
    child = make_job("blocked", type="short")
    with idle.database.autocommit() as connection:
        connection.exec_driver_sql(
            f"INSERT INTO dependencies (job_id, parent_id) VALUES ({child.id}, {message.current.id})"
        )
        cancel(connection, [message.current.id])
    idle.claimed_ahead.give_back([message], "cancelled")
    assert idle.claimed_ahead.returner.flush()
    assert rows(idle, "SELECT status, reason, attempts FROM jobs ORDER BY id") == [
        ("cancelled", "cancelled", 0),
        ("failed", "parent_failed", 0),
    ]
    assert rows(idle, "SELECT * FROM attempts") == []


@pytest.mark.parametrize("column", ["expires_at", "deadline_at"])
def test_what_expires_before_it_begins_goes_back(idle: JobBroker, make_job: JobFactory, column: str) -> None:
    """A thread that takes a job whose time is over does not begin it; the row waits for the expirer."""
    (message,) = claim_by_hand(idle, [make_job(type="short", **{column: "2999-01-01"})])
    assert idle.claimed_ahead.may_begin(message)
    setattr(message.current.claimed, column.replace("_at", "_seconds"), 0.0)
    message.current.fresh_until = 0.0
    assert not idle.claimed_ahead.may_begin(message)
    assert idle.claimed_ahead.returner.flush()
    assert rows(idle, "SELECT status, attempts, finished_at FROM jobs") == [("queued", 0, None)]
    assert (idle.slots.held, idle.claimed_jobs.snapshot(), began) == (0, {}, [])


@pytest.mark.parametrize("wish", ["pause", "cancel", "none"])
def test_what_was_looked_at_long_ago_is_looked_at_again(
    idle: JobBroker, make_job: JobFactory, monkeypatch: pytest.MonkeyPatch, wish: str
) -> None:
    """A thread asks what people want of a job that has waited for longer than the bound, before it begins."""
    monkeypatch.setattr(wanted_changes, "FRESH_SECONDS", -1.0)
    monkeypatch.setattr("goqueue.worker.claiming.claimer.FRESH_SECONDS", -1.0)
    (message,) = claim_by_hand(idle, [make_job(type="short")])
    with idle.database.autocommit() as connection:
        if wish == "pause":
            queue_store.pause(connection, "default")
        if wish == "cancel":
            cancel(connection, [message.current.id])
    assert idle.claimed_ahead.may_begin(message) == (wish == "none")


def test_without_postgresql_nothing_begins_that_was_not_looked_at(
    idle: JobBroker, make_job: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job of which nobody can say whether it was paused goes back when PostgreSQL answers again."""
    monkeypatch.setattr(wanted_changes, "FRESH_SECONDS", -1.0)
    monkeypatch.setattr("goqueue.worker.claiming.claimer.FRESH_SECONDS", -1.0)
    (message,) = claim_by_hand(idle, [make_job(type="short")])
    with monkeypatch.context() as outage:
        outage.setattr("goqueue.worker.claiming.wanted_changes.changes", _cut)
        outage.setattr("goqueue.worker.claiming.returner.give_back", _cut)
        assert not idle.claimed_ahead.may_begin(message)
        assert not idle.claimed_ahead.returner.flush()
        assert len(idle.claimed_jobs.snapshot()) == 1
    wait_until(idle.claimed_ahead.returner.flush, what="PostgreSQL")
    assert states(idle, [idle_job(message)]) == {("queued", 0, None)}


def idle_job(message: JobMessage) -> Job:
    """The row of a claimed job, by its id alone."""
    with default().broker.database.autocommit() as connection:
        return goqueue.engine.job_rows.get(connection, message.current.id)


def _cut(*_: object, **__: object) -> None:
    raise goqueue.errors.DatabaseUnavailableError("PostgreSQL: cut")


# Lost answers and races


def test_a_lost_answer_to_a_return_runs_nothing_twice(idle: JobBroker, make_job: JobFactory) -> None:
    """A return whose answer was lost is made again, and changes nothing the second time."""
    messages = claim_by_hand(idle, [make_job(type="short") for _ in range(3)])
    idle.claimed_ahead.give_back(messages, "busy")
    failpoints.configure("after_give_back:raise")
    assert not idle.claimed_ahead.returner.flush()
    failpoints.configure("")
    jobs = [idle_job(message) for message in messages]
    assert states(idle, jobs) == {("queued", 0, None)}
    with idle.database.autocommit() as connection:
        (again,) = claim(
            connection, [(jobs[0].id, 1)], worker_id=idle.claimed_jobs.worker_id, lease_seconds=60
        )
    wait_until(idle.claimed_ahead.returner.flush, what="the second time")
    assert states(idle, jobs[:1]) == {("running", 1, idle.claimed_jobs.worker_id)}
    assert again.fence == 2
    assert (idle.slots.held, idle.claimed_jobs.snapshot()) == (0, {})


def test_a_lost_answer_to_a_claim_holds_nothing_up(idle: JobBroker, make_job: JobFactory) -> None:
    """What a claim without an answer has claimed goes back at once, with no attempt and no attempt row."""
    jobs = [make_job(type="short") for _ in range(3)]
    push(idle, jobs)
    failpoints.configure("after_claim:raise")
    with pytest.raises(failpoints.FailpointError):
        next(JobConsumer(idle, "default"))
    failpoints.configure("")
    assert {row[0] for row in states(idle, jobs)} == {"running"}
    assert idle.claimed_ahead.returner.flush()
    assert states(idle, jobs) == {("queued", 0, None)}
    assert rows(idle, "SELECT * FROM attempts") == []


def test_a_claim_that_is_made_late_goes_back_as_well(idle: JobBroker, make_job: JobFactory) -> None:
    """A claim that nobody heard of, and that was made only afterwards, is found by one of the later looks."""
    job = make_job(type="short")
    idle.claimed_ahead.doubt("default", [Message(job.id, 0)])
    assert idle.claimed_ahead.returner.flush()
    with idle.database.autocommit() as connection:
        claim(connection, [(job.id, 0)], worker_id=idle.claimed_jobs.worker_id, lease_seconds=60)
    wait_until(
        lambda: idle.claimed_ahead.returner.flush() and went_back(idle, [job]),
        what="the return",
    )


def test_taking_and_returning_race(engine: Engine, make_job: JobFactory) -> None:
    """Jobs that are given back all the time, while threads take them, run exactly once each."""
    broker = engine.broker
    jobs = [make_job(type="short") for _ in range(400)]
    before = count_of("race")
    ended = threading.Event()

    def give_back() -> None:
        while not ended.is_set():
            broker.claimed_ahead._return_all("race")  # noqa: SLF001  (a round of its thread)

    threads = [
        threading.Thread(target=give_back),
        threading.Thread(target=_dispatch_until, args=(engine, ended)),
    ]
    for thread in threads:
        thread.start()
    try:
        wait_until(
            lambda: states(broker, jobs) == {("completed", 1, None)}, timeout_seconds=60, what="all of them"
        )
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert sorted(began) == [job.id for job in jobs]
    assert count_of("race") > before
    assert rows(broker, "SELECT outcome, count(*) FROM attempts GROUP BY 1") == [("completed", 400)]


# Limits


def test_a_job_of_a_limited_queue_keeps_its_slot_and_its_rate(idle: JobBroker, make_job: JobFactory) -> None:
    """Given back, it is still let in, under its new fence; nothing of the rate is spent until it begins."""
    limits = QueueLimits(concurrency=5, rate=goqueue.limits.settings.RateLimit(limit=5, period_seconds=60))
    with idle.database.transaction() as connection:
        queue_store.ensure(connection, ["default"])
        queue_settings.set_limits(connection, "default", limits)
    job = make_job(type="short", admitted=True)
    with idle.database.autocommit() as connection:
        connection.exec_driver_sql(
            f"INSERT INTO rate_grants (queue, job_id, fence, cost) VALUES ('default', {job.id}, 0, 1)"
        )
    (message,) = claim_by_hand(idle, [job])
    _settle(idle)
    idle.claimed_ahead.give_back([message], "busy")
    assert idle.claimed_ahead.returner.flush()
    _settle(idle)
    assert rows(idle, "SELECT status, admitted, attempts FROM jobs") == [("queued", True, 0)]
    assert rows(idle, "SELECT fence, used_at FROM rate_grants") == [(1, None)]
    with idle.database.autocommit() as connection:
        assert claim(connection, [(job.id, 1)], worker_id=idle.claimed_jobs.worker_id, lease_seconds=60)


@pytest.mark.parametrize(("state", "admitted"), [("closed", True), ("open", False), ("half_open", False)])
def test_a_breaker_that_opened_meanwhile_takes_back_what_was_let_in(
    idle: JobBroker, make_job: JobFactory, state: str, admitted: bool
) -> None:
    """A job of a limited type keeps its slot when it is given back, unless its breaker opened meanwhile."""
    with idle.database.autocommit() as connection:
        connection.exec_driver_sql("INSERT INTO types (name, concurrency) VALUES ('short', 5)")
    (message,) = claim_by_hand(idle, [make_job(type="short", admitted=True)])
    with idle.database.autocommit() as connection:
        connection.exec_driver_sql(f"UPDATE types SET breaker_state = '{state}', breaker_changed_at = now()")
    idle.claimed_ahead.give_back([message], "busy")
    assert idle.claimed_ahead.returner.flush()
    assert rows(idle, "SELECT status, admitted FROM jobs") == [("queued", admitted)]


def _settle(broker: JobBroker) -> None:
    with broker.database.transaction() as connection:
        opened = admission_store.open_queue(connection, "default")
        assert opened is not None
        QueueRates("default").read(connection, opened)
        assert rate_store.spent(connection, "default", seconds=60).used == 0


# Clocks


def test_clocks_start_at_the_begin(idle: JobBroker, make_job: JobFactory) -> None:
    """The start of the job and of its attempt, its wait and its run count from the handler's first line."""
    (message,) = claim_by_hand(idle, [make_job(type="short")])
    times = message.current.times
    message.current.times = times._replace(claimed_at=times.claimed_at - 7.0, clock=times.clock + 7.0)
    message.current.begin()
    message.current.end()
    message.conclude(JobStatus.COMPLETED, AttemptOutcome.COMPLETED)
    waited = counted("job_wait_seconds_sum", queue="default")
    idle.recorder.start()
    idle.recorder.put(message)
    assert idle.recorder.stop(10)
    ((late, same),) = rows(
        idle,
        "SELECT extract(epoch FROM jobs.started_at - jobs.available_at)::float, "
        "jobs.started_at = attempts.started_at FROM jobs JOIN attempts ON job_id = id",
    )
    assert late >= 7
    assert same
    assert counted("job_wait_seconds_sum", queue="default") - waited >= 7


def test_explain_tells_claimed_from_begun(engine: Engine, make_job: JobFactory) -> None:
    """A job that a worker holds is claimed until its begin is noted, and then running since that begin."""
    broker = engine.broker
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RETURN_SECONDS", "LONGEST_WAIT_SECONDS"):
            patch.setattr(watching, name, 1000.0)
        patch.setattr(claims, "STALE_SECONDS", 1000.0)
        quick = hold_up(engine, make_job, behind=1)
        wait_until(lambda: goqueue.explain(quick[0].id).status is JobStatus.RUNNING, what="the claim")
        reason = goqueue.explain(quick[0].id).reasons[0]
        assert (reason.code, reason.evidence["begun_at"]) == ("claimed", None)
        wait_until(lambda: goqueue.explain(began[0]).reasons[0].code == "running", what="the note")
        ((begun, started),) = rows(broker, f"SELECT begun_at, started_at FROM jobs WHERE id = {began[0]}")
        assert begun == started
        assert goqueue.explain(began[0]).reasons[0].evidence["since"] == begun
        assert rows(broker, f"SELECT begun_at FROM jobs WHERE id = {quick[0].id}") == [(None,)]
        may_end.set()


def test_an_unexpectedly_long_job_holds_nobody_up_whose_thread_is_free(
    engine: Engine, make_job: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While jobs are short one thread takes them all; where one is not, others take those behind it."""
    monkeypatch.setattr(watching, "LONGEST_WAIT_SECONDS", 60.0)
    sleepers = engine.broker.claimed_ahead.queue._sleepers  # noqa: SLF001  (which threads sleep, no order of events tells)
    for thread in engine.worker.workers:
        # No thread looks by itself.
        thread.timeout = 60.0
    sleeping = set(sleepers)
    wait_until(lambda: len(sleepers) == 4 and not sleeping & set(sleepers), what="the long waits")
    engine.broker.slots.observe(1e-6)
    assert engine.broker.slots.runs_are_short
    jobs = [make_job(type="long"), *(make_job(type="short") for _ in range(20))]
    push(engine.broker, jobs)
    wait_until(lambda: states(engine.broker, jobs[1:]) == {("completed", 1, None)}, what="the short ones")
    assert {status for status, *_ in states(engine.broker, jobs[:1])} == {"running"}
    assert rows(engine.broker, "SELECT max(fence) FROM jobs") == [(1,)]
    for thread in engine.worker.workers:
        thread.timeout = 0.02
    may_end.set()
    while sleepers:
        sleepers.pop().release()


def test_a_doubt_takes_back_no_claim_that_was_made_later(
    engine: Engine, make_job: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim that failed before it reached PostgreSQL is made again under the same fence: it runs, once."""
    monkeypatch.setattr(returning, "DOUBT_SECONDS", (0.05,) * 6)
    job = make_job(type="long")
    engine.broker.claimed_ahead.doubt("default", [Message(job.id, job.fence)])
    push(engine.broker, [job])
    wait_until(lambda: began == [job.id], what="its begin")
    wait_until(lambda: not engine.broker.claimed_ahead.returner.has_work, what="the end of all doubts")
    assert states(engine.broker, [job]) == {("running", 1, engine.broker.claimed_jobs.worker_id)}
    may_end.set()
    assert engine.wait_for(job.id).attempts == 1
    assert began == [job.id]


def test_what_is_claimed_while_a_doubt_is_open_runs_once(
    engine: Engine, make_job: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as PostgreSQL does not say whether a lost claim was made, none under its fence begins here."""
    monkeypatch.setattr(returning, "RETRY_SECONDS", 0.01)
    returner, asked = engine.broker.claimed_ahead.returner, []
    give_back = returner._give_back  # noqa: SLF001  (a fault between worker and PostgreSQL)

    def give_back_after_an_outage(claims: Iterable[Key]) -> dict[Key, GivenBack]:
        asked.append(set(claims))
        if engine.rows("SELECT status FROM jobs") == [("queued",)]:
            raise DatabaseUnavailableError("PostgreSQL: the answer is lost")
        return give_back(claims)

    monkeypatch.setattr(returner, "_give_back", give_back_after_an_outage)
    job = make_job(type="short")
    engine.broker.claimed_ahead.doubt("default", [Message(job.id, job.fence)])
    wait_until(lambda: asked, what="the first try")
    push(engine.broker, [job])
    done = engine.wait_for(job.id)
    assert (done.attempts, done.fence) == (1, 2)
    assert began == [job.id]
