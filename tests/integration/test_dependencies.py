"""Dependencies in the store: what is released, when, by whom, and how often."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from goqueue.db.database import Connection, Database
from goqueue.engine import (
    cleaning_rows as cleaning,
)
from goqueue.engine import (
    creation_rows as creation,
)
from goqueue.engine import (
    dependency_rows as dependency_lists,
)
from goqueue.engine import (
    graph_rows as new_graphs,
)
from goqueue.engine import job_rows as job_store
from goqueue.engine.graph_rows import NewNode
from goqueue.engine.transitions import record as record_store
from goqueue.engine.transitions import release as release_store
from goqueue.engine.transitions.cancel import cancel
from goqueue.engine.transitions.record import Recorded
from goqueue.engine.transitions.release import Released
from goqueue.engine.transitions.retry import retry
from goqueue.errors import InvalidJobError
from goqueue.jobs import AttemptOutcome, Job, JobStatus, NewJob, OnParentFailure, Outcome
from tests.support.factories import JobFactory
from tests.support.shared_database import emptied_database, module_settings
from tests.support.waiting import wait_until

settings = module_settings
database = emptied_database

HEAD_START = 60.0
NOT_COMPLETED = ["failed", "cancelled", "expired"]
#: policy -> what becomes of a job of which a parent did not complete
POLICIES = {"fail": "failed", "cancel": "cancelled", "run": "queued"}


class Desk:
    """Creates, ends and reads jobs."""

    def __init__(self, database: Database, make_job: JobFactory) -> None:
        self.database = database
        self.make_job = make_job

    def create(self, *parents: Job, policy: str = "fail", **columns: Any) -> Job:
        """Create a job that waits for these."""
        job = NewJob(
            "default",
            "noop",
            "{}",
            depends_on=tuple(parent.id for parent in parents),
            on_parent_failure=OnParentFailure(policy),
            **columns,
        )
        with self.database.transaction() as connection:
            return creation.create(connection, job).job

    def record(self, *jobs: Job, status: str = "completed") -> Recorded:
        """Record how the attempts of running jobs ended, with what follows."""
        with self.database.transaction() as connection:
            return self.record_in(connection, *jobs, status=status)

    def record_in(self, connection: Connection, *jobs: Job, status: str = "completed") -> Recorded:
        """The same in a transaction that the caller ends."""
        return record_store.record(
            connection, [ended(job, status) for job in jobs], worker_id=1, with_dependants=True
        )

    def settle(self, *jobs: Job) -> list[Released]:
        """Tell what waits for these."""
        with self.database.transaction() as connection:
            return release_store.settle(connection, [job.id for job in jobs])

    def sweep(self) -> list[Released]:
        """Walk over all blocked jobs, two at a time."""
        released: list[Released] = []
        after: int | None = 0
        while after is not None:
            with self.database.transaction() as connection:
                page = release_store.sweep(connection, after_id=after, limit=2)
            released += page.released
            after = page.after_id
        return released

    def job(self, job: Job) -> Job:
        """The row as it is now."""
        with self.database.autocommit() as connection:
            return job_store.get(connection, job.id)

    def started(self, job: Job) -> Job:
        """The row, after a worker has claimed it."""
        self.execute(
            "UPDATE jobs SET status = 'running', worker_id = 1, fence = fence + 1, started_at = now() "
            "WHERE id = %s",
            job.id,
        )
        return self.job(job)

    def status(self, job: Job) -> JobStatus:
        """The status as it is now."""
        return self.job(job).status

    def execute(self, sql: str, *parameters: Any) -> list[Any]:
        """The rows of a statement."""
        with self.database.autocommit() as connection:
            result = connection.exec_driver_sql(sql, parameters)
            return list(result.fetchall()) if result.returns_rows else []


def ended(job: Job, status: str = "completed") -> Outcome:
    """How an attempt of this job ended."""
    kind = AttemptOutcome.COMPLETED if status == "completed" else AttemptOutcome.FAILED
    return Outcome(job.id, job.fence, JobStatus(status), kind)


@pytest.fixture
def desk(database: Database, make_job: JobFactory) -> Desk:
    """A desk over the test's database."""
    return Desk(database, make_job)


def test_a_job_waits_for_all_its_parents(desk: Desk) -> None:
    """A job is blocked until the last of its parents has completed, and has its place in the order then."""
    first, second = desk.make_job("running"), desk.make_job("running")
    child = desk.create(first, second, priority=3)
    assert child.status == "blocked"
    assert desk.record(first).released == []
    assert desk.status(child) == "blocked"
    assert desk.record(second).released == [Released(child.id, 0, "default", JobStatus.QUEUED, starts=True)]
    ((waited,),) = desk.execute(
        "SELECT extract(epoch FROM available_at - rank)::float FROM jobs WHERE id = %s", child.id
    )
    assert desk.status(child) == "queued"
    assert waited == 3 * HEAD_START


