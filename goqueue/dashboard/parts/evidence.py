"""The evidence for a reason as a page shows it, written whatever it holds. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from goqueue.dashboard.parts.json_tree import printable
from goqueue.dashboard.parts.presentation import duration, number

__all__ = ["Fact", "facts_of"]

#: These are numbers by which something is named, not counts.
_NAMES = frozenset({"pid", "worker_id", "attempt"})

#: The jobs that a reason names one by one.
_JOB_IDS = frozenset({"job_id", "next_job_id"})


class Fact(NamedTuple):
    """A piece of evidence: a moment, jobs by their ids, or text."""

    name: str
    moment: datetime | None = None
    jobs: tuple[int, ...] = ()
    text: str = ""


def facts_of(evidence: Mapping[str, Any]) -> Iterator[Fact]:
    """List the pieces of evidence, in their order; what is not known or empty is left out."""
    for key, value in evidence.items():
        if value is None or (isinstance(value, Sequence | Mapping) and not value):
            continue
        yield _fact(key, value)


def _fact(key: str, value: Any) -> Fact:
    name = key.replace("_", " ")
    if isinstance(value, datetime):
        return Fact(name, moment=value)
    if key in _JOB_IDS:
        return Fact(name.removesuffix(" id"), jobs=(value,))
    if isinstance(value, Sequence) and all(isinstance(item, Mapping) and "id" in item for item in value):
        return Fact(name, jobs=tuple(item["id"] for item in value))
    return Fact(name.removesuffix(" seconds"), text=_text(key, value))


def _text(key: str, value: Any) -> str:
    """A value in words, however deep it is."""
    if isinstance(value, Mapping) and not value:
        return "none"
    if isinstance(value, Mapping):
        # A reason of another job has a sentence, which says what its evidence is.
        if "message" in value:
            return str(value["message"])
        return ", ".join(f"{name.replace('_', ' ')} {_text(name, item)}" for name, item in value.items())
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, str | bytes):
        return "; ".join(_text(key, item) for item in value)
    return _plain(key, value)


def _plain(key: str, value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S} UTC"
    if isinstance(value, timedelta):
        return duration(value.total_seconds())
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        if key.endswith("seconds"):
            return duration(value)
        return number(value) if isinstance(value, int) and key not in _NAMES else f"{value:.6g}"
    return printable(str(value.value if isinstance(value, enum.Enum) else value))
