"""Operations over many jobs: step by step, at their rate, behind their canaries, and whoever dies."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

import goqueue
from goqueue import failpoints
from goqueue.bulk import operation_rows as bulk_store
from goqueue.bulk import operations as bulk
from goqueue.bulk.actions import STEP_MAX, BulkAction, BulkState
from goqueue.bulk.operation_rows import BulkOperation, NewBulkOperation
from goqueue.bulk.service import BulkOperator
from goqueue.config.settings import Settings, environment_of
from goqueue.db.database import Connection, Database
from goqueue.db.statements import current_time
from goqueue.engine import cleaning_rows as cleaning
from goqueue.engine import job_rows as job_store
from goqueue.engine.listing.filters import JobFilter
from goqueue.errors import (
    BulkOperationEndedError,
    BulkOperationNotFoundError,
    FailureNotFoundError,
    InvalidJobError,
)
from goqueue.jobs import Job, JobStatus
from tests.support.engine import QUICK, Engine, process_of
from tests.support.factories import JobFactory
from tests.support.shared_database import emptied_database, module_settings
from tests.support.waiting import wait_until

settings = module_settings
database = emptied_database


class Desk:
    """An operator under a clock that the test moves, and what it works on."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.database = database
        self.seconds = 0.0
        self._start: datetime | None = None
        self.operator = BulkOperator(settings, database, lambda _seconds: None, clock=self.clock)

    def clock(self, connection: Connection) -> datetime:
        """So long after the first look."""
        self._start = self._start or current_time(connection)
        return self._start + timedelta(seconds=self.seconds)

    def start(self, action: str, wanted: JobFilter, **others: Any) -> int:
        """Begin an operation."""
        return bulk.start(self.database, NewBulkOperation(BulkAction(action), wanted, **others)).id

    def look(self, operation_id: int) -> BulkOperation:
        """The operation as it is now."""
        with self.database.autocommit() as connection:
            return bulk_store.get(connection, operation_id)

    def run(self, operation_id: int, rounds: int = 1000) -> BulkOperation:
        """Run the operator until the operation has ended, at most so many rounds."""
        for _ in range(rounds):
            if self.look(operation_id).finished_at is not None:
                break
            self.operator.run_once()
        return self.look(operation_id)

    def job(self, job: Job) -> Job:
        """The row as it is now."""
        with self.database.autocommit() as connection:
            return job_store.get(connection, job.id)

    def statuses(self) -> dict[str, int]:
        """How many jobs there are of each status."""
        with self.database.autocommit() as connection:
            rows = connection.exec_driver_sql("SELECT status, count(*) FROM jobs GROUP BY 1").fetchall()
        return {row[0]: row[1] for row in rows}

    def end_canaries(self, operation_id: int, status: str) -> None:
        """The canaries that are queued end so."""
        self.execute(
            "UPDATE jobs SET status = %(status)s, rank = NULL, finished_at = now() WHERE status = 'queued' "
            "AND id IN (SELECT job_id FROM bulk_canaries WHERE operation_id = %(id)s)",
            status=status,
            id=operation_id,
        )

    def execute(self, sql: str, **parameters: Any) -> None:
        """Run a statement."""
        with self.database.autocommit() as connection:
            connection.exec_driver_sql(sql, parameters)

    def dead_letters(self, count: int, fingerprint: str = "a" * 16) -> None:
        """Insert so many failed jobs of a kind."""
        self.execute(
            "INSERT INTO jobs (queue, type, status, payload, finished_at, fingerprint, attempts, fence) "
            "SELECT 'default', 'noop', 'failed', '{}', now(), %(fingerprint)s, 1, 1 "
            "FROM generate_series(1, %(count)s)",
            count=count,
            fingerprint=fingerprint,
        )


@pytest.fixture
def desk(settings: Settings, database: Database) -> Desk:
    """An operator."""
    return Desk(settings, database)


@pytest.fixture
def armed() -> Iterator[Callable[[str], None]]:
    """Arms failpoints until the end of the test."""
    yield failpoints.configure
    failpoints.configure("")


