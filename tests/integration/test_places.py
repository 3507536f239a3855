"""Places of jobs: the tables of ready and of running jobs agree with the rows, whoever writes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, strategies
from hypothesis import settings as hypothesis_settings

from goqueue.config.settings import Settings
from goqueue.db import retired_indexes
from goqueue.db.database import Connection, Database
from goqueue.engine import place_rows
from goqueue.engine.new_job_rows import insert, insert_many, insert_plain
from goqueue.engine.transitions.claim import claim
from goqueue.engine.transitions.claim_ranges import claim_ranges
from goqueue.engine.transitions.give_back import give_back
from goqueue.engine.transitions.record import record
from goqueue.insight.payload_indexer import PayloadIndexer
from goqueue.jobs import AttemptOutcome, JobStatus, NewJob, Outcome
from tests.support.database.places import misplaced
from tests.support.factories import JobFactory
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

#: Everything that a statement may write into a job whose place it does not know.
ROWS: dict[str, strategies.SearchStrategy[str]] = {
    "queue": strategies.sampled_from(["'a'", "'b'"]),
    "rank": strategies.sampled_from(["NULL", "now()", "now() - interval '1 hour'"]),
    "quarantined": strategies.sampled_from(["true", "false", "false"]),
    "suspicion": strategies.sampled_from(["0", "1", "2"]),
    "fence": strategies.sampled_from(["fence", "fence + 1"]),
    "concurrency_key": strategies.sampled_from(["NULL", "'k'", "concurrency_key"]),
    "expires_at": strategies.sampled_from(["NULL", "now() + interval '1 hour'", "expires_at"]),
    "deadline_at": strategies.sampled_from(["NULL", "now() + interval '1 day'"]),
    "unreadable_until": strategies.sampled_from(["NULL", "now() + interval '1 hour'"]),
    "cancel_requested_at": strategies.sampled_from(["NULL", "now()", "cancel_requested_at"]),
}

#: The states, and what goes with each by the constraints of the table.
STATES = {
    "queued": "worker_id = NULL, finished_at = NULL, admitted = {flag}",
    "running": "worker_id = {worker}, finished_at = NULL, admitted = false",
    "blocked": "worker_id = NULL, finished_at = NULL, admitted = false",
    **dict.fromkeys(
        ("completed", "failed", "cancelled", "expired"),
        "worker_id = NULL, finished_at = clock_timestamp(), admitted = false",
    ),
}

CHANGES = strategies.builds(
    lambda state, flag, worker, columns: ", ".join(
        [f"status = '{state}'", STATES[state].format(flag=flag, worker=worker)]
        + [f"{name} = {value}" for name, value in columns.items()]
    ),
    strategies.sampled_from(list(STATES)),
    strategies.sampled_from(["true", "false"]),
    strategies.sampled_from(["NULL", "7", "8"]),
    strategies.fixed_dictionaries({}, optional=ROWS),
)


def assert_in_place(connection: Connection) -> None:
    """Both tables, and the columns for indexes, agree with the rows of jobs."""
    assert misplaced(connection) == {}


@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(changes=strategies.lists(strategies.tuples(strategies.integers(1, 3), CHANGES), max_size=12))
def test_whatever_is_written_by_hand_is_placed(database: Database, changes: list[tuple[int, str]]) -> None:
    """Any statement that knows nothing of places, in any order: as the release before writes, or a hand."""
    with database.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM jobs")
        connection.exec_driver_sql(
            "INSERT INTO jobs (id, queue, type, payload, rank) "
            "SELECT n, 'a', 'noop', '{}', now() FROM generate_series(1, 3) AS n"
        )
        for job_id, change in changes:
            connection.exec_driver_sql(f"UPDATE jobs SET {change} WHERE id = {job_id}")
            assert_in_place(connection)
        connection.exec_driver_sql("DELETE FROM jobs WHERE id = 2")
        assert_in_place(connection)
        connection.exec_driver_sql("TRUNCATE jobs")
        assert_in_place(connection)


@pytest.mark.parametrize("state", STATES)
def test_rows_are_placed_as_they_are_inserted(database: Database, state: str) -> None:
    """A row that is inserted in any state, by a statement that knows nothing of places."""
    final = "now()" if state in {"completed", "failed", "cancelled", "expired"} else "NULL"
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "INSERT INTO jobs (queue, type, payload, status, finished_at, rank, concurrency_key, expires_at) "
            f"VALUES ('q', 'noop', '{{}}', '{state}', {final}, now(), 'k', now() + interval '1 hour')"
        )
        assert_in_place(connection)


NEW = {
    "plain": NewJob("q", "noop", "{}"),
    "later": NewJob("q", "noop", "{}", delay_seconds=60),
    "of a key": NewJob("q", "noop", "{}", concurrency_key="k"),
    "that expires": NewJob("q", "noop", "{}", ttl_seconds=60),
}


@pytest.mark.parametrize("kind", NEW)
def test_jobs_are_placed_as_they_are_created(database: Database, kind: str) -> None:
    """One, many, and those that are plain in a statement of their own."""
    job = NEW[kind]
    with database.autocommit() as connection:
        insert(connection, job)
        insert_many(connection, [job] * 3)
        insert_many(connection, [job] * 2, blocked=[True, False])
        if kind == "plain":
            insert_plain(connection, [job])
            insert_plain(connection, [job, job])
        assert_in_place(connection)


def claimed_by_range(connection: Connection, worker_id: int) -> list[tuple[int, int]]:
    """Claim whatever is ready in the queue."""
    everything = (("1900-01-01 00:00:00+00", 0), ("2999-01-01 00:00:00+00", 2**40))
    jobs = claim_ranges(connection, "q", [everything], limit=100, worker_id=worker_id, lease_seconds=60)
    return [(job.id, job.fence) for job in jobs]


def claimed_by_id(connection: Connection, worker_id: int) -> list[tuple[int, int]]:
    """Claim every queued job by its message."""
    messages = connection.exec_driver_sql("SELECT id, fence FROM jobs WHERE status = 'queued'").fetchall()
    jobs = claim(connection, [(row[0], row[1]) for row in messages], worker_id=worker_id, lease_seconds=60)
    return [(job.id, job.fence) for job in jobs]


ENDS = {
    "completed": (JobStatus.COMPLETED, AttemptOutcome.COMPLETED),
    "failed": (JobStatus.FAILED, AttemptOutcome.FAILED),
    "retried": (JobStatus.QUEUED, AttemptOutcome.FAILED),
    "cancelled": (JobStatus.CANCELLED, AttemptOutcome.CANCELLED),
}


@pytest.mark.parametrize("kind", NEW)
@pytest.mark.parametrize("claimed", [claimed_by_range, claimed_by_id])
@pytest.mark.parametrize("end", [*ENDS, "given back"])
def test_claims_and_records_keep_the_places(
    database: Database,
    make_job: JobFactory,
    kind: str,
    claimed: Callable[[Connection, int], list[tuple[int, int]]],
    end: str,
) -> None:
    """The hot statements write the tables themselves, for plain jobs and for others."""
    worker = make_job.worker(queues=["q"])
    with database.autocommit() as connection:
        insert_many(connection, [NEW[kind]] * 3)
        connection.exec_driver_sql("UPDATE jobs SET rank = now(), available_at = now() WHERE rank IS NULL")
        keys = claimed(connection, worker)
        assert len(keys) == 3
        assert_in_place(connection)
        if end == "given back":
            give_back(connection, keys, worker_id=worker)
        else:
            status, outcome = ENDS[end]
            outcomes = [
                Outcome(
                    job_id, fence, status, outcome, "null" if end == "completed" else None, run_seconds=0.1
                )
                for job_id, fence in keys
            ]
            assert record(connection, outcomes, worker_id=worker).keys == set(keys)
        assert_in_place(connection)


def test_a_row_that_was_put_back_meanwhile_is_left(database: Database, make_job: JobFactory) -> None:
    """A claim that began before a job was claimed and given back takes nothing that it cannot see."""
    worker, other = make_job.worker(queues=["q"]), make_job.worker(queues=["q"])
    with database.transaction() as slow, database.autocommit() as connection:
        job = insert(connection, NEW["plain"])
        slow.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        slow.exec_driver_sql("SELECT 1 FROM jobs")
        keys = claimed_by_id(connection, other)
        give_back(connection, keys, worker_id=other)
        assert [key[0] for key in keys] == [job.id]
        with pytest.raises(Exception, match="could not serialize"):
            claimed_by_range(slow, worker)
    with database.autocommit() as connection:
        assert_in_place(connection)
        assert claimed_by_range(connection, worker) == [(job.id, keys[0][1] + 1)]
        assert_in_place(connection)


@pytest.mark.parametrize("change", ["job_fence = job_fence + 1", "ready_rank = ready_rank - interval '1 s'"])
@pytest.mark.parametrize("claimed", [claimed_by_range, claimed_by_id])
def test_a_row_that_says_something_else_is_not_claimed(
    database: Database,
    make_job: JobFactory,
    claimed: Callable[[Connection, int], list[tuple[int, int]]],
    change: str,
) -> None:
    """A claim that sees an old row of `ready_jobs` leaves the job to one that sees the new one."""
    worker = make_job.worker(queues=["q"])
    with database.autocommit() as connection:
        insert(connection, NEW["plain"])
        connection.exec_driver_sql(f"UPDATE ready_jobs SET {change}")
        assert claimed(connection, worker) == []
        connection.exec_driver_sql("DELETE FROM ready_jobs")
        connection.exec_driver_sql("UPDATE jobs SET place = NULL")
        assert_in_place(connection)
        assert len(claimed(connection, worker)) == 1


def test_rows_of_nobody_are_deleted(database: Database, make_job: JobFactory) -> None:
    """A row of either table without its job goes, and none that has one."""
    make_job("queued", queue="q")
    make_job("running", queue="q")
    with database.autocommit() as connection:
        connection.exec_driver_sql("INSERT INTO queues (name) VALUES ('q') ON CONFLICT DO NOTHING")
        connection.exec_driver_sql(
            "INSERT INTO ready_jobs (queue_name, ready_rank, job_id, job_fence, job_type) "
            "SELECT 'q', now() - interval '1 day', id, 0, type FROM jobs"
        )
        connection.exec_driver_sql("INSERT INTO running_jobs (holder, job_id) SELECT 99, id FROM jobs")
        assert place_rows.delete_stale(connection, limit=100) == 4
        assert_in_place(connection)
        assert place_rows.delete_stale(connection, limit=100) == 0


def test_a_row_of_nobody_that_somebody_has_locked_is_left(database: Database) -> None:
    """Whoever has it locked is just putting its job back there, or taking it."""
    with database.transaction() as other, database.autocommit() as connection:
        connection.exec_driver_sql("INSERT INTO queues (name) VALUES ('q') ON CONFLICT DO NOTHING")
        connection.exec_driver_sql(
            "INSERT INTO ready_jobs (queue_name, ready_rank, job_id, job_fence, job_type) "
            "VALUES ('q', now(), 1, 0, 'noop'), ('q', now(), 2, 0, 'noop')"
        )
        other.exec_driver_sql("SELECT FROM ready_jobs WHERE job_id = 1 FOR UPDATE")
        assert place_rows.delete_stale(connection, limit=100) == 1
    with database.autocommit() as connection:
        assert connection.exec_driver_sql("SELECT job_id FROM ready_jobs").scalars().all() == [1]
        assert place_rows.delete_stale(connection, limit=100) == 1


def names(connection: Connection) -> set[Any]:
    """The indexes of jobs."""
    return set(
        connection.exec_driver_sql("SELECT indexname FROM pg_indexes WHERE tablename = 'jobs'")
        .scalars()
        .all()
    )


def test_old_indexes_stay_as_long_as_a_worker_asks_them(
    database: Database, settings: Settings, make_job: JobFactory
) -> None:
    """The scheduler drops them when the last worker of the release before is gone."""
    old = set(retired_indexes.RETIRED_INDEXES)
    indexer = PayloadIndexer(settings, database, lambda _seconds: None)
    worker = make_job.worker()
    with database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE workers SET places_jobs = false, heartbeat_at = now()")
        retired_indexes.make_retired_indexes(connection)
        assert old <= names(connection)
        indexer.run_once()
        indexer.wait(30)
        assert old <= names(connection)
        connection.exec_driver_sql("UPDATE workers SET stopped_at = now() WHERE id = %(id)s", {"id": worker})
        indexer = PayloadIndexer(settings, database, lambda _seconds: None)
        indexer.run_once()
        indexer.wait(30)
        assert not old & names(connection)


def test_a_plain_job_changes_no_indexed_column(database: Database, make_job: JobFactory) -> None:
    """Its claim and its record write new versions of the row, and no entry into any index (HOT)."""
    indexed = """
        SELECT DISTINCT attname FROM pg_index JOIN pg_depend ON objid = indexrelid
        JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
        WHERE indrelid = 'jobs'::regclass AND refobjid = 'jobs'::regclass
    """
    worker = make_job.worker(queues=["q"])
    with database.autocommit() as connection:
        columns = connection.exec_driver_sql(indexed).scalars().all()
        assert {"queue", "rare_state", "unfinished_key"} <= set(columns)
        sql = f"SELECT {', '.join(columns)} FROM jobs"
        insert_many(connection, [NEW["plain"]])
        created = connection.exec_driver_sql(sql).one()
        ((job_id, fence),) = claimed_by_range(connection, worker)
        assert connection.exec_driver_sql(sql).one() == created
        done = Outcome(job_id, fence, JobStatus.COMPLETED, AttemptOutcome.COMPLETED, "null", run_seconds=0.1)
        record(connection, [done], worker_id=worker)
        assert connection.exec_driver_sql(sql).one() == created
