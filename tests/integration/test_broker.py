"""Jobs on a real worker in this process: every way in which an attempt can end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dramatiq
import pytest
from pydantic import BaseModel

import goqueue
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.engine import new_job_rows as new_job_store
from goqueue.engine.runway.runway import Message
from goqueue.engine.transitions.cancel import cancel
from goqueue.engine.transitions.rescue import rescue
from goqueue.insight.explain import ReasonCode
from goqueue.insight.explain import fact_rows as explanation
from goqueue.instance import default
from goqueue.jobs import AttemptOutcome, JobStatus, NewJob
from goqueue.worker import interrupts
from tests.support.counted import counted
from tests.support.engine import Engine, running_engine
from tests.support.servers.bare_runway import BareRunway
from tests.support.waiting import wait_until


class Note(BaseModel):
    """A payload."""

    text: str
    times: int = 1


class Unprintable(Exception):  # noqa: N818  (an exception of a user)
    """An exception whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


runs: Counter[str] = Counter()
gate = threading.Event()


def ways_to_fail() -> dict[str, BaseException]:
    """Exceptions that a handler may raise, by name."""
    return {
        "plain": ValueError("wrong"),
        "nul": ValueError("a\0b"),
        "surrogate": ValueError("a\ud800b"),
        "long": ValueError("begin " + "x" * 100_000 + " end"),
        "empty": ValueError(),
        "unprintable": Unprintable(),
        "system exit": SystemExit(3),
        "keyboard": KeyboardInterrupt(),
        "generator exit": GeneratorExit(),
        "base": BaseException("base"),
        "cancelled": asyncio.CancelledError(),
        "recursion": RecursionError("deep"),
        "cause cycle": _cycle(),
    }


def _cycle() -> Exception:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return first


def results() -> dict[str, Any]:
    """Results that cannot be kept, by name."""
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    return {
        "object": object(),
        "set": {1},
        "bytes": b"x",
        "nan": float("nan"),
        "infinity": [float("inf")],
        "nul": {"a": "b\0c"},
        "nul key": {"b\0c": 1},
        "surrogate": "\ud800",
        "large": "x" * (1024 * 1024 + 1),
        "deep": nested,
    }


def declare() -> None:  # noqa: C901  (a list of actors, nothing is decided)
    """Declare the actors of these tests on the present broker."""

    @goqueue.actor(max_retries=0)
    def give(value: Any) -> Any:
        return value

    @goqueue.actor(max_retries=0)
    def greet(note: Note) -> dict[str, Any]:
        job = goqueue.current_job()
        return {"text": note.text * note.times, "id": job.id, "attempt": job.attempt, "fence": job.fence}

    @goqueue.actor(min_backoff_seconds=0.1, jitter=False)
    def fail(how: str) -> None:
        runs[f"fail {how}"] += 1
        raise ways_to_fail()[how]

    @goqueue.actor(max_retries=0)
    async def fail_async(how: str) -> None:
        raise ways_to_fail()[how]

    @goqueue.actor(max_retries=0)
    def bad_result(how: str) -> Any:
        return results()[how]

    @goqueue.actor(throws=(KeyError,))
    def throws_key_error() -> None:
        runs["throws"] += 1
        raise KeyError("expected")

    @goqueue.actor
    def discard() -> None:
        runs["discard"] += 1
        raise goqueue.Discard("no such account")

    @goqueue.actor(max_retries=0)
    def snooze(name: str, seconds: float) -> str:
        runs[name] += 1
        if runs[name] < 3:
            raise goqueue.Snooze(seconds)
        return "awake"

    @goqueue.actor(max_retries=1)
    def retry_after(name: str, seconds: float) -> None:
        runs[name] += 1
        raise goqueue.RetryAfter(seconds, "busy")

    @goqueue.actor(time_limit_seconds=0.1, max_retries=0)
    def spin(seconds: float) -> str:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pass
        return "done"

    @goqueue.actor(time_limit_seconds=0.1, max_retries=0)
    async def sleep_async(seconds: float) -> dict[str, int]:
        await asyncio.sleep(seconds)
        return {"id": goqueue.current_job().id}

    @goqueue.actor(time_limit_seconds=30, max_retries=0)
    def hold() -> str:
        runs["hold"] += 1
        while not gate.is_set():
            time.sleep(0.005)
        return "released"