ALL_FAILED = JobFilter(queue="default", status=JobStatus.FAILED)
OF_A = JobFilter(fingerprint="a" * 16)


def test_one_group_is_retried(desk: Desk) -> None:
    """A retry of a fingerprint queues its jobs and no others, and counts them."""
    desk.dead_letters(7)
    desk.dead_letters(2, "b" * 16)
    operation = desk.run(desk.start("retry", OF_A, author="ann"))
    assert (operation.state, operation.total, operation.done, operation.changed) == ("completed", 7, 7, 7)
    assert (operation.requested_by, operation.reason) == ("ann", None)
    assert operation.finished_at is not None
    assert desk.statuses() == {"queued": 7, "failed": 2}


def test_steps_are_bounded(desk: Desk) -> None:
    """More jobs than a step takes are done in several, each with a position of its own."""
    desk.dead_letters(STEP_MAX + 200)
    operation_id = desk.start("retry", ALL_FAILED)
    counts = [desk.operator.run_once()["done"] for _ in range(4)]
    assert counts == [STEP_MAX, 200, 0, 0]
    assert desk.look(operation_id).state is BulkState.COMPLETED


def test_jobs_that_come_later_are_left(desk: Desk) -> None:
    """An operation is over the jobs that there were when it was begun."""
    desk.dead_letters(3)
    operation_id = desk.start("retry", ALL_FAILED)
    desk.dead_letters(2)
    assert desk.run(operation_id).changed == 3
    assert desk.statuses() == {"queued": 3, "failed": 2}


def test_a_job_whose_unique_key_is_held_is_not_changed(desk: Desk, make_job: JobFactory) -> None:
    """Of two dead letters with one unique key the first runs again; the other is done, and not changed."""
    first, second = (make_job("failed", unique_key="k") for _ in range(2))
    operation = desk.run(desk.start("retry", ALL_FAILED))
    assert (operation.state, operation.done, operation.changed) == ("completed", 2, 1)
    assert [desk.job(job).status for job in (first, second)] == ["queued", "failed"]


def test_canaries_are_those_that_run(desk: Desk, make_job: JobFactory) -> None:
    """A job that may not be retried is no canary: the next one is tried instead."""
    for _ in range(3):
        make_job("failed", unique_key="k")
    desk.dead_letters(5)
    operation_id = desk.start("retry", ALL_FAILED, canary=2)
    for _ in range(4):
        desk.operator.run_once()
    assert desk.statuses() == {"queued": 2, "failed": 6}
    assert (desk.look(operation_id).done, desk.look(operation_id).changed) == (4, 2)


def test_ended_operations_are_forgotten(desk: Desk) -> None:
    """The cleaner deletes operations by age, with their canaries, and leaves those that go on."""
    desk.dead_letters(2)
    going_on = desk.start("retry", ALL_FAILED, canary=1)
    desk.operator.run_once()
    desk.run(desk.start("retry", JobFilter(queue="none")))
    with desk.database.autocommit() as connection:
        assert cleaning.delete_bulk_operations(connection, age_seconds=60, limit=10) == 0
        assert cleaning.delete_bulk_operations(connection, age_seconds=0, limit=10) == 1
        bulk_store.abort(connection, going_on)
        assert cleaning.delete_bulk_operations(connection, age_seconds=0, limit=10) == 1
        assert connection.exec_driver_sql("SELECT count(*) FROM bulk_canaries").scalar_one() == 0


def test_the_rate_is_kept_by_the_clock(desk: Desk) -> None:
    """At 10 jobs a second the position moves by the time that has passed, not by how often one looks."""
    desk.dead_letters(100)
    operation_id = desk.start("retry", ALL_FAILED, rate=10)
    done = []
    for seconds in [0, 0, 0.05, 0.1, 0.5, 0.5, 1.0]:
        desk.seconds = seconds
        desk.operator.run_once()
        done.append(desk.look(operation_id).done)
    assert done == [1, 1, 1, 2, 6, 6, 11]


