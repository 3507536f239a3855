"""Counts that the scheduler keeps: what is many is read, what is few is counted, and each says which."""

from __future__ import annotations

from typing import Any

import pytest

from goqueue.bulk import operations as bulk
from goqueue.bulk.actions import BulkAction
from goqueue.bulk.operation_rows import NewBulkOperation
from goqueue.config.settings import Settings
from goqueue.db import bounded_reads
from goqueue.db.database import Connection, Database
from goqueue.engine.listing import preview_rows
from goqueue.engine.listing.filters import JobFilter
from goqueue.insight import failure_rows, gauge_rows
from goqueue.insight import statistic_rows as statistics
from goqueue.insight.counter import INTERVAL_SECONDS, LONGEST_SECONDS, JobCounter
from goqueue.insight.failure_rows import FailureFilter
from goqueue.insight.statistic_rows import QueueStatistics
from goqueue.jobs import JobStatus
from tests.support.database.plans import nodes
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

LEASE = 15.0
MANY, FEW = 3_000, 20
KIND = "0123456789abcdef"


def insert(connection: Connection, status: str, jobs: int, queue: str = "noop") -> None:
    """Insert jobs of a status in a queue, whose time has come."""
    connection.exec_driver_sql(
        "INSERT INTO jobs (queue, type, status, payload, rank, finished_at, fingerprint) "
        "SELECT %(queue)s, 'noop', %(status)s, '{}', CASE WHEN %(status)s = 'queued' THEN now() END, "
        "CASE WHEN %(status)s NOT IN ('queued', 'blocked') THEN now() END, "
        "CASE WHEN %(status)s = 'failed' THEN %(kind)s END FROM generate_series(1, %(jobs)s)",
        {"queue": queue, "status": status, "jobs": jobs, "kind": KIND},
    )
    connection.exec_driver_sql(
        "INSERT INTO queues (name) VALUES (%(queue)s) ON CONFLICT DO NOTHING", {"queue": queue}
    )


@pytest.fixture
def counter(settings: Settings, database: Database) -> JobCounter:
    """The scheduler's role."""
    return JobCounter(settings, database, lambda _seconds: None)


@pytest.fixture
def filled(database: Database) -> Database:
    """Many jobs that are ready, and many that have failed; in another queue few."""
    with database.autocommit() as connection:
        for status in ("queued", "failed"):
            insert(connection, status, MANY)
            insert(connection, status, FEW, "email")
    return database


def by_name(connection: Connection) -> dict[str, QueueStatistics]:
    """The statistics of each queue."""
    return {found.name: found for found in statistics.by_queue(connection, lease_seconds=LEASE)}


def test_what_is_many_is_kept_and_said_to_be(filled: Database, counter: JobCounter) -> None:
    """Counts are exact before the scheduler has counted; then those of many are its own."""
    with filled.autocommit() as connection:
        before = by_name(connection)
        assert (before["noop"].ready, before["noop"].failed, before["noop"].estimated) == (MANY, MANY, [])
    assert counter.run_once()["kept"]
    with filled.autocommit() as connection:
        assert by_name(connection)["noop"].estimated == ["ready", "failed"]
        insert(connection, "queued", 1)
        insert(connection, "queued", 1, "email")
        after = by_name(connection)
        # The scheduler has not counted the new ones.
        assert (after["noop"].ready, after["email"].ready) == (MANY, FEW + 1)
        assert after["email"].estimated == []
        service = statistics.of_service(connection, lease_seconds=LEASE)
        assert (service.counts["ready"], service.counts["failed"]) == (MANY + FEW, MANY + FEW)
        assert set(service.estimated) >= {"ready", "failed"}


def test_a_queue_that_was_drained_is_counted_again(filled: Database, counter: JobCounter) -> None:
    """A kept count does not outlive its jobs: where few are left, they are counted."""
    counter.run_once()
    with filled.autocommit() as connection:
        connection.exec_driver_sql("DELETE FROM jobs WHERE id %% 100 <> 0 AND status = 'queued'")
        found = by_name(connection)["noop"]
        assert found.ready < FEW * 2
        assert "ready" not in found.estimated
    counter.run_once()
    with filled.autocommit() as connection:
        kinds = connection.exec_driver_sql("SELECT DISTINCT kind FROM kept_counts").scalars().all()
        assert "ready" not in kinds
        assert "failed" in kinds


