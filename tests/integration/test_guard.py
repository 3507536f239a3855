"""Code of users that runs where nobody expects it: in exceptions, hooks, models and values."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Self

import dramatiq
import pytest
from pydantic import BaseModel, field_serializer, field_validator

import goqueue
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.instance import default
from goqueue.jobs import NewJob
from goqueue.worker import execution
from tests.support.engine import Engine, running_engine
from tests.support.hostile.exceptions import HARMS, hostile
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

runs: Counter[str] = Counter()


class Checked(BaseModel):
    """A payload whose validator does harm in a worker."""

    how: str

    @field_validator("how")
    @classmethod
    def _do_harm(cls, value: str) -> str:
        if threading.current_thread() is not threading.main_thread():
            runs["validator"] += 1
            made = HARMS[value]()
            raise made
        return value


class Written(BaseModel):
    """A result whose serializer does harm."""

    how: str

    @field_serializer("how")
    def _do_harm(self, value: str) -> str:
        made = HARMS[value]()
        raise made


class WrongNumber(float):
    """A fraction that cannot be read."""

    def __new__(cls, how: str) -> Self:
        """Make one that does so."""
        made = super().__new__(cls, 0.5)
        made.how = how  # type: ignore[attr-defined]
        return made

    def __float__(self) -> float:
        if self.how == "nested":  # type: ignore[attr-defined]
            goqueue.current_job().log("from within")
            return 0.5
        made = HARMS[self.how]()  # type: ignore[attr-defined]
        raise made


def forever() -> None:
    """Never return."""
    while True:
        pass


def declare() -> None:  # noqa: C901  (a list of actors, nothing is decided)
    """Declare the actors of these tests on the present broker."""

    @goqueue.actor(max_retries=0)
    def give(value: Any) -> Any:
        return value

    @goqueue.actor(max_retries=2, min_backoff_seconds=0.01, max_backoff_seconds=0.01, jitter=False)
    def fail(how: str) -> None:
        runs[how] += 1
        error = hostile()[how]()
        raise error

    @goqueue.actor(max_retries=2, min_backoff_seconds=0.01, max_backoff_seconds=0.01, jitter=False)
    async def fail_async(how: str) -> None:
        runs[how] += 1
        error = hostile()[how]()
        raise error

    @goqueue.actor(max_retries=3, throws=(hostile()["__str__ exit"]().__class__.__bases__[0],))
    def fail_for_good(how: str) -> None:
        runs[how] += 1
        error = hostile()[how]()
        raise error

    @goqueue.actor(min_backoff_seconds=40, max_backoff_seconds=60, jitter=False)
    def fail_slowly(how: str) -> None:
        error = hostile()[how]()
        raise error

    @goqueue.actor(max_retries=0)
    def endless_text(where: str) -> None:
        class Endless(Exception):  # noqa: N818  (an exception of a user)
            def __str__(self) -> str:
                forever()
                return ""

        if where == "itself":
            raise Endless
        if where == "cause":
            raise ValueError("x") from Endless()
        if where == "after the time limit":
            error = Endless()
            try:
                raise error
            except Endless:
                forever()
        raise ExceptionGroup("group", [Endless(), Endless()])

    @goqueue.actor(max_retries=1, min_backoff_seconds=0.01)
    def checked(payload: Checked) -> None:
        """Never run."""

    @goqueue.actor(max_retries=0)
    def written(how: str) -> Any:
        return Written(how=how)

    @goqueue.actor(max_retries=0)
    def progressing(how: str) -> str:
        goqueue.current_job().progress(WrongNumber(how))
        return "done"

    @dramatiq.actor(
        max_retries=2,
        min_backoff=10,
        max_backoff=10,
        retry_when=lambda *_: (_ for _ in ()).throw(HARMS["exit"]()),
    )
    def undecided():  # type: ignore[no-untyped-def]  # noqa: ANN202  (plain Dramatiq code)
        runs["undecided"] += 1
        raise ValueError("again")

    @dramatiq.actor(max_retries=0)
    def told(_message, what):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        return what

    @dramatiq.actor(max_retries=0, on_failure="told")
    def telling(how):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        error = hostile()[how]()
        raise error


@pytest.fixture(scope="module")
def engine(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> Iterator[Engine]:
    """An engine that all tests of this module share."""
    with running_engine(postgres, valkey, "guard", declare) as engine:
        yield engine


@pytest.fixture(autouse=True)
def all_threads_live(engine: Engine) -> Iterator[None]:
    """No test may cost the worker a thread, or a place."""
    runs.clear()
    yield
    assert engine.wait_for(create(engine, "give", {"value": 1})).result == 1
    wait_until(lambda: engine.broker.slots.held == 0, what="free places")
    assert all(thread.is_alive() for thread in engine.worker.workers)
    assert all(thread.is_alive() for thread in engine.worker.consumers.values())
    assert engine.broker.recorder.is_alive
    assert engine.broker.reporter.is_alive


def create(engine: Engine, name: str, payload: Any, **values: Any) -> int:
    """Create a job of a declared type."""
    return default().create(engine.broker.actors[name], payload, **values)


@pytest.mark.parametrize("how", hostile())
@pytest.mark.parametrize("name", ["fail", "fail_async"])
def test_an_exception_that_does_harm_is_a_failed_attempt(engine: Engine, name: str, how: str) -> None:
    """Whatever the code of an exception does, its job is retried as often as any other and then failed."""
    job = engine.wait_for(create(engine, name, {"how": how}), "failed")
    assert (runs[how], job.attempts, job.reason) == (3, 3, "failed")
    assert [row[1] for row in engine.attempts(job.id)] == ["failed"] * 3
    assert job.error
    assert job.fingerprint is not None


@pytest.mark.parametrize("how", ["__str__ exit", "__repr__ exit", "__notes__ exit", "no text"])
def test_a_type_that_does_not_retry_it_does_not(engine: Engine, how: str) -> None:
    """An exception of `throws` fails its job at once, also where its text cannot be had."""
    job = engine.wait_for(create(engine, "fail_for_good", {"how": how}), "failed")
    assert (runs[how], job.attempts, job.reason) == (1, 1, "failed")


@pytest.mark.parametrize(
    "how", ["__str__ error", "delay error", "delay exit", "a delay", "a delay that is text"]
)
def test_an_exact_backoff_is_exact(engine: Engine, how: str) -> None:
    """Without jitter the wait is the one of the type, also where the exception has a delay of its own."""
    job_id = create(engine, "fail_slowly", {"how": how})
    wait_until(lambda: engine.job(job_id).reason == "retry", what="the first failure")
    job = engine.job(job_id)
    assert job.available_at - job.updated_at == timedelta(seconds=40)


@pytest.mark.parametrize("where", ["itself", "cause", "group", "after the time limit"])
def test_a_text_without_end_is_not_waited_for(
    engine: Engine, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception whose text never ends holds its thread for a bounded time, and is a failed attempt."""
    monkeypatch.setattr(execution, "READING_SECONDS", 0.2)
    job = engine.wait_for(create(engine, "endless_text", {"where": where}, time_limit_seconds=0.3), "failed")
    assert job.error is not None
    assert job.error.startswith(("Endless: ", "ValueError: ", "ExceptionGroup: ", "TimeLimitExceeded"))


