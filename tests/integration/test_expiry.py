"""Jobs whose time passes: before they start, while they run, and between two attempts."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import goqueue
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.engine.options.job_options import refuse_wrong
from goqueue.engine.runway.runway import Message
from goqueue.engine.transitions import expire as expire_store
from goqueue.engine.transitions.claim import claim
from goqueue.engine.transitions.retry import retry
from goqueue.errors import InvalidJobError
from goqueue.instance import default
from goqueue.jobs import Job, JobStatus, NewJob
from goqueue.middleware.attempt import JobAttempt
from goqueue.scheduler import expirer as expirer_module
from goqueue.scheduler.expirer import Expirer
from goqueue.worker.interrupts import DeadlinePassed, Interrupts
from tests.support.counted import counted
from tests.support.engine import Engine, running_engine
from tests.support.factories import JobFactory, claimed_job
from tests.support.waiting import wait_until

PAST, FUTURE = "2020-01-01T00:00:00Z", "2033-01-01T00:00:00Z"

runs: Counter[str] = Counter()


def declare() -> None:
    """Declare the actors of these tests on the present broker."""

    @goqueue.actor(max_retries=3, min_backoff_seconds=0.01)
    def run_on() -> None:
        runs["run_on"] += 1
        while True:
            time.sleep(0.005)

    @goqueue.actor(max_retries=3, min_backoff_seconds=0.01)
    async def run_on_async() -> None:
        runs["run_on_async"] += 1
        await asyncio.sleep(600)

    @goqueue.actor(max_retries=3, min_backoff_seconds=30.0)
    def fail() -> None:
        runs["fail"] += 1
        raise ValueError("wrong")

    @goqueue.actor(max_retries=3)
    def count() -> None:
        runs["count"] += 1


@pytest.fixture(scope="module")
def engine(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> Iterator[Engine]:
    """An engine that all tests of this module share."""
    with running_engine(postgres, valkey, "expiry", declare) as engine:
        yield engine


@pytest.fixture(autouse=True)
def _from_the_start() -> None:
    runs.clear()


@pytest.fixture
def make_job(engine: Engine) -> JobFactory:
    """Makes jobs of a queue that no worker serves."""
    return JobFactory(engine.broker.database)


def expire(engine: Engine) -> int:
    """One round of the expirer; how many jobs expired."""
    service = Expirer(engine.settings, engine.broker.database, lambda _seconds: None)
    return service.run_once()["expired"]


def create(engine: Engine, name: str, **settings: Any) -> int:
    """Create a job of a declared type."""
    return default().create(engine.broker.actors[name], {}, **settings)


# Before they start


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        pytest.param({"expires_at": PAST}, "expired", id="expired"),
        pytest.param({"deadline_at": PAST}, "deadline", id="deadline"),
        pytest.param({"expires_at": PAST, "deadline_at": PAST}, "expired", id="both"),
        pytest.param({"expires_at": FUTURE, "deadline_at": PAST}, "deadline", id="deadline first"),
        pytest.param({"expires_at": FUTURE, "deadline_at": FUTURE}, None, id="neither"),
        pytest.param({"expires_at": FUTURE}, None, id="not yet"),
        pytest.param({}, None, id="no limit"),
    ],
)
@pytest.mark.parametrize("status", ["queued", "blocked"])
def test_a_job_whose_time_has_passed_expires(
    engine: Engine, make_job: JobFactory, status: str, columns: dict[str, str], reason: str | None
) -> None:
    """Queued and blocked jobs become expired, with the reason, once either of their times has passed."""
    job = make_job(status, queue="unserved", **columns)
    before = counted("jobs_expired_total", queue="unserved")
    assert expire(engine) == (1 if reason else 0)
    after = engine.job(job.id)
    assert (after.status, after.reason) == (("expired", reason) if reason else (status, None))
    assert counted("jobs_expired_total", queue="unserved") - before == (1 if reason else 0)
    assert engine.attempts(job.id) == []


@pytest.mark.parametrize("status", ["running", "completed", "failed", "cancelled", "expired"])
def test_a_job_that_waits_for_nothing_does_not_expire(
    engine: Engine, make_job: JobFactory, status: str
) -> None:
    """The expirer leaves running and final jobs alone."""
    job = make_job(status, queue="unserved", expires_at=PAST, deadline_at=PAST)
    assert expire(engine) == 0
    assert engine.job(job.id) == job


def test_many_expire_in_batches(
    engine: Engine, make_job: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round takes so many, the longest overdue first, and goes on without a pause while there are more."""
    monkeypatch.setattr(expirer_module, "BATCH", 2)
    pauses: list[float] = []
    service = Expirer(engine.settings, engine.broker.database, pauses.append)
    jobs = [make_job(queue="unserved", expires_at=f"2020-01-0{day}") for day in (3, 1, 2)]
    counts = service.run_once()
    service.pause(counts)
    assert (counts, pauses) == ({"expired": 2}, [])
    assert [engine.job(job.id).status for job in jobs] == ["queued", "expired", "expired"]
    service.pause(service.run_once())
    assert pauses == [engine.settings.expire_interval_seconds]
    assert engine.job(jobs[0].id).status == "expired"


