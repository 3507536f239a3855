"""Declaring job types: `@goqueue.actor`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypedDict

import dramatiq
from dramatiq import Broker
from dramatiq.actor import Actor

from goqueue.config.bounds import is_number
from goqueue.config.labels import LabelValue
from goqueue.engine.options.batch import Batch
from goqueue.engine.options.job_settings import problem_of_name
from goqueue.engine.options.uniqueness import Unique
from goqueue.jobs import MAX_DELAY_SECONDS

__all__ = ["ActorOptions", "declare"]


class ActorOptions(TypedDict, total=False):
    """The options of a job type.

    Attributes:
        name: of the type; the function's where it is not given.
        queue: where its jobs go by default.
        max_retries: retries after the first run, as the next three a part of the retry policy.
        min_backoff_seconds: the wait before the first retry; it doubles from one to the next.
        max_backoff_seconds: the longest wait before a retry.
        jitter: whether the waits are spread at random.
        time_limit_seconds: the longest run of an attempt.
        throws: exceptions after which a job is failed at once.
        unique: which of its jobs are alike, where they do not say themselves.
        aliases: former names: jobs of these are run by this handler, and keep their type.
        rerun_after_death: whether a job whose worker process died in the middle of it runs again (True).
            Where it must not, it is failed with the reason `worker_died`, and each attempt costs a statement
            more, which notes that it begins.
        process: whether its handler runs in a child process of the worker (False), for work that needs the
            processor: it is killed where it does not end in time, and its death is a failed attempt.
        requires: the labels that a worker of its jobs has to have, where they do not say: `{"gpu": True}`.
        min_version: the version that a worker of its jobs has to have at least, where they do not say.
        slots: how many threads of its worker a job takes that does not say.
        batch: how its jobs are collected, for a handler that takes a list of payloads and returns a list of
            results.
        encrypt: whether what its jobs hold is encrypted at rest, with the first of GOQUEUE_PAYLOAD_KEYS; by
            default what GOQUEUE_ENCRYPT_PAYLOADS says.
        redact: names of fields that nobody but the handler sees, whatever key they read with: at any depth of
            payload and result, in upper or lower case.
    """

    name: str | None
    queue: str
    max_retries: int | None
    min_backoff_seconds: float | None
    max_backoff_seconds: float | None
    jitter: bool | None
    time_limit_seconds: float | None
    throws: tuple[type[BaseException], ...] | None
    unique: Unique | None
    rerun_after_death: bool
    aliases: Sequence[str] | None
    process: bool
    requires: Mapping[str, LabelValue] | None
    min_version: int | None
    slots: int | None
    batch: Batch | None
    encrypt: bool | None
    redact: Sequence[str] | None


def declare(broker: Broker, function: Callable[..., Any] | None, options: dict[str, Any]) -> Any:
    """Declare an actor on a broker, or return what declares one with these options; see `GoQueue.actor`."""
    _expect_options(options)
    if function is None:
        return lambda handler: _declare(broker, handler, options)
    return _declare(broker, function, options)


def _expect_options(options: Iterable[str]) -> None:
    known = ActorOptions.__optional_keys__
    if unknown := set(options) - known:
        alike = [difflib.get_close_matches(name, known, 1, 0.4) for name in sorted(unknown)]
        raise TypeError(
            f"actor: there is no option {', '.join(sorted(unknown))}; did you mean "
            f"{', '.join(name for names in alike for name in names) or ', '.join(sorted(known))}?"
        )


def _declare(broker: Broker, function: Callable[..., Any], options: dict[str, Any]) -> Actor[..., Any]:
    if not callable(function):
        raise TypeError(f"actor: expected a function, got {function!r}")
    milliseconds: dict[str, Any] = {
        name.removesuffix("_seconds"): _milliseconds(name, value)
        for name, value in options.items()
        if name.endswith("_seconds") and value is not None
    }
    for name in ("name", "queue"):
        if options.get(name) is not None and (wrong := problem_of_name(options[name])):
            raise ValueError(f"actor: {name}: {wrong}")
    names = (
        "max_retries",
        "jitter",
        "throws",
        "unique",
        "rerun_after_death",
        "aliases",
        "process",
        "requires",
        "min_version",
        "slots",
        "batch",
        "encrypt",
        "redact",
    )
    plain = {name: options[name] for name in names if options.get(name) is not None}
    actor_of: Any = dramatiq.actor
    declared: Actor[..., Any] = actor_of(
        actor_name=options.get("name") or function.__name__,
        queue_name=options.get("queue") or "default",
        broker=broker,
        **milliseconds,
        **plain,
    )(function)
    return declared


def _milliseconds(name: str, seconds: Any) -> int:
    """A span as Dramatiq's options have it; the broker looks at its range more closely.

    Raises:
        ValueError: it is no number, negative, or longer than ten years.
    """
    if not is_number(seconds, 0, MAX_DELAY_SECONDS):
        raise ValueError(
            f"actor: {name}: expected a number of seconds, 0 to {MAX_DELAY_SECONDS:,}, got {seconds!r}"
        )
    milliseconds: int = round(seconds * 1000)
    return milliseconds