def test_old_counts_are_nobodys(filled: Database, counter: JobCounter) -> None:
    """Without a scheduler everything is counted as it is asked for."""
    counter.run_once()
    with filled.autocommit() as connection:
        connection.exec_driver_sql(
            "UPDATE kept_counts SET counted_at = now() - interval '6 minutes', jobs = 1"
        )
        found = by_name(connection)["noop"]
        assert (found.ready, found.failed, found.estimated) == (MANY, MANY, [])


def test_gauges_and_groups_take_the_kept_counts(filled: Database, counter: JobCounter) -> None:
    """Metrics and groups of failures agree with the scheduler; a group says that its count is an estimate."""
    with filled.autocommit() as connection:
        (exact,) = failure_rows.groups(connection, FailureFilter(), limit=10)
        assert (exact.count, exact.is_estimate) == (MANY + FEW, False)
    counter.run_once()
    with filled.autocommit() as connection:
        insert(connection, "failed", 1)
        (group,) = failure_rows.groups(connection, FailureFilter(), limit=10)
        assert (group.count, group.is_estimate) == (MANY + FEW, True)
        assert failure_rows.get_group(connection, KIND).count == MANY + FEW
        (of_queue,) = failure_rows.groups(connection, FailureFilter(queue="email"), limit=10)
        assert (of_queue.count, of_queue.is_estimate) == (FEW, False)
        gauges = {queue.name: queue for queue in gauge_rows.read(connection, lease_seconds=LEASE).queues}
        assert (gauges["noop"].depth, gauges["noop"].dead_letters) == (MANY, MANY)


@pytest.mark.parametrize(
    ("action", "wanted", "total"),
    [
        pytest.param(BulkAction.RETRY, {"queue": "noop"}, MANY, id="failed of a queue"),
        pytest.param(BulkAction.RETRY, {"fingerprint": KIND}, MANY + FEW, id="kind"),
        pytest.param(BulkAction.CANCEL, {"queue": "noop"}, MANY, id="queued of a queue"),
    ],
)
def test_a_dry_run_tells_an_estimate_of_what_is_many(
    filled: Database,
    counter: JobCounter,
    monkeypatch: pytest.MonkeyPatch,
    action: BulkAction,
    wanted: dict[str, Any],
    total: int,
) -> None:
    """Up to a bound it counts; beyond, the total is the kept count, and not exact."""
    new = NewBulkOperation(action, JobFilter(**wanted))
    exact = bulk.preview(filled, new)
    assert (exact.total, exact.exact, len(exact.jobs)) == (total, True, 20)
    counter.run_once()
    monkeypatch.setattr(preview_rows, "INDEXED_MAX", 100)
    estimate = bulk.preview(filled, new)
    assert (estimate.total, estimate.exact, estimate.is_search) == (total, False, False)
    assert [job.id for job in estimate.jobs] == [job.id for job in exact.jobs]


def test_an_estimate_of_what_is_not_kept_is_the_planners(
    filled: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no less than what was counted, and near to the truth after an ANALYZE."""
    monkeypatch.setattr(preview_rows, "LOOKED_AT_MAX", 100)
    with filled.transaction() as connection:
        connection.exec_driver_sql("ANALYZE jobs")
        found = preview_rows.look(
            connection, JobFilter(type="noop", status=JobStatus.QUEUED), up_to_id=2**62, limit=20
        )
    assert not found.exact
    assert found.total == pytest.approx(MANY + FEW, rel=0.1)


def test_a_glance_counts_along_indexes(filled: Database) -> None:
    """Also by outdated statistics no table is read or sorted to count the jobs of queues."""
    with filled.transaction() as connection:
        bounded_reads.along_indexes(connection)
        plan = connection.exec_driver_sql(
            f"EXPLAIN (FORMAT JSON) {statistics._BY_QUEUE}",  # noqa: SLF001  (the plan of this very statement)
            {"lease_seconds": LEASE, "name": None},
        ).scalar_one()
    scans = [node for node in nodes(plan[0]["Plan"]) if node.get("Relation Name") in {"jobs", "ready_jobs"}]
    assert {node["Node Type"] for node in scans} <= {"Index Scan", "Index Only Scan"}
    used = {node["Index Name"] for node in scans}
    assert {"ready_jobs_pkey", "jobs_rare_queue_idx"} <= used


def test_counting_takes_a_small_part_of_the_time(settings: Settings, database: Database) -> None:
    """The counter rests for so much longer than it counts, and never so long that its counts are old."""
    pauses: list[float] = []
    counter = JobCounter(settings, database, pauses.append)
    for milliseconds in (0, 500, 60_000):
        counter.pause({"kept": 0, "milliseconds": milliseconds})
    assert pauses == [INTERVAL_SECONDS, 25.0, LONGEST_SECONDS]