def test_a_pushed_message_of_an_expired_job_never_runs(engine: Engine) -> None:
    """The claim refuses a job whose time has passed, although the expirer has not seen it."""
    job_id = create(engine, "count", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    engine.broker.runway.submit("default", [Message(job_id, 0)])
    other = create(engine, "count", ttl_seconds=60)
    engine.wait_for(other)
    assert runs["count"] == 1
    assert engine.job(job_id).status == "queued"
    with engine.broker.database.autocommit() as connection:
        worker_id = engine.broker.claimed_jobs.worker_id
        assert claim(connection, [(job_id, 0)], worker_id=worker_id, lease_seconds=9) == []
    assert expire(engine) == 1
    assert engine.job(job_id).status == "expired"


def test_jobs_that_wait_for_an_expired_one_are_told(engine: Engine) -> None:
    """What depends on an expired job follows its policy, in the same transaction."""
    parent = default().creator.one(
        NewJob("unserved", "count", "{}", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    )
    child = default().creator.one(NewJob("unserved", "count", "{}", depends_on=(parent.id,)))
    assert child.status == "blocked"
    assert expire(engine) == 1
    assert engine.job(child.id).status == "failed"


def test_the_index_finds_what_is_late(engine: Engine, make_job: JobFactory) -> None:
    """Twenty thousand jobs without a limit cost the expirer nothing: it walks its own index."""
    make_job(queue="unserved", expires_at=FUTURE)
    with engine.broker.database.autocommit() as connection:
        connection.exec_driver_sql(
            "INSERT INTO jobs (queue, type, payload) SELECT 'unserved', 'count', '{}' "
            "FROM generate_series(1, 20000)"
        )
        connection.exec_driver_sql("ANALYZE jobs")
        plan = connection.exec_driver_sql(f"EXPLAIN {expire_store._EXPIRE}", {"limit": 1000}).scalars().all()  # noqa: SLF001  (the plan of this very statement)
        connection.exec_driver_sql("DELETE FROM jobs WHERE queue = 'unserved'")
    assert any("jobs_expiring_at_idx" in line for line in plan), plan
    assert not any("Seq Scan" in line for line in plan), plan


# While they run


@pytest.mark.parametrize("name", ["run_on", "run_on_async"])
def test_a_deadline_stops_the_attempt(engine: Engine, name: str) -> None:
    """A handler that is at work at the deadline is interrupted; the job has failed, and is not retried."""
    job = engine.wait_for(create(engine, name, deadline_seconds=0.4), JobStatus.FAILED)
    assert (job.reason, job.attempts) == ("deadline", 1)
    assert job.error == "DeadlineExceeded: the deadline of the job passed"
    assert job.deadline_at is not None
    assert job.finished_at is not None
    assert job.finished_at >= job.deadline_at
    assert [row[1] for row in engine.attempts(job.id)] == ["failed"]
    assert runs[name] == 1


def test_a_time_limit_before_the_deadline_is_a_failed_attempt(engine: Engine) -> None:
    """The shorter of both stops the attempt: after a time limit the job is retried, until its deadline."""
    job_id = create(engine, "run_on", time_limit_seconds=0.1, deadline_seconds=60.0, max_retries=1)
    job = engine.wait_for(job_id, JobStatus.FAILED)
    assert (job.reason, job.attempts, job.error) == ("failed", 2, "TimeLimitExceeded")


def test_a_retry_after_the_deadline_is_not_waited_for(engine: Engine) -> None:
    """A failed attempt whose retry would start after the deadline ends the job at once."""
    job = engine.wait_for(create(engine, "fail", deadline_seconds=5.0), JobStatus.FAILED)
    assert (job.reason, job.attempts, job.error) == ("deadline", 1, "ValueError: wrong")


def test_a_job_whose_deadline_passed_before_a_thread_was_free_never_starts() -> None:
    """A claimed job that waits past its deadline is not started."""
    interrupts, current = Interrupts(), JobAttempt(claimed_job(deadline_seconds=-0.1), "default")
    with pytest.raises(DeadlinePassed):
        interrupts.arm(current, 60.0)
    assert interrupts.running() == []


def test_a_replay_drops_times_that_have_passed(engine: Engine, make_job: JobFactory) -> None:
    """A dead letter that missed its deadline can run again; a time that is still to come is kept."""
    late = make_job("failed", queue="unserved", deadline_at=PAST, expires_at=PAST)
    early = make_job("failed", queue="unserved", deadline_at=FUTURE, expires_at=FUTURE)
    with engine.broker.database.autocommit() as connection:
        retry(connection, [late.id, early.id])
    assert _times(engine.job(late.id)) == (None, None)
    assert _times(engine.job(early.id)) == _times(early)


def _times(job: Job) -> tuple[datetime | None, datetime | None]:
    return job.expires_at, job.deadline_at


# At create


def test_times_count_from_the_insertion(engine: Engine) -> None:
    """`ttl_seconds` and `deadline_seconds` are PostgreSQL's seconds after the creation."""
    job = engine.job(
        create(
            engine,
            "count",
            ttl_seconds=60,
            deadline_seconds=90,
            available_at=datetime(2033, 1, 1, tzinfo=UTC),
        )
    )
    assert job.expires_at == job.created_at + timedelta(seconds=60)
    assert job.deadline_at == job.created_at + timedelta(seconds=90)


NOON = datetime(2033, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        pytest.param({"available_at": NOON, "expires_at": NOON}, "expires_at", id="expires at its start"),
        pytest.param(
            {"available_at": NOON, "deadline_at": NOON - timedelta(hours=1)},
            "deadline_at",
            id="deadline before its start",
        ),
        pytest.param({"delay_seconds": 60, "ttl_seconds": 60}, "ttl_seconds", id="ttl within the delay"),
        pytest.param(
            {"delay_seconds": 60, "deadline_seconds": 1}, "deadline_seconds", id="deadline within the delay"
        ),
        pytest.param({"ttl_seconds": 0}, "ttl_seconds", id="no time to live"),
        pytest.param({"ttl_seconds": float("nan")}, "ttl_seconds", id="nan"),
        pytest.param({"expires_at": datetime(2033, 1, 1)}, "expires_at", id="no zone"),  # noqa: DTZ001
        pytest.param(
            {"available_at": NOON, "expires_at": datetime(2033, 1, 1)},  # noqa: DTZ001
            "expires_at",
            id="no zone beside a start",
        ),
        pytest.param({"expires_at": NOON, "ttl_seconds": 1}, "ttl_seconds", id="both"),
    ],
)
def test_a_time_that_cannot_be_is_refused(settings: Any, field: str) -> None:
    """A job that could never start, and a time that is none, name the field."""
    with pytest.raises(InvalidJobError) as caught:
        refuse_wrong(settings)
    assert set(caught.value.fields) == {field}


def test_a_time_that_has_passed_expires_the_job(engine: Engine) -> None:
    """A request that took too long is no mistake: its job is created, and expires without having run."""
    job_id = create(engine, "count", expires_at=datetime.now(UTC) - timedelta(seconds=5))
    wait_until(lambda: expire(engine) == 1, what="the expiry")
    assert engine.job(job_id).status == "expired"
    assert runs["count"] == 0
