"""Declaring job types: `@goqueue.actor`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

import dramatiq
from dramatiq.actor import Actor

from goqueue.rules.uniqueness import Unique
from goqueue.submit import current_broker

__all__ = ["actor"]

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
            `aliases`, former names: jobs of these are run by this handler, and keep their type.
    """
    if function is None:
        return lambda handler: _declare(handler, options)
    return _declare(function, {})


def _declare(function: Callable[..., Any], options: dict[str, Any]) -> Actor[..., Any]:
    milliseconds = {
        name.removesuffix("_seconds"): round(value * 1000)
        for name, value in options.items()
        if name.endswith("_seconds") and value is not None
    }
    names = ("max_retries", "jitter", "throws", "unique", "aliases")
    plain = {name: options[name] for name in names if options.get(name) is not None}
    return dramatiq.actor(
        actor_name=options.get("name") or function.__name__,
        queue_name=options.get("queue") or "default",
        broker=current_broker(),
        **milliseconds,
        **plain,
    )(function)
