"""The store's functions on PostgreSQL: every transition, its guard, and the columns that it leaves."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from goqueue.config.settings import Settings
from goqueue.contents.payload_keys import keys_of, new_key
from goqueue.db.database import Database
from goqueue.engine import job_rows as job_store
from goqueue.engine import new_job_rows as new_job_store
from goqueue.engine import queue_rows as queue_store
from goqueue.engine.transitions import claim as claim_store
from goqueue.engine.transitions import record as record_store
from goqueue.engine.transitions import rescue as rescue_store
from goqueue.engine.transitions import set_status as set_status_store
from goqueue.engine.transitions.begin import begin_unrepeatable
from goqueue.engine.transitions.cancel import cancel
from goqueue.engine.transitions.give_back import give_back
from goqueue.engine.transitions.retry import retry
from goqueue.engine.workers import lease_rows as lease_store
from goqueue.engine.workers import worker_rows as worker_store
from goqueue.errors import IllegalTransitionError, JobNotFoundError
from goqueue.jobs import (
    CLIENT_TRANSITIONS,
    FINAL_STATUSES,
    AttemptOutcome,
    ClaimedJob,
    Job,
    JobStatus,
    NewJob,
    Outcome,
    UniqueRule,
)
from tests.support.factories import JobFactory
from tests.support.shared_database import emptied_database, module_settings

settings = module_settings
database = emptied_database

LEASE = 15.0
PAIRS = list(itertools.product(JobStatus, JobStatus))


def claim(database: Database, worker_id: int, *messages: tuple[int, int]) -> list[ClaimedJob]:
    """Claim these (id, fence) messages."""
    with database.autocommit() as connection:
        return claim_store.claim(connection, messages, worker_id=worker_id, lease_seconds=LEASE)


def record(database: Database, *outcomes: Outcome, worker_id: int = 1) -> set[tuple[int, int]]:
    """Record these outcomes."""
    with database.autocommit() as connection:
        return record_store.record(connection, outcomes, worker_id=worker_id).keys


def outcome(job: Job, status: str = "completed", outcome: str | None = None, **values: Any) -> Outcome:
    """How an attempt of this job ended."""
    kinds = {"completed": "completed", "failed": "failed", "queued": "failed"}
    kind = AttemptOutcome(outcome or kinds[status])
    return Outcome(job.id, values.pop("fence", job.fence), JobStatus(status), kind, **values)


def rescue(
    database: Database, *, max_deaths: int = 3, limit: int = 1000, lost_together: Collection[int] = ()
) -> dict[int, JobStatus]:
    """Take back the jobs of ended workers."""
    with database.autocommit() as connection:
        rescued = rescue_store.rescue(
            connection, max_deaths=max_deaths, limit=limit, lost_together=lost_together
        )
    return {job.id: job.status for job in rescued}


def read(database: Database, job_id: int) -> Job:
    """The row as it is now."""
    with database.autocommit() as connection:
        return job_store.get(connection, job_id)


def column(database: Database, job_id: int, expression: str) -> Any:
    """One expression over a job's row."""
    with database.autocommit() as connection:
        row = connection.exec_driver_sql(
            f"SELECT {expression} FROM jobs WHERE id = %(id)s", {"id": job_id}
        ).one()
    return row[0]


def attempt_rows(database: Database, job_id: int) -> list[tuple[Any, ...]]:
    """The (fence, attempt, outcome) of a job's attempt rows."""
    with database.autocommit() as connection:
        rows = connection.exec_driver_sql(
            "SELECT fence, attempt, outcome FROM attempts WHERE job_id = %(id)s ORDER BY fence",
            {"id": job_id},
        )
        return [tuple(row) for row in rows]


def set_status(database: Database, job_id: int, wanted: JobStatus) -> None:
    """Move a job as the REST contract does."""
    with database.autocommit() as connection:
        set_status_store.set_status(connection, job_id, wanted)


# The state machine of the REST contract


