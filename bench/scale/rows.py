"""A database with any number of jobs, nearly all of them completed, made by INSERT … SELECT.

Whatever their number, every list has a page to show: of what is neither completed nor queued there are at
least a thousand. A queue and a type have forty jobs alone, wherever they are.
"""

from __future__ import annotations

from typing import Any

import psycopg

from bench import dashboard_rows as rows

RARE = "rare"

#: The newest jobs wait; so many of all.
QUEUED_PART = 100

#: Jobs were created for so long.
DAYS = 6

_SECONDARY = """
    SELECT indexname, replace(indexdef, ' ON ONLY ', ' ON ') FROM pg_indexes
    WHERE schemaname = 'public' AND tablename IN ('jobs', 'job_tags', 'attempts')
      AND indexname NOT IN (SELECT conname FROM pg_constraint WHERE contype = 'p')
"""

# The hash of the number deals out queue, type, tag and key, each for itself. The last hundredth is queued; of
# the others one in `stride` did not complete.
_JOBS = """
    INSERT INTO jobs (queue, type, status, payload, max_retries, attempts, fence, available_at, rank,
                      worker_id, result, error, reason, created_at, updated_at, started_at, finished_at,
                      fingerprint, tags, concurrency_key)
    SELECT CASE WHEN is_rare THEN 'rare' ELSE 'queue-' || (hash & 7) END,
           CASE WHEN is_rare THEN 'rare' ELSE kinds.types[1 + (hash >> 3) %% 10] END, status,
           json_build_object('customer_id', n / 10, 'address', json_build_object(
               'country', ('{DE,FR,US,JP}'::text[])[1 + (hash >> 7) %% 4]), 'text', md5(n::text)),
           3, tries, tries, at, CASE WHEN status = 'queued' AND n %% 20 <> 0 THEN at END,
           CASE WHEN status = 'running' THEN workers.ids[1 + n %% 8] END,
           CASE WHEN status = 'completed' THEN '{"characters": 32}'::json END,
           CASE WHEN status = 'failed' THEN 'TimeoutError: request ' || n || ' timed out' END,
           CASE WHEN status = 'expired' THEN 'its time to start was over' END,
           created_at, now(), CASE WHEN tries > 0 THEN created_at + interval '1 second' END,
           CASE WHEN status IN ('completed', 'failed', 'cancelled', 'expired')
                THEN created_at + interval '3 seconds' END,
           CASE WHEN status = 'failed' THEN left(md5('kind ' || (hash >> 9) %% 11), 16) END,
           CASE WHEN NOT is_rare AND (hash >> 13) %% 5 = 0 THEN ARRAY[%(tag)s, 'order-' || n / 40]
                WHEN (hash & 1) = 0 THEN ARRAY['order-' || n / 40] END,
           CASE WHEN (hash >> 16) %% 10 = 0 THEN 'customer-' || (hash >> 20) %% 1000 END
    FROM (
        SELECT n, abs(hashint8(n)::bigint) AS hash, n / %(stride)s AS other,
               n %% (%(jobs)s / 40) = 7 AS is_rare,
               now() - %(days)s * interval '1 day' * (1 - n::float / %(jobs)s) - interval '5 seconds'
                   AS created_at
        FROM generate_series(1, %(jobs)s) AS n
    ) AS numbered
    CROSS JOIN LATERAL (
        SELECT CASE WHEN n > %(ended)s THEN 'queued' WHEN n > %(ended)s - 64 THEN 'running'
               WHEN is_rare OR n %% %(stride)s <> 0 THEN 'completed' WHEN other %% 10 < 6 THEN 'failed'
               WHEN other %% 10 < 8 THEN 'blocked' WHEN other %% 10 = 8 THEN 'cancelled' ELSE 'expired'
               END AS status
    ) AS state
    CROSS JOIN LATERAL (
        SELECT CASE status WHEN 'completed' THEN 1 WHEN 'failed' THEN 4 WHEN 'running' THEN 1 ELSE 0
               END AS tries,
               created_at + CASE WHEN status = 'queued' AND n %% 20 = 0 THEN interval '7 days'
                            ELSE interval '0' END AS at
    ) AS history
    CROSS JOIN (
        SELECT '{noop,nap,note,stamp,bill,refund,mail,bounce,resize,report}'::text[] AS types
    ) AS kinds
    CROSS JOIN (SELECT array_agg(id ORDER BY id) AS ids FROM workers) AS workers
    ORDER BY n
"""

_ATTEMPTS = """
    INSERT INTO attempts (job_id, fence, attempt, worker_id, outcome, error, started_at, finished_at,
                          run_seconds)
    SELECT id, fence.n, fence.n, 1, CASE status WHEN 'completed' THEN 'completed' ELSE 'failed' END,
           error, started_at, finished_at, 2
    FROM jobs CROSS JOIN LATERAL generate_series(1, jobs.fence) AS fence (n)
    WHERE finished_at IS NOT NULL ORDER BY id
"""


def fill(sql: psycopg.Connection[Any], jobs: int) -> None:
    """Fill the empty tables; indexes are made afterwards, which takes a third of the time."""
    sql.execute("SET synchronous_commit = off")
    sql.execute("SET maintenance_work_mem = '512MB'")
    rows.fill_before_jobs(sql)
    sql.execute("INSERT INTO queues (name) VALUES (%s) ON CONFLICT DO NOTHING", (RARE,))
    indexes = sql.execute(_SECONDARY).fetchall()
    for name, _ in indexes:
        sql.execute(f"DROP INDEX {name}")
    ended = jobs - jobs // QUEUED_PART
    stride = jobs // max(jobs // 100, 1_000)
    parameters = {"jobs": jobs, "ended": ended, "stride": stride, "days": DAYS, "tag": f"'{rows.TAG}'"}
    # Constants, not parameters: the planner folds them, for millions of rows.
    # Nine in ten completed, as if workers had recorded them: the trigger, row by row, would say otherwise.
    sql.execute("SET session_replication_role = replica")
    sql.execute(_JOBS % parameters)
    sql.execute("RESET session_replication_role")
    sql.execute("UPDATE jobs SET place = NULL WHERE status <> 'completed'")
    sql.execute(_ATTEMPTS)
    for _, definition in indexes:
        sql.execute(definition)
    rows.fill_after_jobs(sql)


def bytes_a_job(sql: psycopg.Connection[Any], jobs: int) -> dict[str, float]:
    """Tell what each table and index of jobs, attempts and tags takes, in bytes a job."""
    found = sql.execute(
        "SELECT relname, pg_relation_size(oid) FROM pg_class WHERE relnamespace = 'public'::regnamespace "
        "AND relname ~ '^(jobs|attempts|job_tags)' AND relkind IN ('r', 'i') "
        "ORDER BY pg_relation_size(oid) DESC"
    ).fetchall()
    return {str(name): size / jobs for name, size in found}
