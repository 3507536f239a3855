"""`GoQueue`: a process may have several, and the functions of `goqueue` work on its default one."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import dramatiq
import pytest
from pydantic import SecretStr

import goqueue
from goqueue.config.settings import Settings
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.errors import ConfigurationError, JobNotFoundError
from goqueue.instance import GoQueue, as_default, default
from goqueue.jobs import JobStatus
from tests.support.engine import QUICK, Engine

#: Each function of `goqueue`, and the method that it is.
METHODS = {
    "cancel_job": "cancel",
    "edit_job": "edit",
    "enqueue": "create",
    "enqueue_chain": "create_chain",
    "enqueue_many": "create_many",
    "job_log": "log",
    "job_progress": "progress",
    "job_versions": "versions",
    "retry_job": "retry",
}

#: What `goqueue` exports that is no method of a GoQueue.
OTHERS = {
    "Batch",
    "BatchFailed",
    "CurrentBatch",
    "Depends",
    "Discard",
    "GoQueue",
    "RetryAfter",
    "RetryPolicy",
    "Snooze",
    "Unique",
    "current_batch",
    "current_job",
}


@pytest.fixture
def two(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> Iterator[tuple[GoQueue, GoQueue]]:
    """Two GoQueues of one process, each with a database of its own."""
    names = "instance_one", "instance_two"
    for name in names:
        postgres.create_database(name, template="goqueue_template")
    settings = [
        Settings(
            database_url=SecretStr(postgres.url_for(name)),
            redis_url=SecretStr(valkey.url),
            namespace=name,
            **QUICK,
        )
        for name in names
    ]
    with GoQueue(settings[0]) as one, GoQueue(settings[1]) as other:
        yield one, other
    for name in names:
        postgres.drop_database(name)


def declare_greeting(instance: GoQueue, greeting: str) -> dramatiq.Actor[..., Any]:
    """A type of the same name on each, with a handler of its own."""

    @instance.actor(name="greet", queue="greetings")
    def greet(name: str) -> str:
        return f"{greeting} {name}"

    return greet


def test_two_in_one_process_work_on_their_own_databases(two: tuple[GoQueue, GoQueue]) -> None:
    """Each runs its own jobs with its own handler, and knows nothing of the other's."""
    one, other = two
    actors = declare_greeting(one, "hello"), declare_greeting(other, "salve")
    ids = [instance.create(actor, {"name": "Ada"}) for instance, actor in zip(two, actors, strict=True)]
    results = []
    for instance, job_id in zip(two, ids, strict=True):
        with Engine(instance.broker) as engine:
            results.append(engine.wait_for(job_id).result)
    assert results == ["hello Ada", "salve Ada"]
    only = one.create(actors[0], {"name": "Bob"}, delay_seconds=600)
    assert one.cancel(only).status is JobStatus.CANCELLED
    with pytest.raises(JobNotFoundError):
        other.cancel(only)


def test_an_actor_belongs_to_the_one_that_it_was_declared_on(two: tuple[GoQueue, GoQueue]) -> None:
    """Nothing is created for an actor of another: its handler would not be the one that was meant."""
    one, other = two
    foreign = declare_greeting(other, "salve")
    declare_greeting(one, "hello")
    with pytest.raises(TypeError, match="declared on another broker"):
        one.create(foreign, {"name": "Ada"})
    with pytest.raises(TypeError, match="declared on another broker"):
        one.create_chain((foreign, {"name": "Ada"}))
    with pytest.raises(TypeError, match="declared on another broker"):
        one.cron("@daily")(foreign)


def test_messages_that_are_sent_become_jobs_of_their_own_broker(two: tuple[GoQueue, GoQueue]) -> None:
    """`actor.send()` needs no default: the actor's broker says where the job goes."""
    one, other = two
    declare_greeting(one, "hello").send("Ada")
    actor = declare_greeting(other, "salve")
    counts = []
    for instance in two:
        with instance.database.autocommit() as connection:
            counts.append(connection.exec_driver_sql("SELECT count(*) FROM jobs").scalar())
    assert counts == [1, 0]
    assert actor.broker is other.broker


def test_schedules_are_declared_on_one(two: tuple[GoQueue, GoQueue]) -> None:
    """A declaration is its instance's alone, and the same name twice on one is refused."""
    one, other = two
    actors = declare_greeting(one, "hello"), declare_greeting(other, "salve")
    one.cron("@daily", payload={"name": "Ada"})(actors[0])
    assert (list(one.schedules), list(other.schedules)) == (["greet"], [])
    with pytest.raises(ConfigurationError, match="declared twice"):
        one.cron("@hourly", payload={"name": "Ada"})(actors[0])
    other.cron("@hourly", payload={"name": "Ada"})(actors[1])


def test_the_functions_work_on_the_default(two: tuple[GoQueue, GoQueue]) -> None:
    """Inside the block they are those of the one that was chosen, and Dramatiq's global broker is its."""
    one, other = two
    before = default() if goqueue.instance._Default.goqueue else None  # noqa: SLF001  (what this process made, without making it)
    with as_default(one):
        actor = goqueue.actor(name="greet")(_greet)
        job_id = goqueue.enqueue(actor, {"name": "Ada"}, delay_seconds=600)
        assert default() is one
        assert dramatiq.get_broker() is one.broker
        with as_default(other):
            assert default() is other
            with pytest.raises(JobNotFoundError):
                goqueue.explain(job_id)
        assert goqueue.explain(job_id).job_id == job_id
    assert goqueue.instance._Default.goqueue is before  # noqa: SLF001  (what this process made, without making it)


def _greet(name: str) -> str:
    return name


def test_it_can_be_closed_twice_and_used_again(two: tuple[GoQueue, GoQueue]) -> None:
    """Closing gives connections back; what comes afterwards opens new ones."""
    one, _ = two
    actor = declare_greeting(one, "hello")
    first = one.create(actor, {"name": "Ada"})
    one.close()
    one.close()
    assert one.create(actor, {"name": "Ada"}) > first


@pytest.mark.parametrize("name", sorted(set(goqueue.__all__) - OTHERS))
def test_every_function_is_a_method_of_the_same_signature(name: str) -> None:
    """Parameters, defaults and annotations; a method without a function is none that applications call."""
    method = inspect.signature(getattr(GoQueue, METHODS.get(name, name)))
    parameters = list(method.parameters.values())[1:]
    function = inspect.signature(getattr(goqueue, name))
    assert list(function.parameters.values()) == parameters
    assert function.return_annotation == method.return_annotation