@pytest.mark.parametrize(("current", "wanted"), PAIRS, ids=[f"{a}-{b}" for a, b in PAIRS])
def test_set_status_follows_the_state_machine(
    make_job: JobFactory, database: Database, current: JobStatus, wanted: JobStatus
) -> None:
    """A legal pair of states is a move, an illegal one an error that leaves the row as it was."""
    before = make_job(current)
    if wanted in CLIENT_TRANSITIONS[current]:
        set_status(database, before.id, wanted)
        after = read(database, before.id)
        assert after.status is wanted
        assert (after.finished_at is not None) == (wanted in FINAL_STATUSES)
        assert after.worker_id is None
        assert after.fence == before.fence + (wanted is JobStatus.RUNNING)
    else:
        with pytest.raises(IllegalTransitionError) as caught:
            set_status(database, before.id, wanted)
        assert (caught.value.current, caught.value.wanted) == (current, wanted)
        assert read(database, before.id) == before


@pytest.mark.parametrize("current", [JobStatus.FAILED, JobStatus.CANCELLED])
def test_set_status_does_not_requeue_a_job_out_of_attempts(
    make_job: JobFactory, database: Database, current: JobStatus
) -> None:
    """A job whose attempts are all spent is not queued again by status alone: no claim would take it."""
    job = make_job(current, attempts=4, max_retries=3)
    with pytest.raises(IllegalTransitionError):
        set_status(database, job.id, JobStatus.QUEUED)


def test_set_status_of_a_missing_job_says_so(database: Database) -> None:
    """There is no transition of a job that does not exist."""
    with pytest.raises(JobNotFoundError, match="there is no job 4711"):
        set_status(database, 4711, JobStatus.CANCELLED)


def test_a_job_held_over_rest_is_never_claimed_or_rescued(make_job: JobFactory, database: Database) -> None:
    """A running job without a worker belongs to a client: no message and no rescuer takes it."""
    job = make_job()
    set_status(database, job.id, JobStatus.RUNNING)
    assert claim(database, make_job.worker_id, (job.id, 0), (job.id, 1)) == []
    assert rescue(database) == {}
    assert read(database, job.id).status is JobStatus.RUNNING


# The functions of the engine, from every state

Action = Callable[[Database, Job, int], bool]


def _claims(database: Database, job: Job, worker_id: int) -> bool:
    return bool(claim(database, worker_id, (job.id, job.fence)))


def _records(status: str) -> Action:
    def act(database: Database, job: Job, worker_id: int) -> bool:
        return bool(record(database, outcome(job, status), worker_id=worker_id))

    return act


def _gives_back(database: Database, job: Job, worker_id: int) -> bool:
    with database.autocommit() as connection:
        return bool(give_back(connection, [(job.id, job.fence)], worker_id=worker_id).jobs)


def _cancels(database: Database, job: Job, _worker_id: int) -> bool:
    with database.autocommit() as connection:
        return any(cancel(connection, [job.id]))


def _retries(database: Database, job: Job, _worker_id: int) -> bool:
    with database.autocommit() as connection:
        return bool(retry(connection, [job.id]))


def _rescues(database: Database, job: Job, worker_id: int) -> bool:
    with database.autocommit() as connection:
        worker_store.stop(connection, worker_id)
    return job.id in rescue(database)


def _increments(database: Database, job: Job, _worker_id: int) -> bool:
    try:
        with database.autocommit() as connection:
            job_store.increment_attempts(connection, job.id)
    except IllegalTransitionError:
        return False
    return True


Q, B, R, F, C = JobStatus.QUEUED, JobStatus.BLOCKED, JobStatus.RUNNING, JobStatus.FAILED, JobStatus.CANCELLED
ACTIONS: dict[str, tuple[Action, set[JobStatus], JobStatus | None]] = {
    "claim": (_claims, {Q}, R),
    "record completed": (_records("completed"), {R}, JobStatus.COMPLETED),
    "record failed": (_records("failed"), {R}, F),
    "record retry": (_records("queued"), {R}, Q),
    "give back": (_gives_back, {R}, Q),
    "cancel": (_cancels, {Q, B, R}, None),
    "retry": (_retries, {F, C}, Q),
    "rescue": (_rescues, {R}, Q),
    "increment": (_increments, {Q, R}, None),
}
ACTION_CASES = list(itertools.product(ACTIONS, JobStatus))


