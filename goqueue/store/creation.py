"""Creating one job with everything that may come with it: a unique key, jobs that it waits for."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection

from goqueue.jobs import Job, NewJob
from goqueue.store import new_jobs

__all__ = ["Created", "create", "is_simple"]


class Created(NamedTuple):
    """What a create came to.

    Attributes:
        deduplicated: nothing was created: the job is the holder of the unique key.
    """

    job: Job
    deduplicated: bool = False


def is_simple(job: NewJob) -> bool:
    """Whether one INSERT makes it, without a transaction around it."""
    return job.unique is None and not job.depends_on


def create(connection: Connection, job: NewJob, *, head_start_seconds: float) -> Created:
    """Create one job, in the connection's transaction."""
    return Created(new_jobs.insert(connection, job, head_start_seconds=head_start_seconds))
