"""Deleting by age, a bounded batch at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Connection

from goqueue.db.database import retry_on_conflict
from goqueue.db.locked_rows import rows_of
from goqueue.db.statements import FINGERPRINT, array, fetch_all, fetch_one
from goqueue.jobs import MAX_JOB_ID, JobStatus

#: So many jobs are looked at for completed ones at once: a few milliseconds.
PAGE = 10_000

#: Its children still wait for such a job, or may still ask what it returned.
AWAITED = """(has_dependants AND EXISTS (
    SELECT FROM dependencies JOIN jobs AS child ON child.id = dependencies.job_id
    WHERE dependencies.parent_id = jobs.id AND child.finished_at IS NULL))"""

# The rows of the old jobs in every table; only the edges of their children stay, which are theirs. Tags are
# found one by one by their primary key, which begins with the tag: a join would rather read all of them. The
# places of tags are good within one partition, so their jobs are compared as well.
_WITH_ALL_THEIR_ROWS = f"""gone AS (
        DELETE FROM jobs WHERE {rows_of("old")} RETURNING jobs.id, jobs.tags
    ), gone_tags AS (
        DELETE FROM job_tags WHERE ctid = ANY (ARRAY (
            SELECT place FROM gone CROSS JOIN LATERAL unnest(gone.tags) AS own (tag) CROSS JOIN LATERAL (
                SELECT job_tags.ctid AS place FROM job_tags
                WHERE job_tags.tag = own.tag AND job_tags.job_id = gone.id LIMIT 1) AS found))
          AND (job_id IN (SELECT id FROM gone)) IS TRUE
          AND job_id >= (SELECT min(id) FROM gone) AND job_id <= (SELECT max(id) FROM gone)
    ), gone_edges AS (
        DELETE FROM dependencies WHERE {rows_of("gone", table="dependencies", key="job_id")}
    ), gone_attempts AS (
        DELETE FROM attempts WHERE {rows_of("gone", table="attempts", key="job_id")}
    ), gone_progress AS (
        DELETE FROM attempt_progress WHERE {rows_of("gone", table="attempt_progress", key="job_id")}
    ), gone_logs AS (
        DELETE FROM attempt_logs WHERE {rows_of("gone", table="attempt_logs", key="job_id")}
    ), gone_output AS (
        DELETE FROM job_output WHERE {rows_of("gone", table="job_output", key="job_id")}
    ), gone_versions AS (
        DELETE FROM job_versions WHERE {rows_of("gone", table="job_versions", key="job_id")}
    ), gone_keys AS (
        DELETE FROM unique_keys WHERE {rows_of("gone", table="unique_keys", key="job_id")}
    )
"""

# Rows that another transaction works on (a replay, a cancel) are left for the next round.
_DELETE_JOBS = f"""
    WITH old AS (
        SELECT id FROM jobs
        WHERE rare_state = %(status)s AND rare_since < now() - make_interval(secs => %(age)s)
          AND status = %(status)s AND id < %(below)s AND NOT {AWAITED}
        ORDER BY rare_since LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ), {_WITH_ALL_THEIR_ROWS}
    SELECT id FROM gone"""

# No index knows when a job completed, because its entry would be written with every job. But nothing
# completes before it is created, and jobs are created in the order of their ids.
_DELETE_COMPLETED = f"""
    WITH page AS MATERIALIZED (
        SELECT id, created_at, status = 'completed'
               AND finished_at < now() - make_interval(secs => %(age)s) AS is_old
        FROM jobs WHERE id > %(after_id)s AND id < %(below)s ORDER BY id LIMIT %(page)s
    ), chosen AS MATERIALIZED (
        SELECT id FROM page WHERE is_old ORDER BY id LIMIT %(limit)s
    ), old AS (
        SELECT id FROM jobs
        WHERE id = ANY (ARRAY (SELECT id FROM chosen)) AND status = 'completed'
          AND finished_at < now() - make_interval(secs => %(age)s) AND NOT {AWAITED}
        ORDER BY id FOR UPDATE SKIP LOCKED
    ), {_WITH_ALL_THEIR_ROWS}, looked_at AS (
        SELECT CASE WHEN (SELECT count(*) FROM chosen) = %(limit)s THEN (SELECT max(id) FROM chosen)
                    ELSE (SELECT max(id) FROM page) END AS up_to,
               (SELECT count(*) FROM chosen) = %(limit)s
               OR (SELECT count(*) FROM page) = %(page)s AS goes_on
    )
    SELECT (SELECT count(*)::int FROM gone), CASE WHEN goes_on AND page.created_at
               < now() - make_interval(secs => %(age)s) THEN up_to END
    FROM looked_at LEFT JOIN page ON page.id = up_to
