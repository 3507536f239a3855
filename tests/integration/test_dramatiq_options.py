# ruff: noqa: ANN001, ANN201, ANN202  (plain Dramatiq code has no annotations)
"""Every option that Dramatiq knows works or is refused, as the table of docs/jobs.md says."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dramatiq
import pytest
from dramatiq.middleware import (
    AgeLimit,
    AsyncIO,
    Callbacks,
    CurrentMessage,
    GroupCallbacks,
    Pipelines,
    Retries,
    ShutdownNotifications,
    TimeLimit,
)
from dramatiq.rate_limits.backends import StubBackend as UntypedLimits
from dramatiq.results import Results as UntypedResults
from dramatiq.results.backends import StubBackend as UntypedBackend

import goqueue
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.errors import InvalidJobError
from tests.support.engine import Engine, running_engine
from tests.support.waiting import wait_until

DOCUMENT = Path(__file__).parents[2] / "docs" / "jobs.md"

#: What is tried of each option: a value, and (for an actor, for a message) whether it works.
OPTIONS: dict[str, tuple[Any, bool, bool]] = {
    "max_retries": (1, True, True),
    "min_backoff": (10, True, True),
    "max_backoff": (10, True, True),
    "jitter": (False, True, True),
    "time_limit": (1000, True, True),
    "throws": (ValueError, True, False),
    "retry_when": (lambda retries, _: retries < 1, True, False),
    "on_success": ("told", True, True),
    "on_failure": ("told", True, True),
    "on_retry_exhausted": ("told", True, True),
    "pipe_ignore": (True, True, True),
    "pipe_target": ({}, False, True),
    "unique": (goqueue.Unique(key="k"), True, False),
    "process": (False, True, False),
    "aliases": (["formerly"], True, False),
    "requires": ({}, True, False),
    "min_version": (2, True, False),
    "slots": (2, True, False),
    "batch": (goqueue.Batch(), True, False),
    "delay": (10, False, True),
    "eta": (1, False, True),
    "queue_name": ("elsewhere", True, True),
    "priority": (5, False, False),
    "broker_priority": (5, False, False),
    "max_age": (1000, False, False),
    "store_results": (True, False, False),
    "result_ttl": (1000, False, False),
    "notify_shutdown": (True, False, False),
    "group_completion_uuid": ("x", False, False),
    "group_completion_callbacks": ([], False, False),
    "any other": (1, False, False),
}

_numbers = itertools.count(1)

# Dramatiq has no types for these.
group: Any = dramatiq.group
Results: Any = UntypedResults
StubBackend: Any = UntypedBackend
StubLimits: Any = UntypedLimits


@pytest.fixture(scope="module")
def engine(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> Iterator[Engine]:
    """An engine that all tests of this module share."""
    with running_engine(postgres, valkey, "options", declare_told) as engine:
        yield engine


def declare_told() -> None:
    """Declare what the callbacks of these tests are."""

    @dramatiq.actor(max_retries=0)
    def told(message, what):  # type: ignore[no-untyped-def]
        return {"args": message["args"], "what": what}


def declared(function: Any, **options: Any) -> Any:
    """An actor of this function, under a name of its own."""
    return dramatiq.actor(actor_name=f"actor{next(_numbers)}", **options)(function)


def give(value=None):  # type: ignore[no-untyped-def]
    """A handler."""
    return value


def fail(text):  # type: ignore[no-untyped-def]
    """A handler that fails."""
    raise ValueError(text)


def number_of_jobs(engine: Engine) -> int:
    """How many rows there are."""
    return int(engine.rows("SELECT count(*) FROM jobs")[0][0])


def ended(engine: Engine, message: dramatiq.Message[Any], status: str = "completed") -> Any:
    """The job of a sent message, when it has ended."""
    return engine.wait_for(message.options["job_id"], status)


def told(engine: Engine, args: list[Any]) -> Any:
    """What a callback was told of the job with these arguments."""
    sql = "SELECT result FROM jobs WHERE type = 'told' AND status = 'completed'"
    wait_until(lambda: any(row[0]["args"] == args for row in engine.rows(sql)), what="the callback")
    return next(row[0]["what"] for row in engine.rows(sql) if row[0]["args"] == args)


def test_the_table_says_what_is_tried_here() -> None:
    """The document has a row for each option, and says of both places whether it works."""
    rows = re.findall(
        r"^\| (`[a-z].*?|any other) \| (works|refused).*? \| (works|refused)",
        DOCUMENT.read_text(),
        re.MULTILINE,
    )
    table = {
        name: (actor == "works", message == "works")
        for names, actor, message in rows
        for name in re.findall(r"`([a-z_]+)`", names) or [names]
    }
    assert table == {name: works for name, (_, *both) in OPTIONS.items() for works in [tuple(both)]}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_of_an_actor_works_or_is_refused(engine: Engine, name: str) -> None:  # noqa: ARG001  (it is declared there)
    """What is not kept is an error at the declaration."""
    value, works, _ = OPTIONS[name]
    if works and name == "queue_name":
        assert declared(give, queue_name=value).queue_name == value
    elif works:
        declared(give, **{name: value})
    else:
        with pytest.raises(ValueError, match=name.replace("any other", "any_other")):
            declared(give, **{name.replace(" ", "_"): value})


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "queue_name"])
def test_an_option_of_a_message_works_or_is_refused(engine: Engine, name: str) -> None:
    """What is not kept is an error at the send, and makes no row."""
    value, _, works = OPTIONS[name]
    actor = declared(give)
    if works and name == "pipe_target":
        value = actor.message().asdict()
    before = number_of_jobs(engine)
    if works:
        ended(engine, actor.send_with_options(args=(1,), **{name: value}))
    else:
        with pytest.raises(InvalidJobError) as caught:
            actor.send_with_options(args=(1,), **{name.replace(" ", "_"): value})
        assert set(caught.value.fields) == {f"options.{name.replace(' ', '_')}"}
        assert number_of_jobs(engine) == before


WRONG = [
    {"max_retries": None},
    {"max_retries": 21},
    {"max_retries": 1.5},
    {"min_backoff": -1},
    {"min_backoff": "1"},
    {"max_backoff": float("nan")},
    {"time_limit": 0},
    {"time_limit": float("inf")},
    {"time_limit": None},
    {"jitter": "no"},
    {"pipe_ignore": 1},
]


@pytest.mark.parametrize("options", WRONG, ids=repr)
def test_a_wrong_value_is_refused_at_both_doors(engine: Engine, options: dict[str, Any]) -> None:
    """What Dramatiq would stumble over when the job has run is refused before it is created."""
    before = number_of_jobs(engine)
    with pytest.raises(ValueError, match=next(iter(options))):
        declared(give, **options)
    with pytest.raises(InvalidJobError):
        declared(give).send_with_options(args=(1,), **options)
    assert number_of_jobs(engine) == before


@pytest.mark.parametrize(
    "options",
    [{"delay": "1"}, {"delay": True}, {"eta": "now"}, {"eta": 1e300}, {"delay": -1}],
    ids=repr,
)
def test_a_time_that_is_none_is_refused(engine: Engine, options: dict[str, Any]) -> None:
    """A message is put off to a moment that there is."""
    before = number_of_jobs(engine)
    with pytest.raises(InvalidJobError):
        declared(give).send_with_options(args=(1,), **options)
    assert number_of_jobs(engine) == before


@pytest.mark.parametrize(
    "options",
    [
        {"queue_name": "quarantine"},
        {"queue_name": "default.DQ"},
        {"queue_name": "q" * 201},
        {"actor_name": "a\nb"},
        {"throws": "ValueError"},
        {"throws": (5,)},
        {"retry_when": True},
        {"on_success": 5},
        {"unique": "k"},
    ],
    ids=repr,
)
def test_a_declaration_that_is_wrong_is_refused(engine: Engine, options: dict[str, Any]) -> None:
    """An actor that could not work is not declared."""
    options = {"actor_name": f"actor{next(_numbers)}", **options}
    with pytest.raises(ValueError, match=r"actor|Queue names"):
        dramatiq.actor(**options)(give)
    assert options["actor_name"] not in engine.broker.actors


def test_the_options_do_what_dramatiq_says(engine: Engine) -> None:
    """Those that work, work: each has its effect on the job."""
    actor = declared(fail, max_retries=1, min_backoff=10, max_backoff=10)
    job = ended(engine, actor.send("x"), "failed")
    assert job.attempts == 2
    job = ended(engine, declared(fail, throws=ValueError).send("x"), "failed")
    assert job.attempts == 1
    job = ended(
        engine,
        declared(fail, min_backoff=10, max_backoff=10, retry_when=OPTIONS["retry_when"][0]).send("x"),
        "failed",
    )
    assert job.attempts == 2
    exact = declared(fail, min_backoff=40_000, jitter=False).send("x").options["job_id"]
    wait_until(lambda: engine.job(exact).reason == "retry", what="the first failure")
    assert engine.job(exact).available_at - engine.job(exact).updated_at == timedelta(seconds=40)
    later = declared(give).send_with_options(eta=round(time.time() * 1000) + 3_600_000)
    wait = engine.job(later.options["job_id"]).available_at - datetime.now(UTC)
    assert timedelta(minutes=59) < wait < timedelta(minutes=61)


def test_callbacks_may_be_given_as_actors(engine: Engine) -> None:
    """An actor that is named as a callback is called by its name."""
    callback = engine.broker.actors["told"]
    ended(engine, declared(give, on_success=callback).send("success"))
    assert told(engine, ["success"]) == "success"
    ended(engine, declared(fail, max_retries=0, on_failure=callback).send("failure"), "failed")
    assert told(engine, ["failure"]) == {"type": "ValueError", "message": "failure"}
    ended(engine, declared(fail, max_retries=0, on_retry_exhausted=callback).send("spent"), "failed")
    assert told(engine, ["spent"])["max_retries"] == 0


def test_a_pipe_ignores_what_it_is_told_to_ignore(engine: Engine) -> None:
    """`pipe_ignore` keeps the result of the stage before from the next one."""
    last = declared(give)
    (declared(give).message("first") | last.message_with_options(args=("own",), pipe_ignore=True)).run()
    sql = "SELECT result FROM jobs WHERE type = %(name)s AND status = 'completed'"
    wait_until(lambda: engine.rows(sql, name=last.actor_name), what="the last stage")
    assert engine.rows(sql, name=last.actor_name) == [("own",)]


def test_a_message_goes_to_another_queue(engine: Engine) -> None:
    """A message may name another queue; one that there cannot be is refused."""
    actor = declared(give)
    declared(give, queue_name="elsewhere")
    sent = engine.broker.enqueue(actor.message(1).copy(queue_name="elsewhere"))
    assert ended(engine, sent).queue == "elsewhere"
    for wrong in ("quarantine", "", "a\nb", "q" * 201):
        with pytest.raises(InvalidJobError):
            engine.broker.enqueue(actor.message(1).copy(queue_name=wrong))


@pytest.mark.parametrize(
    "middleware",
    [
        AgeLimit(),
        TimeLimit(),
        ShutdownNotifications(),
        Results(backend=StubBackend()),
        GroupCallbacks(StubLimits()),
        Retries(),
        Callbacks(),
        Pipelines(),
        AsyncIO(),
    ],
    ids=lambda middleware: type(middleware).__name__,
)
def test_a_middleware_that_does_what_goqueue_does_is_refused(
    engine: Engine, middleware: dramatiq.Middleware
) -> None:
    """It is refused where it is added, and nothing changes."""
    before = list(engine.broker.middleware)
    with pytest.raises(ValueError, match=type(middleware).__name__):
        engine.broker.add_middleware(middleware)
    assert engine.broker.middleware == before


def test_hooks_of_users_see_the_call_and_the_result(engine: Engine) -> None:
    """A user's middleware is told what was sent and what came of it, as with any broker."""
    seen: list[Any] = []

    class Sees(dramatiq.Middleware):
        def before_process_message(self, _broker: Any, message: Any) -> None:
            seen.append((message.args, message.kwargs))

        def after_process_message(
            self, _broker: Any, message: Any, *, result: Any = None, exception: Any = None
        ) -> None:
            seen.append((message.args, message.kwargs, result, type(exception)))

    with engine.with_middleware(Sees(), CurrentMessage()):
        ended(engine, declared(give).send({"a": [1]}))
        ended(engine, declared(fail, max_retries=0).send(text="x"), "failed")
    assert seen == [
        (({"a": [1]},), {}),
        (({"a": [1]},), {}, {"a": [1]}, type(None)),
        ((), {"text": "x"}),
        ((), {"text": "x"}, None, ValueError),
    ]


def test_groups_run_and_say_that_they_keep_no_results(engine: Engine) -> None:
    """A group creates its jobs; what would need a result backend raises."""
    actor = declared(give)
    run = group([actor.message(1), actor.message(2)]).run()
    sql = "SELECT count(*) FROM jobs WHERE type = %(name)s AND status = 'completed'"
    wait_until(lambda: engine.rows(sql, name=actor.actor_name) == [(2,)], what="the jobs of the group")
    with pytest.raises(RuntimeError):
        list(run.get_results())
    with pytest.raises(RuntimeError):
        actor.message(1).get_result()
    with_callback = group([actor.message(1)])
    with_callback.add_completion_callback(actor.message(2))
    with pytest.raises(RuntimeError):
        with_callback.run()
