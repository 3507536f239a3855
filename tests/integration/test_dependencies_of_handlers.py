"""Handlers are given what they ask for: lifespans of their process, and dependencies of their job."""

# ruff: noqa: ARG001  (handlers that ask for something, to see what becomes of it)
from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest

import goqueue
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.errors import DependencyError
from goqueue.instance import default
from goqueue.jobs import Job
from tests.support.engine import Engine, running_engine
from tests.support.waiting import wait_until

#: What happened, in order.
events: list[str] = []


class Pool:
    """What a lifespan yields."""

    def __init__(self, name: str) -> None:
        self.name = name


class Client:
    """What an async lifespan yields."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.loop = asyncio.get_running_loop()


class Session:
    """A value of one job."""


def open_pool() -> Iterator[Pool]:
    """Open a pool for the process."""
    events.append("pool opens")
    yield Pool("real")
    events.append("pool closes")


@asynccontextmanager
async def open_client(pool: Annotated[Pool, goqueue.Depends(open_pool)]) -> AsyncIterator[Client]:
    """Open a client that needs the pool, in one task for both ends."""
    task = asyncio.current_task()
    events.append("client opens")
    async with asyncio.TaskGroup():
        yield Client(pool)
    assert asyncio.current_task() is task
    events.append("client closes")


def session() -> Iterator[Session]:
    """Begin a session for the job, and tell how it ends."""
    try:
        yield Session()
    except BaseException as error:
        events.append(f"session rolls back: {type(error).__name__}")
        raise
    events.append("session commits")


async def async_session() -> AsyncIterator[Session]:
    """The same, asynchronously."""
    try:
        yield Session()
    except BaseException as error:
        events.append(f"async session rolls back: {type(error).__name__}")
        raise
    events.append("async session commits")


async def number() -> int:
    """Make a number, on the loop."""
    await asyncio.sleep(0)
    return 7


class Repository:
    """A dependency that is a class, and has a dependency itself."""

    def __init__(self, held: Annotated[Session, goqueue.Depends(session)]) -> None:
        self.session = held


def swallows() -> Iterator[str]:
    """Swallow whatever the handler raises."""
    try:
        yield "quiet"
    except ValueError:
        events.append("swallowed")


def breaks() -> str:
    """Fail to be made."""
    raise LookupError("no such host")


def breaks_after() -> Iterator[str]:
    """Fail to be tidied up."""
    yield "good"
    raise OSError("the commit failed")


def never_ready() -> str:
    """Take longer than any job may."""
    while True:
        time.sleep(0.01)


makes = threading.Semaphore(0)
made: list[str] = []


def slow_engine() -> Iterator[str]:
    """Be made once for the process, when the test says so."""
    assert makes.acquire(timeout=20)
    made.append("engine")
    yield f"engine {len(made)}"
    events.append("engine closes")


async def async_engine() -> AsyncIterator[str]:
    """Be made once for the process, on its loop."""
    made.append("async engine")
    yield "async engine"
    events.append("async engine closes")


flaky: list[str] = []


def flaky_engine() -> str:
    """Fail at the first time."""
    flaky.append("asked")
    if len(flaky) == 1:
        raise ConnectionError("not yet")
    return "there"


def declare() -> None:  # noqa: C901  (a list of actors, nothing is decided)
    """Declare the lifespans and actors of these tests on the present broker."""
    goqueue.lifespan(open_pool)
    goqueue.lifespan(open_client)

    @goqueue.actor(max_retries=0)
    def by_function(x: int, pool: Annotated[Pool, goqueue.Depends(open_pool)]) -> list[Any]:
        return [x, pool.name]

    @goqueue.actor(max_retries=0)
    def by_class(pool: Annotated[Pool, goqueue.Depends()], x: int) -> list[Any]:
        return [x, pool.name]

    @goqueue.actor(max_retries=0)
    async def by_class_async(client: Annotated[Client, goqueue.Depends()], x: int) -> list[Any]:
        return [x, client.pool.name, client.loop is asyncio.get_running_loop()]

    @goqueue.actor(max_retries=0)
    def plain(a, pool: Annotated[Pool, goqueue.Depends()], b=2):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        return [a, pool.name, b]

    @goqueue.actor(max_retries=0)
    def once(
        first: Annotated[Session, goqueue.Depends(session)],
        second: Annotated[Session, goqueue.Depends(session)],
        repository: Annotated[Repository, goqueue.Depends(Repository)],
        other: Annotated[Session, goqueue.Depends(session, use_cache=False)],
    ) -> list[bool]:
        return [first is second, repository.session is first, other is first]

    @goqueue.actor(max_retries=0)
    def mixed(
        fails: bool,
        sync: Annotated[Session, goqueue.Depends(session)],
        asynchronous: Annotated[Session, goqueue.Depends(async_session)],
        n: Annotated[int, goqueue.Depends(number)],
    ) -> int:
        if fails:
            raise ValueError("no")
        return n

    @goqueue.actor(max_retries=0)
    async def mixed_async(
        fails: bool,
        sync: Annotated[Session, goqueue.Depends(session)],
        asynchronous: Annotated[Session, goqueue.Depends(async_session)],
        n: Annotated[int, goqueue.Depends(number)],
    ) -> int:
        await asyncio.sleep(0)
        if fails:
            raise ValueError("no")
        return n

    @goqueue.actor(max_retries=0)
    def swallowed(quiet: Annotated[str, goqueue.Depends(swallows)]) -> None:
        raise ValueError("not to be lost")

    @goqueue.actor(max_retries=0)
    def broken(value: Annotated[str, goqueue.Depends(breaks)]) -> None:
        events.append("ran")

    @goqueue.actor(max_retries=0)
    def broken_after(value: Annotated[str, goqueue.Depends(breaks_after)]) -> str:
        return value

    @goqueue.actor(max_retries=0, time_limit_seconds=0.3)
    def waits_for_ever(
        held: Annotated[Session, goqueue.Depends(session)],
        value: Annotated[str, goqueue.Depends(never_ready)],
    ) -> None:
        events.append("ran")

    @goqueue.actor(max_retries=0, time_limit_seconds=0.3)
    def impatient(engine: Annotated[str, goqueue.Depends(slow_engine, scope="process")]) -> str:
        return engine

    @goqueue.actor(max_retries=0)
    def patient(
        engine: Annotated[str, goqueue.Depends(slow_engine, scope="process")],
        other: Annotated[str, goqueue.Depends(async_engine, scope="process")],
    ) -> list[str]:
        return [engine, other]

    @goqueue.actor(max_retries=0)
    async def patient_async(
        engine: Annotated[str, goqueue.Depends(slow_engine, scope="process")],
        other: Annotated[str, goqueue.Depends(async_engine, scope="process")],
    ) -> list[str]:
        return [engine, other]

    @goqueue.actor(max_retries=0)
    def uses_flaky(value: Annotated[str, goqueue.Depends(flaky_engine, scope="process")]) -> str:
        return value


@pytest.fixture(scope="module")
def engine(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> Iterator[Engine]:
    """An engine with these actors; afterwards, all that lived as long as the process is closed in reverse."""
    events.clear()
    with running_engine(postgres, valkey, "handler_dependencies", declare) as running:
        assert events == ["pool opens", "client opens"]
        yield running
        events.clear()
    assert events[-2:] == ["client closes", "pool closes"]
    assert set(events[:-2]) == {f"{one} closes" for one in made}


@pytest.fixture(autouse=True)
def _forget() -> None:
    events.clear()


def run(engine: Engine, name: str, status: str = "completed", **payload: Any) -> Job:
    """Run a job of a type to its end."""
    return engine.wait_for(goqueue.enqueue(engine.broker.get_actor(name), payload), status)


def test_a_lifespan_is_given_by_its_function_or_its_class(engine: Engine) -> None:
    """Sync and async handlers get what it yielded; an async one lives on the loop of the handlers."""
    assert run(engine, "by_function", x=1).result == [1, "real"]
    assert run(engine, "by_class", x=2).result == [2, "real"]
    assert run(engine, "by_class_async", x=3).result == [3, "real", True]


def test_what_is_injected_is_no_part_of_the_payload(engine: Engine) -> None:
    """Not of its schema, its OpenAPI, its hash, nor of what a create or a stored payload may say."""
    injected = engine.broker.job_types["by_class"]
    assert list(injected.json_schema()["properties"]) == ["x"]
    assert "pool" not in str(injected.components())

    with goqueue.GoQueue(engine.settings) as other:

        @other.actor
        def by_class(x: int) -> None: ...

        @other.actor
        def plain(a, b=2): ...  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202

        for name in ("by_class", "plain"):
            declared = other.broker.job_types[name]
            assert declared.schema_hash() == engine.broker.job_types[name].schema_hash()
    with pytest.raises(goqueue.errors.InvalidJobError, match="pool"):
        goqueue.enqueue(engine.broker.get_actor("by_class"), {"x": 1, "pool": "mine"})
    with pytest.raises(goqueue.errors.InvalidJobError, match="a worker fills it in"):
        engine.broker.get_actor("plain").send(1, pool="mine")


def test_a_plain_call_is_bound_around_what_is_injected(engine: Engine) -> None:
    """Positional arguments go to the parameters of the payload, in their order."""
    plain = engine.broker.get_actor("plain")
    ids = [int(plain.send(1).options["job_id"]), int(plain.send(1, 5).options["job_id"])]
    assert [engine.wait_for(one).result for one in ids] == [[1, "real", 2], [1, "real", 5]]
    too_many = int(plain.send(1, 2, 3).options["job_id"])
    failed = engine.wait_for(too_many, "failed")
    assert failed.reason == "discarded"
    assert "does not fit its type" in (failed.error or "")


def test_a_dependency_is_made_once_a_job(engine: Engine) -> None:
    """Unless it says otherwise; one that is a class has dependencies of its own."""
    assert run(engine, "once").result == [True, True, False]
    assert events == ["session commits", "session commits"]


@pytest.mark.parametrize("name", ["mixed", "mixed_async"])
def test_sync_and_async_dependencies_go_together(engine: Engine, name: str) -> None:
    """Both kinds of handlers have both kinds, and each is tidied up after the job, the last first."""
    assert run(engine, name, fails=False).result == 7
    assert events == ["async session commits", "session commits"]


@pytest.mark.parametrize("name", ["mixed", "mixed_async"])
def test_a_dependency_is_told_what_its_handler_raised(engine: Engine, name: str) -> None:
    """So a session rolls back; the job fails by what the handler raised, with the handler's frames."""
    failed = run(engine, name, "failed", fails=True)
    assert failed.error == "ValueError: no"
    assert events == ["async session rolls back: ValueError", "session rolls back: ValueError"]
    ((_, _, _, trace),) = engine.attempts(failed.id)
    assert trace.count("\n  File ") == 1
    assert f"in {name}" in trace


