"""The options of Dramatiq that GoQueue keeps; the others are refused where they are given.

docs/jobs.md has the same as a table.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from dramatiq import Actor, Middleware
from dramatiq.middleware import (
    AgeLimit,
    AsyncIO,
    Callbacks,
    GroupCallbacks,
    Pipelines,
    Retries,
    ShutdownNotifications,
    TimeLimit,
)
from dramatiq.results import Results

from goqueue.config.bounds import is_number
from goqueue.config.labels import MAX_VERSION, labels_of
from goqueue.engine.options.batch import Batch
from goqueue.engine.options.job_settings import problem_of_name
from goqueue.engine.options.uniqueness import Unique
from goqueue.errors import InvalidJobError
from goqueue.jobs import (
    MAX_DELAY_SECONDS,
    MAX_RETRIES_LIMIT,
    MAX_SLOTS,
    MAX_TIME_LIMIT_SECONDS,
    QUARANTINE_QUEUE,
)

__all__ = ["called_by_name", "refuse_actor", "refuse_message", "refuse_middleware"]

#: Options that only a middleware has which GoQueue does without, and what to do instead.
REFUSED = {
    "max_age": "let jobs expire: goqueue.enqueue(…, ttl_seconds=…)",
    "store_results": "the result of every job is in its row: GET /jobs/{id}",
    "result_ttl": "results are kept as long as their jobs: GOQUEUE_COMPLETED_RETENTION_SECONDS",
    "notify_shutdown": "a handler that outlives the grace period is interrupted, and runs again",
    "priority": "jobs have a priority: goqueue.enqueue(…, priority=…)",
    "broker_priority": "jobs have a priority: goqueue.enqueue(…, priority=…)",
    "throws": "say it of the actor",
    "retry_when": "say it of the actor",
    "unique": "goqueue.enqueue(…, unique=…)",
    "group_completion_uuid": "let a job wait for the others: goqueue.enqueue(…, depends_on=…)",
    "group_completion_callbacks": "let a job wait for the others: goqueue.enqueue(…, depends_on=…)",
}

#: What a message may say that is no number and no name of an actor.
OTHERS = frozenset({"delay", "eta", "jitter", "pipe_ignore", "pipe_target", "job_id", "traceparent"})
CALLBACKS = ("on_success", "on_failure", "on_retry_exhausted")

#: Numbers, in milliseconds where they are times: the least, the most, and whether the least is too little.
NUMBERS = {
    "max_retries": (0, MAX_RETRIES_LIMIT, False),
    "min_backoff": (0, MAX_DELAY_SECONDS * 1000, False),
    "max_backoff": (0, MAX_DELAY_SECONDS * 1000, False),
    "time_limit": (0, MAX_TIME_LIMIT_SECONDS * 1000, True),
}

#: Middleware that would do what GoQueue does otherwise, or undo it.
MIDDLEWARE: dict[type[Middleware], str] = {
    AgeLimit: "jobs expire by their ttl_seconds or expires_at",
    TimeLimit: "every attempt has its time limit without it, and its exception would kill threads",
    ShutdownNotifications: "a shutdown interrupts handlers without it, and its exception would kill threads",
    Results: "the result of every job is kept in its row",
    GroupCallbacks: "a job that waits for others says depends_on",
    Retries: "there is one already: say it of the actors",
    Callbacks: "there is one already",
    Pipelines: "there is one already",
    AsyncIO: "there is one already",
}


def refuse_actor(actor: Actor[Any, Any]) -> None:
    """Check what an actor says of itself.

    Raises:
        ValueError: with everything that is wrong, or that GoQueue does not keep.
    """
    wrong = [f"{name}: {expected}" for name, expected in _problems_of_actor(actor)]
    if wrong:
        raise ValueError(f"the actor {actor.actor_name!r}: {'; '.join(wrong)}")


def _problems_of_actor(actor: Actor[Any, Any]) -> Iterator[tuple[str, str]]:
    options = actor.options
    if problem := problem_of_name(actor.actor_name):
        yield "actor_name", problem
    if problem := problem_of_name(actor.queue_name):
        yield "queue_name", problem
    elif actor.queue_name == QUARANTINE_QUEUE or actor.queue_name.endswith((".DQ", ".XQ")):
        yield "queue_name", f"{actor.queue_name} is not a queue to create jobs in"
    if actor.priority:
        yield "priority", REFUSED["priority"]
    yield from ((name, REFUSED[name]) for name in options if name in REFUSED and name not in _OF_ACTORS)
    if "pipe_target" in options:
        yield "pipe_target", "say it of messages, by a pipeline"
    yield from _problems_of_values(options)
    if not isinstance(options.get("unique"), Unique | None):
        yield "unique", "expected a goqueue.Unique"
    if not callable(options.get("retry_when", len)):
        yield "retry_when", "expected a function of the number of retries and the exception"
    if not isinstance(options.get("process", False), bool):
        yield "process", "expected True or False"
    yield from _problems_of_lists(options)
    yield from _problems_of_needs(options)
    yield from _problems_of_confidence(options)
    yield from _problems_of_batch(options)


def _problems_of_confidence(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if options.get("encrypt") not in {None, True, False}:
        yield "encrypt", "expected True or False"
    if not _are_names(options.get("redact") or ()):
        yield "redact", 'expected names of fields, such as ("card", "token")'


def _are_names(redact: Any) -> bool:
    return isinstance(redact, list | tuple | set | frozenset) and all(
        isinstance(name, str) and name for name in redact
    )


def _problems_of_batch(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    batch = options.get("batch")
    if batch is None:
        return
    if not isinstance(batch, Batch):
        yield "batch", f"expected a goqueue.Batch, got {batch!r}"
        return
    yield from ((f"batch: {name}", expected) for name, expected in batch.problems())
    if options.get("process"):
        yield "batch", "a handler in a child process takes one job at a time"
    if options.get("slots", 1) != 1:
        yield "batch", "a batch takes one thread of its worker: slots cannot be more"


def _problems_of_needs(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    try:
        labels_of(options.get("requires") or {})
    except ValueError as error:
        yield "requires", str(error)
    version = options.get("min_version", 0)
    if isinstance(version, bool) or not isinstance(version, int) or not 0 <= version <= MAX_VERSION:
        yield "min_version", f"expected a whole number from 0 to {MAX_VERSION:,}, got {version!r}"
    slots = options.get("slots", 1)
    if isinstance(slots, bool) or not isinstance(slots, int) or not 1 <= slots <= MAX_SLOTS:
        yield "slots", f"expected a whole number from 1 to {MAX_SLOTS:,}, got {slots!r}"


def _problems_of_lists(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    aliases = options.get("aliases") or ()
    if not isinstance(aliases, list | tuple) or any(map(problem_of_name, aliases)):
        yield "aliases", "expected a list of names"
    throws = options.get("throws") or ()
    for kind in throws if isinstance(throws, tuple) else (throws,):
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            yield "throws", "expected a class of exceptions, or a tuple of them"


_OF_ACTORS = frozenset({"throws", "retry_when", "unique"})


def refuse_message(options: Mapping[str, Any]) -> None:
    """Check what is said of a message that is to become a job.

    Raises:
        InvalidJobError: with everything that is wrong, or that GoQueue does not keep.
    """
    if options and (wrong := dict(_problems_of_message(options))):
        raise InvalidJobError({f"options.{name}": expected for name, expected in wrong.items()})


def _problems_of_message(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in options:
        if name in REFUSED:
            yield name, REFUSED[name]
        elif name not in OTHERS and name not in NUMBERS and name not in CALLBACKS:
            yield name, "there is no such option"
    yield from _problems_of_values(options)
    eta = options.get("eta")
    if eta is not None and not _is_number(eta):
        yield "eta", "expected milliseconds since 1970"
    target = options.get("pipe_target")
    if isinstance(target, Mapping):
        yield from _problems_of_message(target.get("options") or {})


def _problems_of_values(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, (least, most, beyond) in NUMBERS.items():
        value = options.get(name, most)
        is_number = isinstance(value, int) if name == "max_retries" else _is_number(value)
        if (
            not is_number
            or isinstance(value, bool)
            or not least <= value <= most
            or (beyond and value == least)
        ):
            yield name, f"expected {'more than ' * beyond}{least:g} to {most:,.12g}, got {value!r}"
    for name in CALLBACKS:
        if not isinstance(options.get(name, ""), str):
            yield name, "expected an actor, or the name of one"
    for name in ("jitter", "pipe_ignore"):
        if not isinstance(options.get(name, False), bool):
            yield name, "expected True or False"


def _is_number(value: Any) -> bool:
    return is_number(value, -math.inf, math.inf)


def called_by_name(options: dict[str, Any]) -> None:
    """Replace actors that are callbacks by their names, which is how they are called."""
    for name in CALLBACKS:
        if isinstance(options.get(name), Actor):
            options[name] = options[name].actor_name


def refuse_middleware(middleware: Middleware, present: list[Middleware]) -> None:
    """Check a middleware that is added to those of the broker.

    Raises:
        ValueError: it would do what GoQueue does otherwise.
    """
    for kind, why in MIDDLEWARE.items():
        has_own = any(
            type(one).__module__.startswith(("goqueue.", "dramatiq.")) and isinstance(one, kind)
            for one in present
        )
        if isinstance(middleware, kind) and (has_own or not why.startswith("there is one")):
            raise ValueError(f"{kind.__name__} is no middleware for this broker: {why}")