@pytest.mark.parametrize(
    ("name", "current"), ACTION_CASES, ids=[f"{a} from {s}".replace(" ", "-") for a, s in ACTION_CASES]
)
def test_each_function_leaves_only_the_states_that_it_names(
    make_job: JobFactory, database: Database, name: str, current: JobStatus
) -> None:
    """A store function moves a job from its own source states, and changes nothing from any other."""
    act, sources, target = ACTIONS[name]
    before = make_job(current)
    acted = act(database, before, make_job.worker_id)
    after = read(database, before.id)
    assert acted == (current in sources)
    if current not in sources:
        assert after == before
        assert attempt_rows(database, before.id) == []
    elif target is not None:
        assert after.status is target
    assert after.fence >= before.fence


# Claims


def test_sixteen_threads_claim_one_job_and_one_wins(
    make_job: JobFactory, database: Database, settings: Settings
) -> None:
    """However many claim a job at the same moment, exactly one holds it."""
    wide = Database(settings, pool_size=16)
    workers = [make_job.worker() for _ in range(16)]
    try:
        for _ in range(10):
            job = make_job()
            start = threading.Barrier(16)

            def race(worker_id: int, job: Job = job, start: threading.Barrier = start) -> int:
                with wide.autocommit() as connection:
                    start.wait(10)
                    return len(
                        claim_store.claim(
                            connection, [(job.id, job.fence)], worker_id=worker_id, lease_seconds=LEASE
                        )
                    )

            with ThreadPoolExecutor(16) as pool:
                assert sum(pool.map(race, workers)) == 1
            after = read(database, job.id)
            assert (after.status, after.fence, after.attempts) == (JobStatus.RUNNING, 1, 1)
    finally:
        wide.close()


def test_a_claim_gives_what_a_run_needs(make_job: JobFactory, database: Database) -> None:
    """A claimed job carries its new fence, its attempt, its payload as text and its own limits."""
    job = make_job(payload={"a": [1, "ü"]}, max_retries=5, time_limit_seconds=2.5, attempts=2, fence=7)
    (claimed,) = claim(database, make_job.worker_id, (job.id, 7))
    assert (claimed.id, claimed.fence, claimed.attempt, claimed.max_retries) == (job.id, 8, 3, 5)
    assert claimed.payload == '{"a":[1,"ü"]}'
    assert claimed.time_limit_seconds == 2.5
    assert "ü" not in repr(claimed)
    row = read(database, job.id)
    assert (row.status, row.worker_id, row.attempts) == (JobStatus.RUNNING, make_job.worker_id, 3)
    assert row.started_at is not None
    assert row.started_at.timestamp() == pytest.approx(claimed.claimed_at, abs=1e-6)


def test_a_claim_takes_the_claimable_part_of_a_batch(make_job: JobFactory, database: Database) -> None:
    """Messages of one batch stand for themselves: the stale one is left out, its mates are claimed."""
    jobs = [make_job() for _ in range(4)]
    stale = make_job(fence=3)
    messages = [(job.id, 0) for job in jobs] + [(stale.id, 2), (10**15, 0), (jobs[0].id, 0)]
    claimed = claim(database, make_job.worker_id, *messages)
    assert sorted(job.id for job in claimed) == [job.id for job in jobs]


EARLIER, LATER = datetime(2020, 1, 1, tzinfo=UTC), datetime(2999, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("columns", "offset"),
    [
        pytest.param({"fence": 5}, -1, id="an older fence"),
        pytest.param({"fence": 5}, 1, id="a newer fence"),
        pytest.param({"available_at": LATER}, 0, id="not due"),
        pytest.param({"attempts": 4, "max_retries": 3}, 0, id="attempts exhausted"),
        pytest.param({"queue": "paused"}, 0, id="a paused queue"),
        pytest.param({"expires_at": EARLIER}, 0, id="expired"),
        pytest.param({"deadline_at": EARLIER}, 0, id="past its deadline"),
    ],
)
def test_a_claim_is_refused(
    make_job: JobFactory, database: Database, columns: dict[str, Any], offset: int
) -> None:
    """A message whose row is not to run now gives no row, and changes none."""
    job = make_job(**columns)
    with database.autocommit() as connection:
        queue_store.ensure(connection, ["paused"])
        queue_store.pause(connection, "paused")
    assert claim(database, make_job.worker_id, (job.id, job.fence + offset)) == []
    assert read(database, job.id) == job