@pytest.fixture(scope="module")
def engine(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> Iterator[Engine]:
    """An engine that all tests of this module share."""
    with running_engine(postgres, valkey, "broker", declare) as engine:
        yield engine


@pytest.fixture
def bare_runway(engine: Engine) -> Iterator[BareRunway]:
    """The runways of the engine as Redis has them."""
    bare = BareRunway(engine.settings)
    yield bare
    bare.close()


@pytest.fixture(autouse=True)
def all_threads_live(engine: Engine) -> Iterator[None]:
    """No test may cost the worker a thread."""
    yield
    assert all(thread.is_alive() for thread in engine.worker.workers)
    assert all(thread.is_alive() for thread in engine.worker.consumers.values())


def create(engine: Engine, name: str, payload: Any, **values: Any) -> int:
    """Create a job of a declared type."""
    return default().create(engine.broker.actors[name], payload, **values)


# Success


@pytest.mark.parametrize("value", [None, 0, False, "", "ü", {"a": [1, None, {"b": 2.5}]}, []], ids=repr)
def test_a_result_is_kept(engine: Engine, value: Any) -> None:
    """What a handler returns is the job's result."""
    job = engine.wait_for(create(engine, "give", {"value": value}))
    assert job.result == value
    assert (job.attempts, job.error, job.reason, job.worker_id) == (1, None, None, None)


def test_a_typed_payload_arrives_validated(engine: Engine) -> None:
    """The handler gets its model, and `current_job` tells which attempt it is."""
    job = engine.wait_for(create(engine, "greet", Note(text="ab", times=2)))
    assert job.result == {"text": "abab", "id": job.id, "attempt": 1, "fence": 1}
    assert [row[:2] for row in engine.attempts(job.id)] == [(1, "completed")]


def test_current_job_outside_a_handler_is_an_error(engine: Engine) -> None:
    """Nobody has a current job where no job is worked on."""
    engine.wait_for(create(engine, "greet", Note(text="x")))
    with pytest.raises(LookupError):
        goqueue.current_job()


def test_an_async_handler_knows_its_job(engine: Engine) -> None:
    """`current_job` is the right one inside coroutines that run at the same time on one loop."""
    ids = [create(engine, "sleep_async", {"seconds": 0.01}) for _ in range(20)]
    assert [engine.wait_for(job_id).result for job_id in ids] == [{"id": job_id} for job_id in ids]


# Failures and retries


@pytest.mark.parametrize("max_retries", [0, 1, 3])
def test_a_failing_job_runs_exactly_once_more_than_its_retries(engine: Engine, max_retries: int) -> None:
    """A job that always fails runs 1 + max_retries times, with one attempt row each, and is a dead letter."""
    runs.clear()
    job_id = create(engine, "fail", {"how": "plain"}, max_retries=max_retries)
    job = engine.wait_for(job_id, "failed")
    assert runs["fail plain"] == job.attempts == max_retries + 1
    assert (job.error, job.reason) == ("ValueError: wrong", "failed")
    assert [row[:3] for row in engine.attempts(job_id)] == [
        (number + 1, "failed", "ValueError: wrong") for number in range(max_retries + 1)
    ]


def test_backoff_doubles_and_is_a_column(engine: Engine) -> None:
    """Without jitter the waits are exactly the minimum, doubled each time, counted from the recording."""
    job_id = create(engine, "fail", {"how": "plain"}, max_retries=2)
    waits = []
    for attempts in (1, 2):
        job = engine.wait_for(job_id, "queued", attempts=attempts)
        waits.append(job.available_at - job.updated_at)
        assert job.reason == "retry"
    assert waits == [timedelta(seconds=0.1), timedelta(seconds=0.2)]
    engine.wait_for(job_id, "failed")
    gaps = engine.rows(
        "SELECT extract(epoch FROM started_at - lag(finished_at) OVER (ORDER BY fence)) FROM attempts "
        "WHERE job_id = %(id)s ORDER BY fence",
        id=job_id,
    )
    assert [gap[0] >= least for gap, least in zip(gaps[1:], (0.1, 0.2), strict=True)] == [True, True]


def test_a_job_may_have_a_retry_policy_of_its_own(engine: Engine) -> None:
    """Count, backoff and jitter given with a job win over its type's."""
    retry = goqueue.RetryPolicy(max_retries=1, min_backoff_seconds=40, max_backoff_seconds=60, jitter=False)
    job_id = create(engine, "fail", {"how": "plain"}, retry=retry)
    wait_until(lambda: engine.job(job_id).reason == "retry", what="the first failure")
    job = engine.job(job_id)
    assert (job.max_retries, job.attempts) == (1, 1)
    assert job.available_at - job.updated_at == timedelta(seconds=40)


@pytest.mark.parametrize("how", ways_to_fail())
@pytest.mark.parametrize("name", ["fail", "fail_async"])
def test_whatever_a_handler_raises_is_a_failed_attempt(engine: Engine, name: str, how: str) -> None:
    """Any exception is recorded with a storable text, and the thread goes on to the next job."""
    job_id = create(engine, name, {"how": how}, max_retries=0)
    job = engine.wait_for(job_id, "failed")
    raised = ways_to_fail()[how]
    ((_, outcome, error, trace),) = engine.attempts(job_id)
    assert (outcome, error) == ("failed", job.error)
    assert job.error is not None
    assert "\0" not in job.error
    assert len(job.error) <= 4_100
    if name == "fail":
        assert type(raised).__name__ in job.error
    assert job.reason == "failed"
    assert "Traceback" in trace
    assert engine.wait_for(create(engine, "give", {"value": how})).result == how


@pytest.mark.parametrize("name", ["fail", "fail_async"])
def test_a_traceback_starts_with_the_handler(engine: Engine, name: str) -> None:
    """The kept traceback begins where the user's code begins: nothing of Dramatiq, the broker or asyncio."""
    job_id = create(engine, name, {"how": "plain"}, max_retries=0)
    engine.wait_for(job_id, "failed")
    trace = engine.attempts(job_id)[0][3]
    frames = [line for line in trace.splitlines() if line.lstrip().startswith("File ")]
    assert "test_broker.py" in frames[0]
    assert "raise ways_to_fail()[how]" in trace


def test_a_long_error_keeps_its_type(engine: Engine) -> None:
    """A text too long to keep is cut, and still begins with the exception's type."""
    job = engine.wait_for(create(engine, "fail", {"how": "long"}, max_retries=0), "failed")
    assert job.error is not None
    assert job.error.startswith("ValueError: begin x")


def test_an_expected_exception_is_not_retried(engine: Engine) -> None:
    """An exception that the type names in `throws` fails the job at once."""
    runs.clear()
    job = engine.wait_for(create(engine, "throws_key_error", {}), "failed")
    assert (runs["throws"], job.attempts, job.reason) == (1, 1, "failed")


def test_discard_is_never_retried(engine: Engine) -> None:
    """Discard fails the job with its reason after one run."""
    runs.clear()
    job = engine.wait_for(create(engine, "discard", {}), "failed")
    assert (runs["discard"], job.attempts, job.reason) == (1, 1, "discarded")
    assert job.error == "Discard: no such account"


def test_snooze_spends_no_attempt(engine: Engine) -> None:
    """A snoozed job comes back as often as it likes, even without retries."""
    runs.clear()
    job_id = create(engine, "snooze", {"name": "s", "seconds": 0.01}, max_retries=0)
    job = engine.wait_for(job_id)
    assert (runs["s"], job.attempts, job.result) == (3, 1, "awake")
    assert [row[:2] for row in engine.attempts(job_id)] == [(1, "snoozed"), (1, "snoozed"), (1, "completed")]


def test_snooze_waits_exactly(engine: Engine) -> None:
    """A snoozed job is queued with the time that it asked for."""
    runs.clear()
    job_id = create(engine, "snooze", {"name": "long", "seconds": 600}, max_retries=0)
    job = engine.wait_for(job_id, "queued", attempts=0)
    wait_until(lambda: engine.job(job_id).fence == 1, what="the run")
    job = engine.wait_for(job_id, "queued", attempts=0)
    assert job.available_at - job.updated_at == timedelta(seconds=600)


@pytest.mark.parametrize("seconds", [0.0, 0.25, 77.5])
def test_retry_after_is_exact(engine: Engine, seconds: float) -> None:
    """RetryAfter is a failed attempt whose wait is exactly what the handler said."""
    runs.clear()
    job_id = create(engine, "retry_after", {"name": "r", "seconds": seconds})
    if seconds > 1:
        job = engine.wait_for(job_id, "queued", attempts=1)
        assert job.available_at - job.updated_at == timedelta(seconds=seconds)
    else:
        job = engine.wait_for(job_id, "failed")
        assert runs["r"] == 2
    assert job.error == "RetryAfter: busy"
    assert {row[1] for row in engine.attempts(job_id)} == {"failed"}


@pytest.mark.parametrize("seconds", ["Infinity", "NaN", "1e300", "-5"])
@pytest.mark.parametrize("name", ["snooze", "retry_after"])
def test_an_impossible_wait_does_not_strand_the_job(engine: Engine, name: str, seconds: str) -> None:
    """A wait that no clock knows ends in a state that somebody can see, never running for ever."""
    runs.clear()
    job_id = create(engine, "give", {"value": 1})
    engine.wait_for(job_id)
    with engine.broker.database.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE jobs SET type = %(type)s, payload = %(payload)s::json, status = 'queued', attempts = 0, "
            "max_retries = 3, rank = now(), finished_at = NULL, result = NULL WHERE id = %(id)s",
            {"type": name, "payload": f'{{"name": "w", "seconds": "{seconds}"}}', "id": job_id},
        )
    wait_until(lambda: engine.job(job_id).status in {"failed", "completed"}, what="an end")
    assert runs["w"] >= 1


