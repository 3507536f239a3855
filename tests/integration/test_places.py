"""Rows that were locked are changed by their place, also in tables that are small enough to be read whole.

A session keeps the plan of a statement that it uses often: one that was made while a table was small, and
reads all of it, would go on to do so while the table grows.
"""

from __future__ import annotations

from sqlalchemy import Connection

from goqueue.db.database import Database
from goqueue.db.statements import fetch_all
from goqueue.engine import unique_rows as unique_keys
from goqueue.engine.transitions.record import record
from goqueue.engine.transitions.release import settle
from goqueue.jobs import AttemptOutcome, JobStatus, Outcome, UniqueRule
from tests.support.factories import JobFactory

#: As many as fill some hundred pages; to read these is cheaper than to fetch a hundred rows by their place.
ROWS = 3_000

_RUNNING = """
    INSERT INTO jobs (queue, type, payload, status, attempts, fence, worker_id, started_at)
    SELECT 'places', 'noop', '{}', 'running', 1, 1, %(worker)s, now() FROM generate_series(1, %(rows)s)
    RETURNING id
"""
_CHILDREN = """
    INSERT INTO jobs (queue, type, payload, status)
    SELECT 'places', 'noop', '{}', 'blocked' FROM generate_series(1, %(rows)s) RETURNING id
"""
_EDGES = """
    INSERT INTO dependencies (job_id, parent_id, on_parent_failure)
    SELECT unnest(%(children)s::bigint[]), %(parent)s, 'fail'
"""
_KEYS = """
    INSERT INTO unique_keys (key, job_id, states)
    SELECT 'key-' || number, number, '{queued}' FROM generate_series(1, %(rows)s) AS number
"""


def test_an_outcome_is_recorded_without_reading_the_table(database: Database, make_job: JobFactory) -> None:
    """Of three thousand running jobs the statement touches the one that ended."""
    worker_id = make_job.worker()
    with database.transaction() as connection:
        ids = [row[0] for row in fetch_all(connection, _RUNNING, {"worker": worker_id, "rows": ROWS})]
        _know(connection, "jobs")
        read = _rows_read(connection, "jobs")
        _record(connection, ids[0], worker_id)
        assert _rows_read(connection, "jobs") == read


def test_children_are_released_without_reading_the_tables(database: Database, make_job: JobFactory) -> None:
    """Of three thousand blocked jobs the statements touch those whose parent ended."""
    ended, other = make_job("completed").id, make_job("queued").id
    with database.transaction() as connection:
        ids = [row[0] for row in fetch_all(connection, _CHILDREN, {"rows": ROWS})]
        connection.exec_driver_sql(_EDGES, {"children": ids[:2], "parent": ended})
        connection.exec_driver_sql(_EDGES, {"children": ids[2:], "parent": other})
        _know(connection, "jobs", "dependencies")
        read = _rows_read(connection, "jobs", "dependencies")
        released = settle(connection, [ended])
        assert sorted(child.id for child in released) == ids[:2]
        assert _rows_read(connection, "jobs", "dependencies") == read


def test_a_key_changes_hands_without_reading_the_table(database: Database) -> None:
    """Of three thousand keys the statement touches the one that is taken."""
    with database.transaction() as connection:
        connection.exec_driver_sql(_KEYS, {"rows": ROWS})
        _know(connection, "unique_keys")
        read = _rows_read(connection, "unique_keys")
        unique_keys.bind(connection, {ROWS + 1: UniqueRule("key-7", (JobStatus.QUEUED,))})
        assert _rows_read(connection, "unique_keys") == read


def _know(connection: Connection, *tables: str) -> None:
    for table in tables:
        connection.exec_driver_sql(f"ANALYZE {table}")


def _rows_read(connection: Connection, *tables: str) -> int:
    """How many rows this transaction has read by reading tables as a whole."""
    sql = "SELECT sum(seq_tup_read)::int FROM pg_stat_xact_user_tables WHERE relname = ANY (%(tables)s)"
    return int(connection.exec_driver_sql(sql, {"tables": list(tables)}).scalar_one())


def test_a_plan_that_was_made_for_an_empty_table_is_good_for_a_full_one(
    database: Database, make_job: JobFactory
) -> None:
    """A session that has recorded outcomes in a table of a few rows keeps its plan for those that come."""
    worker_id = make_job.worker()
    with database.transaction() as connection:
        _know(connection, "jobs")
        few = [row[0] for row in fetch_all(connection, _RUNNING, {"worker": worker_id, "rows": 20})]
        for job_id in few:
            _record(connection, job_id, worker_id)
        (job_id, *_) = [
            row[0] for row in fetch_all(connection, _RUNNING, {"worker": worker_id, "rows": ROWS})
        ]
        read = _rows_read(connection, "jobs")
        _record(connection, job_id, worker_id)
        assert _rows_read(connection, "jobs") == read


def _record(connection: Connection, job_id: int, worker_id: int) -> None:
    outcome = Outcome(job_id, 1, JobStatus.COMPLETED, AttemptOutcome.COMPLETED, run_seconds=0.1)
    kept = record(connection, [outcome], worker_id=worker_id)
    assert kept.keys == {(job_id, 1)}
