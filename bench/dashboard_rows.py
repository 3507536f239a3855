"""What the pages of the dashboard are measured on: tables as a service leaves them, with any number of jobs.

Whatever their number, there is as much to see: the same queues, types, kinds of failures, workers, schedules
and counted past, and for every filter more jobs than a page shows.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from bench.stack import Stack

QUEUE, TYPE, TAG = "queue-3", "note", "nightly"

#: What many payloads and errors hold; what none does.
COMMON, ABSENT = "payload.address.country:DE", "payload.address.country:Atlantis"
COMMON_ERROR, ABSENT_ERROR = "timed out", "no such error"

#: Jobs were created for so long; half of them in the latter half.
HOURS = 2

_QUEUES = (
    "INSERT INTO queues (name) SELECT 'queue-' || n FROM generate_series(0, 7) AS n ON CONFLICT DO NOTHING"
)

_WORKERS = """
    INSERT INTO workers (hostname, pid, queues, threads, busy, heartbeat_at, memory_bytes, locks_by_id)
    SELECT 'host-' || n % 2, 1000 + n, ARRAY(SELECT name FROM queues), 8, 8, now() + interval '1 day',
           70000000, true
    FROM generate_series(1, 8) AS n
"""

# Of a hundred jobs 58 completed and 12 failed; of 6 each the turn comes, the time comes, or other jobs have
# to end; 6 were cancelled and 6 expired. 64 run in all: that many threads there are.
_JOBS = """
    INSERT INTO jobs (queue, type, status, payload, max_retries, attempts, fence, available_at, rank,
                      worker_id, result, error, reason, created_at, updated_at, started_at, finished_at,
                      fingerprint, tags)
    SELECT 'queue-' || n %% 8, kind.type, status,
           json_build_object('user_id', n %% 1000, 'address', json_build_object(
               'country', ('{DE,FR,US,JP}'::text[])[1 + n / 7 %% 4]), 'text', repeat(md5(n::text), 6)),
           3, tries, tries, at, CASE WHEN status = 'queued' AND bucket < 76 THEN at END,
           CASE WHEN status = 'running' THEN workers.ids[1 + n %% 8] END,
           CASE WHEN status = 'completed' THEN '{"characters": 192}'::json END,
           CASE WHEN status = 'failed' THEN 'TimeoutError: request ' || n || ' timed out' END,
           CASE WHEN status = 'expired' THEN 'its time to start was over' END,
           least(at, now()) - interval '1 second', now(),
           CASE WHEN tries > 0 THEN at + interval '1 second' END,
           CASE WHEN status IN ('completed', 'failed', 'cancelled', 'expired')
                THEN at + interval '3 seconds' END,
           CASE WHEN status = 'failed' THEN left(md5('kind ' || kind.number), 16) END,
           CASE WHEN n %% 5 = 0 THEN ARRAY[%(tag)s, 'customer-' || n %% 40] END
    FROM (
        SELECT n, n * 37 %% 100 AS bucket, now() - %(hours)s * interval '1 hour' * (1 - n::float / %(jobs)s)
            AS created_at
        FROM generate_series(1, %(jobs)s) AS n
    ) AS numbered
    CROSS JOIN LATERAL (
        SELECT CASE WHEN n %% (%(jobs)s / 64) = 0 THEN 'running' WHEN bucket < 58 THEN 'completed'
               WHEN bucket < 70 THEN 'failed' WHEN bucket < 82 THEN 'queued' WHEN bucket < 88 THEN 'blocked'
               WHEN bucket < 94 THEN 'cancelled' ELSE 'expired' END AS status
    ) AS state
    CROSS JOIN LATERAL (
        SELECT CASE status WHEN 'completed' THEN 1 WHEN 'failed' THEN 4 WHEN 'running' THEN 1 ELSE 0
               END AS tries,
               created_at + CASE WHEN bucket BETWEEN 76 AND 81 THEN interval '1 day' ELSE interval '0'
               END AS at
    ) AS history
    CROSS JOIN LATERAL (
        SELECT CASE WHEN bucket < 65 THEN 0 ELSE bucket - 64 + n / 100 %% 2 * 5 END AS number,
               ('{noop,nap,note,stamp,bill,refund,mail,bounce,resize,report}'::text[])[1 + n / 8 %% 10]
                   AS type
    ) AS kind
    CROSS JOIN (SELECT array_agg(id ORDER BY id) AS ids FROM workers) AS workers
    ORDER BY n
"""

_ATTEMPTS = """
    INSERT INTO attempts (job_id, fence, attempt, worker_id, outcome, error, traceback, started_at,
                          finished_at, run_seconds)
    SELECT id, fence.n, fence.n, 1, outcome, CASE outcome WHEN 'failed' THEN error END,
           CASE outcome WHEN 'failed' THEN repeat('  File "shop.py", line 12, in charge' || chr(10)
               || '    ask(gateway)' || chr(10), 8) || error END,
           started_at - (jobs.fence - fence.n) * interval '10 seconds',
           coalesce(finished_at, now()) - (jobs.fence - fence.n) * interval '10 seconds', 2
    FROM jobs CROSS JOIN LATERAL generate_series(1, jobs.fence) AS fence (n)
    CROSS JOIN LATERAL (
        SELECT CASE status WHEN 'completed' THEN 'completed' ELSE 'failed' END AS outcome
    ) AS ended
    WHERE status <> 'running'
