"""Declaring job types: `@goqueue.actor`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

import dramatiq
from dramatiq.actor import Actor

from goqueue.config.bounds import is_number
from goqueue.engine.options.job_settings import problem_of_name
from goqueue.engine.options.uniqueness import Unique
from goqueue.engine.submit import current_broker
from goqueue.jobs import MAX_DELAY_SECONDS

__all__ = ["actor"]

_OPTIONS = frozenset(
    {
        "name",
        "queue",
        "rerun_after_death",
        "max_retries",
        "min_backoff_seconds",
        "max_backoff_seconds",
        "jitter",
        "time_limit_seconds",
        "throws",
        "unique",
        "aliases",
    }
)

F = TypeVar("F", bound=Callable[..., Any])


@overload
def actor(function: F, /) -> Actor[..., Any]: ...


@overload
def actor(
    *,
    name: str | None = None,
    queue: str = "default",
    max_retries: int | None = None,
    min_backoff_seconds: float | None = None,
    max_backoff_seconds: float | None = None,
    jitter: bool | None = None,
    time_limit_seconds: float | None = None,
    throws: tuple[type[BaseException], ...] | None = None,
    unique: Unique | None = None,
    rerun_after_death: bool = True,
    aliases: Sequence[str] | None = None,
) -> Callable[[F], Actor[..., Any]]: ...


def actor(function: F | None = None, /, **options: Any) -> Any:
    """Declare a job type: a Dramatiq actor whose jobs are rows with a validated payload.

    The payload's schema comes from the annotations: one parameter annotated with a pydantic model, a
    dataclass or a TypedDict is the payload; several annotated parameters are its fields.

    Args:
        function: the handler, sync or async.
        **options: `name` (the function's where it is not given); `queue`, where its jobs go by default; the
            retry policy: `max_retries`, `min_backoff_seconds`, `max_backoff_seconds`, `jitter`;
            `time_limit_seconds`, the longest run of an attempt; `throws`, exceptions after which a job is
            failed at once; `unique`, which of its jobs are alike, where they do not say themselves;
            `aliases`, former names: jobs of these are run by this handler, and keep their type;
            `rerun_after_death` (True), whether a job whose worker process died in the middle of it runs
            again: where it must not, it is failed with the reason `worker_died`, and each attempt costs a
            statement more, which notes that it begins.

    Raises:
        TypeError: there is no such option.
        ValueError: an option is wrong, or the annotations are no schema of a payload; it says which.
    """
    if unknown := options.keys() - _OPTIONS:
        alike = [difflib.get_close_matches(name, _OPTIONS, 1, 0.4) for name in sorted(unknown)]
        raise TypeError(
            f"actor: there is no option {', '.join(sorted(unknown))}; did you mean "
            f"{', '.join(found for names in alike for found in names) or ', '.join(sorted(_OPTIONS))}?"
        )
    if function is None:
        return lambda handler: _declare(handler, options)
    return _declare(function, {})


def _declare(function: Callable[..., Any], options: dict[str, Any]) -> Actor[..., Any]:
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
    names = ("max_retries", "jitter", "throws", "unique", "rerun_after_death", "aliases")
    plain = {name: options[name] for name in names if options.get(name) is not None}
    actor_of: Any = dramatiq.actor
    declared: Actor[..., Any] = actor_of(
        actor_name=options.get("name") or function.__name__,
        queue_name=options.get("queue") or "default",
        broker=current_broker(),
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
