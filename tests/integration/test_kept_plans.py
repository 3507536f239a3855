"""A session keeps the plans of a worker's statements: planning a claim takes longer than claiming a job."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Connection

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine import new_job_rows
from goqueue.engine import queue_rows as queue_store
from goqueue.engine.options.known_types import KnownTypes
from goqueue.engine.transitions.claim import claim
from goqueue.engine.transitions.claim_ranges import claim_ranges
from goqueue.engine.transitions.give_back import give_back
from goqueue.engine.transitions.record import record
from goqueue.jobs import AttemptOutcome, ClaimedJob, JobStatus, NewJob, Outcome
from tests.support.factories import LEASE_SECONDS, JobFactory
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

#: The driver prepares a statement at its sixth run, and PostgreSQL plans it for its values five times more.
RUNS = 25
UNPREPARED_RUNS = 5

KNOWN = KnownTypes({"mail": "a", "noop": "b"}, slots=8)

WHOLE_QUEUE = (("-infinity", 0), ("infinity", 2**62))


@pytest.fixture
def session(settings: Settings, database: Database) -> Iterator[Connection]:
    """One connection for all statements of a test; plans belong to a session."""
    if settings.has_pooler:
        pytest.skip("behind a pooler nothing is prepared")
    with database.connection() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        queue_store.ensure(connection, ["default"])
        yield connection


def ended(job: ClaimedJob) -> Outcome:
    """The outcome of a job that completed."""
    return Outcome(job.id, job.fence, JobStatus.COMPLETED, AttemptOutcome.COMPLETED, begun=job.claimed_at)


@pytest.mark.parametrize("jobs", [1, 64])
@pytest.mark.parametrize("by", ["messages", "ranges"])
def test_a_round_of_a_worker_is_not_planned_anew(
    session: Connection, make_job: JobFactory, by: str, jobs: int
) -> None:
    """Claimed, given back, claimed again and recorded, one by one or many at once."""

    def claimed(messages: list[tuple[int, int]]) -> list[ClaimedJob]:
        worker = {"worker_id": make_job.worker_id, "lease_seconds": LEASE_SECONDS, "known": KNOWN}
        if by == "ranges":
            return claim_ranges(session, "default", [WHOLE_QUEUE], limit=jobs, **worker)  # type: ignore[arg-type]
        return claim(session, messages, **worker)  # type: ignore[arg-type]

    def round_of_a_worker() -> None:
        ids = new_job_rows.insert_many(session, [NewJob("default", "noop", "{}")] * jobs)
        first = claimed([(job_id, 0) for job_id in ids])
        returned = give_back(session, [(job.id, job.fence) for job in first], worker_id=make_job.worker_id)
        again = claimed([(job.id, job.fence) for job in returned.jobs])
        assert len(again) == jobs
        recorded = record(session, [ended(job) for job in again], worker_id=make_job.worker_id)
        assert len(recorded.keys) == jobs

    assert plans_of(session, round_of_a_worker) == {}


def plans_of(session: Connection, work: Callable[[], None]) -> dict[str, int]:
    """Do this often; which statements were planned anew in more than half of the runs, and how often."""
    for _ in range(RUNS):
        work()
    rows = session.exec_driver_sql(
        "SELECT left(regexp_replace(statement, '\\s+', ' ', 'g'), 200), custom_plans, generic_plans "
        "FROM pg_prepared_statements WHERE custom_plans + generic_plans >= %(least)s",
        {"least": RUNS - UNPREPARED_RUNS},
    ).all()
    # An INSERT, a claim, a give-back, a record.
    assert len(rows) == 4
    return {statement: custom for statement, custom, generic in rows if custom > generic}