"""

_DELETE_FINAL = f"""
    WITH old AS (
        SELECT id FROM jobs
        WHERE id = ANY(%(ids)s::bigint[]) AND finished_at IS NOT NULL AND NOT {AWAITED}
        ORDER BY id FOR UPDATE
    ), {_WITH_ALL_THEIR_ROWS}
    SELECT id FROM gone"""

# A kind may be needed again tomorrow: it stays as long as its dead letters would.
_DELETE_KINDS = f"""
    DELETE FROM failure_kinds WHERE fingerprint IN (
        SELECT kind.fingerprint FROM failure_kinds AS kind
        WHERE kind.first_seen_at < now() - make_interval(secs => %(age)s)
          AND NOT EXISTS (SELECT FROM jobs WHERE rare_state = 'failed' AND {FINGERPRINT} = kind.fingerprint)
        LIMIT %(limit)s FOR UPDATE OF kind SKIP LOCKED)
    RETURNING fingerprint
"""

_DELETE_BULK_OPERATIONS = """
    WITH old AS (
        DELETE FROM bulk_operations WHERE id IN (
            SELECT id FROM bulk_operations
            WHERE finished_at < now() - make_interval(secs => %(age)s) ORDER BY id LIMIT %(limit)s)
        RETURNING id
    ), canaries AS (
        DELETE FROM bulk_canaries USING old WHERE operation_id = old.id
    )
    SELECT id FROM old
"""

_DELETE_KEYS = """
    DELETE FROM idempotency_keys WHERE key IN (
        SELECT key FROM idempotency_keys WHERE created_at < now() - make_interval(secs => %(age)s)
        ORDER BY created_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
    RETURNING key
"""

_DELETE_WORKERS = """
    DELETE FROM workers WHERE id IN (
        SELECT id FROM workers WHERE stopped_at < now() - make_interval(secs => %(age)s)
        AND NOT EXISTS (SELECT FROM running_jobs WHERE holder = workers.id)
        LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
    RETURNING id
"""


@retry_on_conflict
def delete_jobs(
    connection: Connection, status: JobStatus, *, age_seconds: float, limit: int, below: int = MAX_JOB_ID
) -> int:
    """Delete the oldest failed, cancelled or expired jobs that ended longer ago than the age; how many.

    Only those with an id below one: the others go with their partition.
    """
    parameters = {"status": status.value, "age": age_seconds, "limit": limit, "below": below}
    return len(fetch_all(connection, _DELETE_JOBS, parameters))


class DeletedCompleted(NamedTuple):
    """The result of a look for old completed jobs.

    Attributes:
        up_to: the id behind which the next look goes on; None: there are no more.
    """

    jobs: int
    up_to: int | None


@retry_on_conflict
def delete_completed(
    connection: Connection,
    *,
    age_seconds: float,
    limit: int,
    after_id: int = 0,
    page: int = PAGE,
    below: int = MAX_JOB_ID,
) -> DeletedCompleted:
    """Look at the next `page` jobs for completed ones older than the age, and delete up to `limit`.

    Only those with an id below one: the others go with their partition.
    """
    parameters = {"age": age_seconds, "limit": limit, "after_id": after_id, "page": page, "below": below}
    row = fetch_one(connection, _DELETE_COMPLETED, parameters)
    assert row is not None
    return DeletedCompleted(*row)


@retry_on_conflict
def delete_final(connection: Connection, job_ids: Iterable[int]) -> list[int]:
    """Delete final jobs, with everything that is kept of them; the ids that were.

    A job that a child still waits for stays.
    """
    return [row[0] for row in fetch_all(connection, _DELETE_FINAL, {"ids": array(job_ids)})]


def delete_failure_kinds(connection: Connection, *, age_seconds: float, limit: int) -> int:
    """Forget kinds of failures that were first seen longer ago and that no job has; how many."""
    return len(fetch_all(connection, _DELETE_KINDS, {"age": age_seconds, "limit": limit}))


def delete_bulk_operations(connection: Connection, *, age_seconds: float, limit: int) -> int:
    """Forget operations that ended longer ago than the age, with their canaries; how many."""
    return len(fetch_all(connection, _DELETE_BULK_OPERATIONS, {"age": age_seconds, "limit": limit}))


def delete_idempotency_keys(connection: Connection, *, age_seconds: float, limit: int) -> int:
    """Forget keys older than the age; how many."""
    return len(fetch_all(connection, _DELETE_KEYS, {"age": age_seconds, "limit": limit}))


def delete_workers(connection: Connection, *, age_seconds: float, limit: int) -> int:
    """Forget workers that stopped longer ago than the age; how many."""
    return len(fetch_all(connection, _DELETE_WORKERS, {"age": age_seconds, "limit": limit}))