def test_the_record_of_the_last_parent_and_the_release_are_one_transaction(desk: Desk) -> None:
    """As long as the parent's record is not committed the child is blocked, and a rollback undoes both."""
    parent = desk.make_job("running")
    child = desk.create(parent)

    def record_and_fail() -> None:
        with desk.database.transaction() as connection:
            released = desk.record_in(connection, parent).released
            assert [job.id for job in released] == [child.id]
            assert (desk.status(parent), desk.status(child)) == ("running", "blocked")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        record_and_fail()
    assert (desk.status(parent), desk.status(child)) == ("running", "blocked")
    desk.record(parent)
    assert (desk.status(parent), desk.status(child)) == ("completed", "queued")


def test_the_hot_path_leaves_parents_to_the_careful_one(desk: Desk) -> None:
    """A record without dependants does not touch a job that others wait for."""
    parent, other = desk.make_job("running"), desk.make_job("running")
    desk.create(parent)
    with desk.database.autocommit() as connection:
        recorded = record_store.record(connection, [ended(parent), ended(other)], worker_id=1).keys
    assert recorded == {(other.id, other.fence)}
    assert desk.status(parent) == "running"


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_decides_when_a_parent_fails(desk: Desk, policy: str) -> None:
    """The job waits for its other parents all the same; then it fails, is cancelled, or runs."""
    bad, good = desk.make_job("running"), desk.make_job("running")
    child = desk.create(bad, good, policy=policy)
    assert desk.record(bad, status="failed").released == []
    assert desk.status(child) == "blocked"
    desk.record(good)
    row = desk.job(child)
    assert row.status == POLICIES[policy]
    if policy == "run":
        assert (row.reason, row.error) == (None, None)
    else:
        assert row.reason == "parent_failed"
        assert row.error == f"job {bad.id}, which it waited for, did not complete"


@pytest.mark.parametrize("end", NOT_COMPLETED)
@pytest.mark.parametrize("policy", POLICIES)
def test_a_parent_that_ended_before_counts_at_once(desk: Desk, policy: str, end: str) -> None:
    """A late edge to a parent that did not complete is decided in the create."""
    assert desk.create(desk.make_job(end), policy=policy).status == POLICIES[policy]


def test_completed_parents_hold_nobody_up(desk: Desk) -> None:
    """A job whose parents have all completed before is queued, with its place in the order."""
    child = desk.create(desk.make_job("completed"), desk.make_job("completed"))
    assert child.status == "queued"
    assert desk.execute("SELECT rank IS NOT NULL FROM jobs WHERE id = %s", child.id) == [(True,)]


def test_a_parent_that_ended_before_and_one_that_did_not(desk: Desk) -> None:
    """One failed parent decides nothing while another one is still to come."""
    parent = desk.make_job("running")
    child = desk.create(desk.make_job("failed"), parent)
    assert child.status == "blocked"
    desk.record(parent)
    assert desk.status(child) == "failed"


def test_a_delay_is_kept(desk: Desk) -> None:
    """A released job whose time has not come waits for it, unranked."""
    parent = desk.make_job("running")
    child = desk.create(parent, delay_seconds=900)
    assert desk.record(parent).released == [Released(child.id, 0, "default", JobStatus.QUEUED, starts=False)]
    assert desk.job(child).available_at == child.available_at


def test_an_unknown_parent_is_refused(desk: Desk) -> None:
    """A create that names jobs that do not exist says which, and creates nothing."""
    known = desk.make_job()
    job = NewJob("default", "noop", "{}", depends_on=(known.id, 10**9, 2**62))
    with pytest.raises(InvalidJobError) as raised, desk.database.transaction() as connection:
        creation.create(connection, job)
    assert raised.value.fields == {
        "depends_on[1]": f"there is no job {10**9}",
        "depends_on[2]": f"there is no job {2**62}",
    }
    assert desk.execute("SELECT count(*) FROM jobs") == [(1,)]


def test_a_thousand_parents(desk: Desk) -> None:
    """A job may wait for 1,000 others, recorded in batches."""
    parents = [desk.make_job("running") for _ in range(1000)]
    child = desk.create(*parents)
    for start in range(0, 1000, 300):
        assert desk.status(child) == "blocked"
        desk.record(*parents[start : start + 300])
    assert desk.status(child) == "queued"