@pytest.mark.parametrize("how", ["silent", "stopped", "missing"])
def test_a_claim_without_a_lease_is_refused(make_job: JobFactory, database: Database, how: str) -> None:
    """A worker whose lease ran out, or was ended, or never was, gets nothing."""
    job = make_job()
    worker_id = make_job.worker(silent_seconds=LEASE + 1 if how == "silent" else 0)
    with database.autocommit() as connection:
        if how == "stopped":
            worker_store.stop(connection, worker_id)
    assert claim(database, 10**12 if how == "missing" else worker_id, (job.id, 0)) == []
    assert read(database, job.id) == job


def test_a_resumed_queue_is_claimed_again(make_job: JobFactory, database: Database) -> None:
    """Pausing refuses claims only until the queue is resumed."""
    job = make_job()
    for paused in (True, False):
        with database.autocommit() as connection:
            (queue_store.pause if paused else queue_store.resume)(connection, "default")
        assert len(claim(database, make_job.worker_id, (job.id, 0))) == (not paused)


# Records


@pytest.mark.parametrize("offset", [-1, 1])
def test_a_stale_result_is_refused(make_job: JobFactory, database: Database, offset: int) -> None:
    """Who does not hold the present fence cannot write: not the row, not an attempt."""
    job = make_job("running", fence=4)
    assert record(database, outcome(job, fence=job.fence + offset)) == set()
    assert read(database, job.id) == job
    assert attempt_rows(database, job.id) == []


def test_a_stale_result_does_not_hinder_its_batch_mates(make_job: JobFactory, database: Database) -> None:
    """Of a batch exactly the held ones are recorded, and the answer names them."""
    jobs = [make_job("running") for _ in range(3)]
    outcomes = [outcome(job, fence=job.fence + (number == 1)) for number, job in enumerate(jobs)]
    assert record(database, *outcomes) == {(jobs[0].id, 1), (jobs[2].id, 1)}
    assert [read(database, job.id).status for job in jobs] == ["completed", "running", "completed"]


def test_recording_twice_records_once(make_job: JobFactory, database: Database) -> None:
    """The second record of the same claim is refused, whatever it says."""
    job = make_job("running")
    assert record(database, outcome(job, "completed")) == {(job.id, 1)}
    done = read(database, job.id)
    assert record(database, outcome(job, "failed")) == set()
    assert read(database, job.id) == done
    assert attempt_rows(database, job.id) == [(1, 1, "completed")]


def test_a_completed_record_keeps_result_and_attempt(make_job: JobFactory, database: Database) -> None:
    """A completion stores the result text, ends the job, clears the holder, and writes one attempt row."""
    job = make_job("running", quarantined=True, reason="retry", error="before")
    record(database, outcome(job, result='{"a":1e308}', run_seconds=0.25), worker_id=make_job.worker_id)
    row = read(database, job.id)
    assert (row.status, row.result, row.error, row.reason) == (JobStatus.COMPLETED, {"a": 1e308}, None, None)
    assert (row.worker_id, row.quarantined, row.attempts) == (None, False, 1)
    assert column(database, job.id, "finished_at = updated_at AND rank IS NULL")
    with database.autocommit() as connection:
        attempt = connection.exec_driver_sql(
            "SELECT attempt, worker_id, outcome, error, traceback, run_seconds FROM attempts"
        ).one()
    assert tuple(attempt) == (1, make_job.worker_id, "completed", None, None, 0.25)


