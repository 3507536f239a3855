"""The demand of a queue for workers: backlog, arrivals, run times. Only reads.

Neither arrivals nor ends have an index of their own by queue and time, and get none for this: they are seen
at the newest jobs of the queue, at the newest that ended anywhere, and at those beside the head of the
backlog. Each question is one bounded walk along an index, so a table of a billion jobs answers as soon as one
of thousands.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from goqueue.db import bounded_reads
from goqueue.db.fragments import LATER, READY_JOBS, READY_ORDER, RUNNING_JOBS, ready_between
from goqueue.db.statements import FIRST, Values, fetch_one
from goqueue.engine.queue_rows import CLOSED
from goqueue.engine.workers.worker_rows import SERVING
from goqueue.errors import QueueNotFoundError
from goqueue.insight.autoscale import DEFAULT_SLO_WAIT_SECONDS, Demand, Objective
from goqueue.insight.gauge_rows import COUNTED_UP_TO, OLDEST_AMONG
from goqueue.limits.queue_setting_rows import DEFAULTS

__all__ = ["ARRIVALS_MAX", "ENDED_MAX", "of_queue"]

#: So many of the newest jobs, and of those whose time comes next, are looked at for arrivals.
ARRIVALS_MAX = 1_000

#: So many that ended are looked for in each of the places where they may be seen, and so many attempts count.
ENDED_MAX = 1_000

#: Jobs that run are as many as there are threads; those that clients run themselves may be more.
RUNNING_MAX = 10_000

#: A burst is no rate: the times that are waited for are spread over at least so long.
_SPREAD_SECONDS = 10

_READY = ready_between("%(queue)s")

_QUEUE = f"""
    SELECT {CLOSED} IS TRUE, concurrency, slo_wait_seconds, slo_objective FROM queues WHERE name = %(queue)s
"""

# As the metrics have it. Both walk the queue's part of `ready_jobs` in its order; the first needs nothing but
# that.
_BACKLOG = f"""
    SELECT (SELECT count(*)::int FROM (
                SELECT FROM ready_jobs WHERE {_READY}
                ORDER BY {READY_ORDER} LIMIT {COUNTED_UP_TO}) AS counted),
           (SELECT greatest(0, extract(epoch FROM now() - min(GREATEST(available_at, {FIRST}))))::float FROM (
                SELECT available_at FROM {READY_JOBS} WHERE {_READY}
                ORDER BY {READY_ORDER} LIMIT {OLDEST_AMONG}) AS next)
"""

_RUNNING = f"""
    SELECT count(*)::int,
           coalesce(sum(greatest(0, extract(epoch FROM now() - GREATEST(started_at, {FIRST})))), 0)::float
    FROM (SELECT queue, started_at FROM {RUNNING_JOBS} LIMIT {RUNNING_MAX}) AS running
    WHERE queue = %(queue)s
"""

# The newest jobs of the queue; `first` is the creation of the oldest of them.
_ARRIVALS = f"""
    WITH newest AS MATERIALIZED (
        SELECT created_at, available_at, status FROM jobs WHERE queue = %(queue)s
        ORDER BY queue DESC, id DESC LIMIT {ARRIVALS_MAX}
    ), counted AS (
        SELECT count(*) AS jobs, min(created_at) AS first FROM newest
    )
    SELECT jobs = {ARRIVALS_MAX}, extract(epoch FROM now() - first)::float,
           count(*) FILTER (WHERE created_at > now() - make_interval(secs => %(window_seconds)s))::int,
           count(*) FILTER (WHERE created_at > first)::int
    FROM counted LEFT JOIN newest ON available_at <= now() AND status <> 'blocked'
    GROUP BY jobs, first
"""

# The next entries of jobs_later_idx, of every queue.
_DUE = f"""
    WITH next AS MATERIALIZED (
        SELECT queue, available_at FROM jobs
        WHERE {LATER}
          AND available_at <= now() + make_interval(secs => %(window_seconds)s)
        ORDER BY available_at LIMIT {ARRIVALS_MAX}
    )
    SELECT count(*) FILTER (WHERE queue = %(queue)s)::int,
           CASE WHEN count(*) < {ARRIVALS_MAX} THEN %(window_seconds)s
                ELSE least(%(window_seconds)s, greatest({_SPREAD_SECONDS},
                           extract(epoch FROM max(GREATEST(available_at, {FIRST})) - now()))) END::float
    FROM next