def test_a_dependency_cannot_make_a_success_of_a_failure(engine: Engine) -> None:
    """One that swallows what the handler raised changes nothing."""
    assert run(engine, "swallowed", "failed").error == "ValueError: not to be lost"
    assert events == ["swallowed"]


def test_a_failed_dependency_is_a_failed_attempt(engine: Engine) -> None:
    """It has the error of the dependency, before the handler or after it."""
    assert run(engine, "broken", "failed").error == "LookupError: no such host"
    after = run(engine, "broken_after", "failed")
    assert (after.error, after.result, events) == ("OSError: the commit failed", None, [])


def test_the_time_limit_holds_within_a_dependency(engine: Engine) -> None:
    """And what was made before it is tidied up."""
    assert run(engine, "waits_for_ever", "failed").error == "TimeLimitExceeded"
    assert events == ["session rolls back: TimeLimitExceeded"]


def test_a_dependency_of_the_process_is_made_once(engine: Engine) -> None:
    """At its first use, whatever becomes of the job that was first; for sync and async handlers alike."""
    assert run(engine, "impatient", "failed").error == "TimeLimitExceeded"
    ids = [
        goqueue.enqueue(engine.broker.get_actor(name), {}) for name in ("patient", "patient_async", "patient")
    ]
    wait_until(lambda: all(engine.job(one).status == "running" for one in ids), what="all of them to wait")
    makes.release()
    assert [engine.wait_for(one).result for one in ids] == [["engine 1", "async engine"]] * 3
    assert sorted(made) == ["async engine", "engine"]


