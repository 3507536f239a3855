"""Edits of jobs that wait or have failed: what they were is kept as versions.

An edit first locks the row in a state in which it may be edited; then one statement keeps what the row says
and changes it. Two statements, because the number of a version follows from the versions before it: the
second one's snapshot is younger than the lock, so of two edits at once the later one sees the earlier's
version. A claim that comes first leaves no row to lock; one that comes second waits, and finds the edited
row, if it is still due.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from goqueue.contents.contents import of_payload
from goqueue.contents.payload_keys import is_encrypted, key_id_of
from goqueue.db.fragments import MAX_RETRIES, rank_of
from goqueue.db.statements import FIRST, JOB_COLUMNS, contents_of, fetch_all, fetch_one, job_from_row
from goqueue.errors import JobNotFoundError
from goqueue.jobs import Job, JobStatus

__all__ = ["MAX_VERSIONS", "REPLAYABLE", "WAITING", "JobEdit", "Version", "edit", "postpone", "versions_of"]

#: Of a job that is edited more often, the oldest versions go.
MAX_VERSIONS = 50

WAITING = (JobStatus.QUEUED, JobStatus.BLOCKED)
REPLAYABLE = (JobStatus.FAILED, JobStatus.CANCELLED)

_LOCK = "SELECT type, payload::text FROM jobs WHERE id = %(id)s AND status = ANY(%(states)s) FOR UPDATE"

# What the row says of a job that not every worker can run: see `fragments.MAX_RETRIES`.
_NEEDS = "cardinality(new_requires) > 0 OR new_slots > 1"

# The row is locked, so every part of the statement reads the same row. Only a queued job has a place in the
# order, and only while its time has come; one whose start moves on gives back the slot that it was let in to.
_EDIT = f"""
    WITH before AS (
        SELECT id AS job_id, payload AS old_payload, priority AS old_priority, available_at AS old_start,
               coalesce(%(priority)s, priority) AS new_priority,
               coalesce(%(available_at)s::timestamptz, available_at) AS new_start,
               requires AS old_requires, slots AS old_slots, {MAX_RETRIES} AS retries,
               coalesce(%(requires)s::text[], requires, ARRAY[]::text[]) AS new_requires,
               coalesce(%(slots)s, slots) AS new_slots,
               coalesce((SELECT max(version) FROM job_versions WHERE job_id = jobs.id), 0) + 1 AS version
        FROM jobs WHERE id = %(id)s AND status = ANY(%(states)s)
    ), kept AS (
        INSERT INTO job_versions (job_id, version, payload, priority, available_at, requires, slots,
                                  replaced_by)
        SELECT job_id, version, old_payload, old_priority, old_start, old_requires, old_slots, %(author)s
        FROM before
    ), dropped AS (
        DELETE FROM job_versions USING before
        WHERE job_versions.job_id = before.job_id
          AND job_versions.version <= before.version - {MAX_VERSIONS}
    )
    UPDATE jobs
    SET payload = coalesce(%(payload)s::json, payload),
        payload_key = CASE WHEN %(payload)s::json IS NULL THEN payload_key ELSE %(payload_key)s END,
        priority = new_priority, available_at = new_start, updated_at = now(),
        admitted = admitted AND new_start <= now(),
        requires = CASE WHEN {_NEEDS} THEN new_requires END, slots = new_slots,
        max_retries = CASE WHEN {_NEEDS} THEN -1 - retries ELSE retries END,
        unreadable_by = CASE WHEN %(payload)s::json IS NULL THEN unreadable_by END,
        unreadable_until = CASE WHEN %(payload)s::json IS NULL THEN unreadable_until END,
        rank = CASE WHEN status = 'queued' AND new_start <= now()
            THEN GREATEST({FIRST}, {rank_of("new_start", priority="new_priority")}) END
    FROM before WHERE id = job_id AND status = ANY(%(states)s)
    RETURNING {JOB_COLUMNS}
"""

# Only ever later, and never beyond the maximum.
_POSTPONE = f"""
    UPDATE jobs SET available_at = start, updated_at = now(), admitted = admitted AND start <= now(),
        rank = CASE WHEN status = 'queued' AND start <= now()
            THEN GREATEST({FIRST}, {rank_of("start")}) END
    FROM (
        SELECT id AS job_id, GREATEST(available_at, LEAST(
            coalesce(%(available_at)s::timestamptz, now() + make_interval(secs => %(delay)s)),
            created_at + make_interval(secs => %(max)s))) AS start
        FROM jobs WHERE id = %(id)s FOR UPDATE
    ) AS later
    WHERE id = job_id AND status IN ('queued','blocked')
    RETURNING id