def test_a_failed_record_keeps_error_and_traceback(make_job: JobFactory, database: Database) -> None:
    """A dead letter says why; the traceback stays with its attempt."""
    job = make_job("running", attempts=4, max_retries=3)
    record(database, outcome(job, "failed", error="E: x", traceback="tb", reason="failed"))
    row = read(database, job.id)
    assert (row.status, row.error, row.reason, row.attempts) == (JobStatus.FAILED, "E: x", "failed", 4)
    with database.autocommit() as connection:
        attempt = connection.exec_driver_sql("SELECT outcome, error, traceback FROM attempts").one()
    assert tuple(attempt) == ("failed", "E: x", "tb")


@pytest.mark.parametrize("delay", [0.0, 0.25, 90.0, 86_400.0 * 365])
def test_a_retry_waits_exactly_its_delay(make_job: JobFactory, database: Database, delay: float) -> None:
    """A retry is available its delay after the recording; only one without delay has a place in the order."""
    job = make_job("running", priority=2)
    record(database, outcome(job, "queued", delay_seconds=delay, error="E: x", reason="retry"))
    row = read(database, job.id)
    assert (row.status, row.attempts, row.fence, row.finished_at) == (JobStatus.QUEUED, 1, 1, None)
    assert row.available_at - row.updated_at == timedelta(seconds=delay)
    expected = "rank = available_at - interval '2 minutes'" if delay == 0 else "rank IS NULL"
    assert column(database, job.id, expected)


@pytest.mark.parametrize("kind", ["snoozed", "interrupted"])
def test_a_refund_spends_no_attempt(make_job: JobFactory, database: Database, kind: str) -> None:
    """What was not the job's fault is written as an attempt row, and not counted."""
    job = make_job("running", attempts=3)
    record(database, outcome(job, "queued", kind, refund=True, delay_seconds=5))
    row = read(database, job.id)
    assert (row.status, row.attempts) == (JobStatus.QUEUED, 2)
    assert attempt_rows(database, job.id) == [(1, 3, kind)]


def test_a_retry_out_of_attempts_is_a_dead_letter(make_job: JobFactory, database: Database) -> None:
    """A retry that no claim could take any more ends the job instead of leaving it queued for ever."""
    job = make_job("running", attempts=4, max_retries=3)
    record(database, outcome(job, "queued", error="E: x", reason="retry", delay_seconds=5))
    row = read(database, job.id)
    assert (row.status, row.error, row.attempts) == (JobStatus.FAILED, "E: x", 4)
    assert row.finished_at is not None


def test_a_suspect_that_was_given_back_stays_a_suspect(make_job: JobFactory, database: Database) -> None:
    """A quarantined job that went back unspent before it ran still runs alone next."""
    job = make_job("running", quarantined=True, suspicion=2, attempts=2)
    record(database, outcome(job, "queued", "interrupted", refund=True))
    assert read(database, job.id).runs_alone


@pytest.mark.parametrize("kind", ["snoozed", "failed"])
def test_a_suspect_that_came_back_is_cleared(make_job: JobFactory, database: Database, kind: str) -> None:
    """A quarantined job whose attempt ended by itself did not kill its worker: it runs among others again."""
    job = make_job("running", quarantined=True, suspicion=2, attempts=2)
    record(database, outcome(job, "queued", kind))
    row = read(database, job.id)
    assert (row.quarantined, row.suspicion) == (False, 0)


# Cancel and retry


def test_a_cancelled_queued_job_is_not_claimed(make_job: JobFactory, database: Database) -> None:
    """A queued job never starts after its cancel, and leaves no attempt row."""
    job = make_job()
    with database.autocommit() as connection:
        assert cancel(connection, [job.id, job.id, 10**12]) == ([job.id], [])
        assert cancel(connection, [job.id]) == ([], [])
    assert claim(database, make_job.worker_id, (job.id, 0)) == []
    assert attempt_rows(database, job.id) == []


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_replay_is_a_new_life(make_job: JobFactory, database: Database, status: str) -> None:
    """A retry resets attempts, deaths, suspicion and result; the fence stays, so old holders stay out."""
    job = make_job(
        status,
        attempts=4,
        deaths=2,
        quarantined=True,
        suspicion=2,
        fence=6,
        reason="worker_died",
        priority=-1,
        result="1",
    )
    with database.autocommit() as connection:
        retried = retry(connection, [job.id, job.id])
    assert retried == [(job.id, 6, "default")]
    row = read(database, job.id)
    assert (row.status, row.attempts, row.deaths, row.quarantined) == (JobStatus.QUEUED, 0, 0, False)
    assert row.suspicion == 0
    assert (row.fence, row.reason, row.result, row.finished_at) == (6, None, None, None)
    assert column(database, job.id, "rank = available_at + interval '1 minute'")


