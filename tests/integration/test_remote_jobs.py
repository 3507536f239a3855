"""Remote workers inside of the engine: claims that meet, what must not run twice, what follows."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import dramatiq
import orjson
import pytest

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine.options.known_types import KnownTypes
from goqueue.engine.runway.runway import Message, Runway
from goqueue.engine.transitions.claim_together import claim_together
from goqueue.engine.workers.remote_worker_rows import RemoteIdentity
from goqueue.instance import GoQueue
from goqueue.jobs import AttemptOutcome, Job, JobStatus
from goqueue.remote.job_leasing import LeaseOrder, Leases
from goqueue.remote.lease_tokens import HeldJob
from goqueue.remote.remote_workers import known_types_of
from goqueue.remote.reported_failure import ReportedFailure
from tests.support.factories import JobFactory
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

LEASE = 15.0
KNOWN = known_types_of(("once", "told", "tells", "noop"), (), 1)


@pytest.fixture
def goqueue(settings: Settings, database: Database, runway: Runway) -> Iterator[GoQueue]:
    """A GoQueue with types of its own: one that must not run twice, and two of which one tells the other."""
    runway.remove("q")
    with GoQueue(settings, database=database, runway=runway) as goqueue:

        @goqueue.actor(queue="q", rerun_after_death=False)
        def once() -> None:
            """Run at most once."""

        @dramatiq.actor(broker=goqueue.broker, queue_name="q")
        def told(message: dict[str, object], result: object) -> None:
            """Hear of the end of another."""

        @dramatiq.actor(
            broker=goqueue.broker, queue_name="q", on_success="told", min_backoff=100_000, jitter=False
        )
        def tells(number: int = 0) -> int:
            """End, and tell."""
            return number

        yield goqueue


def lease(goqueue: GoQueue, *jobs: Job, worker: str = "w", limit: int = 100) -> Leases:
    """Let these jobs stand on the runway, and a worker lease them."""
    goqueue.runway.dispatch("q", [Message(job.id, job.fence) for job in jobs], limit=1000, closed=False)
    return goqueue.remote_jobs.lease(LeaseOrder(RemoteIdentity("c", worker), "q", KNOWN, limit))


def held(leases: Leases, place: int = 0) -> HeldJob:
    """What is held of a leased job."""
    return HeldJob.of(leases.jobs[place], leases.standing.worker_id)


def test_workers_that_meet_claim_in_one_statement(make_job: JobFactory, database: Database) -> None:
    """Each gets the jobs of its own messages; one whose lease has ended gets none, and nobody else does."""
    one, two, gone = make_job.worker(), make_job.worker(), make_job.worker(silent_seconds=100)
    jobs = [make_job() for _ in range(5)]
    messages = {one: jobs[:2], two: jobs[2:4], gone: jobs[4:]}
    with database.autocommit() as connection:
        claimed = claim_together(
            connection,
            {worker: [(job.id, job.fence) for job in those] for worker, those in messages.items()},
            lease_seconds=LEASE,
            known=KnownTypes({"noop": "x"}),
        )
        again = claim_together(
            connection, {one: [(jobs[2].id, 0)]}, lease_seconds=LEASE, known=KnownTypes({"noop": "x"})
        )
        rows = connection.exec_driver_sql("SELECT id, worker_id FROM jobs WHERE status = 'running'").all()
    ids = {worker: {job.id for job in those} for worker, those in claimed.items()}
    assert ids == {one: {jobs[0].id, jobs[1].id}, two: {jobs[2].id, jobs[3].id}}
    assert {tuple(row) for row in rows} == {
        (job_id, worker) for worker, those in ids.items() for job_id in those
    }
    assert again == {}


def test_threads_that_meet_get_and_end_each_their_own(goqueue: GoQueue, make_job: JobFactory) -> None:
    """Whatever statements they share: no job is leased twice, and each has its own result."""
    jobs = [make_job(queue="q") for _ in range(40)]
    goqueue.runway.dispatch("q", [Message(job.id, job.fence) for job in jobs], limit=1000, closed=False)
    remote = goqueue.remote_jobs

    def work(number: int) -> list[int]:
        found = []
        while (leases := lease(goqueue, worker=f"w{number}", limit=1)).jobs:
            one = held(leases)
            found.append(one.id)
            assert remote.ends.complete(one, orjson.dumps(one.id)).status is JobStatus.COMPLETED
        return found

    with ThreadPoolExecutor(8) as pool:
        got = [job_id for those in pool.map(work, range(8)) for job_id in those]
    assert sorted(got) == [job.id for job in jobs]
    with goqueue.database.autocommit() as connection:
        right = "SELECT count(*) FROM jobs WHERE status = 'completed' AND result::text = id::text"
        assert connection.exec_driver_sql(right).scalar_one() == len(jobs)


def test_what_must_not_run_twice_is_noted_when_it_is_leased(
    goqueue: GoQueue, make_job: JobFactory, database: Database
) -> None:
    """Nobody hears when a remote worker begins."""
    leases = lease(goqueue, make_job(queue="q", type="once"), make_job(queue="q"))
    with database.autocommit() as connection:
        rows = connection.exec_driver_sql("SELECT type, unrepeatable_fence FROM jobs ORDER BY type").all()
    assert len(leases.jobs) == 2
    assert [tuple(row) for row in rows] == [("noop", None), ("once", 1)]


def test_a_callback_follows(goqueue: GoQueue, make_job: JobFactory, database: Database) -> None:
    """Dramatiq's, of the type: the job that it sends is inserted with the record."""
    leases = lease(goqueue, make_job(queue="q", type="tells", payload={"args": [7], "kwargs": {}}))
    goqueue.remote_jobs.ends.complete(held(leases), b"49")
    with database.autocommit() as connection:
        (payload,) = connection.exec_driver_sql("SELECT payload FROM jobs WHERE type = 'told'").one()
    assert (payload["message"]["actor_name"], payload["result"]) == ("tells", 49)