# Time limits


def test_a_time_limit_is_a_failed_attempt(engine: Engine) -> None:
    """A handler that runs too long is stopped, says so, and its thread runs the next job."""
    job = engine.wait_for(create(engine, "spin", {"seconds": 60}), "failed")
    assert job.error is not None
    assert job.error.startswith("TimeLimitExceeded")
    assert engine.wait_for(create(engine, "give", {"value": 1})).result == 1


def test_a_jobs_own_time_limit_wins(engine: Engine) -> None:
    """The limit of the job replaces its type's."""
    job_id = create(engine, "spin", {"seconds": 0.3}, time_limit_seconds=30)
    assert engine.wait_for(job_id).result == "done"


def test_an_async_handler_has_a_time_limit(engine: Engine) -> None:
    """A coroutine that runs too long is cancelled; the loop runs the next one."""
    job = engine.wait_for(create(engine, "sleep_async", {"seconds": 60}), "failed")
    assert job.error is not None
    assert job.error.startswith("TimeLimitExceeded")
    engine.wait_for(create(engine, "sleep_async", {"seconds": 0}))


def test_limits_that_strike_at_the_last_moment_land_in_the_handler(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """However close to its end a handler is stopped: it completed or failed, no hook is hit, threads live."""
    monkeypatch.setattr(interrupts, "CHECK_SECONDS", 0.0002)
    jobs = [
        NewJob(
            "default",
            "spin",
            f'{{"seconds": {0.0005 + number % 7 * 0.0002}}}',
            max_retries=0,
            time_limit_seconds=0.001,
        )
        for number in range(1500)
    ]
    ids = default().creator.many(jobs)
    unfinished = "SELECT count(*) FROM jobs WHERE id = ANY(%(ids)s) AND finished_at IS NULL"
    wait_until(lambda: engine.rows(unfinished, ids=ids) == [(0,)], 30, "all jobs to end")
    ends = engine.rows(
        "SELECT status, left(error, 17), count(*) FROM jobs WHERE id = ANY(%(ids)s) GROUP BY 1, 2", ids=ids
    )
    assert {row[:2] for row in ends} == {("completed", None), ("failed", "TimeLimitExceeded")}
    assert [record for record in caplog.records if record.levelname == "CRITICAL"] == []
    assert engine.broker.interrupts.running() == []


# Results


@pytest.mark.parametrize("how", results())
def test_a_result_that_cannot_be_kept_is_a_failed_attempt(engine: Engine, how: str) -> None:
    """A result that is not JSON, or too large, fails the attempt with an error that says so."""
    job = engine.wait_for(create(engine, "bad_result", {"how": how}), "failed")
    assert job.error is not None
    assert job.error.startswith("ResultError: the result ")
    assert job.result is None
    assert len(job.error) < 300


# Jobs that cannot run


def insert_as_is(name: str, payload: str, **values: Any) -> int:
    """Insert a row past every validation, as an older release may have."""
    (job_id,) = default().creator.many([NewJob("default", name, payload, **values)])
    return job_id


def test_a_job_of_an_unknown_type_waits_until_a_worker_knows_it(engine: Engine) -> None:
    """Nobody takes it, explain says so, and it runs when a worker of its queue has learnt its type."""
    job_id = insert_as_is("late", "{}")

    def is_missed() -> bool:
        with engine.broker.database.transaction() as connection:
            found = explanation.explain(connection, job_id, lease_seconds=2, max_deaths=3)
        return found.reasons[0].code is ReasonCode.UNKNOWN_TYPE

    wait_until(is_missed, what="the type to be missed")
    assert (engine.job(job_id).status, engine.attempts(job_id)) == (JobStatus.QUEUED, [])

    @goqueue.actor
    def late() -> None:
        """A type that was declared while the worker ran."""

    engine.wait_for(job_id, attempts=1)


@pytest.mark.parametrize("payload", ["{}", '{"text": 1}', '{"text": "a", "times": "many"}', "[]"])
def test_a_payload_that_no_longer_fits_is_discarded(engine: Engine, payload: str) -> None:
    """A payload that its type refuses at the run is a dead letter when nobody else came who can read it."""
    job = engine.wait_for(insert_as_is("greet", payload), "failed")
    assert (job.reason, job.attempts) == ("discarded", 1)
    assert job.error is not None
    assert "payload" in job.error


# Garbage in the runway


GARBAGE = [b"\xff\xfe", b"", b"x" * 100_000, b"-1.0", b"0.0", b"1", b"1.", b".1", b" 1.0", b"1.0\n", b"1e3.0"]


def test_garbage_hurts_nobody(engine: Engine, bare_runway: BareRunway) -> None:
    """Garbage is counted and removed, old ids and repeats run nothing, and the batch-mates run, once."""
    runs.clear()
    done = engine.wait_for(create(engine, "give", {"value": 1}))
    before = counted("garbage_messages_total")
    broker = engine.broker
    with broker.database.autocommit() as connection:
        mates = [
            new_job_store.insert(connection, NewJob("default", "give", '{"value": 1}')).id for _ in range(10)
        ]
    entries = [
        entry
        for mate in mates
        for entry in (*GARBAGE, str(Message(mate, 0).key).encode(), f"{done.id}.0".encode(), b"99999999.7")
    ]
    bare_runway.redis.rpush(bare_runway.key("runway"), *(entry for entry in entries for _ in range(5)))
    for mate in mates:
        assert engine.wait_for(mate).attempts == 1
    assert engine.rows("SELECT count(*) FROM attempts WHERE job_id = ANY(%(ids)s)", ids=mates) == [(10,)]
    assert engine.job(done.id) == done
    wait_until(lambda: broker.runway.lengths(["default"]) == [(0, 0)], what="an empty runway and hash")
    wait_until(lambda: counted("garbage_messages_total") - before == len(GARBAGE) * 5 * 10, what="the count")
    wait_until(lambda: broker.slots.held == 0, what="free places")


# Stopped from outside


def test_a_cancelled_running_job_is_interrupted(engine: Engine) -> None:
    """The handler of a job that is to be stopped is interrupted, and the job is cancelled."""
    runs.clear()
    gate.clear()
    job_id = create(engine, "hold", {})
    wait_until(lambda: runs["hold"] == 1, what="the handler")
    with engine.broker.database.autocommit() as connection:
        assert cancel(connection, [job_id]) == ([], [job_id])
    engine.wait_for(job_id, "cancelled")
    assert not engine.broker.interrupts.running()
    assert [row[:2] for row in engine.attempts(job_id)] == [(1, AttemptOutcome.CANCELLED)]


def test_a_refused_lease_stops_orphans_and_registers_again(engine: Engine) -> None:
    """A worker whose lease was ended stops what it runs, counts the late results, and goes on as another."""
    runs.clear()
    gate.clear()
    job_id = create(engine, "hold", {}, max_retries=3)
    wait_until(lambda: runs["hold"] == 1, what="the handler")
    worker_id = engine.broker.claimed_jobs.worker_id
    stale = counted("stale_results_total")
    from goqueue.engine.workers import worker_rows as worker_store  # noqa: PLC0415

    with engine.broker.database.autocommit() as connection:
        worker_store.stop(connection, worker_id)
        rescued = rescue(connection, max_deaths=3)
        assert [(job.id, job.status) for job in rescued] == [(job_id, "queued")]
    wait_until(lambda: engine.broker.claimed_jobs.worker_id != worker_id, what="another registration")
    wait_until(lambda: counted("stale_results_total") == stale + 1, what="a stale result")
    gate.set()
    job = engine.wait_for(job_id)
    assert (job.attempts, job.fence, job.result) == (1, 2, "released")
    assert [row[:2] for row in engine.attempts(job_id)] == [(1, "worker_died"), (1, "completed")]


def test_lost_claims_are_released(engine: Engine) -> None:
    """After a failed claim, a row that runs here unknown to the worker goes back after two heartbeats."""
    engine.broker.claimed_jobs.doubt()
    with engine.broker.database.autocommit() as connection:
        row = connection.exec_driver_sql(
            "INSERT INTO jobs (queue, type, payload, status, attempts, fence, worker_id, started_at) "
            "VALUES ('default', 'give', '{\"value\": 5}', 'running', 1, 1, %(worker)s, now()) RETURNING id",
            {"worker": engine.broker.claimed_jobs.worker_id},
        ).one()
    job = engine.wait_for(row[0])
    assert (job.attempts, job.fence, job.result) == (1, 2, 5)
    assert [r[:2] for r in engine.attempts(job.id)] == [(1, "completed")]


@pytest.mark.parametrize("what", ["everything", "the list only"])
def test_a_wiped_runway_recovers(engine: Engine, bare_runway: BareRunway, what: str) -> None:
    """Jobs whose messages vanish from Redis run all the same, once, without a restart."""
    with engine.broker.database.autocommit() as connection:
        from goqueue.engine import queue_rows as queue_store  # noqa: PLC0415

        queue_store.pause(connection, "default")
    ids = [create(engine, "give", {"value": number}) for number in range(50)]
    if what == "everything":
        bare_runway.wipe()
    else:
        bare_runway.redis.delete(bare_runway.key("runway"))
    with engine.broker.database.autocommit() as connection:
        queue_store.resume(connection, "default")
    for number, job_id in enumerate(ids):
        job = engine.wait_for(job_id)
        assert (job.result, job.attempts) == (number, 1)


def test_a_lost_fetch_recovers(engine: Engine, bare_runway: BareRunway) -> None:
    """A message that was popped, and never claimed, is pushed again after `lost_push_seconds`."""
    with engine.broker.database.autocommit() as connection:
        job = new_job_store.insert(connection, NewJob("default", "give", '{"value": 9}'))
        client = bare_runway.redis
        client.hset(bare_runway.key("messages"), f"{job.id}.0", str(client.time()[0] * 1000))
    assert engine.wait_for(job.id).attempts == 1


def test_a_hook_that_raises_before_a_job_fails_it(engine: Engine) -> None:
    """A guard of somebody's own that raises stops the handler: stock Dramatiq logs it and runs the job."""

    class Guard(dramatiq.Middleware):
        def before_process_message(self, _broker: dramatiq.Broker, _message: Any) -> None:
            raise PermissionError("not today")

    before, guard = runs["fail plain"], Guard()
    with engine.with_middleware(guard):
        job_id = create(engine, "fail", {"how": "plain"}, max_retries=0)
        assert engine.wait_for(job_id, "failed").error == "PermissionError: not today"
    assert runs["fail plain"] == before
