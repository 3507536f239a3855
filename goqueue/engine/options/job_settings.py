"""The settings of a new job beside its type and payload, and the checks of what callers give for them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict

from goqueue.config.bounds import EXPECTED_NEAR, is_near, is_number
from goqueue.engine.options.uniqueness import KEY_MAX_CHARACTERS, Unique
from goqueue.errors import InvalidJobError
from goqueue.jobs import (
    MAX_DELAY_SECONDS,
    MAX_JOB_ID,
    MAX_PARENTS,
    MAX_RATE_COST,
    MAX_RETRIES_LIMIT,
    MAX_TIME_LIMIT_SECONDS,
    PRIORITY_RANGE,
    QUARANTINE_QUEUE,
    OnParentFailure,
    RetryPolicy,
)

__all__ = [
    "KEY_MAX_CHARACTERS",
    "MAX_TAGS",
    "NAME_MAX_CHARACTERS",
    "NAME_PATTERN",
    "TAG_MAX_CHARACTERS",
    "JobSettings",
    "problem_of_name",
    "problems_of_policy",
    "refuse_wrong",
    "refuse_wrong_policy",
]

#: Names of queues and types: in paths, in Redis keys, in labels of metrics.
NAME_MAX_CHARACTERS = 200
NAME_PATTERN = r"^[^\x00-\x1f\x7f]+$"
MAX_TAGS = 20
TAG_MAX_CHARACTERS = 100


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


#: A number, the least and the most that it may be, and whether the least itself is too little.
_RANGES: dict[str, tuple[float, float, bool]] = {
    "priority": (*PRIORITY_RANGE, False),
    "max_retries": (0, MAX_RETRIES_LIMIT, False),
    "delay_seconds": (0, MAX_DELAY_SECONDS, False),
    "time_limit_seconds": (0, MAX_TIME_LIMIT_SECONDS, True),
    "ttl_seconds": (0, MAX_DELAY_SECONDS, True),
    "deadline_seconds": (0, MAX_DELAY_SECONDS, True),
    "rate_cost": (1, MAX_RATE_COST, False),
}

#: Of which types a setting may be, and how that is called; parents are looked at one by one.
_NUMBER = (int, float), "a number"
_WHOLE_NUMBER = (int,), "a whole number"
_TIME = (datetime,), "a datetime"
_TEXT = (str,), "a text"
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "queue": _TEXT,
    "priority": _WHOLE_NUMBER,
    "max_retries": _WHOLE_NUMBER,
    "available_at": _TIME,
    "delay_seconds": _NUMBER,
    "time_limit_seconds": _NUMBER,
    "expires_at": _TIME,
    "ttl_seconds": _NUMBER,
    "deadline_at": _TIME,
    "deadline_seconds": _NUMBER,
    "concurrency_key": _TEXT,
    "rate_cost": _WHOLE_NUMBER,
    "unique": ((Unique,), "a Unique"),
}

#: Two ways to say the same: a moment, or how long after the insertion.
_EITHER = (
    ("available_at", "delay_seconds"),
    ("expires_at", "ttl_seconds"),
    ("deadline_at", "deadline_seconds"),
)


def refuse_wrong(settings: JobSettings) -> None:
    """Check what callers from Python say, as the API's models check its clients.

    Raises:
        InvalidJobError: with every setting that is wrong.
    """
    given: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    is_known = settings.keys() <= JobSettings.__optional_keys__
    if is_known and given.keys() <= {"queue"} and _is_plain_name(given.get("queue", "-")):
        # Most jobs say no more.
        return
    wrong = dict(_problems_of_names(settings)) or dict(_problems_of_types(given)) or dict(_problems(given))
    if wrong:
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
        is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
        if not is_number or not _within(seconds, 0, MAX_DELAY_SECONDS, beyond=False):
            yield name, f"expected 0 to {MAX_DELAY_SECONDS:,.12g}"
    if not isinstance(retry.jitter, bool):
        yield "jitter", "expected True or False"


def problem_of_name(name: Any) -> str | None:
    """Say what is wrong with the name of a queue or a type; None when nothing is."""
    if not isinstance(name, str):
        return "expected a text"
    if not 0 < len(name) <= NAME_MAX_CHARACTERS or not re.fullmatch(NAME_PATTERN, name):
        return f"expected 1 to {NAME_MAX_CHARACTERS} characters, none of them a control character"
    if not name.isascii() and name.encode("utf-8", "ignore").decode() != name:
        return "expected text that UTF-8 can write"
    return None


def _is_plain_name(queue: Any) -> bool:
    return queue != QUARANTINE_QUEUE and problem_of_name(queue) is None


def _problems_of_names(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Settings that there are not, also where their value is None."""
    for name in settings.keys() - JobSettings.__optional_keys__:
        alike = difflib.get_close_matches(name, JobSettings.__optional_keys__, 1, 0.4)
        yield name, f"there is no such setting{f': {alike[0]}?' if alike else ''}"


