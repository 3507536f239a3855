# ruff: noqa: ANN001, ANN202  (plain Dramatiq code has no annotations)
"""Plain Dramatiq code on this broker: sends make rows, callbacks and pipelines make follow-up jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dramatiq
import orjson
import pytest

from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.errors import InvalidJobError
from tests.support.engine import Engine, running_engine
from tests.support.waiting import wait_until


def declare() -> None:  # noqa: C901  (a list of actors, nothing is decided)
    """Declare actors as plain Dramatiq code does."""

    @dramatiq.actor(max_retries=0)
    def add(x, y=10):  # type: ignore[no-untyped-def]
        return x + y

    @dramatiq.actor(max_retries=0)
    def multiply(x: int, y: int) -> int:
        return x * y

    @dramatiq.actor(max_retries=0)
    async def add_async(x, y):  # type: ignore[no-untyped-def]
        await asyncio.sleep(0)
        return x + y

    @dramatiq.actor(max_retries=0)
    def told(message, what):  # type: ignore[no-untyped-def]
        return {"message": message, "what": what}

    @dramatiq.actor(max_retries=0, on_success="told")
    def succeed(x):  # type: ignore[no-untyped-def]
        return {"x": x}

    @dramatiq.actor(max_retries=1, min_backoff=10, max_backoff=20, on_failure="told")
    def collapse(text):  # type: ignore[no-untyped-def]
        raise ValueError(text)

    @dramatiq.actor(max_retries=0, queue_name="elsewhere")
    def elsewhere(x):  # type: ignore[no-untyped-def]
        return x

    @dramatiq.actor(max_retries=0, on_success="told")
    def snoozer(x):  # type: ignore[no-untyped-def]
        import goqueue  # noqa: PLC0415

        if goqueue.current_job().fence == 1:
            raise goqueue.Snooze(0.01)
        return x

    @dramatiq.actor(max_retries=2, retry_when=lambda retries, error: True, min_backoff=1, max_backoff=2)  # noqa: ARG005
    def insist():  # type: ignore[no-untyped-def]
        raise ValueError("again")


@pytest.fixture(scope="module")
def engine(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> Iterator[Engine]:
    """An engine that all tests of this module share."""
    with running_engine(postgres, valkey, "plain", declare) as engine:
        yield engine


def actor(engine: Engine, name: str) -> Any:
    """A declared actor."""
    return engine.broker.actors[name]


def sent(message: dramatiq.Message[Any]) -> int:
    """The id of the job that a sent message became."""
    job_id = message.options["job_id"]
    assert isinstance(job_id, int)
    return job_id


def follow_ups(engine: Engine, name: str, least: int = 1) -> list[Any]:
    """Results of the finished jobs of a type, when there are so many."""
    sql = "SELECT result FROM jobs WHERE type = %(name)s AND finished_at IS NOT NULL ORDER BY id"
    wait_until(lambda: len(engine.rows(sql, name=name)) >= least, what=f"{least} jobs of {name}")
    return [row[0] for row in engine.rows(sql, name=name)]


@pytest.fixture(autouse=True)
def no_jobs(engine: Engine) -> Iterator[None]:
    """Each test begins without jobs and ends when nothing runs."""
    yield
    wait_until(lambda: engine.broker.slots.held == 0, what="an idle worker")
    with engine.broker.database.autocommit() as connection:
        connection.exec_driver_sql("DELETE FROM jobs")


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "result"),
    [
        pytest.param("add", (1, 2), {}, 3, id="positional"),
        pytest.param("add", (1,), {}, 11, id="default"),
        pytest.param("add", (1,), {"y": 5}, 6, id="keyword"),
        pytest.param("add", ("a", "b"), {}, "ab", id="strings"),
        pytest.param("multiply", (6, 7), {}, 42, id="annotated positional"),
        pytest.param("multiply", (6,), {"y": 7}, 42, id="annotated mixed"),
        pytest.param("multiply", (), {"x": 6, "y": 7}, 42, id="annotated keywords"),
        pytest.param("add_async", (1, 2), {}, 3, id="async"),
        pytest.param("elsewhere", ([1],), {}, [1], id="another queue"),
    ],
)
def test_send_makes_a_row_that_runs(
    engine: Engine, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
) -> None:
    """`actor.send` creates a job of the actor's queue, and the actor is called as it was sent."""
    job = engine.wait_for(sent(actor(engine, name).send(*args, **kwargs)))
    assert (job.type, job.queue, job.result) == (name, actor(engine, name).queue_name, result)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((1, 2, 3), {}), ((1, 2), {"y": 3}), ((1,), {}), (("a", "b"), {}), ((1,), {"z": 2})],
    ids=["too many", "twice", "too few", "wrong types", "unknown"],
)
def test_an_annotated_call_that_does_not_fit_makes_no_row(
    engine: Engine, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Arguments that the annotations refuse are refused at the send, not at the run."""
    with pytest.raises(InvalidJobError):
        actor(engine, "multiply").send(*args, **kwargs)
    assert engine.rows("SELECT 1 FROM jobs") == []


@pytest.mark.parametrize(
    "value",
    [object(), {1}, b"x", "a\0b", "\ud800", 2**70],
    ids=["an object", "a set", "bytes", "NUL", "half a surrogate pair", "a number of 71 bits"],
)
def test_what_is_not_json_makes_no_row(engine: Engine, value: object) -> None:
    """Arguments that cannot be kept are an InvalidJobError."""
    with pytest.raises(InvalidJobError):
        actor(engine, "add").send(value)
    assert engine.rows("SELECT 1 FROM jobs") == []


def test_a_backslash_before_u0000_is_no_nul(engine: Engine) -> None:
    """Text that only looks like an escaped NUL is text."""
    job = engine.wait_for(sent(actor(engine, "add").send("\\u0000", "")))
    assert job.result == "\\u0000"


def test_a_direct_call_runs_at_once(engine: Engine) -> None:
    """Calling an actor is calling its function: no job, no row."""
    assert actor(engine, "add")(1, 2) == 3
    assert engine.rows("SELECT 1 FROM jobs") == []


@pytest.mark.parametrize("delay", [60_000, timedelta(minutes=1)], ids=["milliseconds", "timedelta"])
def test_a_delay_is_a_column(engine: Engine, delay: Any) -> None:
    """A delayed message is a queued row for later, and nothing in Redis."""
    message = actor(engine, "add").send_with_options(args=(1,), delay=delay, max_retries=7, time_limit=2500)
    job = engine.job(sent(message))
    assert (job.status, job.max_retries, job.time_limit_seconds) == ("queued", 7, 2.5)
    wait = (job.available_at - job.created_at).total_seconds()
    assert wait == pytest.approx(60, abs=2)
    assert engine.broker.runway.lengths(["default"])[0][0] == 0


def test_a_short_delay_runs_when_it_is_due(engine: Engine) -> None:
    """A delayed job starts after its time, never before."""
    job = engine.wait_for(sent(actor(engine, "add").send_with_options(args=(1,), delay=150)))
    assert job.started_at is not None
    assert job.started_at >= job.available_at


def test_a_pipeline_passes_results_on(engine: Engine) -> None:
    """Each stage of a pipeline is a job that gets the result of the one before."""
    add = actor(engine, "add")
    (add.message(1, 2) | add.message(3) | actor(engine, "elsewhere").message()).run()
    assert follow_ups(engine, "elsewhere") == [6]
    assert follow_ups(engine, "add", 2) == [3, 6]


def test_a_pipeline_into_a_typed_actor(engine: Engine) -> None:
    """A result is bound to the next parameter of an annotated actor."""
    (actor(engine, "add").message(1, 2) | actor(engine, "multiply").message(5)).run()
    assert follow_ups(engine, "multiply") == [15]


def test_a_stage_that_does_not_fit_is_a_dead_letter(engine: Engine) -> None:
    """A follow-up that its type refuses does not vanish: it is a failed job that says why."""
    (actor(engine, "add").message("a", "b") | actor(engine, "multiply").message(5)).run()
    follow_ups(engine, "multiply")
    ((status, reason),) = engine.rows("SELECT status, reason FROM jobs WHERE type = 'multiply'")
    assert (status, reason) == ("failed", "discarded")


def test_on_success_is_told_the_result(engine: Engine) -> None:
    """The success callback gets the message as it was sent, and the result."""
    job_id = sent(actor(engine, "succeed").send(4))
    (result,) = follow_ups(engine, "told")
    assert result["what"] == {"x": 4}
    assert result["message"]["args"] == [4]
    assert result["message"]["message_id"] == str(job_id)


def test_on_failure_is_told_each_failure(engine: Engine) -> None:
    """The failure callback gets type and text of the exception, after every failed attempt."""
    engine.wait_for(sent(actor(engine, "collapse").send("broken")), "failed")
    results = follow_ups(engine, "told", 2)
    assert [result["what"] for result in results] == [{"type": "ValueError", "message": "broken"}] * 2


@pytest.mark.parametrize("text", ["nul \0", "back\\\0", "surrogate \ud800"], ids=ascii)
def test_a_callback_with_unstorable_text_hinders_nothing(
    engine: Engine, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception text that no row can hold spoils neither the retry nor the callback."""
    monkeypatch.setattr(
        actor(engine, "collapse").fn, "function", lambda _: (_ for _ in ()).throw(ValueError(text))
    )
    job = engine.wait_for(sent(actor(engine, "collapse").send("x")), "failed")
    assert (job.attempts, job.reason) == (2, "failed")
    assert len(follow_ups(engine, "told", 2)) == 2


def test_a_snooze_is_no_success(engine: Engine) -> None:
    """The success callback of a job that snoozed once is called once."""
    engine.wait_for(sent(actor(engine, "snoozer").send(1)))
    assert [result["what"] for result in follow_ups(engine, "told")] == [1]


def test_a_follow_up_reaches_a_queue_that_is_new(engine: Engine) -> None:
    """A follow-up in a queue that has no row yet makes the row, so that the dispatcher sees it."""
    with engine.broker.database.autocommit() as connection:
        connection.exec_driver_sql("DELETE FROM queues WHERE name = 'elsewhere'")
    (actor(engine, "add").message(1, 2) | actor(engine, "elsewhere").message()).run()
    assert follow_ups(engine, "elsewhere") == [3]


def test_follow_ups_exist_exactly_when_the_outcome_does(engine: Engine) -> None:
    """A result that is refused as stale creates no follow-up."""
    from goqueue.jobs import AttemptOutcome, JobStatus, NewJob, Outcome  # noqa: PLC0415

    outcome = Outcome(
        10**9,
        1,
        JobStatus.COMPLETED,
        AttemptOutcome.COMPLETED,
        follow_ups=(NewJob("default", "add", orjson.dumps({"args": [1]}).decode()),),
    )
    assert engine.broker.recorder._writer._write([outcome]) == set()  # noqa: SLF001  (an outcome that no message has)
    assert engine.rows("SELECT 1 FROM jobs") == []


def test_retry_when_cannot_exceed_the_attempts(engine: Engine) -> None:
    """An actor's own retry predicate that never gives up ends with the job's attempts all the same."""
    job = engine.wait_for(sent(actor(engine, "insist").send()), "failed")
    assert (job.attempts, job.error) == (3, "ValueError: again")


def test_a_sent_message_is_in_no_delay_queue(engine: Engine) -> None:
    """The broker declares no delay queue, and has a consumer for each queue and the quarantine."""
    assert engine.broker.get_declared_delay_queues() == set()
    assert set(engine.worker.consumers) == {"default", "elsewhere", "quarantine"}
