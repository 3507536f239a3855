"""Cancelling: requested, acknowledged, stopped; and forced where the worker does not stop it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from dramatiq.middleware import Interrupt

import goqueue
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.engine.transitions import cancel as cancel_store
from goqueue.engine.transitions import force as force_store
from goqueue.engine.transitions.cancel import Cancelled, acknowledge
from goqueue.engine.transitions.force import Forced
from goqueue.engine.transitions.retry import retry
from goqueue.errors import IllegalTransitionError, JobNotFoundError
from goqueue.instance import default
from goqueue.jobs import Job, NewJob
from goqueue.middleware.attempt import JobAttempt
from goqueue.scheduler.rescuer import Rescuer
from goqueue.worker.interrupts import Interrupted, Interrupts
from tests.support.counted import counted
from tests.support.engine import Engine, running_engine
from tests.support.factories import JobFactory, claimed_job
from tests.support.waiting import wait_until

STEP_SECONDS = 0.005

runs: Counter[str] = Counter()
gate = threading.Event()


def declare() -> None:  # noqa: C901  (a list of actors, nothing is decided)
    """Declare the actors of these tests on the present broker."""

    @goqueue.actor(max_retries=3)
    def cooperate() -> str:
        runs["cooperate"] += 1
        while not goqueue.current_job().cancelled:
            time.sleep(STEP_SECONDS)
        return "tidied up"

    @goqueue.actor(max_retries=3)
    def raise_when_told() -> None:
        runs["raise_when_told"] += 1
        while not goqueue.current_job().cancelled:
            time.sleep(STEP_SECONDS)
        raise ValueError("cannot go on")

    @goqueue.actor(max_retries=3)
    def snooze_when_told() -> None:
        runs["snooze_when_told"] += 1
        while not goqueue.current_job().cancelled:
            time.sleep(STEP_SECONDS)
        raise goqueue.Snooze(0)

    @goqueue.actor(max_retries=3)
    async def cooperate_async() -> str:
        runs["cooperate_async"] += 1
        while not goqueue.current_job().cancelled:  # noqa: ASYNC110  (there is no event: this is the way to ask)
            await asyncio.sleep(STEP_SECONDS)
        return "tidied up"

    @goqueue.actor(max_retries=3)
    def ignore() -> None:
        runs["ignore"] += 1
        while True:
            time.sleep(STEP_SECONDS)

    @goqueue.actor(max_retries=3)
    async def ignore_async() -> None:
        runs["ignore_async"] += 1
        await asyncio.sleep(600)

    @goqueue.actor(max_retries=3)
    def swallow() -> str:
        runs["swallow"] += 1
        try:
            while True:
                time.sleep(STEP_SECONDS)
        except Interrupt:
            return "as if nothing had been"

    @goqueue.actor(max_retries=3)
    def unaware() -> str:
        runs["unaware"] += 1
        gate.wait(20)
        return "done"


@pytest.fixture(scope="module")
def engine(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> Iterator[Engine]:
    """An engine that all tests of this module share."""
    with running_engine(postgres, valkey, "cancelling", declare) as engine:
        yield engine


@pytest.fixture(autouse=True)
def _from_the_start() -> None:
    runs.clear()
    gate.clear()


def start(engine: Engine, name: str) -> int:
    """Create a job of a declared type; its id, once its handler runs."""
    before = runs[name]
    job_id = default().create(engine.broker.actors[name], {})
    wait_until(lambda: runs[name] == before + 1, what="the handler")
    return job_id


def request(engine: Engine, job_id: int) -> None:
    """Ask for a running job to be stopped."""
    with engine.broker.database.autocommit() as connection:
        assert cancel_store.cancel(connection, [job_id]) == ([], [job_id])


def outcomes(engine: Engine, job_id: int) -> list[str]:
    """How the attempts of a job ended."""
    return [row[1] for row in engine.attempts(job_id)]


@pytest.mark.parametrize(
    "name",
    [
        "cooperate",
        "cooperate_async",
        "raise_when_told",
        "snooze_when_told",
        "ignore",
        "ignore_async",
        "swallow",
    ],
)
def test_a_running_job_is_cancelled(engine: Engine, name: str) -> None:
    """Whether its handler notices, raises or has to be interrupted: it is cancelled, and not retried."""
    job_id = start(engine, name)
    request(engine, job_id)
    job = engine.wait_for(job_id, "cancelled")
    assert (job.reason, job.result, job.error, job.attempts) == ("cancelled", None, None, 1)
    assert outcomes(engine, job_id) == ["cancelled"]
    assert job.cancel_requested_at is not None
    assert job.cancel_acknowledged_at is not None
    assert job.finished_at is not None
    assert job.cancel_requested_at <= job.cancel_acknowledged_at <= job.finished_at
    assert runs[name] == 1


def test_a_handler_that_did_not_notice_has_completed(engine: Engine) -> None:
    """A handler that returns as ever had its effect: the job is completed, whatever was requested."""
    job_id = start(engine, "unaware")
    request(engine, job_id)
    wait_until(lambda: engine.job(job_id).cancel_acknowledged_at, what="the acknowledgement")
    assert engine.job(job_id).status == "running"
    gate.set()
    job = engine.wait_for(job_id)
    assert (job.result, outcomes(engine, job_id)) == ("done", ["completed"])


def test_a_job_that_nobody_cancels_is_not_cancelled(engine: Engine) -> None:
    """`cancelled` is False for every job but the one that was asked for."""
    ids = [start(engine, "cooperate") for _ in range(3)]
    request(engine, ids[1])
    engine.wait_for(ids[1], "cancelled")
    assert [engine.job(job_id).status for job_id in ids] == ["running", "cancelled", "running"]
    for job_id in (ids[0], ids[2]):
        request(engine, job_id)
        engine.wait_for(job_id, "cancelled")


def test_a_replay_of_a_cancelled_job_runs(engine: Engine) -> None:
    """A retry forgets the cancel: the job runs again and completes."""
    job_id = start(engine, "unaware")
    request(engine, job_id)
    assert [job.job_id for job in force(engine)] == [job_id]
    with engine.broker.database.autocommit() as connection:
        retry(connection, [job_id])
    gate.set()
    job = engine.wait_for(job_id)
    assert (job.cancel_requested_at, job.cancel_acknowledged_at, job.result) == (None, None, "done")


def test_a_cancel_that_the_worker_cannot_obey_is_forced(engine: Engine) -> None:
    """A handler inside a system call is not reached: its job is cancelled, what it says later is refused."""
    job_id = start(engine, "unaware")
    request(engine, job_id)
    wait_until(lambda: engine.job(job_id).cancel_acknowledged_at, what="the acknowledgement")
    before = counted("stale_results_total")
    settings = engine.settings.model_copy(update={"cancel_grace_seconds": 0.001})
    rescuer = Rescuer(settings, engine.broker.database, lambda _seconds: None)
    assert rescuer.run_once()["cancelled"] == 1
    job = engine.job(job_id)
    assert (job.status, job.reason, job.worker_id) == ("cancelled", "cancel_forced", None)
    gate.set()
    wait_until(lambda: counted("stale_results_total") > before, what="the late result")
    assert (engine.job(job_id).result, outcomes(engine, job_id)) == (None, ["cancelled"])


def force(engine: Engine) -> list[Forced]:
    """Force what is requested, at once."""
    with engine.broker.database.transaction() as connection:
        return force_store.force(connection, grace_seconds=0)


def test_a_job_that_waits_for_a_thread_never_starts() -> None:
    """A claimed job whose handler has not started is kept from starting."""
    interrupts, current = Interrupts(), JobAttempt(claimed_job(), "default")
    assert interrupts.cancel(current, 60.0)
    assert not interrupts.cancel(current, 60.0)
    with pytest.raises(Interrupted):
        interrupts.arm(current, 60.0)
    assert interrupts.running() == []


# The store


def requested(engine: Engine, make_job: JobFactory, *, seconds_ago: float, acknowledged: float | None) -> Job:
    """A running job of a worker that does nothing, with a request of some age."""
    job = make_job("running")
    engine.rows(
        "UPDATE jobs SET cancel_requested_at = now() - make_interval(secs => %(asked)s), "
        "cancel_acknowledged_at = now() - make_interval(secs => %(known)s) WHERE id = %(id)s RETURNING id",
        asked=seconds_ago,
        known=acknowledged,
        id=job.id,
    )
    return job


@pytest.mark.parametrize(
    ("asked", "known", "is_forced"),
    [
        pytest.param(9.0, None, False, id="asked a moment ago"),
        pytest.param(11.0, None, True, id="never acknowledged"),
        pytest.param(11.0, 9.0, False, id="acknowledged a moment ago"),
        pytest.param(30.0, 11.0, True, id="acknowledged and not stopped"),
    ],
)
def test_a_cancel_is_forced_after_its_grace_period(
    engine: Engine, asked: float, known: float | None, is_forced: bool
) -> None:
    """Ten seconds to acknowledge, and as many again to stop."""
    make_job = JobFactory(engine.broker.database)
    job = requested(engine, make_job, seconds_ago=asked, acknowledged=known)
    with engine.broker.database.transaction() as connection:
        forced = force_store.force(connection, grace_seconds=10)
    expected = [(job.id, make_job.worker_id, known is not None)] if is_forced else []
    assert forced == expected
    assert engine.job(job.id).status == ("cancelled" if is_forced else "running")
    assert outcomes(engine, job.id) == (["cancelled"] if is_forced else [])
    engine.rows("DELETE FROM jobs WHERE id = %(id)s RETURNING id", id=job.id)


def test_a_worker_acknowledges_only_its_own(engine: Engine) -> None:
    """A request is acknowledged once, by the worker that holds the job, and told again: it may be lost."""
    make_job = JobFactory(engine.broker.database)
    job = requested(engine, make_job, seconds_ago=1, acknowledged=None)
    other = make_job.worker()
    with engine.broker.database.autocommit() as connection:
        assert acknowledge(connection, other) == set()
        assert engine.job(job.id).cancel_acknowledged_at is None
        assert acknowledge(connection, make_job.worker_id) == {(job.id, job.fence)}
        first = engine.job(job.id).cancel_acknowledged_at
        assert acknowledge(connection, make_job.worker_id) == {(job.id, job.fence)}
    assert first is not None
    assert engine.job(job.id).cancel_acknowledged_at == first
    engine.rows("DELETE FROM jobs WHERE id = %(id)s RETURNING id", id=job.id)


@pytest.mark.parametrize("held", [True, False], ids=["claimed", "given back"])
def test_a_cancel_looks_at_the_job_as_it_is_now(engine: Engine, held: bool) -> None:
    """A job that is claimed, or given back, while its cancel waits is cancelled as what it became."""
    make_job = JobFactory(engine.broker.database)
    job = make_job("queued" if held else "running", available_at="2020-01-01")
    became = (
        f"'running', worker_id = {make_job.worker_id}, started_at = now()"
        if held
        else "'queued', worker_id = NULL, rank = NULL"
    )
    with ThreadPoolExecutor(1) as pool:
        with engine.broker.database.transaction() as connection:
            connection.exec_driver_sql(f"UPDATE jobs SET status = {became} WHERE id = {job.id}")
            cancel = pool.submit(_cancel, engine, job.id)
            waiting = (
                "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            wait_until(lambda: engine.rows(waiting), what="the cancel to wait for the row")
        assert cancel.result(10) == (([], [job.id]) if held else ([job.id], []))
    assert engine.job(job.id).status == ("running" if held else "cancelled")
    engine.rows("DELETE FROM jobs WHERE id = %(id)s RETURNING id", id=job.id)


def _cancel(engine: Engine, job_id: int) -> Cancelled:
    with engine.broker.database.autocommit() as connection:
        return cancel_store.cancel(connection, [job_id])


def test_jobs_that_wait_for_a_cancelled_one_are_told(engine: Engine) -> None:
    """A cancel settles the dependants of what it ends, in its transaction; so does a forced one."""
    from goqueue.instance import default  # noqa: PLC0415  (this process's, by now)

    make_job = JobFactory(engine.broker.database)
    waiting, running = make_job(available_at="2100-01-01"), make_job("running")
    children = [
        default().creator.one(NewJob("default", "ignore", "{}", depends_on=(parent.id,)))
        for parent in (waiting, running)
    ]
    assert {child.status for child in children} == {"blocked"}
    with engine.broker.database.transaction() as connection:
        ids = [waiting.id, running.id]
        cancelled = cancel_store.cancel(connection, ids)
    assert cancelled == ([waiting.id], [running.id])
    assert [engine.job(child.id).status for child in children] == ["failed", "blocked"]
    force(engine)
    assert [engine.job(child.id).status for child in children] == ["failed", "failed"]


@pytest.mark.parametrize(
    "statement",
    [cancel_store._ACKNOWLEDGE, force_store._FORCE],  # noqa: SLF001  (the plans of these very statements)
    ids=["asked", "forced"],
)
def test_the_index_finds_what_is_to_be_stopped(engine: Engine, statement: str) -> None:
    """Workers ask four times a second: whatever else runs or waits, they walk the few entries of an index."""
    parameters = {"worker_id": JobFactory(engine.broker.database).worker_id, "grace": 10, "limit": 1000}
    with engine.broker.database.transaction() as connection:
        connection.exec_driver_sql(
            "INSERT INTO jobs (queue, type, payload, status, worker_id, started_at) "
            "SELECT 'unserved', 'ignore', '{}', 'running', %(worker_id)s, now() "
            "FROM generate_series(1, 20000)",
            parameters,
        )
        connection.exec_driver_sql("ANALYZE jobs")
        plan = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars().all()
        connection.exec_driver_sql("DELETE FROM jobs WHERE queue = 'unserved'")
    assert any("running_jobs_to_stop_idx" in line for line in plan), plan
    assert not any("Seq Scan" in line for line in plan), plan


def test_cancels_of_families_at_once_deadlock_nobody(engine: Engine) -> None:
    """Jobs and what waits for them, cancelled from many sides at once: conflicts are settled by a repeat."""
    from goqueue.instance import default  # noqa: PLC0415  (this process's, by now)

    submitter, later = default().creator, datetime(2100, 1, 1, tzinfo=UTC)
    for _ in range(5):
        parents = [submitter.one(NewJob("default", "ignore", "{}", available_at=later)).id for _ in range(8)]
        children = [
            submitter.one(NewJob("default", "ignore", "{}", depends_on=tuple(parents[n : n + 3]))).id
            for n in range(6)
        ]
        sides = [
            [parents[0], *children],
            [*parents[4:], children[0]],
            [parents[2], children[5]],
            [*children, *parents],
        ]

        def cancel(ids: list[int]) -> int:
            with engine.broker.database.autocommit() as connection:
                done = cancel_store.cancel(connection, ids)
            return len(done.ended)

        with ThreadPoolExecutor(len(sides)) as pool:
            assert sum(pool.map(cancel, sides)) >= len(parents)
        final = {engine.job(job_id).status for job_id in [*parents, *children]}
        assert final <= {"cancelled", "failed"}


# From Python


def test_an_application_cancels_a_job(engine: Engine) -> None:
    """`cancel_job` cancels what waits at once, asks for what runs, and refuses what ended otherwise."""
    waiting = default().create(engine.broker.actors["unaware"], {}, delay_seconds=600)
    assert goqueue.cancel_job(waiting).status == "cancelled"
    assert goqueue.cancel_job(waiting).status == "cancelled"
    running = start(engine, "unaware")
    asked = goqueue.cancel_job(running)
    assert (asked.status, asked.cancel_requested_at is not None) == ("running", True)
    gate.set()
    engine.wait_for(running)
    with pytest.raises(IllegalTransitionError):
        goqueue.cancel_job(running)
    with pytest.raises(JobNotFoundError):
        goqueue.cancel_job(10**12)