"""

# Jobs that started lately are beside the head of the backlog, wherever the newest ones are.
_ENDED = f"""
    WITH head AS (
        SELECT min(id) AS id FROM (
            SELECT job_id AS id FROM ready_jobs WHERE {_READY} ORDER BY {READY_ORDER} LIMIT 1) AS first
    ), seen AS MATERIALIZED (
        (SELECT id, finished_at FROM jobs WHERE queue = %(queue)s
         ORDER BY queue DESC, id DESC LIMIT {ENDED_MAX})
        UNION
        (SELECT jobs.id, jobs.finished_at FROM head CROSS JOIN LATERAL (
            SELECT id, finished_at FROM jobs WHERE queue = %(queue)s AND jobs.id < head.id
            ORDER BY queue DESC, id DESC LIMIT {ENDED_MAX}) AS jobs)
        UNION
        (SELECT jobs.id, jobs.finished_at FROM (
            SELECT job_id FROM attempts ORDER BY finished_at DESC LIMIT {ENDED_MAX}) AS newest
         CROSS JOIN LATERAL (
            SELECT id, queue, finished_at FROM jobs WHERE jobs.id = newest.job_id LIMIT 1) AS jobs
         WHERE queue = %(queue)s)
    ), lately AS MATERIALIZED (
        SELECT id FROM seen WHERE finished_at IS NOT NULL ORDER BY finished_at DESC LIMIT {ENDED_MAX}
    )
    SELECT count(*)::int, coalesce(sum(run_seconds), 0)::float FROM (
        SELECT attempts.run_seconds FROM lately CROSS JOIN LATERAL (
            SELECT run_seconds FROM attempts WHERE job_id = lately.id) AS attempts
        LIMIT {ENDED_MAX}) AS ended
"""

_WORKERS = f"""
    SELECT count(*)::int, coalesce(sum(threads), 0)::int FROM workers
    WHERE {SERVING} AND %(queue)s = ANY (queues)
"""


def of_queue(
    connection: Connection, queue: str, *, is_declared: bool, window_seconds: float, lease_seconds: float
) -> tuple[Demand, Objective]:
    """Read what the queue asks for. In a transaction in which nothing was asked before.

    A declared queue exists also before its first job. Arrivals are counted so far back, and ahead, as the
    window reaches.

    Raises:
        QueueNotFoundError: there is no such queue.
    """
    bounded_reads.begin(connection)
    parameters = {"queue": queue, "window_seconds": window_seconds, "lease_seconds": lease_seconds}
    row = fetch_one(connection, _QUEUE, parameters)
    if row is None and not is_declared:
        raise QueueNotFoundError(queue)
    closed, concurrency, slo_wait_seconds, slo_objective = row or (False, None, None, DEFAULTS.slo_objective)
    wait_seconds = slo_wait_seconds or DEFAULT_SLO_WAIT_SECONDS
    objective = Objective(wait_seconds, slo_objective, is_default=slo_wait_seconds is None)
    demand = _measured(connection, parameters)
    return dataclasses.replace(demand, closed=closed, concurrency=concurrency), objective


def _measured(connection: Connection, parameters: Mapping[str, Any]) -> Demand:
    def asked(sql: str) -> Values:
        row = fetch_one(connection, sql, parameters)
        assert row is not None
        return row

    backlog, oldest_age = asked(_BACKLOG)
    running, running_seconds = asked(_RUNNING)
    arrivals, arrivals_seconds = _arrivals(asked(_ARRIVALS), parameters["window_seconds"])
    due, due_seconds = asked(_DUE)
    ended, ended_seconds = asked(_ENDED)
    workers, threads = asked(_WORKERS)
    return Demand(
        backlog=backlog,
        oldest_age_seconds=oldest_age or 0.0,
        running=running,
        running_seconds=running_seconds,
        arrivals=arrivals,
        arrivals_seconds=arrivals_seconds,
        due=due,
        due_seconds=due_seconds,
        ended=ended,
        ended_seconds=ended_seconds,
        workers=workers,
        threads=threads,
    )


def _arrivals(row: Values, window_seconds: float) -> tuple[int, float]:
    """How many arrived in how long: in the window, or, where they are too many for that, the newest ones.

    Those are counted without the jobs of the first moment, because between n arrivals lie n - 1 intervals,
    and all jobs of a batch have one moment; a batch alone tells no rate but that of the window.
    """
    is_full, seconds, in_window, after_first = row
    if is_full and seconds < window_seconds and after_first:
        return after_first, max(seconds, 1e-3)
    return in_window, window_seconds