def test_more_children_than_one_statement_takes(desk: Desk) -> None:
    """All of 2,500 children are released with their parent, and what waits for them is not."""
    parent = desk.make_job("running")
    nodes = [NewNode(NewJob("default", "noop", "{}", depends_on=(parent.id,))) for _ in range(2500)]
    nodes.append(NewNode(NewJob("default", "noop", "{}"), after=tuple(range(1000))))
    with desk.database.transaction() as connection:
        inserted = new_graphs.insert(connection, nodes)
    released = desk.record(parent).released
    assert [job.id for job in released] == [job.id for job in inserted[:-1]]
    assert desk.execute("SELECT status, count(*) FROM jobs GROUP BY status ORDER BY status") == [
        ("blocked", 1),
        ("completed", 1),
        ("queued", 2500),
    ]


@pytest.mark.parametrize(
    ("policies", "becomes"),
    [
        pytest.param(("fail", "fail", "fail"), ("failed", "failed", "failed"), id="fail"),
        pytest.param(("cancel", "cancel", "cancel"), ("cancelled", "cancelled", "cancelled"), id="cancel"),
        pytest.param(("fail", "cancel", "run"), ("failed", "cancelled", "queued"), id="mixed"),
        pytest.param(("run", "fail", "fail"), ("queued", "blocked", "blocked"), id="run"),
    ],
)
def test_a_failure_goes_down_three_levels(
    desk: Desk, policies: tuple[str, ...], becomes: tuple[str, ...]
) -> None:
    """What fails or is cancelled by its parent is itself a parent that ended: all in one transaction."""
    root = desk.make_job("running")
    levels: list[Job] = []
    for policy in policies:
        levels.append(desk.create(levels[-1] if levels else root, policy=policy))
    desk.record(root, status="failed")
    assert tuple(desk.status(job) for job in levels) == becomes


def test_parents_that_end_at_the_same_moment_release_once(desk: Desk) -> None:
    """Eight parents, recorded by eight threads at once, release their child exactly once; fifty times."""
    threads = 8
    barrier = threading.Barrier(threads)
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(50):
            parents = [desk.make_job("running") for _ in range(threads)]
            child = desk.create(*parents)

            def end(parent: Job) -> list[Released]:
                barrier.wait(10)
                return desk.record(parent).released

            released = [job.id for jobs in pool.map(end, parents) for job in jobs]
            assert released == [child.id]
            assert desk.status(child) == "queued"


def test_a_create_meets_the_end_of_its_parent(desk: Desk) -> None:
    """A child that is created while its parent is being recorded is never left blocked; a hundred times."""
    barrier = threading.Barrier(2)

    def create(parent: Job) -> Job:
        barrier.wait(10)
        return desk.create(parent)

    def end(parent: Job) -> None:
        barrier.wait(10)
        with desk.database.autocommit() as connection:
            recorded = record_store.record(connection, [ended(parent)], worker_id=1)
        if not recorded.keys:
            # It is passed over while the creation holds its lock; the recorder puts it off.
            wait_until(lambda: desk.record(parent).keys, what="the record")

    with ThreadPoolExecutor(2) as pool:
        for _ in range(100):
            parent = desk.make_job("running")
            created, recorded = pool.submit(create, parent), pool.submit(end, parent)
            recorded.result(10)
            assert desk.status(created.result(10)) == "queued"
            assert desk.status(parent) == "completed"


def test_a_blocked_job_can_be_cancelled(desk: Desk) -> None:
    """A cancelled child stays cancelled when its parent completes."""
    parent = desk.make_job("running")
    child = desk.create(parent)
    with desk.database.autocommit() as connection:
        cancel(connection, [child.id])
    assert desk.record(parent).released == []
    assert desk.status(child) == "cancelled"


def test_a_retried_parent_does_not_count_for_children_that_were_decided(desk: Desk) -> None:
    """A replay of a failed parent leaves its failed child alone; a new child waits for the replay."""
    parent = desk.make_job("running")
    decided = desk.create(parent)
    desk.record(parent, status="failed")
    with desk.database.autocommit() as connection:
        retry(connection, [parent.id])
    waiting = desk.create(parent)
    assert (desk.status(decided), waiting.status) == ("failed", "blocked")
    desk.record(desk.started(parent))
    assert (desk.status(decided), desk.status(waiting)) == ("failed", "queued")


def test_a_retried_child_runs_whatever_its_parents_came_to(desk: Desk) -> None:
    """Who retries a job that failed by its parent wants it to run."""
    child = desk.create(desk.make_job("failed"))
    with desk.database.autocommit() as connection:
        retry(connection, [child.id])
    assert desk.status(child) == "queued"
    assert desk.sweep() == []