# Rescue

#: Suspects: of one death, and of two.
BESIDE: dict[str, Any] = {"quarantined": True, "suspicion": 1}
ALONE: dict[str, Any] = {"quarantined": True, "suspicion": 2}


def lost_job(make_job: JobFactory, database: Database, **columns: Any) -> Job:
    """A running job whose worker has ended."""
    worker_id = make_job.worker()
    job = make_job("running", worker_id=worker_id, **columns)
    with database.autocommit() as connection:
        worker_store.stop(connection, worker_id)
    return job


def test_a_first_death_makes_a_suspect(make_job: JobFactory, database: Database) -> None:
    """A job that ran in company when its worker died runs beside others again: nothing counts against it."""
    job = lost_job(make_job, database, attempts=1, fence=2)
    assert rescue(database, max_deaths=1) == {job.id: JobStatus.QUEUED}
    row = read(database, job.id)
    assert (row.status, row.quarantined, row.deaths) == (JobStatus.QUEUED, True, 0)
    assert (row.suspicion, row.runs_alone) == (1, False)
    assert (row.attempts, row.fence, row.reason, row.worker_id) == (0, 2, "worker_died", None)
    assert attempt_rows(database, job.id) == [(2, 1, "worker_died")]
    assert record(database, outcome(job)) == set()


@pytest.mark.parametrize(
    ("columns", "status", "deaths"),
    [
        pytest.param(ALONE | {"deaths": 0}, "queued", 1, id="first lonely death"),
        pytest.param(ALONE | {"deaths": 1}, "queued", 2, id="second lonely death"),
        pytest.param(ALONE | {"deaths": 2}, "failed", 3, id="third lonely death"),
        pytest.param({"deaths": 2}, "queued", 2, id="in company nothing counts"),
        pytest.param(BESIDE | {"deaths": 2}, "queued", 2, id="nor beside others"),
        pytest.param({"attempts": 4, "max_retries": 3}, "queued", 0, id="in the last attempt"),
        pytest.param({"attempts": 1, "max_retries": 0}, "queued", 0, id="no retries at all"),
        pytest.param(
            ALONE | {"attempts": 1, "max_retries": 0, "deaths": 2}, "failed", 3, id="no retries, and alone"
        ),
    ],
)
def test_deaths_count_only_alone(
    make_job: JobFactory, database: Database, columns: dict[str, Any], status: str, deaths: int
) -> None:
    """Lonely deaths are counted up to the limit, and no death spends an attempt."""
    job = lost_job(make_job, database, **{"attempts": 2, **columns})
    assert rescue(database) == {job.id: JobStatus(status)}
    row = read(database, job.id)
    assert (row.status, row.deaths, row.reason) == (status, deaths, "worker_died")
    assert row.quarantined == (status == "queued")
    assert row.attempts == job.attempts - (status == "queued")
    assert [kind for _, _, kind in attempt_rows(database, job.id)] == ["worker_died"]


@pytest.mark.parametrize(
    ("columns", "together", "quarantined", "suspicion"),
    [
        pytest.param({}, False, True, 1, id="first death"),
        pytest.param(BESIDE, False, True, 2, id="second death"),
        pytest.param(ALONE, False, True, 2, id="lonely death"),
        pytest.param({"quarantined": True}, False, True, 1, id="of the release before"),
        pytest.param({}, True, False, 1, id="first death with its host"),
        pytest.param({"suspicion": 1}, True, True, 2, id="second death with a host"),
        pytest.param({"suspicion": 1}, False, True, 2, id="a death after that of a host"),
        pytest.param(ALONE, True, True, 2, id="a lonely death with a host"),
    ],
)
def test_suspicion_grows_by_deaths(
    make_job: JobFactory,
    database: Database,
    columns: dict[str, Any],
    together: bool,
    quarantined: bool,
    suspicion: int,
) -> None:
    """The first death with a host suspects nobody; the second of any kind sends a job to run alone."""
    job = lost_job(make_job, database, **columns)
    rescue(database, max_deaths=9, lost_together=[job.worker_id or 0] if together else [])
    row = read(database, job.id)
    assert (row.quarantined, row.suspicion) == (quarantined, suspicion)


