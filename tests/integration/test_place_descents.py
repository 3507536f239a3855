"""A transition finds the places of its jobs by descents of their primary keys, however many rows lie there.

The planner knows nothing of `ready_jobs` and `running_jobs` (migration 0019), and PostgreSQL 18 can look for
a job by its id alone, past every place of every queue: all live rows, and under a held vacuum horizon all
dead ones too. That is not seen in the rows that a statement reads, only in its pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import psycopg
import pytest
from sqlalchemy import Connection

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine.transitions.cancel import acknowledge, cancel
from goqueue.engine.transitions.claim import claim
from goqueue.engine.transitions.claim_ranges import claim_ranges
from goqueue.engine.transitions.force import force
from goqueue.engine.transitions.give_back import give_back
from goqueue.engine.transitions.record import record
from goqueue.engine.transitions.rescue import rescue
from goqueue.jobs import AttemptOutcome, JobStatus, Outcome
from tests.support.database.plans import pages_read, run_script
from tests.support.factories import LEASE_SECONDS, JobFactory
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

BACKLOG = 6_000
JOBS = 20

#: A descent of either key and a look at the row it names, a new entry in each index that has it, and the
#: dead versions of the row that are passed: a walk past all places takes hundreds.
PAGES_PER_JOB = 16

_QUEUES = "INSERT INTO queues (name) VALUES ('default'), ('other'), ('third')"
_FILL = """
    INSERT INTO jobs (queue, type, payload, rank)
    SELECT (ARRAY ['default', 'other', 'third'])[1 + mod(n, 3)], 'noop', '{}', %s
    FROM generate_series(1, %s) AS n
"""
_RANK_EACH = _FILL % ("now() + make_interval(secs => n)", BACKLOG)
_ONE_RANK = _FILL % ("now()", BACKLOG)

#: The driver prepares a statement at its sixth run, and PostgreSQL keeps a plan for any values five later.
RUNS = 12

#: What lies there when the jobs of the transition come. A session holds the vacuum horizon meanwhile, so that
#: what is deleted stays as dead rows.
PRESENTS = {
    "nothing": "SELECT 1",
    "a backlog, each job of a rank of its own": _RANK_EACH,
    "a backlog of one rank": _ONE_RANK,
    "dead rows of many ranks": f"{_RANK_EACH}; DELETE FROM jobs",
    "dead rows of one rank": f"{_ONE_RANK}; DELETE FROM jobs",
}

#: What the planner knew of the tables: a plan that a session kept from before, or how many rows a VACUUM
#: found alive. Where that were none, it believes that a look by the job's id alone costs no more than a
#: descent.
PLANNED = ("over nothing", "over all of it", "when all were dead")

Keys = Sequence[tuple[int, int]]
Transition = Callable[[Connection, int, Keys], object]

#: The jobs of a transition come last in the order of their queue, behind all that lies there.
_CREATE = """
    INSERT INTO jobs (queue, type, payload, rank)
    SELECT 'default', 'noop', '{}', timestamptz '2100-01-01' + make_interval(secs => n)
    FROM generate_series(1, %(jobs)s) AS n RETURNING id, fence
"""
_THEIR_RANGE = (("2100-01-01", 0), ("infinity", 2**62))


def _ended(keys: Keys, status: JobStatus) -> list[Outcome]:
    return [Outcome(*key, status, AttemptOutcome(status.value), begun=1.0, error="it broke") for key in keys]


#: Each changes all jobs that it is given. They are ready before these,
OF_READY: dict[str, Transition] = {
    "claim by messages": lambda connection, worker_id, keys: claim(
        connection, keys, worker_id=worker_id, lease_seconds=LEASE_SECONDS
    ),
    "claim by ranges": lambda connection, worker_id, keys: claim_ranges(
        connection,
        "default",
        [_THEIR_RANGE],
        limit=len(keys),
        worker_id=worker_id,
        lease_seconds=LEASE_SECONDS,
    ),
    "cancel": lambda connection, _, keys: cancel(connection, [key[0] for key in keys]).ended,
}
#: and run before these.
OF_RUNNING: dict[str, Transition] = {
    "give back": lambda connection, worker_id, keys: give_back(connection, keys, worker_id=worker_id).jobs,
    "complete": lambda connection, worker_id, keys: (
        record(connection, _ended(keys, JobStatus.COMPLETED), worker_id=worker_id).keys
    ),
    "fail": lambda connection, worker_id, keys: (
        record(connection, _ended(keys, JobStatus.FAILED), worker_id=worker_id).keys
    ),
    "ask to stop": lambda connection, _, keys: cancel(connection, [key[0] for key in keys]).requested,
    "acknowledge": lambda connection, worker_id, _: acknowledge(connection, worker_id),
    "force": lambda connection, *_: force(connection, grace_seconds=0),
    "rescue": lambda connection, *_: rescue(connection, max_deaths=3, of_ended=True),
}
#: What is done to the jobs first.
BEFORE: dict[str, str] = {
    "acknowledge": "UPDATE jobs SET cancel_requested_at = now() WHERE status = 'running'",
    "force": "UPDATE jobs SET cancel_requested_at = now() WHERE status = 'running'",
    "rescue": "UPDATE workers SET stopped_at = now()",
}


@pytest.fixture
def held_horizon(settings: Settings, database: Database) -> Iterator[None]:
    """A session that lets no row be removed that dies from now on."""
    run_script(database, _QUEUES)
    with psycopg.connect(settings.database_url.get_secret_value()) as holder:
        holder.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        holder.execute("SELECT FROM jobs LIMIT 1")
        yield
        holder.rollback()


@pytest.mark.usefixtures("held_horizon")
@pytest.mark.parametrize("planned", PLANNED)
@pytest.mark.parametrize("present", PRESENTS)
def test_places_are_found_by_descents(
    database: Database, make_job: JobFactory, present: str, planned: str
) -> None:
    """Of all transitions, whatever lies beside the places of their jobs, and whenever they were planned."""
    too_far: dict[str, int] = {}
    with database.autocommit() as connection:
        if planned == "over nothing":
            for name in (*OF_READY, *OF_RUNNING) * RUNS:
                pages_of(connection, make_job.worker_id, name, jobs=1)
        if planned == "when all were dead":
            run_script(database, f"{PRESENTS['dead rows of many ranks']}; VACUUM ready_jobs, running_jobs")
        run_script(database, PRESENTS[present])
        for name in (*OF_READY, *OF_RUNNING):
            pages = pages_of(connection, make_job.worker_id, name)
            if pages > PAGES_PER_JOB * JOBS:
                too_far[name] = pages
    assert too_far == {}


def pages_of(connection: Connection, worker_id: int, name: str, *, jobs: int = JOBS) -> int:
    """Create the jobs of a transition, and undo it all; the pages of places that it looked at."""
    connection.exec_driver_sql("BEGIN")
    keys = [(row[0], row[1]) for row in connection.exec_driver_sql(_CREATE, {"jobs": jobs})]
    if name in OF_RUNNING:
        taken = claim(connection, keys, worker_id=worker_id, lease_seconds=LEASE_SECONDS)
        keys = [(job.id, job.fence) for job in taken]
    connection.exec_driver_sql(BEFORE.get(name, "SELECT"))
    before = pages_read(connection, "ready_jobs", "running_jobs")
    changed = (OF_READY | OF_RUNNING)[name](connection, worker_id, keys)
    pages = pages_read(connection, "ready_jobs", "running_jobs") - before
    connection.exec_driver_sql("ROLLBACK")
    assert isinstance(changed, list | set)
    assert len(changed) == jobs, name
    return pages
