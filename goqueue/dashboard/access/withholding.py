"""Leaving out of pages what jobs hold, for keys that may not read it.

The renderer passes every value of a page through here, so that no page has to think of the rows that it
shows. A page that makes something else of a row (a tree of a payload, a traceback in parts) makes it of what
is left.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from functools import singledispatch
from typing import Any, TypeVar

from goqueue.engine.listing.filters import JobFilter
from goqueue.engine.listing.listing_rows import Attempt
from goqueue.engine.report_rows import LoggedLine
from goqueue.insight.failure_group_rows import ShownGroup, ShownKind
from goqueue.insight.job_summary_rows import JobSummary
from goqueue.jobs import Job
from goqueue.webhooks.delivery_log_rows import Call
from goqueue.webhooks.delivery_rows import Delivery

__all__ = ["WITHHELD", "without_contents"]

T = TypeVar("T")

#: Stands where a text is left out.
WITHHELD = "(withheld)"


def without_contents(value: T) -> T:
    """Return a value without what jobs hold, wherever in it that is: in lists, mappings and rows."""
    kept: T = _kept(value)
    return kept


@singledispatch
def _kept(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        before = {field.name: getattr(value, field.name) for field in fields(value) if field.init}
        changed = {name: kept for name, one in before.items() if (kept := _kept(one)) is not one}
        return replace(value, **changed) if changed else value
    return value


def _differs(kept: Iterable[Any], before: Iterable[Any]) -> bool:
    return any(one is not was for one, was in zip(kept, before, strict=True))


@_kept.register
def _(value: list) -> Any:  # type: ignore[type-arg]
    kept = [_kept(one) for one in value]
    return kept if _differs(kept, value) else value


@_kept.register
def _(value: dict) -> Any:  # type: ignore[type-arg]
    kept = {name: _kept(one) for name, one in value.items()}
    # A mapping of another kind knows more than its items.
    return kept if _differs(kept.values(), value.values()) else value


@_kept.register
def _(value: tuple) -> Any:  # type: ignore[type-arg]
    kept = [_kept(one) for one in value]
    if not _differs(kept, value):
        return value
    return type(value)(*kept) if hasattr(value, "_fields") else tuple(kept)


@_kept.register
def _(value: Job) -> Any:
    error = None if value.error is None else WITHHELD
    return replace(value, payload={}, result=None, error=error)


@_kept.register
def _(value: JobSummary) -> Any:
    return replace(value, payload=WITHHELD, error=None if value.error is None else WITHHELD)


@_kept.register
def _(value: Attempt) -> Any:
    return replace(value, error=None if value.error is None else WITHHELD, traceback=None)


@_kept.register
def _(value: LoggedLine) -> Any:
    return replace(value, text=WITHHELD)


@_kept.register
def _(value: ShownGroup) -> Any:
    return replace(value, message=WITHHELD, error=None if value.error is None else WITHHELD)


@_kept.register
def _(value: ShownKind) -> Any:
    return replace(value, message=WITHHELD)


@_kept.register
def _(value: Delivery) -> Any:
    return replace(value, body=None if value.body is None else WITHHELD)


@_kept.register
def _(value: Call) -> Any:
    return replace(value, answer=None if value.answer is None else WITHHELD)


@_kept.register
def _(value: JobFilter) -> Any:
    searched = {name: WITHHELD for name in ("payload", "error") if getattr(value, name) is not None}
    return value.model_copy(update=searched) if searched else value
