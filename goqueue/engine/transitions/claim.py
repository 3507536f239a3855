"""Claiming: a worker takes the jobs of the messages that it fetched.

Rows are locked in id order, so that two such statements queue up instead of deadlocking. No row back means
that somebody else won, and the caller goes on. Times are PostgreSQL's `now()`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection

from goqueue.contents.contents import JobContents, of_options, of_payload
from goqueue.contents.payload_keys import ENCRYPTED
from goqueue.contents.redaction import hidden_values
from goqueue.db.database import retry_on_conflict
from goqueue.db.fragments import MAX_RETRIES, fits
from goqueue.db.locked_rows import rows_of
from goqueue.db.statements import (
    ENCRYPTED_OPTIONS,
    FIRST,
    KEYS,
    LAST,
    TRACEPARENT,
    contents_of,
    fetch_all,
    fetch_one,
    key_arrays,
    text_array,
)
from goqueue.engine.options.known_types import KnownTypes
from goqueue.engine.queue_rows import CLOSED, GOVERNED
from goqueue.errors import UndecryptableError
from goqueue.jobs import ClaimedJob

__all__ = [
    "ASSIGNMENTS",
    "CLAIMED",
    "HAS_LEASE",
    "JOB_OF_MESSAGE",
    "LISTED_AS_RUNNING",
    "MAY_START",
    "assignments",
    "claim",
    "claimant",
    "claimed_job",
    "listed_as_running",
    "locked_messages",
    "open_claimed",
    "waiting_message",
]

# This statement and that of `record.py`, the hot ones, first find and lock their rows, one index lookup a
# message, and then change them by an array of their ids (`locked_rows.rows_of`). As plain joins they were at
# the planner's mercy: after an ANALYZE that saw hardly any queued row it expected one, read the whole table
# for each message, and a drain fell to a tenth of its speed until the next ANALYZE. Messages come in id
# order, and so are the rows locked. The ids stand there as an array also where they are joined: the join
# alone was made by reading the whole table while that was small, and a session kept the plan while it grew,
# until the next ANALYZE.

# A row that somebody else has locked is passed over, by both: whoever waited for it would hold up the jobs of
# all queues that were claimed, or all outcomes that were written, in the same statement.
#
# A claim is refused, not only late, when the lease of the claiming worker ran out: a process that was
# stopped and goes on must not take new jobs under an old lease. The closed and governed queues are arrays, so
# that they are read once a statement and not once a row.
#
# The max_retries of a job that requires something of its worker is below zero (`fragments.MAX_RETRIES`): all
# others are decided by the first comparison, as they always were.
MAY_START = f"""
    jobs.available_at <= now()
    AND (jobs.attempts <= jobs.max_retries
         OR (jobs.attempts < -jobs.max_retries AND jobs.slots <= CASE
                 WHEN jobs.type = ANY (%(async_types)s::text[]) THEN %(async_slots)s ELSE %(slots)s END
             AND {fits("jobs.requires", "(%(labels)s::text[])")}))
    AND (%(types)s::text[] IS NULL OR jobs.type = ANY (%(types)s::text[]))
    AND ((jobs.unreadable_until > now()) IS NOT TRUE OR NOT jobs.unreadable_by && %(schemas)s::text[])
    AND (LEAST(jobs.expires_at, jobs.deadline_at) > now()) IS NOT FALSE
    AND jobs.queue <> ALL (ARRAY (SELECT name FROM queues WHERE {CLOSED}))
    AND (jobs.admitted
         OR (jobs.queue <> ALL (ARRAY (SELECT name FROM queues WHERE {GOVERNED}))
             AND jobs.type <> ALL (ARRAY (SELECT name FROM types WHERE governed))))
"""

HAS_LEASE = """
    EXISTS (SELECT FROM workers WHERE workers.id = %(worker_id)s AND stopped_at IS NULL
            AND heartbeat_at > now() - make_interval(secs => %(lease_seconds)s))
"""


def assignments(holder: str) -> str:
    """Write what a claim changes beside the state; `holder` is the id of the worker, as SQL."""
    return f"""
    place = 'running', attempts = jobs.attempts + 1, fence = jobs.fence + 1, worker_id = {holder},
    admitted = false, started_at = now(), begun_at = NULL, updated_at = now()
"""


def listed_as_running(holder: str) -> str:
    """Write that the chosen rows are listed as running, by a worker, and no longer as ready."""
    return f"""
    taken AS (
        DELETE FROM ready_jobs WHERE ctid = ANY (ARRAY (SELECT ready_place FROM chosen))
    ), held AS (
        INSERT INTO running_jobs (holder, job_id) SELECT {holder}, id FROM chosen
    )
"""


#: Of a statement in which one worker claims.
ASSIGNMENTS, LISTED_AS_RUNNING = assignments("%(worker_id)s"), listed_as_running("%(worker_id)s")

#: What a worker is told of a claimed job: the fields of a `ClaimedJob`.
CLAIMED = f"""
    jobs.id, jobs.fence, queue, type, payload::text, attempts, {MAX_RETRIES}, quarantined,
    time_limit_seconds, options, date_part('epoch', started_at),
    date_part('epoch', NULLIF(LEAST(deadline_at, {LAST}), {LAST}) - now()),
    date_part('epoch', now() - GREATEST(available_at, {FIRST})),
    date_part('epoch', NULLIF(LEAST(expires_at, {LAST}), {LAST}) - now()),
    unreadable_until <= now(), slots
