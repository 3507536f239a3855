"""Any functions of the store, in any order, by three workers that forget nothing: rows follow a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from goqueue.engine import job_rows as job_store
from goqueue.engine import new_job_rows as new_job_store
from goqueue.engine import ready_rows as ready_store
from goqueue.engine.transitions import cancel as cancel_store
from goqueue.engine.transitions import claim as claim_store
from goqueue.engine.transitions import force as force_store
from goqueue.engine.transitions import give_back as give_back_store
from goqueue.engine.transitions import record as record_store
from goqueue.engine.transitions import rescue as rescue_store
from goqueue.engine.transitions import retry as retry_store
from goqueue.engine.transitions import set_status as set_status_store
from goqueue.engine.workers import lease_rows as lease_store
from goqueue.engine.workers import worker_rows as worker_store
from goqueue.errors import IllegalTransitionError
from goqueue.jobs import CLIENT_TRANSITIONS, FINAL_STATUSES, AttemptOutcome, JobStatus, NewJob, Outcome

if TYPE_CHECKING:
    from goqueue.db.database import Database

LEASE = 15.0
MAX_DEATHS = 2
WORKERS = 3
#: So few that old claims of a job meet its new ones.
MOST_JOBS = 3

Q, R = JobStatus.QUEUED, JobStatus.RUNNING
#: kind of end -> status that is recorded, whether the attempt is refunded
ENDS: dict[AttemptOutcome, list[tuple[JobStatus, bool]]] = {
    AttemptOutcome.COMPLETED: [(JobStatus.COMPLETED, False)],
    AttemptOutcome.FAILED: [(JobStatus.FAILED, False), (Q, False)],
    AttemptOutcome.SNOOZED: [(Q, True)],
    AttemptOutcome.INTERRUPTED: [(Q, True)],
    AttemptOutcome.CANCELLED: [(JobStatus.CANCELLED, False)],
}
END_CASES = [(kind, status, refund) for kind, ends in ENDS.items() for status, refund in ends]


@dataclass
class ModelJob:
    """What a row must say."""

    max_retries: int
    status: JobStatus = Q
    attempts: int = 0
    fence: int = 0
    deaths: int = 0
    quarantined: bool = False
    suspicion: int = 0
    worker_id: int | None = None
    due: bool = True
    cancel_requested: bool = False
    cancel_acknowledged: bool = False
    attempt_rows: dict[int, str] = field(default_factory=dict)

    def end(self, status: JobStatus) -> None:
        """Leave the hands of the holder."""
        self.status = status
        self.worker_id = None

    def forget_cancel(self) -> None:
        """Begin a new life."""
        self.cancel_requested = self.cancel_acknowledged = False


class StoreMachine(RuleBasedStateMachine):
    """Three workers and a client act on a handful of jobs."""

    database: ClassVar[Database]

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[int, ModelJob] = {}
        self.claims: list[tuple[int, int, int]] = []  # every claim ever won: job, fence, worker
        self.workers = [self._register() for _ in range(WORKERS)]
        self.ended: set[int] = set()

    def _register(self) -> int:
        with self.database.autocommit() as connection:
            return worker_store.register(connection, hostname="h", pid=1, queues=["q"], threads=1)

    def _pick(self, number: int) -> tuple[int, ModelJob]:
        job_id = sorted(self.jobs)[number % len(self.jobs)]
        return job_id, self.jobs[job_id]

    @precondition(lambda self: len(self.jobs) < MOST_JOBS)
    @rule(max_retries=st.integers(0, 2))
    def insert(self, max_retries: int) -> None:
        """A client creates a job."""
        with self.database.autocommit() as connection:
            job = new_job_store.insert(connection, NewJob("q", "t", "{}", max_retries=max_retries))
        self.jobs[job.id] = ModelJob(max_retries)

    @precondition(lambda self: self.jobs)
    @rule(
        number=st.integers(0, 99), worker=st.integers(0, WORKERS - 1), age=st.sampled_from([0, 0, 0, 1, -1])
    )
    def claim(self, number: int, worker: int, age: int) -> None:
        """A worker claims a message, a fresh or a stale one."""
        job_id, job = self._pick(number)
        worker_id = self.workers[worker]
        fence = max(0, job.fence - age)
        with self.database.autocommit() as connection:
            claimed = claim_store.claim(
                connection, [(job_id, fence)], worker_id=worker_id, lease_seconds=LEASE
            )
        expected = (
            job.status is Q and fence == job.fence and job.due and job.attempts <= job.max_retries
        ) and worker_id not in self.ended
        assert [c.id for c in claimed] == [job_id] * expected
        if expected:
            job.status, job.worker_id = R, worker_id
            job.fence += 1
            job.attempts += 1
            assert (claimed[0].fence, claimed[0].attempt) == (job.fence, job.attempts)
            self.claims.append((job_id, job.fence, worker_id))

    @precondition(lambda self: self.claims)
    @rule(
        picks=st.lists(st.tuples(st.integers(0, 999), st.sampled_from(END_CASES), st.booleans()), max_size=4)
    )
    def record(self, picks: list[tuple[int, tuple[AttemptOutcome, JobStatus, bool], bool]]) -> None:
        """Workers record how claims of any age ended, several in one statement."""
        outcomes: dict[tuple[int, int], Outcome] = {}
        for number, (kind, status, refund), waits in picks:
            job_id, fence, _ = self.claims[-1 - number % len(self.claims)]
            outcomes[job_id, fence] = Outcome(
                job_id, fence, status, kind, refund=refund, delay_seconds=900.0 if waits else 0.0
            )
        with self.database.autocommit() as connection:
            recorded = record_store.record(connection, list(outcomes.values()), worker_id=1).keys
        held = {
            key for key in outcomes if self.jobs[key[0]].status is R and self.jobs[key[0]].fence == key[1]
        }
        assert recorded == held
        for key in held:
            self._model_record(outcomes[key])

    @precondition(lambda self: self.claims)
    @rule(numbers=st.lists(st.integers(0, 99), min_size=1, max_size=3))
    def give_back(self, numbers: list[int]) -> None:
        """A worker gives claims of any age back that it did not begin, several in one statement."""
        picked = [self.claims[-1 - number % len(self.claims)] for number in numbers]
        worker_id = picked[0][2]
        with self.database.autocommit() as connection:
            returns = give_back_store.give_back(
                connection,
                [(job_id, fence) for job_id, fence, _ in picked],
                worker_id=worker_id,
            )
        held = {
            (job_id, fence)
            for job_id, fence, _ in picked
            if (job := self.jobs[job_id]).status is R and job.fence == fence and job.worker_id == worker_id
        }
        assert {(job.id, job.fence) for job in returns.jobs} == held
        for job_id, _ in held:
            job = self.jobs[job_id]
            job.attempts -= 1
            job.end(JobStatus.CANCELLED if job.cancel_requested else Q)

    def _model_record(self, outcome: Outcome) -> None:
        job = self.jobs[outcome.job_id]
        job.attempts -= outcome.refund
        becomes = outcome.status
        if becomes is Q and job.cancel_requested:
            becomes = JobStatus.CANCELLED
        elif becomes is Q and job.attempts > job.max_retries:
            becomes = JobStatus.FAILED
        job.end(becomes)
        if outcome.attempt_outcome is not AttemptOutcome.INTERRUPTED:
            job.quarantined, job.suspicion = False, 0
        job.due = job.due if outcome.status is not Q else outcome.delay_seconds == 0
        job.attempt_rows[outcome.fence] = outcome.attempt_outcome.value

    @precondition(lambda self: self.jobs)
    @rule(numbers=st.lists(st.integers(0, 99), min_size=1, max_size=3))
    def retry(self, numbers: list[int]) -> None:
        """Someone replays dead letters."""
        chosen = dict(self._pick(number) for number in numbers)
        with self.database.autocommit() as connection:
            retried = retry_store.retry(connection, chosen)
        legal = {key for key, job in chosen.items() if job.status in {JobStatus.FAILED, JobStatus.CANCELLED}}
        assert {row[0] for row in retried} == legal
        for key in legal:
            job = self.jobs[key]
            job.status, job.attempts, job.deaths, job.quarantined, job.due = Q, 0, 0, False, True
            job.suspicion = 0
            job.forget_cancel()

    @precondition(lambda self: self.jobs)
    @rule(numbers=st.lists(st.integers(0, 99), min_size=1, max_size=2))
    def cancel(self, numbers: list[int]) -> None:
        """Someone cancels jobs; of those that a worker runs it is only asked."""
        chosen = dict(self._pick(number) for number in numbers)
        with self.database.autocommit() as connection:
            cancelled = cancel_store.cancel(connection, chosen)
        legal = {key for key, job in chosen.items() if job.status in {Q, R, JobStatus.BLOCKED}}
        held = {key for key in legal if chosen[key].worker_id is not None}
        assert (set(cancelled.ended), set(cancelled.requested)) == (legal - held, held)
        for key in legal - held:
            self.jobs[key].end(JobStatus.CANCELLED)
        for key in held:
            self.jobs[key].cancel_requested = True

    @rule(worker=st.integers(0, WORKERS - 1))
    def acknowledge(self, worker: int) -> None:
        """A worker looks for what it is asked to stop."""
        worker_id = self.workers[worker]
        with self.database.autocommit() as connection:
            requested = cancel_store.acknowledge(connection, worker_id)
        asked = {
            key
            for key, job in self.jobs.items()
            if job.status is R and job.worker_id == worker_id and job.cancel_requested
        }
        assert requested == {(key, self.jobs[key].fence) for key in asked}
        for key in asked:
            self.jobs[key].cancel_acknowledged = True

    @rule()
    def force(self) -> None:
        """The rescuer cancels what no worker stopped in time."""
        with self.database.transaction() as connection:
            forced = force_store.force(connection, grace_seconds=0)
        overdue = {
            key
            for key, job in self.jobs.items()
            if job.status is R and job.worker_id is not None and job.cancel_requested
        }
        assert {job.job_id: job.acknowledged for job in forced} == {
            key: self.jobs[key].cancel_acknowledged for key in overdue
        }
        for key in overdue:
            job = self.jobs[key]
            job.attempt_rows[job.fence] = "cancelled"
            job.end(JobStatus.CANCELLED)

    @precondition(lambda self: self.jobs)
    @rule(number=st.integers(0, 99), wanted=st.sampled_from(JobStatus))
    def set_status(self, number: int, wanted: JobStatus) -> None:
        """A client of the REST contract moves a job."""
        job_id, job = self._pick(number)
        legal = wanted in CLIENT_TRANSITIONS[job.status] and (
            wanted is not Q or job.attempts <= job.max_retries
        )
        try:
            with self.database.autocommit() as connection:
                set_status_store.set_status(connection, job_id, wanted)
        except IllegalTransitionError:
            assert not legal
            return
        assert legal
        job.end(wanted)
        job.fence += wanted is R
        job.due = job.due or wanted is Q
        if wanted is Q:
            job.forget_cancel()

    @precondition(lambda self: self.jobs)
    @rule(number=st.integers(0, 99))
    def increment(self, number: int) -> None:
        """A client of the REST contract counts an attempt."""
        job_id, job = self._pick(number)
        room = job.max_retries - job.attempts + (job.status is R)
        legal = job.status in {Q, R} and room > 0
        try:
            with self.database.autocommit() as connection:
                job_store.increment_attempts(connection, job_id)
        except IllegalTransitionError:
            assert not legal
            return
        assert legal
        job.attempts += 1

    @rule(worker=st.integers(0, WORKERS - 1), comes_back=st.booleans())
    def lose(self, worker: int, comes_back: bool) -> None:
        """A worker falls silent past its lease, and perhaps registers again later."""
        worker_id = self.workers[worker]
        with self.database.autocommit() as connection:
            connection.exec_driver_sql(
                "UPDATE workers SET heartbeat_at = now() - interval '1 hour' WHERE id = %(id)s",
                {"id": worker_id},
            )
            assert lease_store.end_lost(connection, lease_seconds=LEASE) == (
                [] if worker_id in self.ended else [worker_id]
            )
            assert not worker_store.renew(connection, worker_id, busy=0)
        self.ended.add(worker_id)
        if comes_back:
            self.workers[worker] = self._register()

    @rule(together=st.booleans())
    def rescue(self, together: bool) -> None:
        """The rescuer takes the jobs of ended workers back; whole hosts may have been lost with them."""
        with self.database.autocommit() as connection:
            taken = rescue_store.rescue(
                connection,
                max_deaths=MAX_DEATHS,
                lost_together=self.ended if together else (),
            )
        rescued = {job.id: job.status for job in taken}
        lost = {key for key, job in self.jobs.items() if job.status is R and job.worker_id in self.ended}
        assert rescued.keys() == lost
        for key in lost:
            job = self.jobs[key]
            lonely = job.quarantined and job.suspicion == 2
            job.deaths += lonely
            ends = JobStatus.FAILED if lonely and job.deaths >= MAX_DEATHS else Q
            job.end(JobStatus.CANCELLED if job.cancel_requested else ends)
            again = job.status is Q
            job.quarantined = again and (job.suspicion > 0 or not together)
            job.suspicion = min(2, job.suspicion + 1) if again else 0
            job.attempts = max(0, job.attempts - again)
            job.due = True
            job.attempt_rows[job.fence] = "worker_died"
            assert rescued[key] is job.status

    @rule()
    def time_passes(self) -> None:
        """Everything that waits for its time becomes due."""
        with self.database.autocommit() as connection:
            connection.exec_driver_sql(
                "UPDATE jobs SET available_at = now() WHERE status = 'queued' AND rank IS NULL"
            )
            due = ready_store.make_due(connection)
        waiting = [job for job in self.jobs.values() if job.status is Q and not job.due]
        assert due == len(waiting)
        for job in waiting:
            job.due = True

    @invariant()
    def rows_are_as_the_model_says(self) -> None:
        """Every row and every attempt row is what the model says: nothing else changed."""
        with self.database.autocommit() as connection:
            rows = connection.exec_driver_sql(
                "SELECT id, status, attempts, fence, deaths, quarantined, suspicion, worker_id, "
                "cancel_requested_at IS NOT NULL, cancel_acknowledged_at IS NOT NULL, "
                "finished_at IS NOT NULL, available_at <= now() FROM jobs"
            ).fetchall()
            attempts = connection.exec_driver_sql("SELECT job_id, fence, outcome FROM attempts").fetchall()
        assert {row[0] for row in rows} == set(self.jobs)
        for job_id, *values in rows:
            job = self.jobs[job_id]
            due = values.pop()
            counted = (job.attempts, job.fence, job.deaths, job.quarantined, job.suspicion)
            expected = (job.status, *counted, job.worker_id)
            asked = (job.cancel_requested, job.cancel_acknowledged)
            assert tuple(values) == (*expected, *asked, job.status in FINAL_STATUSES)
            assert due == job.due or job.status is not Q
            assert 0 <= job.attempts <= 1 + job.max_retries
        expected_rows = {
            (job_id, fence): outcome
            for job_id, job in self.jobs.items()
            for fence, outcome in job.attempt_rows.items()
        }
        assert {(row[0], row[1]): row[2] for row in attempts} == expected_rows

    @invariant()
    def completions_are_single(self) -> None:
        """No job has two completed attempts."""
        for job in self.jobs.values():
            assert list(job.attempt_rows.values()).count("completed") <= 1

    def teardown(self) -> None:
        """Leave an empty database to the next run."""
        with self.database.autocommit() as connection:
            for table in ("jobs", "attempts", "workers"):
                connection.exec_driver_sql(f"DELETE FROM {table}")


def test_the_store_follows_its_model(database: Database) -> None:
    """Whatever three workers and a client do in any order, rows and attempt rows are as the model says."""
    machine = type("Machine", (StoreMachine,), {"database": database})
    run_state_machine_as_test(
        machine,
        settings=hypothesis_settings(
            max_examples=30,
            stateful_step_count=50,
            database=None,
            # Shrinking a failure takes minutes here; the steps as they were are short enough to read.
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
