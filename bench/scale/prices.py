"""`python -m bench.scale.prices`: what each index costs a job, in microseconds, in WAL and on disk.

The life of a batch of jobs (inserted, claimed, completed or failed) is run with the index and, in turn,
without it, in transactions that are rolled back; the difference of the medians is the price.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import psycopg

from bench import dashboard_rows as rows
from bench.scale.rows import fill
from bench.stack import Stack
from bench.statistics import median

BATCH = 10_000

PAYLOAD_INDEX = "jobs_payload_0_idx"
INDEXES = (
    "jobs_queue_id_idx",
    "attempts_finished_idx",
    "jobs_rare_idx",
    "jobs_rare_queue_idx",
    "jobs_rare_type_idx",
    "jobs_rare_since_idx",
    "jobs_failure_idx",
    "job_tags_queue_idx",
    PAYLOAD_INDEX,
)

_MAKE_PAYLOAD_INDEX = (
    f"CREATE INDEX {PAYLOAD_INDEX} ON jobs (left(payload #>> '{{customer_id}}'::text[], 200), id) "
    "WHERE type = 'noop'"
)

_CREATE = f"""
    WITH new AS (
        INSERT INTO jobs (queue, type, payload, rank, tags, place)
        SELECT 'queue-' || n % 8, 'noop', json_build_object('customer_id', n), now(), ARRAY['nightly'],
               'ready'
        FROM generate_series(1, {BATCH}) AS n RETURNING id, queue, rank, tags
    ), listed AS (
        INSERT INTO ready_jobs (queue_name, ready_rank, job_id, job_fence, job_type)
        SELECT queue, rank, id, 0, 'noop' FROM new
    ), tagged AS (INSERT INTO job_tags (tag, job_id, queue) SELECT unnest(tags), id, queue FROM new)
    SELECT min(id) FROM new
"""

_CLAIM = """
    WITH taken AS (
        DELETE FROM ready_jobs RETURNING job_id
    ), held AS (
        INSERT INTO running_jobs (holder, job_id) SELECT 1, job_id FROM taken
    )
    UPDATE jobs SET status = 'running', place = 'running', fence = fence + 1, attempts = attempts + 1,
        worker_id = 1, started_at = now(), updated_at = now()
    WHERE id >= %s
"""

_RECORD = """
    UPDATE jobs SET status = %s, worker_id = NULL, finished_at = now(), updated_at = now(),
        error = CASE WHEN %s = 'failed' THEN 'it broke' END
    WHERE id >= %s
"""


class Life(NamedTuple):
    """Microseconds of a job: its creation, its claim, both ends; and the WAL of one that completes."""

    create: float
    claim: float
    complete: float
    fail: float
    wal: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each index."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale.prices", description=__doc__)
    parser.add_argument("--jobs", type=int, default=500_000, help="jobs in the table beforehand")
    parser.add_argument("--rounds", type=int, default=9, help="rounds; medians are shown")
    options = parser.parse_args(arguments)
    with Stack() as stack, rows.database(stack, "prices", options.jobs, fill) as (_, sql):
        sql.execute(_MAKE_PAYLOAD_INDEX)
        sql.execute("SET synchronous_commit = off")
        print(f"{options.jobs:,} jobs in the table, a batch of {BATCH:,}, medians of {options.rounds} rounds")
        print("| index | bytes an entry | µs: create | claim | complete | fail | WAL, bytes, completed |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        sizes = {index: _entry_bytes(sql, index) for index in INDEXES}
        for index in INDEXES:
            with_it, without = _in_turn(sql, index, options.rounds)
            price = [one - other for one, other in zip(with_it, without, strict=True)]
            cells = " | ".join(f"{value:.2f}" for value in price[:-1])
            print(f"| `{index}` | {sizes[index]:.0f} | {cells} | {price[-1]:.0f} |", flush=True)
    return 0


def _in_turn(sql: psycopg.Connection[Any], index: str, rounds: int) -> tuple[Life, Life]:
    found: tuple[list[Life], list[Life]] = ([], [])
    for _ in range(rounds):
        for place, dropped in enumerate((None, index)):
            found[place].append(_life(sql, dropped))
        sql.execute("VACUUM jobs, job_tags")
    with_it, without = (Life(*map(median, zip(*lives, strict=True))) for lives in found)
    return with_it, without


def _life(sql: psycopg.Connection[Any], dropped: str | None) -> Life:
    with sql.transaction(force_rollback=True):
        if dropped is not None:
            sql.execute(f"DROP INDEX {dropped}")
        began = _wal(sql)
        started = time.perf_counter()
        row = sql.execute(_CREATE).fetchone()
        assert row is not None
        create = time.perf_counter() - started
        claim = _timed(sql, _CLAIM, row)
        so_far = _wal(sql) - began
        with sql.transaction(force_rollback=True):
            fail = _timed(sql, _RECORD, ("failed", "failed", *row))
        before_end = _wal(sql)
        complete = _timed(sql, _RECORD, ("completed", "completed", *row))
        wal = so_far + _wal(sql) - before_end
    per_job = 1e6 / BATCH
    return Life(create * per_job, claim * per_job, complete * per_job, fail * per_job, wal / BATCH)


def _timed(sql: psycopg.Connection[Any], statement: str, parameters: Sequence[Any]) -> float:
    started = time.perf_counter()
    sql.execute(statement, parameters)
    return time.perf_counter() - started


def _wal(sql: psycopg.Connection[Any]) -> int:
    row = sql.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
    assert row is not None
    return int(row[0])


def _entry_bytes(sql: psycopg.Connection[Any], index: str) -> float:
    row = sql.execute(
        "SELECT pg_relation_size(oid) / greatest(1, reltuples) FROM pg_class WHERE relname = %s", (index,)
    ).fetchone()
    assert row is not None
    return float(row[0])


if __name__ == "__main__":
    sys.exit(main())