def test_the_rate_is_kept_over_a_restart(settings: Settings, desk: Desk) -> None:
    """After an hour without an operator there is one second's burst, and then the rate."""
    desk.dead_letters(100)
    operation_id = desk.start("retry", ALL_FAILED, rate=10)
    desk.operator.run_once()
    desk.operator = BulkOperator(settings, desk.database, lambda _seconds: None, clock=desk.clock)
    desk.seconds = 3600
    for _ in range(3):
        desk.operator.run_once()
    assert desk.look(operation_id).done == 1 + 11
    desk.seconds = 3600.5
    desk.operator.run_once()
    assert desk.look(operation_id).done == 1 + 11 + 5


def test_operations_go_on_side_by_side(desk: Desk) -> None:
    """A slow operation does not hold up another one."""
    desk.dead_letters(5)
    desk.dead_letters(5, "b" * 16)
    slow = desk.start("retry", OF_A, rate=0.01)
    fast = desk.start("retry", JobFilter(fingerprint="b" * 16))
    desk.run(fast)
    assert (desk.look(slow).done, desk.look(fast).state) == (1, "completed")


def test_the_others_follow_when_the_canaries_complete(desk: Desk) -> None:
    """The first n run; nothing else moves until all of them are completed; then the rest follows."""
    desk.dead_letters(10)
    operation_id = desk.start("retry", ALL_FAILED, canary=3)
    assert desk.look(operation_id).state is BulkState.CANARY
    for _ in range(3):
        desk.operator.run_once()
    assert desk.statuses() == {"queued": 3, "failed": 7}
    desk.end_canaries(operation_id, "completed")
    operation = desk.run(operation_id)
    assert (operation.state, operation.done, operation.changed) == ("completed", 10, 10)
    assert desk.statuses() == {"completed": 3, "queued": 7}


@pytest.mark.parametrize("status", ["failed", "cancelled", "expired"])
def test_a_canary_that_does_not_complete_stops_the_operation(desk: Desk, status: str) -> None:
    """One canary that ended otherwise: the others stay as they are, and the reason has the counts."""
    desk.dead_letters(10)
    operation_id = desk.start("retry", ALL_FAILED, canary=3)
    desk.operator.run_once()
    with desk.database.autocommit() as connection:
        first = connection.exec_driver_sql("SELECT min(job_id) FROM bulk_canaries").scalar_one()
    desk.execute(
        "UPDATE jobs SET status = %(status)s, rank = NULL, finished_at = now() WHERE id = %(id)s",
        id=first,
        status=status,
    )
    desk.operator.run_once()
    assert desk.look(operation_id).state is BulkState.CANARY
    desk.end_canaries(operation_id, "completed")
    operation = desk.run(operation_id)
    assert (operation.state, operation.done) == ("stopped", 3)
    assert operation.reason == "1 of the first 3 jobs did not complete"
    assert desk.statuses()["failed"] == 7 + (status == "failed")


def test_a_canary_that_is_deleted_stops_the_operation(desk: Desk) -> None:
    """A job that is gone did not complete."""
    desk.dead_letters(3)
    operation_id = desk.start("retry", ALL_FAILED, canary=1)
    desk.operator.run_once()
    desk.execute("DELETE FROM jobs WHERE status = 'queued'")
    assert desk.run(operation_id).state is BulkState.STOPPED


def test_canaries_alone_are_the_whole_operation(desk: Desk) -> None:
    """With fewer jobs than canaries it ends when these have completed, and not before."""
    desk.dead_letters(2)
    operation_id = desk.start("retry", ALL_FAILED, canary=10)
    assert desk.run(operation_id, rounds=5).state is BulkState.CANARY
    desk.end_canaries(operation_id, "completed")
    assert desk.run(operation_id).state is BulkState.COMPLETED