@pytest.mark.parametrize("fence", [pytest.param(3, id="began"), pytest.param(2, id="an attempt before it")])
def test_what_must_not_be_repeated_fails_by_a_death(
    make_job: JobFactory, database: Database, fence: int
) -> None:
    """A job whose attempt was noted as not repeatable is failed at once; one that never began runs again."""
    job = lost_job(make_job, database, fence=3, attempts=1, unrepeatable_fence=fence)
    began = fence == job.fence
    assert rescue(database) == {job.id: JobStatus.FAILED if began else JobStatus.QUEUED}
    row = read(database, job.id)
    assert (row.attempts, row.reason, row.deaths) == (int(began), "worker_died", 0)
    assert ("must not run again" in (row.error or "")) == began


def test_an_attempt_is_noted_as_unrepeatable_only_while_it_is_held(
    make_job: JobFactory, database: Database
) -> None:
    """The note has the fence and the worker: who lost the job must not begin."""
    job = make_job("running", fence=3)
    worker_id = make_job.worker_id
    with database.autocommit() as connection:
        begin = functools.partial(begin_unrepeatable, connection, job.id)
        assert not begin(2, worker_id)
        assert not begin(3, worker_id + 1)
        assert begin(3, worker_id)
    assert column(database, job.id, "unrepeatable_fence") == 3


def test_a_lost_job_keeps_its_place_in_the_order(make_job: JobFactory, database: Database) -> None:
    """It goes before everything that came after it."""
    worker_id = make_job.worker()
    job = make_job("running", worker_id=worker_id, rank=datetime(2020, 1, 1, tzinfo=UTC))
    with database.autocommit() as connection:
        worker_store.stop(connection, worker_id)
    rescue(database)
    assert column(database, job.id, "rank") == datetime(2020, 1, 1, tzinfo=UTC)


def test_only_jobs_of_ended_workers_are_rescued(make_job: JobFactory, database: Database) -> None:
    """A live worker keeps its jobs, however silent, until its lease is ended; then it can never renew."""
    silent = make_job.worker(silent_seconds=LEASE + 1)
    job = make_job("running", worker_id=silent)
    assert rescue(database) == {}
    with database.autocommit() as connection:
        assert lease_store.end_lost(connection, lease_seconds=LEASE) == [silent]
        assert not worker_store.renew(connection, silent, busy=1)
    assert rescue(database) == {job.id: JobStatus.QUEUED}
    assert rescue(database) == {}


def test_a_worker_whose_row_is_gone_has_lost_its_jobs(make_job: JobFactory, database: Database) -> None:
    """A job whose worker is not in the table is taken back too."""
    job = make_job("running", worker_id=10**12)
    assert rescue(database) == {job.id: JobStatus.QUEUED}


def test_a_rescue_is_bounded(make_job: JobFactory, database: Database) -> None:
    """One statement takes at most its limit, in id order."""
    jobs = [lost_job(make_job, database) for _ in range(3)]
    assert list(rescue(database, limit=2)) == [jobs[0].id, jobs[1].id]
    assert list(rescue(database, limit=2)) == [jobs[2].id]


# Insert, increment, save


def test_insert_and_insert_many_make_the_same_rows(database: Database) -> None:
    """One way in or the other, a job has the same columns."""
    job = NewJob(
        queue="q",
        type="t",
        payload='{"x": 1e308, "u": "\\ud83d\\ude00"}',
        priority=-7,
        max_retries=0,
        available_at=LATER,
        time_limit_seconds=1.5,
        options='{"o":1}',
    )
    with database.autocommit() as connection:
        one = new_job_store.insert(connection, job)
        (many_id,) = new_job_store.insert_many(connection, [job])
    many = read(database, many_id)
    for name in ("queue", "type", "status", "payload", "priority", "max_retries", "available_at", "fence"):
        assert getattr(one, name) == getattr(many, name), name
    same = "payload::text || options::text || coalesce(rank::text, '-') || time_limit_seconds"
    assert column(database, one.id, same) == column(database, many.id, same)