"""

_OTHERS = (
    """
    INSERT INTO job_tags (tag, job_id, queue) SELECT unnest(tags), id, queue FROM jobs
    WHERE tags IS NOT NULL
    """,
    """
    INSERT INTO failure_kinds (fingerprint, type, exception, message, frame)
    SELECT left(md5('kind ' || n), 16), 'bill', 'shop.TimeoutError', 'request # timed out', 'shop.charge'
    FROM generate_series(0, 10) AS n
    """,
    """
    INSERT INTO dependencies (job_id, parent_id)
    SELECT id, (SELECT id FROM jobs WHERE status = 'running' ORDER BY id LIMIT 1) FROM jobs
    WHERE status = 'blocked'
    """,
    """
    INSERT INTO attempt_logs (job_id, fence, line, text, logged_at)
    SELECT id, fence, line, 'line ' || line || ' of what it said', now()
    FROM (SELECT max(id) AS id FROM jobs WHERE status = 'failed') AS newest JOIN jobs USING (id)
    CROSS JOIN generate_series(1, 300) AS line
    """,
    """
    INSERT INTO rollups (scope, name, step_seconds, starts_at, completed, failed, cancelled, retried,
                         waits, runs, wait_seconds, run_seconds)
    SELECT scope, name, seconds, date_bin(make_interval(secs => seconds), now(), 'epoch')
               - step * make_interval(secs => seconds),
           60, 3, 1, 2, array_fill(1, ARRAY[20]), array_fill(2, ARRAY[30]), 10, 20
    FROM (SELECT 'service' AS scope, '' AS name UNION ALL SELECT 'queue', name FROM queues
          UNION ALL SELECT DISTINCT 'type', type FROM jobs) AS counted
    CROSS JOIN (VALUES (10, 720), (60, 1560), (3600, 744)) AS length (seconds, steps)
    CROSS JOIN LATERAL generate_series(1, steps) AS step
    """,
    """
    INSERT INTO schedules (name, cron, queue, type, payload, next_at, due_at)
    SELECT 'schedule-' || n, '*/5 * * * *', 'queue-3', 'note', '{"text": "hello"}', now() + interval '1 day',
           now() + interval '1 day'
    FROM generate_series(10, 69) AS n
    """,
    """
    INSERT INTO schedule_ticks (schedule_id, nominal_at, outcome, job_id)
    SELECT id, now() - n * interval '5 minutes', 'fired', n
    FROM schedules CROSS JOIN generate_series(1, 60) AS n
    """,
    """
    INSERT INTO bulk_operations (action, filter, state, total, done, changed, up_to_id, finished_at)
    SELECT 'retry', '{"status": "failed"}', 'completed', 100, 100, 100, 1000, now()
    FROM generate_series(1, 60)
    """,
)

_COUNTED = """
    INSERT INTO rollup_progress (step_seconds, up_to)
    SELECT seconds, date_bin(make_interval(secs => seconds), now(), 'epoch')
    FROM unnest(ARRAY[10, 60, 3600]) AS seconds
    ON CONFLICT (step_seconds) DO UPDATE SET up_to = EXCLUDED.up_to
"""

_NEWEST = "SELECT max(id) FROM jobs WHERE status = %s AND (rank IS NOT NULL OR status <> 'queued')"


def fill(sql: psycopg.Connection[Any], jobs: int) -> None:
    """Fill the empty tables of a database."""
    fill_before_jobs(sql)
    sql.execute(_JOBS, {"jobs": jobs, "hours": HOURS, "tag": TAG})
    sql.execute(_ATTEMPTS)
    fill_after_jobs(sql)


def fill_before_jobs(sql: psycopg.Connection[Any]) -> None:
    """Make the queues, and the workers that hold the running jobs."""
    for statement in (_QUEUES, _WORKERS):
        sql.execute(statement)


def fill_after_jobs(sql: psycopg.Connection[Any]) -> None:
    """Make what is beside the jobs, their tags among it; and the tables as vacuum leaves them."""
    for statement in _OTHERS:
        sql.execute(statement)
    keep_counted(sql)
    sql.execute("VACUUM ANALYZE")
    sql.execute("CHECKPOINT")


@contextmanager
def database(
    stack: Stack, name: str, jobs: int, fill: Callable[[psycopg.Connection[Any], int], None] = fill
) -> Iterator[tuple[dict[str, str], psycopg.Connection[Any]]]:
    """A database of its own with so many jobs: the environment of what works on it, and a connection."""
    stack.sql.execute(f"CREATE DATABASE {name}")
    url = stack.postgres.url_for(name)
    environment = stack.environment() | {"GOQUEUE_DATABASE_URL": url}
    migrate = [sys.executable, "-m", "goqueue", "migrate"]
    subprocess.run(migrate, env=environment, check=True, capture_output=True)
    with psycopg.connect(url, autocommit=True) as sql:
        fill(sql, jobs)
        yield environment, sql
    stack.sql.execute(f"DROP DATABASE {name} WITH (FORCE)")


def keep_counted(sql: psycopg.Connection[Any]) -> None:
    """What a roller does while nothing ends: note that it has counted up to now."""
    sql.execute(_COUNTED)


def newest_of(sql: psycopg.Connection[Any], status: str) -> int:
    """The newest job of a status; of queued ones, one whose turn it is."""
    row = sql.execute(_NEWEST, (status,)).fetchone()
    assert row is not None
    return int(row[0])