def test_a_dependency_of_the_process_that_failed_is_made_anew(engine: Engine) -> None:
    """The next job tries again."""
    assert run(engine, "uses_flaky", "failed").error == "ConnectionError: not yet"
    assert run(engine, "uses_flaky").result == "there"
    assert run(engine, "uses_flaky").result == "there"
    assert flaky == ["asked", "asked"]


def test_a_dependency_is_overridden_inside_a_block(engine: Engine) -> None:
    """For workers, and for a handler that is called by hand; afterwards it is what it was."""
    with goqueue.override_dependency(breaks, lambda: "fake"):
        run(engine, "broken")
        engine.broker.get_actor("broken")()
    assert events == ["ran", "ran"]
    assert run(engine, "broken", "failed").error == "LookupError: no such host"
    engine.broker.get_actor("broken")(value="by hand")
    assert events == ["ran", "ran", "ran"]


def test_a_lifespan_is_overridden_like_any_dependency(engine: Engine) -> None:
    """A process that starts inside the block opens what stands for it, by function and by class alike."""

    def fake_pool() -> Iterator[Pool]:
        yield Pool("fake")

    with goqueue.GoQueue(engine.settings) as other, other.override_dependency(open_pool, fake_pool):
        other.lifespan(open_pool)

        @other.actor
        def by_both(
            first: Annotated[Pool, goqueue.Depends(open_pool)], second: Annotated[Pool, goqueue.Depends()]
        ) -> list[object]:
            return [first.name, second is first]

        other.broker.dependencies.open()
        assert by_both() == ["fake", True]
        other.broker.dependencies.close()
    assert events == []


