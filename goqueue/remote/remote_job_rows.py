"""Rows of jobs that remote workers hold, as they are read when an attempt ends, or has ended already."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Connection

from goqueue.db.statements import TRACEPARENT, fetch_one
from goqueue.jobs import JobStatus

__all__ = ["EarlierEnd", "HeldContents", "contents_of", "earlier_end"]

_CONTENTS = "SELECT payload::text, options FROM jobs WHERE id = %(id)s AND fence = %(fence)s"

_EARLIER_END = """
    SELECT jobs.status, jobs.fence, (
        SELECT outcome FROM attempts WHERE attempts.job_id = jobs.id AND attempts.fence = %(fence)s LIMIT 1)
    FROM jobs WHERE jobs.id = %(id)s
"""


class HeldContents(NamedTuple):
    """The payload of a job as JSON text, and its options."""

    payload: str
    options: dict[str, Any] | None


class EarlierEnd(NamedTuple):
    """The state of a job, the fence that it has now, and how the attempt under an earlier one ended.

    Attributes:
        outcome: an `AttemptOutcome`; None: no attempt of that fence has ended.
    """

    status: JobStatus
    fence: int
    outcome: str | None


def contents_of(connection: Connection, key: tuple[int, int]) -> HeldContents | None:
    """Read what a job holds that has this (id, fence); None: there is none."""
    row = fetch_one(connection, _CONTENTS, {"id": key[0], "fence": key[1]})
    if row is None:
        return None
    options = {name: value for name, value in (row[1] or {}).items() if name != TRACEPARENT}
    return HeldContents(row[0], options or None)


def earlier_end(connection: Connection, key: tuple[int, int]) -> EarlierEnd | None:
    """Read what became of the attempt of this (id, fence), and of its job; None: there is no such job."""
    row = fetch_one(connection, _EARLIER_END, {"id": key[0], "fence": key[1]})
    return None if row is None else EarlierEnd(JobStatus(row[0]), row[1], row[2])