def test_the_backoff_is_that_of_the_type(goqueue: GoQueue, make_job: JobFactory, database: Database) -> None:
    """As for a handler here that raised."""
    leases = lease(goqueue, make_job(queue="q", type="tells", max_retries=1))
    ended = goqueue.remote_jobs.ends.fail(held(leases), ReportedFailure("broken"))
    assert (ended.outcome, ended.status) == (AttemptOutcome.FAILED, JobStatus.QUEUED)
    with database.autocommit() as connection:
        waits = "SELECT extract(epoch FROM available_at - updated_at)::float FROM jobs"
        assert connection.exec_driver_sql(waits).scalar_one() == pytest.approx(100, abs=1)


def test_a_retry_of_a_job_that_is_to_be_stopped_cancels_it(goqueue: GoQueue, make_job: JobFactory) -> None:
    """A failure is no reason to run again what somebody wants stopped."""
    job = make_job(queue="q")
    leases = lease(goqueue, job)
    goqueue.cancel(job.id)
    ended = goqueue.remote_jobs.ends.fail(held(leases), ReportedFailure("stopped"))
    assert ended.status is JobStatus.CANCELLED


def test_a_limited_queue_leases_what_was_let_in(
    goqueue: GoQueue, make_job: JobFactory, database: Database
) -> None:
    """A message of a job that no round of admission let in is refused by the claim."""
    outside, inside = make_job(queue="q"), make_job(queue="q")
    goqueue.configure_queue("q", concurrency=1)
    with database.autocommit() as connection:
        connection.exec_driver_sql("UPDATE jobs SET admitted = true WHERE id = %(id)s", {"id": inside.id})
    leases = lease(goqueue, outside, inside)
    assert [job.id for job in leases.jobs] == [inside.id]


def test_a_worker_of_the_same_name_renews_one_row(goqueue: GoQueue, database: Database) -> None:
    """Of one client; that of another client is another worker."""
    first, again = lease(goqueue).standing, lease(goqueue).standing
    order = LeaseOrder(RemoteIdentity("other", "w"), "q", KNOWN, 1)
    assert first.worker_id == again.worker_id
    assert goqueue.remote_jobs.lease(order).standing.worker_id != first.worker_id
    with database.autocommit() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM workers").scalar_one() == 2