def test_a_process_without_the_lifespan_of_a_class_does_not_start(engine: Engine) -> None:
    """It says which parameter of which type asks for what nobody yields, or two do."""
    with goqueue.GoQueue(engine.settings) as other:

        @other.actor
        def orphan(pool: Annotated[Pool, goqueue.Depends()]) -> None: ...

        with pytest.raises(DependencyError, match=r"'orphan' cannot run: .*'pool'.* no lifespan"):
            other.broker.dependencies.open()

        def again() -> Iterator[Pool]:
            yield Pool("again")

        other.lifespan(open_pool)
        other.lifespan(again)
        with pytest.raises(DependencyError, match="several lifespans yield a Pool"):
            other.broker.dependencies.open()


def needs_value(value: int) -> int:
    """Ask for what nobody gives."""
    return value


def of_job(held: Annotated[Session, goqueue.Depends(session)]) -> Session:
    """Ask for a value of a job."""
    return held


def circle(value: Annotated[int, goqueue.Depends(needs_value)]) -> int:
    """Depend on itself, by its annotation."""
    return value


circle.__annotations__["value"] = Annotated[int, goqueue.Depends(circle)]


def wrong_handlers() -> Iterator[tuple[Any, str]]:
    """Handlers that cannot be declared, and what is said of them."""

    def missing(value: Annotated[int, goqueue.Depends(needs_value)]) -> None: ...
    def shorter(value: Annotated[Any, goqueue.Depends(of_job, scope="process")]) -> None: ...
    def itself(value: Annotated[int, goqueue.Depends(circle)]) -> None: ...
    def positional(value: Annotated[int, goqueue.Depends(number)], /) -> None: ...
    def starred(value: Annotated[int, goqueue.Depends(number)], *args: int) -> None: ...
    def by_default(value: int = goqueue.Depends(number)) -> None: ...  # type: ignore[assignment]
    def by_no_class(value: Annotated[Any, goqueue.Depends()]) -> None: ...
    def unreadable(value: Annotated[NoSuch, goqueue.Depends(number)]) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    yield missing, "neither a Depends nor a default"
    yield shorter, "expected scope='process'"
    yield itself, "depends on itself"
    yield positional, "a parameter that takes a keyword"
    yield starred, "has to follow"
    yield by_default, "instead of a default"
    yield by_no_class, "by a class"
    yield unreadable, "cannot be read"


@pytest.mark.parametrize(
    ("handler", "said"), [pytest.param(*one, id=one[0].__name__) for one in wrong_handlers()]
)
def test_what_cannot_be_injected_is_refused_at_the_declaration(
    engine: Engine, handler: Any, said: str
) -> None:
    """At the declaration, not when the first job runs."""
    with goqueue.GoQueue(engine.settings) as other, pytest.raises(ValueError, match=said):
        other.actor(handler)


def test_a_handler_without_dependencies_is_not_wrapped(engine: Engine) -> None:
    """It costs nothing that others ask for more."""
    with goqueue.GoQueue(engine.settings) as other:

        def handler(x: int) -> None: ...

        assert other.actor(handler).fn.function is handler  # type: ignore[attr-defined]


def test_the_default_is_a_goqueue_of_its_own(engine: Engine) -> None:
    """What is declared on one is not known to another."""
    with goqueue.GoQueue(engine.settings) as other:
        assert not other.broker.dependencies.is_lifespan(open_pool)
        assert default().broker.dependencies.is_lifespan(open_pool)