SABOTAGES: dict[str, Callable[[Desk, Job], object]] = {
    "a parent that nobody settled": lambda desk, parent: desk.execute(
        "UPDATE jobs SET status = 'completed', worker_id = NULL, finished_at = now() WHERE id = %s", parent.id
    ),
    "marked and not released": lambda desk, parent: (
        desk.execute("UPDATE dependencies SET parent_status = 'completed'"),
        desk.execute("DELETE FROM jobs WHERE id = %s", parent.id),
    ),
}


@pytest.mark.parametrize("how", SABOTAGES)
def test_the_sweep_finds_what_was_left(desk: Desk, how: str) -> None:
    """Children whose parents have all ended are released by the walk, the others are not."""
    parent, other = desk.make_job("running"), desk.make_job("running")
    children = [desk.create(parent) for _ in range(5)]
    waiting = [desk.create(other) for _ in range(3)]
    SABOTAGES[how](desk, parent)
    desk.execute("UPDATE dependencies SET parent_status = NULL WHERE parent_id = %s", other.id)
    assert [job.id for job in desk.sweep()] == [child.id for child in children]
    assert {desk.status(job) for job in children} == {"queued"}
    assert {desk.status(job) for job in waiting} == {"blocked"}
    assert desk.sweep() == []


def test_a_parent_that_was_deleted_unseen_has_not_completed(desk: Desk) -> None:
    """The walk takes a parent without a row for cancelled; what follows for grandchildren follows."""
    parent = desk.make_job("running")
    child = desk.create(parent)
    grandchild = desk.create(child, policy="cancel")
    desk.execute("DELETE FROM jobs WHERE id = %s", parent.id)
    assert [(job.id, job.status) for job in desk.sweep()] == [
        (child.id, "failed"),
        (grandchild.id, "cancelled"),
    ]


def test_parents_of_unfinished_children_are_not_deleted(desk: Desk) -> None:
    """The cleaner keeps a job that a child may still ask about, and takes edges away with their child."""
    parent = desk.make_job("running")
    child = desk.create(parent)

    def clean() -> int:
        desk.execute("UPDATE jobs SET finished_at = '2001-01-01Z' WHERE finished_at IS NOT NULL")
        with desk.database.autocommit() as connection:
            return cleaning.delete_completed(connection, age_seconds=60, limit=10).jobs

    desk.record(parent)
    assert clean() == 0
    desk.record(desk.started(child))
    assert clean() == 2
    assert desk.execute("SELECT count(*) FROM dependencies") == [(0,)]


def test_a_graph_is_inserted_parents_first(desk: Desk) -> None:
    """Whatever the order in which jobs are given, a child's id is larger than its parents'."""
    job = NewJob("default", "noop", "{}")
    nodes = [NewNode(job, after=positions) for positions in ((1, 2), (3,), (3,), ())]
    with desk.database.transaction() as connection:
        a, b, c, d = new_graphs.insert(connection, nodes)
    assert d.id < min(b.id, c.id) < max(b.id, c.id) < a.id
    assert [job.status for job in (a, b, c, d)] == ["blocked", "blocked", "blocked", "queued"]
    with desk.database.autocommit() as connection:
        parents = dependency_lists.parents_of(connection, a.id)
        children = dependency_lists.children_of(connection, d.id)
    assert [link.id for link in parents] == sorted([b.id, c.id])
    assert [link.id for link in children] == sorted([b.id, c.id])


def test_the_children_of_a_failed_job_of_a_graph_are_decided_with_it(desk: Desk) -> None:
    """A graph below a job that failed before is decided to its last level in the create."""
    failed = desk.make_job("failed")
    nodes: Sequence[NewNode] = [
        NewNode(NewJob("default", "noop", "{}", depends_on=(failed.id,))),
        NewNode(NewJob("default", "noop", "{}"), after=(0,)),
        NewNode(NewJob("default", "noop", "{}", on_parent_failure=OnParentFailure.RUN), after=(1,)),
    ]
    with desk.database.transaction() as connection:
        inserted = new_graphs.insert(connection, nodes)
    assert [job.status for job in inserted] == ["failed", "failed", "queued"]


def test_what_a_job_still_waits_for(desk: Desk) -> None:
    """`pending_parents` names the parents that have not ended, with their states."""
    done, running, queued = desk.make_job("completed"), desk.make_job("running"), desk.make_job()
    child = desk.create(done, running, queued)
    with desk.database.autocommit() as connection:
        pending = dependency_lists.pending_parents(connection, child.id)
        everything = dependency_lists.parents_of(connection, child.id)
    assert [(link.id, link.status, link.type) for link in pending] == [
        (running.id, "running", "noop"),
        (queued.id, "queued", "noop"),
    ]
    assert [(link.id, link.outcome) for link in everything] == [
        (done.id, "completed"),
        (running.id, None),
        (queued.id, None),
    ]