@pytest.mark.parametrize("how", HARMS)
def test_a_validator_that_does_harm_is_a_failed_attempt(engine: Engine, how: str) -> None:
    """What a model's validator raises in a worker is what the attempt failed with."""
    job = engine.wait_for(create(engine, "checked", {"how": how}), "failed")
    assert (runs["validator"], job.attempts) == (2, 2)


@pytest.mark.parametrize("how", HARMS)
def test_a_serializer_that_does_harm_is_a_failed_attempt(engine: Engine, how: str) -> None:
    """What writing a result raises is what the attempt failed with."""
    job = engine.wait_for(create(engine, "written", {"how": how}), "failed")
    assert job.result is None


@pytest.mark.parametrize("how", HARMS)
def test_a_progress_that_does_harm_is_a_failed_attempt(engine: Engine, how: str) -> None:
    """What a value of the handler's does when it is read is done in the handler."""
    engine.wait_for(create(engine, "progressing", {"how": how}), "failed")


def test_a_progress_that_logs_holds_up_nobody(engine: Engine) -> None:
    """A value that calls the job again when it is read meets no lock."""
    job = engine.wait_for(create(engine, "progressing", {"how": "nested"}))
    assert [line.text for line in goqueue.job_log(job.id)] == ["from within"]


def test_a_predicate_that_does_harm_leaves_it_to_the_count(engine: Engine) -> None:
    """Where `retry_when` does not answer, the job is retried as often as it may be."""
    job = engine.wait_for(create(engine, "undecided", {}), "failed")
    assert (runs["undecided"], job.attempts) == (3, 3)


