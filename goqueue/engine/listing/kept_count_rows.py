"""Counts of jobs that are kept: how many are in each state by queue, and of each kind of failure.

A count walks an index: a hundred thousand jobs take ten milliseconds, which nobody should wait for who only
wants a glance. What is more than a few is counted by the scheduler, every few seconds, and kept; what is few
is counted when it is asked for, and is exact.
"""

from __future__ import annotations

from sqlalchemy import Connection

from goqueue.db.fragments import LATER, RUNNING_JOBS, SUSPECT
from goqueue.db.statements import FINGERPRINT, fetch_one

__all__ = ["FRESH", "GLANCED_AT", "KINDS", "KIND_OF_FAILURE", "keep", "total_of"]

#: Of a state that more jobs are in than this, counts are kept.
KEPT_ABOVE = 1_000

#: Where a count is kept, so many are counted all the same: there may be fewer than a moment ago.
GLANCED_AT = 100

#: Kept counts that are older are nobody's: the scheduler does not run.
FRESH = "counted_at > now() - interval '5 minutes'"

KIND_OF_FAILURE = "fingerprint"

#: What is counted by queue, and the rows that are: each has a queue.
KINDS = {
    "ready": "(SELECT queue_name AS queue FROM ready_jobs) AS jobs",
    "waiting": f"jobs WHERE {LATER}",
    "quarantined": f"jobs WHERE {SUSPECT}",
    "running": RUNNING_JOBS,
    "blocked": "jobs WHERE rare_state = 'blocked'",
    "failed": "jobs WHERE rare_state = 'failed'",
    "cancelled": "jobs WHERE rare_state = 'cancelled'",
    "expired": "jobs WHERE rare_state = 'expired'",
}

# All of a kind or none: who reads one queue's count knows that the others are there as well.
_KEEP = f"""
    WITH counted AS MATERIALIZED (
        SELECT name, jobs FROM (
            SELECT {{name}} AS name, count(*) AS jobs, sum(count(*)) OVER () AS total
            FROM {{rows}} GROUP BY 1
        ) AS grouped
        WHERE total > {KEPT_ABOVE}
    ), written AS (
        INSERT INTO kept_counts (kind, name, jobs) SELECT %(kind)s, name, jobs FROM counted
        ON CONFLICT (kind, name) DO UPDATE SET jobs = EXCLUDED.jobs, counted_at = EXCLUDED.counted_at
        RETURNING name
    ), gone AS (
        DELETE FROM kept_counts WHERE kind = %(kind)s AND name NOT IN (SELECT name FROM counted)
    )
    SELECT count(*) FROM written
"""

_TOTAL = f"""
    SELECT sum(jobs)::bigint FROM kept_counts
    WHERE kind = ANY (%(kinds)s) AND (%(name)s::text IS NULL OR name = %(name)s) AND {FRESH}
"""


def keep(connection: Connection, kind: str) -> int:
    """Count the jobs of a kind, and keep the counts where they are many; how many rows are kept."""
    name, rows = ("queue", KINDS[kind]) if kind in KINDS else (FINGERPRINT, KINDS["failed"])
    row = fetch_one(connection, _KEEP.format(name=name, rows=rows), {"kind": kind})
    assert row is not None
    return int(row[0])


def total_of(connection: Connection, kinds: list[str], name: str | None = None) -> int | None:
    """Read the kept count of some kinds together, of one queue or fingerprint or of all; None: not kept."""
    row = fetch_one(connection, _TOTAL, {"kinds": kinds, "name": name})
    return row[0] if row else None