def test_an_operation_over_nothing_completes(desk: Desk) -> None:
    """No job fits: it ends at once, with or without canaries."""
    desk.dead_letters(1)
    for canary in (None, 10):
        operation_id = desk.start("retry", JobFilter(queue="none"), canary=canary)
        assert desk.run(operation_id).state is BulkState.COMPLETED


def test_an_aborted_operation_goes_no_further(desk: Desk) -> None:
    """What was done stays done, the rest is left; a second abort changes nothing."""
    desk.dead_letters(10)
    operation_id = desk.start("retry", ALL_FAILED, rate=1)
    desk.operator.run_once()
    with desk.database.autocommit() as connection:
        aborted = bulk_store.abort(connection, operation_id)
        again = bulk_store.abort(connection, operation_id)
    assert (aborted.state, aborted.done, again) == ("aborted", 1, aborted)
    desk.seconds = 60
    assert desk.operator.run_once() == {"operations": 0, "done": 0}
    assert desk.statuses() == {"queued": 1, "failed": 9}


def test_an_operation_that_ends_just_before_a_step_is_left(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An abort that comes between looking and locking counts."""
    desk.dead_letters(2)
    operation_id = desk.start("retry", ALL_FAILED)
    with desk.database.autocommit() as connection:
        bulk_store.abort(connection, operation_id)
    monkeypatch.setattr(bulk_store, "unfinished", lambda _connection: [operation_id])
    desk.operator.run_once()
    assert desk.statuses() == {"failed": 2}


def test_two_operators_share_the_work(settings: Settings, desk: Desk) -> None:
    """While leadership changes hands two operators may run: each step is done by one of them."""
    desk.dead_letters(2 * STEP_MAX)
    operation_id = desk.start("retry", ALL_FAILED)
    others = [Desk(settings, desk.database) for _ in range(2)]
    threads = [threading.Thread(target=other.run, args=(operation_id,)) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    operation = desk.look(operation_id)
    assert (operation.state, operation.done, operation.changed) == ("completed", 2 * STEP_MAX, 2 * STEP_MAX)


def test_an_ended_operation_cannot_be_aborted(desk: Desk) -> None:
    """Nor can one that does not exist."""
    operation_id = desk.run(desk.start("retry", ALL_FAILED)).id
    with desk.database.autocommit() as connection:
        with pytest.raises(BulkOperationEndedError):
            bulk_store.abort(connection, operation_id)
        with pytest.raises(BulkOperationNotFoundError):
            bulk_store.abort(connection, operation_id + 1)


def test_a_step_is_done_whole_or_not_at_all(desk: Desk, armed: Callable[[str], None]) -> None:
    """An operator that ends before its commit has changed nothing: neither jobs nor position."""
    desk.dead_letters(5)
    operation_id = desk.start("retry", ALL_FAILED, canary=2)
    armed("in_bulk_step:raise")
    with pytest.raises(failpoints.FailpointError):
        desk.operator.run_once()
    assert desk.statuses() == {"failed": 5}
    operation = desk.look(operation_id)
    assert (operation.done, operation.changed, operation.after_id) == (0, 0, 0)
    armed("")
    desk.operator.run_once()
    assert desk.statuses() == {"failed": 3, "queued": 2}


def test_nothing_is_done_twice_after_the_operator_died(desk: Desk, armed: Callable[[str], None]) -> None:
    """A job that fails again behind the position is not retried again by the operation."""
    desk.dead_letters(STEP_MAX + 5)
    operation_id = desk.start("retry", ALL_FAILED)
    armed("after_bulk_step:raise")
    with pytest.raises(failpoints.FailpointError):
        desk.operator.run_once()
    armed("")
    assert desk.statuses() == {"queued": STEP_MAX, "failed": 5}
    desk.execute(
        "UPDATE jobs SET status = 'failed', rank = NULL, finished_at = now() WHERE status = 'queued'"
    )
    operation = desk.run(operation_id)
    assert (operation.done, operation.changed) == (STEP_MAX + 5, STEP_MAX + 5)
    assert desk.statuses() == {"failed": STEP_MAX, "queued": 5}


OPERATOR = """
from goqueue import failpoints
from goqueue.config.settings import load_settings
from goqueue.db.database import Database
from goqueue.bulk.service import BulkOperator

settings = load_settings()
database = Database(settings)
operator = BulkOperator(settings, database, lambda seconds: None)
failpoints.configure(settings.failpoints)
while operator.run_once()["operations"]:
    pass
"""


def test_a_killed_operator_loses_nothing_and_does_nothing_twice(settings: Settings, desk: Desk) -> None:
    """Killed in one step of three, before or behind the commit, it still retries each job exactly once."""
    desk.dead_letters(400)
    desk.execute("CREATE TABLE retried (id bigint)")
    desk.execute(
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO retried VALUES (NEW.id); RETURN NEW; END $$"
    )
    desk.execute(
        "CREATE TRIGGER note AFTER UPDATE ON jobs FOR EACH ROW "
        "WHEN (OLD.status = 'failed' AND NEW.status = 'queued') EXECUTE FUNCTION note()"
    )
    operation_id = desk.start("retry", ALL_FAILED, rate=100)
    armed = "in_bulk_step:kill:0.3,after_bulk_step:kill:0.3"
    killing = environment_of(settings.model_copy(update={"failpoints": armed}))
    killing["GOQUEUE_FAILPOINTS"] = armed
    deaths = 0
    for _ in range(3):
        deaths += subprocess.run([sys.executable, "-c", OPERATOR], env=killing, check=False).returncode == -9
    assert deaths > 0
    desk.execute("UPDATE bulk_operations SET rate = NULL")
    operation = desk.run(operation_id)
    assert (operation.state, operation.done, operation.changed) == ("completed", 400, 400)
    with desk.database.autocommit() as connection:
        count, distinct = connection.exec_driver_sql(
            "SELECT count(*), count(DISTINCT id) FROM retried"
        ).fetchone() or (0, 0)
    desk.execute("DROP FUNCTION note CASCADE")
    desk.execute("DROP TABLE retried")
    assert (count, distinct) == (400, 400)


def test_unfinished_jobs_are_cancelled(desk: Desk, make_job: JobFactory) -> None:
    """Queued jobs are cancelled by default; running ones are asked to stop."""
    queued, running = make_job(), make_job("running")
    assert desk.run(desk.start("cancel", JobFilter(queue="default"))).changed == 1
    assert desk.job(queued).status is JobStatus.CANCELLED
    wanted = JobFilter(queue="default", status=JobStatus.RUNNING)
    assert desk.run(desk.start("cancel", wanted)).changed == 1
    assert desk.job(running).cancel_requested_at is not None


def test_a_deleted_job_leaves_nothing(desk: Desk, make_job: JobFactory) -> None:
    """A delete takes final jobs with their attempts, progress, logs, versions, edges and unique keys."""
    job, other = make_job("failed"), make_job("completed")
    tables = {
        "attempts": "(job_id, fence, attempt, outcome, started_at, run_seconds) "
        "VALUES (%(id)s, 1, 1, 'failed', now(), 1)",
        "attempt_progress": "(job_id, fence, progress) VALUES (%(id)s, 1, 0.5)",
        "attempt_logs": "(job_id, fence, line, text, logged_at) VALUES (%(id)s, 1, 1, 'x', now())",
        "job_versions": "(job_id, version, payload, priority, available_at) "
        "VALUES (%(id)s, 1, '{}', 0, now())",
        "dependencies": "(job_id, parent_id, parent_status) VALUES (%(id)s, %(id)s + 1000, 'completed')",
        "unique_keys": "(key, job_id, states) VALUES ('k' || %(id)s, %(id)s, '{queued}')",
    }
    for table, values in tables.items():
        for owner in (job, other):
            desk.execute(f"INSERT INTO {table} {values}", id=owner.id)
    assert desk.run(desk.start("delete", ALL_FAILED)).changed == 1
    with desk.database.autocommit() as connection:
        for table in tables:
            owners = connection.exec_driver_sql(f"SELECT job_id FROM {table}").scalars().all()
            assert list(owners) == [other.id], table
        remaining = connection.exec_driver_sql("SELECT id FROM jobs").scalars().all()
    assert list(remaining) == [other.id]


def test_a_job_that_a_child_waits_for_is_not_deleted(desk: Desk, make_job: JobFactory) -> None:
    """A parent stays until its children have ended."""
    parent = make_job("failed", has_dependants=True)
    child = make_job("blocked")
    desk.execute(
        "INSERT INTO dependencies (job_id, parent_id) VALUES (%(child)s, %(parent)s)",
        child=child.id,
        parent=parent.id,
    )
    operation = desk.run(desk.start("delete", ALL_FAILED))
    assert (operation.done, operation.changed) == (1, 0)
    assert desk.job(parent).status is JobStatus.FAILED


def test_a_priority_moves_jobs_in_the_order(settings: Settings, desk: Desk, make_job: JobFactory) -> None:
    """Queued jobs get the new priority and its head start; one that waits for its time has no rank yet."""
    ready = make_job(priority=2)
    waiting = make_job(available_at="2031-01-01T00:00:00Z")
    running = make_job("running")
    before = rank_of(desk, ready)
    operation = desk.run(desk.start("set_priority", JobFilter(queue="default"), priority=7))
    assert operation.changed == 2
    assert operation.arguments == {"priority": 7}
    moved = timedelta(seconds=5 * settings.priority_head_start_seconds)
    assert rank_of(desk, ready) == before - moved
    assert rank_of(desk, waiting) is None
    assert [desk.job(job).priority for job in (ready, waiting, running)] == [7, 7, 0]


def rank_of(desk: Desk, job: Job) -> Any:
    """A job's place in the order."""
    with desk.database.autocommit() as connection:
        return connection.exec_driver_sql(
            "SELECT rank FROM jobs WHERE id = %(id)s", {"id": job.id}
        ).scalar_one()


def test_only_the_ids_are_done(desk: Desk, make_job: JobFactory) -> None:
    """Ids and the rest of the filter hold together."""
    wanted, other = make_job("failed", queue="a"), make_job("failed", queue="b")
    make_job("failed", queue="a")
    ids = (wanted.id, other.id, 10**12)
    operation = desk.run(desk.start("retry", JobFilter(queue="a", ids=ids)))
    assert (operation.total, operation.changed) == (1, 1)
    assert desk.job(wanted).status is JobStatus.QUEUED
    assert desk.job(other).status is JobStatus.FAILED


def test_the_filter_of_an_operation_is_kept_whole(desk: Desk, make_job: JobFactory) -> None:
    """What was asked for is what the operator reads."""
    job = make_job("failed", fingerprint="a" * 16)
    wanted = JobFilter(
        queue="default",
        type="noop",
        status=JobStatus.FAILED,
        created_after=job.created_at,
        created_before=job.created_at + timedelta(seconds=1),
        fingerprint="a" * 16,
        ids=(job.id,),
    )
    operation_id = desk.start("retry", wanted)
    assert desk.look(operation_id).filter == wanted
    assert desk.run(operation_id).changed == 1


def test_a_preview_changes_nothing(desk: Desk) -> None:
    """A dry run counts, and shows the first twenty."""
    desk.dead_letters(25)
    preview = bulk.preview(desk.database, NewBulkOperation(BulkAction.DELETE, ALL_FAILED))
    assert (preview.total, len(preview.jobs)) == (25, 20)
    assert [job.id for job in preview.jobs] == sorted(job.id for job in preview.jobs)
    assert desk.statuses() == {"failed": 25}
    assert desk.operator.run_once() == {"operations": 0, "done": 0}


@pytest.mark.parametrize(
    "wanted", [JobFilter(), JobFilter(status=JobStatus.FAILED)], ids=["nothing", "status"]
)
def test_an_operation_over_everything_is_refused(desk: Desk, wanted: JobFilter) -> None:
    """No filter, or a status alone, is too easily a mistake."""
    with pytest.raises(InvalidJobError) as refused:
        desk.start("retry", wanted)
    assert refused.value.fields.keys() == {"filter"}


def test_a_group_is_retried_from_python_on_a_real_engine(settings: Settings) -> None:
    """Two of three kinds of dead letters stay; the third runs again behind its canary, and completes."""
    broken = {"yes": True}
    with process_of(settings.model_copy(update=QUICK)) as broker:

        @goqueue.actor(max_retries=0)
        def ship(number: int) -> None:
            if broken["yes"]:
                raise ConnectionError(f"port {number} is closed")

        with Engine(broker) as engine:
            jobs = [goqueue.enqueue(ship, {"number": number}) for number in range(8)]
            fingerprints = {engine.wait_for(job, JobStatus.FAILED).fingerprint for job in jobs}
            assert len(fingerprints) == 1
            broken["yes"] = False
            fingerprint = fingerprints.pop()
            assert fingerprint is not None
            assert goqueue.preview_bulk_operation("retry", fingerprint=fingerprint).total == 8
            operation = goqueue.retry_failures(fingerprint, canary=2, author="ann")
            operator = BulkOperator(broker.settings, broker.database, lambda _seconds: None)

            def ended() -> bool:
                operator.run_once()
                return goqueue.bulk_operation(operation.id).finished_at is not None

            wait_until(ended, what="the operation to end")
            assert goqueue.bulk_operation(operation.id).changed == 8
            for job in jobs:
                engine.wait_for(job)


@pytest.mark.parametrize(
    ("action", "wanted"),
    [
        pytest.param("explode", {"queue": "a"}, id="action"),
        pytest.param("retry", {"color": "red"}, id="filter"),
        pytest.param("retry", {"queue": "a", "status": "lost"}, id="status"),
        pytest.param("retry", {"queue": 5}, id="queue is a number"),
        pytest.param("retry", {"queue": "a\0"}, id="NUL"),
        pytest.param("retry", {"queue": "a" * 201}, id="a long queue"),
        pytest.param("retry", {"queue": "a", "author": "a" * 201}, id="a long author"),
        pytest.param("retry", {"created_after": datetime(2026, 1, 1)}, id="no zone"),  # noqa: DTZ001
        pytest.param("retry", {"created_before": "2026-01-01"}, id="time is text"),
        pytest.param("retry", {"ids": []}, id="no ids"),
        pytest.param("retry", {"ids": ["1"]}, id="ids are text"),
        pytest.param("retry", {"ids": [True]}, id="an id is true"),
        pytest.param("retry", {"ids": [2**63]}, id="a huge id"),
        pytest.param("retry", {"ids": 5}, id="ids are a number"),
        pytest.param("retry", {"queue": "a", "rate": "10"}, id="rate is text"),
        pytest.param("retry", {"queue": "a", "canary": 1.5}, id="canary is no integer"),
        pytest.param("retry", {"queue": "a", "author": "a\0"}, id="NUL in the author"),
        pytest.param("set_priority", {"queue": "a", "priority": "1"}, id="priority is text"),
    ],
)
def test_what_is_wrong_from_python_is_refused(
    settings: Settings, action: str, wanted: dict[str, Any]
) -> None:
    """A wrong word is an InvalidJobError, and begins nothing."""
    with process_of(settings), pytest.raises(InvalidJobError):
        goqueue.start_bulk_operation(action, **wanted)


@pytest.mark.parametrize("fingerprint", ["a" * 16, "zz", "a\0"], ids=["unknown", "no fingerprint", "NUL"])
def test_a_group_that_does_not_exist_is_refused(settings: Settings, fingerprint: str) -> None:
    """From Python as by REST: a mistyped fingerprint begins nothing."""
    with process_of(settings), pytest.raises(FailureNotFoundError):
        goqueue.retry_failures(fingerprint)