"""

# One statement, so that the job and its versions are of one moment. A version was made by what replaced the
# one before it; the first one, by the create.
_VERSIONS = """
    WITH version AS (
        SELECT version, payload, priority, available_at, requires, slots, replaced_by, replaced_at
        FROM job_versions WHERE job_id = %(id)s
        UNION ALL
        SELECT coalesce((SELECT max(version) FROM job_versions WHERE job_id = %(id)s), 0) + 1,
               payload, priority, available_at, requires, slots, NULL, NULL
        FROM jobs WHERE id = %(id)s
    )
    SELECT version, payload, priority, available_at, coalesce(requires, ARRAY[]::text[]), coalesce(slots, 1),
           lag(replaced_by) OVER one_by_one,
           coalesce(lag(replaced_at) OVER one_by_one,
                    CASE WHEN version = 1 THEN (SELECT created_at FROM jobs WHERE id = %(id)s) END),
           (SELECT type FROM jobs WHERE id = %(id)s)
    FROM version WINDOW one_by_one AS (ORDER BY version) ORDER BY version
"""


@dataclass(frozen=True, slots=True)
class JobEdit:
    """An edit of a job, by what shall be different; None stays as it is.

    Attributes:
        payload: JSON text that fits the job's type.
        author: who edits it, by their own account.
        requires: the labels that its worker has to have, as `name=value`.
        slots: how many threads of its worker it takes.
        complete: makes the payload of the one that is stored, where the edit leaves parts of that as they
            are; it is called while the row is locked.
        encrypt: the payload is encrypted, also where the one before was not.
    """

    payload: str | None = None
    priority: int | None = None
    available_at: datetime | None = None
    author: str | None = None
    requires: tuple[str, ...] | None = None
    slots: int | None = None
    complete: Callable[[str], str] | None = None
    encrypt: bool = False

    @property
    def changes_waiting_only(self) -> bool:
        """Whether it says no more than when the job may run."""
        others = (self.payload, self.complete, self.priority, self.requires, self.slots)
        return all(value is None for value in others)


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a job: what it was, or is.

    Attributes:
        author: who made it of the version before, by their own account.
        edited_at: when, or when the job was created; None: the version before is not kept.
    """

    version: int
    payload: Any
    priority: int
    available_at: datetime
    requires: list[str]
    slots: int
    author: str | None
    edited_at: datetime | None


def edit(
    connection: Connection,
    job_id: int,
    change: JobEdit,
    *,
    states: Iterable[JobStatus] = WAITING,
) -> Job | None:
    """Edit a job that is in one of the states, in a transaction; None: it is in another one, or not there.

    Raises:
        InvalidJobError: the payload cannot be completed.
        UndecryptableError: the job is encrypted, and this process has not its key.
    """
    wanted = {"id": job_id, "states": [state.value for state in states]}
    locked = fetch_one(connection, _LOCK, wanted)
    if locked is None:
        return None
    payload = _payload_of(connection, change, *locked)
    parameters = wanted | {
        "payload": payload,
        "payload_key": None if payload is None else key_id_of(payload),
        "priority": change.priority,
        "available_at": change.available_at,
        "author": change.author,
        "requires": None if change.requires is None else list(change.requires),
        "slots": change.slots,
    }
    row = fetch_one(connection, _EDIT, parameters)
    return None if row is None else job_from_row(connection, row)


def _payload_of(connection: Connection, change: JobEdit, type_name: str, stored: str) -> str | None:
    """The new payload as it is stored: what was encrypted stays so."""
    contents, purpose = contents_of(connection), of_payload(type_name)
    payload = change.payload
    if change.complete is not None:
        payload = change.complete(contents.opened(stored, purpose))
    if payload is None or not (change.encrypt or is_encrypted(stored)):
        return payload
    return contents.closed(payload, purpose)


def postpone(
    connection: Connection,
    job_id: int,
    *,
    available_at: datetime | None,
    delay_seconds: float,
    max_seconds: float,
) -> bool:
    """Push a job's start out, at most to so long after its creation; never closer. Whether it still waits."""
    parameters = {
        "id": job_id,
        "available_at": available_at,
        "delay": delay_seconds,
        "max": max_seconds,
    }
    return fetch_one(connection, _POSTPONE, parameters) is not None


def versions_of(connection: Connection, job_id: int) -> Sequence[Version]:
    """Read what a job was before each of its edits, the oldest first, and what it is now.

    Raises:
        JobNotFoundError: there is no such job.
    """
    rows = fetch_all(connection, _VERSIONS, {"id": job_id})
    if not rows:
        raise JobNotFoundError(job_id)
    contents, purpose = contents_of(connection), of_payload(rows[0][-1])
    return [
        Version(number, contents.shown_value(payload, purpose, rows[0][-1]), *others)
        for number, payload, *others, _ in rows
    ]
