"""The demand of a queue by the labels that its jobs require, and its workers by the labels that they have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from goqueue.config.labels import without_version
from goqueue.db.fragments import READY_JOBS, READY_ORDER, RUNNING_JOBS, ready_between
from goqueue.db.statements import FIRST, fetch_all
from goqueue.engine.workers.worker_rows import SERVING
from goqueue.engine.workers.worker_slot_rows import EACH_QUEUE, QUEUE_SLOTS
from goqueue.insight.label_needs import LabelledJobs, LabelledWorkers

__all__ = ["LOOKED_AT", "jobs_by_labels", "workers_by_labels"]

#: So many of the next jobs, of the newest and of those that run tell the parts of the others.
LOOKED_AT = 1_000

# The walks of the questions about the whole queue (`demand_rows.py`), each along the same index.
_JOBS = f"""
    WITH seen AS (
        (SELECT 'backlog' AS kind, requires, 0 AS seconds FROM {READY_JOBS}
         WHERE {ready_between("%(queue)s")} ORDER BY {READY_ORDER} LIMIT {LOOKED_AT})
        UNION ALL
        (SELECT 'arrivals', requires, 0 FROM jobs WHERE queue = %(queue)s
         ORDER BY queue DESC, id DESC LIMIT {LOOKED_AT})
        UNION ALL
        (SELECT 'running', requires, greatest(0, extract(epoch FROM now() - GREATEST(started_at, {FIRST})))
         FROM (SELECT queue, requires, started_at FROM {RUNNING_JOBS}
               LIMIT {10 * LOOKED_AT}) AS running
         WHERE queue = %(queue)s)
    )
    SELECT coalesce(requires, ARRAY[]::text[]), count(*) FILTER (WHERE kind = 'backlog')::int,
           count(*) FILTER (WHERE kind = 'arrivals')::int, count(*) FILTER (WHERE kind = 'running')::int,
           sum(seconds)::float
    FROM seen GROUP BY 1
"""

_WORKERS = f"""
    SELECT coalesce(labels, ARRAY[]::text[]), count(*)::int, sum(threads)::int, sum({QUEUE_SLOTS})::int
    FROM workers CROSS JOIN {EACH_QUEUE}
    WHERE {SERVING} AND listens.queue = %(queue)s GROUP BY 1
"""


def jobs_by_labels(connection: Connection, parameters: Mapping[str, Any]) -> list[LabelledJobs]:
    """Read what the jobs of a queue require, of so many of them as are looked at."""
    return [
        LabelledJobs(frozenset(without_version(row[0])), *row[1:])
        for row in fetch_all(connection, _JOBS, parameters)
    ]


def workers_by_labels(connection: Connection, parameters: Mapping[str, Any]) -> list[LabelledWorkers]:
    """Read the live workers of a queue, by their labels."""
    return [
        LabelledWorkers(frozenset(without_version(row[0])), *row[1:])
        for row in fetch_all(connection, _WORKERS, parameters)
    ]