EXTRAS: dict[str, Any] = {
    "available_at": LATER,
    "delay_seconds": 60.0,
    "time_limit_seconds": 1.5,
    "options": '{"o":1}',
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "concurrency_key": "k",
    "rate_cost": 2,
    "expires_at": LATER,
    "ttl_seconds": 60.0,
    "deadline_at": LATER,
    "deadline_seconds": 60.0,
    "unique": UniqueRule("a key", (JobStatus.QUEUED,)),
    "tags": ("a", "b"),
    "requires": ("gpu=true",),
    "slots": 2,
    "limit_cost": 3,
    "encrypted": True,
}


def test_every_setting_of_a_new_job_is_an_extra_or_written_always() -> None:
    """A setting that is added to new jobs has to be added to the test below."""
    always = {"queue", "type", "payload", "priority", "max_retries"}
    elsewhere = {"depends_on", "on_parent_failure"}
    assert {field.name for field in fields(NewJob)} == always | elsewhere | set(EXTRAS)


@pytest.mark.parametrize("name", EXTRAS)
def test_one_extra_of_one_job_of_many_is_written(database: Database, name: str) -> None:
    """The short INSERT is for batches in which no job says more than every job does."""
    plain, special = NewJob("q", "t", "{}"), NewJob("q", "t", "{}", **{name: EXTRAS[name]})
    database.contents.keys = keys_of(new_key("k"))
    with database.autocommit() as connection:
        one = new_job_store.insert(connection, special)
        of_plain, of_many = new_job_store.insert_many(connection, [plain, special])
    said = (
        "concat_ws(' ', rank IS NULL, available_at > created_at, time_limit_seconds, options, "
        "concurrency_key, rate_cost, expires_at > created_at, deadline_at > created_at, unique_key, tags, "
        "requires, slots, limit_cost, payload_key)"
    )
    assert (
        column(database, of_many, said) == column(database, one.id, said) != column(database, of_plain, said)
    )


def test_insert_many_answers_in_the_order_of_the_jobs(database: Database) -> None:
    """The ids that come back belong to the jobs in their order."""
    jobs = [NewJob("q", "t", f'{{"n":{number}}}') for number in range(2000)]
    with database.autocommit() as connection:
        ids = new_job_store.insert_many(connection, jobs)
        rows = connection.exec_driver_sql("SELECT id, payload->>'n' FROM jobs").fetchall()
    assert {row[0]: int(row[1]) for row in rows} == {job_id: number for number, job_id in enumerate(ids)}
    assert ids == sorted(ids)


def test_an_increment_stays_within_the_attempts(make_job: JobFactory, database: Database) -> None:
    """Increments stop where one more could not be run, and never break the row's constraint."""
    queued, running = make_job(max_retries=2), make_job("running", attempts=0, max_retries=2)
    with database.autocommit() as connection:
        for job, times in ((queued, 2), (running, 3)):
            for _ in range(times):
                job_store.increment_attempts(connection, job.id)
            with pytest.raises(IllegalTransitionError):
                job_store.increment_attempts(connection, job.id)
    assert len(claim(database, make_job.worker_id, (queued.id, 0))) == 1


def test_save_keeps_result_and_error(make_job: JobFactory, database: Database) -> None:
    """Save stores a result and an error; an empty error is none; a missing job is an error."""
    job = make_job("running")
    with database.autocommit() as connection:
        job_store.save(connection, job.id, result='{"a": 1}', error="late")
        assert job_store.get(connection, job.id).error == "late"
        job_store.save(connection, job.id, result=None, error="")
        with pytest.raises(JobNotFoundError):
            job_store.save(connection, 10**12, result=None, error="")
    row = read(database, job.id)
    assert (row.result, row.error) == (None, None)
