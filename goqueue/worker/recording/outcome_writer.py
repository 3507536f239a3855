"""Writing outcomes, however long PostgreSQL is away, and whatever it refuses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import structlog

from goqueue import failpoints
from goqueue.db.database import Connection, Database
from goqueue.engine import create as creation
from goqueue.engine.creation_rows import CreatedNode
from goqueue.engine.graph_rows import NewNode
from goqueue.engine.runway.released_dependants import push_released
from goqueue.engine.runway.runway import Runway
from goqueue.engine.transitions.record import ended_instead, record, still_running
from goqueue.errors import DatabaseUnavailableError, GoQueueError
from goqueue.jobs import AttemptOutcome, JobStatus, NewJob, Outcome
from goqueue.worker.claiming.claims import Key

log = structlog.get_logger(__name__)

#: Pauses between tries while PostgreSQL is away.
RETRY_SECONDS = 0.2

#: So often a batch that may hold one bad outcome is tried whole, before it is taken apart.
DOUBTFUL_TRIES = 3

#: How long the recorder waits for the lock of a job that waits for one that has ended, or of its edge. All
#: outcomes of the process wait meanwhile; this one is put off then.
LOCK_MILLISECONDS = 250

Recorded = set[Key]
Write = Callable[[Sequence[Outcome]], Recorded]


class OutcomeWriter:
    """Writes the outcomes of one process, a batch a statement where it can.

    Args:
        database: where they go.
        runway: where jobs that they release are pushed.
        worker_id: tells who ran the attempts; None: whoever holds each of them.
        is_patient: it goes on trying while PostgreSQL is away; if not, it raises.

    Attributes:
        put_off: of the last batch, whose row is locked, or who alone cannot be written now.
        instead: of the last batch, the outcomes that the record has in place of those that were asked for: it
            refused one, or a job that was to run again ended.
        giving_up: set when the process ends though not all is written.
    """

    def __init__(
        self,
        database: Database,
        runway: Runway,
        worker_id: Callable[[], int | None],
        *,
        is_patient: bool = True,
    ) -> None:
        self._database = database
        self._runway = runway
        self._worker_id = worker_id
        self._is_patient = is_patient
        self.put_off: Recorded = set()
        self.instead: dict[Key, Outcome] = {}
        self.giving_up = threading.Event()

    def write(self, outcomes: Mapping[Key, Outcome]) -> Recorded:
        """Write a batch, one outcome a claim; those that were recorded.

        Raises:
            DatabaseUnavailableError: PostgreSQL does not answer, and this writer is not patient.
        """
        self.put_off, self.instead = set(), {}
        recorded = self._write_patiently(list(outcomes.values()), self._write)
        left = [o for key, o in outcomes.items() if key not in recorded and key not in self.put_off]
        if left:
            recorded |= self._write_patiently(left, self._write_with_dependants)
        retried = [key for key in recorded - self.instead.keys() if outcomes[key].status is JobStatus.QUEUED]
        if retried:
            self._note_ended(outcomes, retried)
        return recorded

    def _note_ended(self, outcomes: Mapping[Key, Outcome], retried: Sequence[Key]) -> None:
        """Note which jobs that were to run again ended instead, best effort: only metrics need it."""
        try:
            with self._database.autocommit() as connection:
                ended = ended_instead(connection, retried)
        except GoQueueError as error:
            log.debug("ends_not_read", jobs=len(retried), error=str(error))
            return
        self.instead |= {key: replace(outcomes[key], status=status) for key, status in ended.items()}

    def _write_patiently(self, outcomes: Sequence[Outcome], write: Write) -> Recorded:
        """Write a batch, however long PostgreSQL is away. Recording twice is safe: the fence refuses it."""
        tries = 0
        while not self.giving_up.is_set():
            try:
                return write(outcomes)
            except DatabaseUnavailableError as error:
                tries += 1
                if not self._is_patient:
                    raise
                if error.may_be_the_statement and tries >= DOUBTFUL_TRIES:
                    return self._write_halves(outcomes, write, error)
                self._postpone(outcomes, error)
            except failpoints.FailpointError as error:
                self._postpone(outcomes, error)
            except Exception as error:  # noqa: BLE001  (one outcome that cannot be written must not hold up the others)
                return self._write_apart(outcomes, write, error)
        self.put_off |= {(outcome.job_id, outcome.fence) for outcome in outcomes}
        return set()

    def _postpone(self, outcomes: Sequence[Outcome], error: Exception) -> None:
        log.warning("recording_postponed", outcomes=len(outcomes), error=str(error))
        self.giving_up.wait(RETRY_SECONDS)

    def _write_halves(self, outcomes: Sequence[Outcome], write: Write, error: Exception) -> Recorded:
        """Halve a batch until the one outcome is found that cannot be written now: it is put off."""
        if len(outcomes) > 1:
            middle = len(outcomes) // 2
            halves = outcomes[:middle], outcomes[middle:]
            return self._write_patiently(halves[0], write) | self._write_patiently(halves[1], write)
        outcome = outcomes[0]
        log.warning("outcome_put_off", job_id=outcome.job_id, fence=outcome.fence, error=str(error))
        self.put_off.add((outcome.job_id, outcome.fence))
        return set()

    def _write_apart(self, outcomes: Sequence[Outcome], write: Write, error: Exception) -> Recorded:
        """PostgreSQL refuses the batch: halve it until the one outcome is found that it refuses."""
        if len(outcomes) > 1:
            middle = len(outcomes) // 2
            return self._write_patiently(outcomes[:middle], write) | self._write_patiently(
                outcomes[middle:], write
            )
        outcome = outcomes[0]
        if outcome.reason == "refused":
            # Not even that it failed can be written. The row is still running, and its lease releases it; the
            # others of the batch are recorded.
            log.error("outcome_lost", job_id=outcome.job_id, fence=outcome.fence, exc_info=error)
            return set()
        log.error("outcome_refused", job_id=outcome.job_id, fence=outcome.fence, error=str(error))
        refused = Outcome(
            job_id=outcome.job_id,
            fence=outcome.fence,
            status=JobStatus.FAILED,
            attempt_outcome=AttemptOutcome.FAILED,
            error="PostgreSQL refused the outcome of this attempt",
            reason="refused",
            run_seconds=outcome.run_seconds,
        )
        recorded = self._write_patiently([refused], write)
        self.instead |= dict.fromkeys(recorded, refused)
        return recorded

    def _write(self, outcomes: Sequence[Outcome]) -> Recorded:
        follow_ups = {(o.job_id, o.fence): o.follow_ups for o in outcomes if o.follow_ups}
        failpoints.hit("before_record_commit")
        if follow_ups:
            return self._write_with_follow_ups(outcomes, follow_ups)
        with self._database.autocommit() as connection:
            return self._store(connection, outcomes)

    def _write_with_follow_ups(
        self, outcomes: Sequence[Outcome], follow_ups: dict[tuple[int, int], tuple[NewJob, ...]]
    ) -> Recorded:
        """Follow-ups exist exactly when the outcome that caused them was recorded."""
        with self._database.transaction() as connection:
            recorded = self._store(connection, outcomes)
            created = self._insert_follow_ups(connection, recorded, follow_ups)
        creation.count(created)
        return recorded

    def _write_with_dependants(self, outcomes: Sequence[Outcome]) -> Recorded:
        """Jobs that wait for these are released exactly when the outcome of the last was recorded.

        What is still left is not held any more: a stale result. Or its row is locked: it is put off.
        """
        follow_ups = {(o.job_id, o.fence): o.follow_ups for o in outcomes if o.follow_ups}
        failpoints.hit("before_record_commit")
        with self._database.transaction() as connection:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")
            recorded, released = record(
                connection, outcomes, worker_id=self._worker_id(), with_dependants=True
            )
            created = self._insert_follow_ups(connection, recorded, follow_ups)
            left = {(o.job_id, o.fence) for o in outcomes} - recorded
            locked = still_running(connection, left)
        self.put_off |= locked
        creation.count(created)
        push_released(self._runway, released)
        return recorded

    def _insert_follow_ups(
        self,
        connection: Connection,
        recorded: Recorded,
        follow_ups: dict[tuple[int, int], tuple[NewJob, ...]],
    ) -> list[tuple[NewJob, CreatedNode]]:
        new_jobs = [job for key in sorted(recorded) for job in follow_ups.get(key, ())]
        if not new_jobs:
            return []
        created = creation.insert(connection, [NewNode(job) for job in new_jobs])
        return list(zip(new_jobs, created, strict=True))

    def _store(self, connection: Connection, outcomes: Sequence[Outcome]) -> Recorded:
        return record(connection, outcomes, worker_id=self._worker_id()).keys