"""

# Who locks a row that is still as its row in `ready_jobs` says may take that as well: nobody else changes the
# one without the other. A row that was changed since, and put back, is left out, and with it a row of
# `ready_jobs` that this statement cannot see. Suspects have none.
#
# The limit keeps the planner from any way to `ready_jobs` but one descent of its primary key for each row. As
# a plain join it looked there by the id alone where a VACUUM had found no row alive, because that seemed to
# cost no more, and went past every place of every queue (215 pages a job under a held vacuum horizon). What
# is said twice is asked again of the row as it is when it is locked.
JOB_OF_MESSAGE = f"""
            SELECT jobs.id, ready.place AS ready_place
            FROM jobs LEFT JOIN LATERAL (
                SELECT ctid AS place, * FROM ready_jobs
                WHERE queue_name = jobs.queue AND ready_rank = jobs.rank AND job_id = jobs.id LIMIT 1
            ) AS ready ON queue_name = jobs.queue AND ready_rank = jobs.rank AND job_fence = jobs.fence
            WHERE jobs.id = message.id AND jobs.fence = message.fence AND jobs.status = 'queued'
              AND (jobs.quarantined OR job_id IS NOT NULL)
              AND {MAY_START}
            LIMIT 1 FOR UPDATE OF jobs SKIP LOCKED
"""

_CLAIM = f"""
    WITH chosen AS MATERIALIZED (
        SELECT job.*
        FROM {KEYS} AS message (id, fence)
        CROSS JOIN LATERAL (
            {JOB_OF_MESSAGE}
        ) AS job
        WHERE {HAS_LEASE}
    ), {LISTED_AS_RUNNING}
    UPDATE jobs SET status = 'running', {ASSIGNMENTS}
    WHERE {rows_of("chosen")}
    RETURNING {CLAIMED}
"""

# Of messages that no claim took: whose row is still theirs to take, but locked by somebody.
_LOCKED = f"""
    WITH wanted AS MATERIALIZED (
        SELECT * FROM {KEYS} AS message (id, fence)
    ), free AS MATERIALIZED (
        SELECT job.id FROM wanted CROSS JOIN LATERAL (
            SELECT jobs.id FROM jobs
            WHERE jobs.id = wanted.id AND jobs.fence = wanted.fence AND jobs.status = 'queued'
            LIMIT 1 FOR UPDATE SKIP LOCKED
        ) AS job
    )
    SELECT wanted.id, wanted.fence FROM wanted CROSS JOIN LATERAL (
        SELECT FROM jobs
        WHERE jobs.id = wanted.id AND jobs.fence = wanted.fence AND jobs.status = 'queued' LIMIT 1
    ) AS job
    WHERE wanted.id NOT IN (SELECT id FROM free)
"""


@retry_on_conflict
def claim(
    connection: Connection,
    messages: Iterable[tuple[int, int]],
    *,
    worker_id: int,
    lease_seconds: float,
    known: KnownTypes | None = None,
) -> list[ClaimedJob]:
    """Move the queued jobs of these (id, fence) messages to running, held by the worker; in any order.

    A message is left out when its job is not queued under this fence, is not due, is out of attempts, is in
    a paused queue, or is locked by somebody, or when the worker's lease has run out; also when its type is
    not `known` to the worker (None: it is not asked), or its payload could not be read by the worker's schema
    a while ago, or it requires a label that the worker has not, a higher version, or
    more slots than it has.
    """
    parameters = {**key_arrays(messages), **claimant(worker_id, lease_seconds, known)}
    contents = contents_of(connection)
    return [claimed_job(row, contents) for row in fetch_all(connection, _CLAIM, parameters)]


def locked_messages(connection: Connection, messages: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
    """Read which of these (id, fence) messages have a job that is queued under it, in a locked row."""
    return set(fetch_all(connection, _LOCKED, key_arrays(messages)))


def waiting_message(connection: Connection, job_id: int) -> tuple[int, int] | None:
    """Read the (id, fence) under which a job may be claimed now; None: it does not wait."""
    row = fetch_one(
        connection, "SELECT id, fence FROM jobs WHERE id = %(id)s AND status = 'queued'", {"id": job_id}
    )
    return None if row is None else (row[0], row[1])


def claimant(worker_id: int, lease_seconds: float, known: KnownTypes | None) -> dict[str, Any]:
    """Make the parameters of a claim that say who claims."""
    return {
        "worker_id": worker_id,
        "lease_seconds": lease_seconds,
        "types": known and text_array(known.types),
        "schemas": text_array(known.schemas) if known else "{}",
        "labels": text_array(known.labels) if known else "{}",
        "slots": known.slots if known else 1,
        "async_types": text_array(known.async_types) if known else "{}",
        "async_slots": known.async_slots if known else 0,
    }


def claimed_job(row: Sequence[Any], contents: JobContents) -> ClaimedJob:
    """Make a job of what a claim returned of it."""
    job = ClaimedJob(*row)
    if job.payload.startswith(ENCRYPTED) or contents.redacted:
        open_claimed(job, contents)
    if job.options is not None:
        # The trace is kept among the options, and is none of a Dramatiq message.
        job.traceparent = job.options.pop(TRACEPARENT, None)
        job.options = job.options or None
    return job


def open_claimed(job: ClaimedJob, contents: JobContents) -> None:
    """Decrypt what a worker is told of a job, and note what no text of it may quote."""
    if job.payload.startswith(ENCRYPTED):
        try:
            job.payload = contents.opened(job.payload, of_payload(job.type))
            if job.options is not None and ENCRYPTED_OPTIONS in job.options:
                envelope = job.options.pop(ENCRYPTED_OPTIONS)
                job.options |= orjson.loads(contents.opened(envelope, of_options(job.type)))
        except UndecryptableError as error:
            job.undecryptable = str(error)
            return
        job.encrypted = True
    names = contents.redacted.get(job.type)
    if names:
        job.hidden = hidden_values(orjson.loads(job.payload), names)