def _problems_of_types(given: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, (types, called) in _TYPES.items():
        if name in given and (not isinstance(given[name], types) or isinstance(given[name], bool)):
            yield name, f"expected {called}"


def _problems(given: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if given.get("queue") == QUARANTINE_QUEUE:
        yield "queue", f"{QUARANTINE_QUEUE} is not a queue to create jobs in"
    elif "queue" in given and (wrong := problem_of_name(given["queue"])):
        yield "queue", wrong
    for name, (least, most, beyond) in _RANGES.items():
        if name in given and not _within(given[name], least, most, beyond=beyond):
            yield (
                name,
                f"expected more than {least:g}, at most {most:,.12g}"
                if beyond
                else (f"expected {least:g} to {most:,.12g}"),
            )
    yield from _problems_of_moments(given)
    yield from _problems_of_times(given)
    if "unique" in given:
        yield from given["unique"].problems()
    yield from _problems_of_parents(given.get("depends_on", ()), given.get("on_parent_failure", "fail"))
    yield from _problems_of_tags(given.get("tags", ()))
    key = given.get("concurrency_key", "-")
    if not 0 < len(key) <= KEY_MAX_CHARACTERS or not key.isprintable():
        yield "concurrency_key", f"expected 1 to {KEY_MAX_CHARACTERS} printable characters"


def _problems_of_moments(given: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for moment, seconds in _EITHER:
        if moment in given and given[moment].tzinfo is None:
            yield moment, "expected a time with a zone"
        elif moment in given and not is_near(given[moment]):
            yield moment, EXPECTED_NEAR
        if moment in given and given.get(seconds):
            yield seconds, f"expected only one of {moment} and {seconds}"


def _problems_of_times(given: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """A job whose time is over before it may start would never run, whenever it is created.

    One whose time is over *now* is no mistake of its maker: the request took long. It expires.
    """
    for moment, seconds in _EITHER[1:]:
        starts = "available_at", "delay_seconds"
        for ends, begins in ((moment, starts[0]), (seconds, starts[1])):
            if ends in given and begins in given and _is_not_later(given[ends], given[begins]):
                yield ends, f"expected more than {begins}"


def _is_not_later(end: Any, begin: Any) -> bool:
    try:
        return bool(end <= begin)
    except TypeError:
        # A time without a zone, which is wrong by itself.
        return False


def _problems_of_parents(depends_on: Any, policy: Any) -> Iterator[tuple[str, str]]:
    if isinstance(depends_on, str | bytes) or not isinstance(depends_on, Sequence):
        yield "depends_on", "expected a list of ids of jobs"
        return
    seen: set[int] = set()
    for position, parent in enumerate(depends_on[:MAX_PARENTS]):
        if not isinstance(parent, int) or isinstance(parent, bool) or not 0 < parent <= MAX_JOB_ID:
            yield f"depends_on[{position}]", "expected the id of a job"
        elif parent in seen:
            yield f"depends_on[{position}]", "expected each job once"
        else:
            seen.add(parent)
    if len(depends_on) > MAX_PARENTS:
        yield "depends_on", f"expected at most {MAX_PARENTS} jobs"
    if policy not in list(OnParentFailure):
        yield "on_parent_failure", f"expected one of {', '.join(OnParentFailure)}"


def _problems_of_tags(tags: Any) -> Iterator[tuple[str, str]]:
    if isinstance(tags, str | bytes) or not isinstance(tags, Sequence):
        yield "tags", "expected a list of texts"
        return
    seen: set[str] = set()
    for position, tag in enumerate(tags[:MAX_TAGS]):
        if not isinstance(tag, str) or not 0 < len(tag) <= TAG_MAX_CHARACTERS or not tag.isprintable():
            yield f"tags[{position}]", f"expected 1 to {TAG_MAX_CHARACTERS} printable characters"
        elif tag in seen:
            yield f"tags[{position}]", "expected each tag once"
        else:
            seen.add(tag)
    if len(tags) > MAX_TAGS:
        yield "tags", f"expected at most {MAX_TAGS} tags"


def _within(value: float, least: float, most: float, *, beyond: bool) -> bool:
    return is_number(value, least, most) and not (beyond and value == least)
