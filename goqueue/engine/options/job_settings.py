"""The settings of a new job beside its type and payload, and the checks of what callers give for them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict

from goqueue.config.bounds import is_number
from goqueue.config.labels import LabelValue
from goqueue.engine.options.request_models import (
    KEY_MAX_CHARACTERS,
    NAME_MAX_CHARACTERS,
    PRINTABLE,
    TAG_MAX_CHARACTERS,
)
from goqueue.engine.options.uniqueness import Unique
from goqueue.errors import InvalidJobError
from goqueue.jobs import (
    MAX_DELAY_SECONDS,
    MAX_RETRIES_LIMIT,
    QUARANTINE_QUEUE,
    OnParentFailure,
    RetryPolicy,
)

__all__ = [
    "EITHER",
    "JobSettings",
    "problem_of_name",
    "problems_of_policy",
    "refuse_contradictions",
    "refuse_wrong_policy",
]


class JobSettings(TypedDict, total=False):
    """The settings of a new job. What is absent is the type's, or means: at once, no limit, nobody's.

    Attributes:
        queue: instead of the type's.
        priority: -100 to 100; one step is a head start of a minute.
        max_retries: retries after the first run, 0 to 20.
        available_at: from when it may run, with its zone, as every time here within ten years of now; or
            `delay_seconds` after its insertion, by PostgreSQL's clock.
        time_limit_seconds: the longest run of an attempt.
        expires_at: no attempt starts after it; or `ttl_seconds` after the insertion.
        deadline_at: over all retries: no attempt starts or goes on after it; or `deadline_seconds` after the
            insertion.
        concurrency_key: whose turn it is among the jobs of the queue: a tenant, an account.
        rate_cost: what one start costs the rate limits of its queue, 1 to 10,000.
        unique: at most one job of its kind, instead of what its type says of that.
        depends_on: ids of jobs that have to complete before; it is blocked until they have. At most 1,000.
        on_parent_failure: what becomes of it when one of them does not complete: `fail`, `cancel` or `run`.
        tags: what it is called by, to be found: at most 20 of 1 to 100 printable characters, each once.
        requires: the labels that its worker has to have, at most 20: `{"gpu": True, "region": "eu"}`; instead
            of what its type says of that. {}: none.
        slots: how many threads of its worker it takes, 1 to 1,000, instead of what its type says.
        min_version: its worker has to have this version or a higher one (GOQUEUE_WORKER_VERSION), instead of
            what its type says. 0: any.
        limit_cost: how many slots of each concurrency limit it takes, 1 to 10,000.
    """

    queue: str | None
    priority: int
    max_retries: int | None
    available_at: datetime | None
    delay_seconds: float
    time_limit_seconds: float | None
    expires_at: datetime | None
    ttl_seconds: float | None
    deadline_at: datetime | None
    deadline_seconds: float | None
    concurrency_key: str | None
    rate_cost: int
    unique: Unique | None
    depends_on: Sequence[int]
    on_parent_failure: OnParentFailure | str
    tags: Sequence[str]
    requires: Mapping[str, LabelValue] | None
    slots: int | None
    min_version: int | None
    limit_cost: int


#: Two ways to say the same: a moment, or how long after the insertion.
EITHER = (
    ("available_at", "delay_seconds"),
    ("expires_at", "ttl_seconds"),
    ("deadline_at", "deadline_seconds"),
)


def refuse_contradictions(given: Mapping[str, Any]) -> None:
    """Check what no single setting shows; each is one that `JobOptions` takes.

    Args:
        given: the settings that are not None.

    Raises:
        InvalidJobError: with every setting that is wrong.
    """
    if given.get("queue") == QUARANTINE_QUEUE:
        raise InvalidJobError({"queue": f"{QUARANTINE_QUEUE} is not a queue to create jobs in"})
    # Most jobs say no more.
    if given.keys() != {"queue"} and (wrong := dict(_problems(given))):
        raise InvalidJobError(wrong)


def refuse_wrong_policy(retry: Any) -> None:
    """Check a retry policy of a caller from Python.

    Raises:
        InvalidJobError: with everything that is wrong.
    """
    if not isinstance(retry, RetryPolicy):
        raise InvalidJobError({"retry": "expected a RetryPolicy"})
    if wrong := dict(problems_of_policy(retry)):
        raise InvalidJobError({f"retry.{name}": expected for name, expected in wrong.items()})


def problems_of_policy(retry: RetryPolicy) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a retry policy, each as a field and what was expected."""
    if type(retry.max_retries) is not int or not 0 <= retry.max_retries <= MAX_RETRIES_LIMIT:
        yield "max_retries", f"expected a whole number from 0 to {MAX_RETRIES_LIMIT}"
    spans = {name: getattr(retry, name) for name in ("min_backoff_seconds", "max_backoff_seconds")}
    for name, seconds in spans.items():
        if not is_number(seconds, 0, MAX_DELAY_SECONDS):
            yield name, f"expected 0 to {MAX_DELAY_SECONDS:,.12g}"
    if not isinstance(retry.jitter, bool):
        yield "jitter", "expected True or False"


def problem_of_name(name: Any) -> str | None:
    """Say what is wrong with the name of a queue or a type; None when nothing is."""
    if not isinstance(name, str):
        return "expected a text"
    if not 0 < len(name) <= NAME_MAX_CHARACTERS or not re.fullmatch(PRINTABLE, name):
        return f"expected 1 to {NAME_MAX_CHARACTERS} characters, none of them a control character"
    if not name.isascii() and name.encode("utf-8", "ignore").decode() != name:
        return "expected text that UTF-8 can write"
    return None


def _problems(given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for moment, seconds in EITHER:
        if moment in given and given.get(seconds):
            yield seconds, f"expected only one of {moment} and {seconds}"
    yield from _problems_of_times(given)
    if "unique" in given:
        yield from given["unique"].problems()
    yield from _problems_of_parents(given.get("depends_on", ()))
    yield from _problems_of_tags(given.get("tags", ()))
    if not given.get("concurrency_key", "-").isprintable():
        yield "concurrency_key", f"expected 1 to {KEY_MAX_CHARACTERS} printable characters"


def _problems_of_times(given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A job whose time is over before it may start would never run, whenever it is created.

    One whose time is over *now* is no mistake of its maker: the request took long. It expires.
    """
    starts = "available_at", "delay_seconds"
    for end in EITHER[1:]:
        for ends, begins in zip(end, starts, strict=True):
            if ends in given and begins in given and given[ends] <= given[begins]:
                yield ends, f"expected more than {begins}"


def _problems_of_tags(tags: Sequence[str]) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for position, tag in enumerate(tags):
        if not tag.isprintable():
            yield f"tags[{position}]", f"expected 1 to {TAG_MAX_CHARACTERS} printable characters"
        elif tag in seen:
            yield f"tags[{position}]", "expected each tag once"
        seen.add(tag)


def _problems_of_parents(parents: Sequence[int]) -> Iterator[tuple[str, str]]:
    seen: set[int] = set()
    for position, parent in enumerate(parents):
        if parent in seen:
            yield f"depends_on[{position}]", "expected each job once"
        seen.add(parent)