@pytest.mark.parametrize("how", ["__str__ error", "__str__ exit", "__notes__ exit", "no text"])
def test_a_failure_callback_is_told_of_it(engine: Engine, how: str) -> None:
    """The callback of an exception without a text is called all the same, with the name of its class."""
    engine.broker.actors["telling"].send(how)
    sql = "SELECT result FROM jobs WHERE type = 'told' AND finished_at IS NOT NULL"
    wait_until(lambda: engine.rows(sql), what="the callback")
    assert engine.rows(sql)[-1][0]["type"] in {"Hostile", "SayingNoText"}
    with engine.broker.database.autocommit() as connection:
        connection.exec_driver_sql("DELETE FROM jobs WHERE type = 'told'")


class Hook(dramatiq.Middleware):
    """A user's middleware that does harm in one hook."""

    def __init__(self, hook: str, harm: str) -> None:
        self._harm = harm
        self.times = 0
        setattr(type(self), hook, Hook.do_harm)

    def do_harm(self, _broker: Any, message: Any, *_: Any, **__: Any) -> None:
        """Do it for jobs that ask for it."""
        if getattr(message, "actor_name", "") in {"give", "fail"} and message.current.claimed.payload.count(
            "harm"
        ):
            self.times += 1
            raise (
                dramatiq.middleware.MiddlewareError("no")
                if self._harm == "middleware"
                else HARMS[self._harm]()
            )

    def __repr__(self) -> str:
        raise SystemExit(3)


@pytest.mark.parametrize("harm", [*HARMS, "middleware"])
@pytest.mark.parametrize(
    "hook", ["before_ack", "after_ack", "before_nack", "after_nack", "after_process_message"]
)
def test_a_hook_that_does_harm_costs_no_outcome(engine: Engine, hook: str, harm: str) -> None:
    """A hook around the end of an attempt changes nothing of it, and costs no thread."""
    middleware = type("OwnHook", (Hook,), {})(hook, harm)
    with engine.with_middleware(middleware):
        payload = {"value": "harm"}
        job = engine.wait_for(create(engine, "give", payload))
        assert job.result == "harm"
        failed = create(engine, "give", payload, max_retries=0)
        engine.wait_for(failed)
    assert middleware.times == (0 if "nack" in hook else 2)


@pytest.mark.parametrize("harm", [*HARMS, "middleware"])
def test_a_hook_before_the_run_that_does_harm_is_a_failed_attempt(engine: Engine, harm: str) -> None:
    """What a hook raises before the handler is what the attempt failed with, and it is retried."""
    middleware = type("OwnHook", (Hook,), {})("before_process_message", harm)
    with engine.with_middleware(middleware):
        job = engine.wait_for(create(engine, "give", {"value": "harm"}, max_retries=1), "failed")
    assert (middleware.times, job.attempts) == (2, 2)


def test_a_follow_up_with_arguments_that_do_harm_is_a_dead_letter(engine: Engine) -> None:
    """What a hook sends and nobody can write is a failed job that says so, not nothing."""

    class Sends(dramatiq.Middleware):
        def after_process_message(self, broker: Any, message: Any, **_: Any) -> None:
            if message.actor_name == "give" and "send" in message.current.claimed.payload:
                broker.actors["told"].send(Unwritable(), {(1, 2): 3})

    class Unwritable:
        def __repr__(self) -> str:
            raise SystemExit(3)

    middleware = Sends()
    with engine.with_middleware(middleware):
        engine.wait_for(create(engine, "give", {"value": "send"}))
        sql = "SELECT status FROM jobs WHERE type = 'told' AND finished_at IS NOT NULL"
        wait_until(lambda: engine.rows(sql) == [("failed",)], what="the dead letter")
        with engine.broker.database.autocommit() as connection:
            connection.exec_driver_sql("DELETE FROM jobs WHERE type = 'told'")


def test_stored_options_that_nobody_can_read_leave_it_to_the_type(engine: Engine) -> None:
    """A backoff in the row that is no number does not cost the retries."""
    (job_id,) = default().creator.many(
        [NewJob("default", "fail", '{"how": "a delay"}', max_retries=2, options='{"min_backoff": "soon"}')]
    )
    job = engine.wait_for(job_id, "failed")
    assert (runs["a delay"], job.attempts) == (3, 3)
