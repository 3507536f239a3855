"""The recorder: writes outcomes behind the workers, a batch a commit, and acknowledges only then.

No worker thread waits for a commit. An outage of PostgreSQL holds the batch until it ends; what is pending is
bounded, because the consumers stop fetching while there is no room. An outcome whose row somebody else has
locked, or that alone takes too long, is put off, and the others are recorded meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

import structlog

from goqueue import failpoints
from goqueue.config.settings import Settings
from goqueue.db.database import Connection, Database
from goqueue.engine import creation_rows as creation_store
from goqueue.engine import queue_rows as queue_store
from goqueue.engine.graph_rows import NewNode
from goqueue.engine.runway.released_dependants import push_released, push_to_front
from goqueue.engine.runway.runway import Runway
from goqueue.engine.transitions import attempts as attempt_store
from goqueue.engine.transitions import dependencies as dependency_store
from goqueue.errors import DatabaseUnavailableError, RedisUnavailableError
from goqueue.jobs import AttemptOutcome, JobStatus, NewJob, Outcome
from goqueue.middleware.job_message import JobMessage
from goqueue.observability import metrics
from goqueue.worker.claims import ClaimedJobs
from goqueue.worker.outcomes import KnownFailureKinds, OutcomeCounter, count_outcomes
from goqueue.worker.pending_outcomes import PendingOutcomes
from goqueue.worker.slow_downs import apply_slow_downs

log = structlog.get_logger(__name__)

#: Pauses between tries while PostgreSQL is away.
RETRY_SECONDS = 0.2

#: So often a batch that may hold one bad outcome is tried whole, before it is taken apart.
DOUBTFUL_TRIES = 3

#: How long the recorder waits for the lock of a job that waits for one that has ended, or of its edge. All
#: outcomes of the process wait meanwhile; this one is put off then.
LOCK_MILLISECONDS = 250

Recorded = set[tuple[int, int]]
Write = Callable[[Sequence[Outcome]], Recorded]


class Recorder:
    """One thread that records the outcomes of this process.

    Args:
        claimed_jobs: what this process holds; what is recorded leaves it.
        flush_reports: writes what attempts logged, where it can: their last lines are there when they have
            ended.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        runway: Runway,
        claimed_jobs: ClaimedJobs,
        *,
        flush_reports: Callable[[], object] = bool,
    ) -> None:
        self._settings = settings
        self._database = database
        self._runway = runway
        self._claimed_jobs = claimed_jobs
        self._flush_reports = flush_reports
        self._failure_kinds = KnownFailureKinds(database)
        self._outcomes = OutcomeCounter(database)
        self._pending = PendingOutcomes()
        # Of the batch that is being recorded: whose row is locked, or who alone cannot be written now.
        self._put_off: Recorded = set()
        self._giving_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start recording."""
        self._thread.start()

    def stop(self, timeout_seconds: float) -> bool:
        """Record what is pending and end; False when PostgreSQL did not take it in time.

        What was not recorded is still `running` by its row: the rescuer takes it back.
        """
        self._pending.end()
        self._thread.join(timeout_seconds)
        self._giving_up.set()
        return not self._thread.is_alive()

    def put(self, message: JobMessage) -> None:
        """Take over a concluded message; never blocks."""
        self._pending.put(message)

    @property
    def pending(self) -> int:
        """Outcomes that nobody has begun to record, or that were put off."""
        return len(self._pending)

    def has_room(self) -> bool:
        """Whether more jobs may be fetched."""
        return self.pending < self._settings.recorder_pending_max

    def _run(self) -> None:
        ending = False
        while not ending and not self._giving_up.is_set():
            batch, ending = self._pending.take(self._settings.recorder_batch_max)
            if batch:
                try:
                    self._record_batch(batch)
                except Exception:
                    # The rows are still running and this process forgets them: its lease releases them.
                    log.exception("recording_failed", jobs=len(batch))
                    self._forget(batch)

    def _record_batch(self, batch: list[JobMessage]) -> None:
        started = time.perf_counter()
        # One outcome a claim: a job that a shutdown gave back may have concluded by itself meanwhile.
        outcomes = {(o.job_id, o.fence): o for o in (m.outcome for m in batch) if o is not None}
        if any(message.current.report is not None for message in batch):
            self._flush_reports()
        self._put_off = set()
        recorded = self._write_patiently(list(outcomes.values()), self._write)
        left = [o for key, o in outcomes.items() if key not in recorded and key not in self._put_off]
        if left:
            recorded |= self._write_patiently(left, self._write_with_dependants)
        batch = self._settled(batch)
        self._push_given_back(batch, recorded)
        failpoints.hit("after_record_before_ack")
        apply_slow_downs(batch, self._settings, self._database, self._runway)
        self._log_stale(batch, recorded)
        count_outcomes(batch, recorded, time.perf_counter() - started)
        self._forget(batch)
        self._acknowledge(batch)
        self._write_kinds(batch)
        self._outcomes.count(batch, recorded)

    def _push_given_back(self, batch: list[JobMessage], recorded: Recorded) -> None:
        """What went back unspent starts wherever a thread is free; suspects are left to the dispatcher."""
        given_back = [
            message.current.claimed
            for message in batch
            if message.outcome is not None
            and message.outcome.attempt_outcome is AttemptOutcome.INTERRUPTED
            and not message.current.claimed.quarantined
        ]
        if given_back:
            push_to_front(
                self._runway,
                ((job.queue, job.id, job.fence) for job in given_back if (job.id, job.fence) in recorded),
            )

    def _settled(self, batch: list[JobMessage]) -> list[JobMessage]:
        """The batch without what was put off, which is pending again."""
        if not self._put_off:
            return batch
        later = [m for m in batch if m.outcome and (m.outcome.job_id, m.outcome.fence) in self._put_off]
        log.info("outcomes_put_off", outcomes=len(later))
        self._pending.put_off(later)
        put_off = set(map(id, later))
        return [message for message in batch if id(message) not in put_off]

    def _forget(self, batch: list[JobMessage]) -> None:
        for message in batch:
            self._claimed_jobs.remove(message.current)

    def _write_patiently(self, outcomes: Sequence[Outcome], write: Write) -> Recorded:
        """Write a batch, however long PostgreSQL is away. Recording twice is safe: the fence refuses it."""
        tries = 0
        while not self._giving_up.is_set():
            try:
                return write(outcomes)
            except DatabaseUnavailableError as error:
                tries += 1
                if error.may_be_the_statement and tries >= DOUBTFUL_TRIES:
                    return self._write_halves(outcomes, write, error)
                self._postpone(outcomes, error)
            except failpoints.FailpointError as error:
                self._postpone(outcomes, error)
            except Exception as error:  # noqa: BLE001  (one outcome that cannot be written must not hold up the others)
                return self._write_apart(outcomes, write, error)
        self._put_off |= {(outcome.job_id, outcome.fence) for outcome in outcomes}
        return set()

    def _postpone(self, outcomes: Sequence[Outcome], error: Exception) -> None:
        log.warning("recording_postponed", outcomes=len(outcomes), error=str(error))
        self._giving_up.wait(RETRY_SECONDS)

    def _write_halves(self, outcomes: Sequence[Outcome], write: Write, error: Exception) -> Recorded:
        """Halve a batch until the one outcome is found that cannot be written now: it is put off."""
        if len(outcomes) > 1:
            middle = len(outcomes) // 2
            halves = outcomes[:middle], outcomes[middle:]
            return self._write_patiently(halves[0], write) | self._write_patiently(halves[1], write)
        outcome = outcomes[0]
        log.warning("outcome_put_off", job_id=outcome.job_id, fence=outcome.fence, error=str(error))
        self._put_off.add((outcome.job_id, outcome.fence))
        return set()

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
            self._insert_follow_ups(connection, recorded, follow_ups)
        return recorded

    def _write_with_dependants(self, outcomes: Sequence[Outcome]) -> Recorded:
        """Jobs that wait for these are released exactly when the outcome of the last was recorded.

        What is still left is not held any more: a stale result. Or its row is locked: it is put off.
        """
        follow_ups = {(o.job_id, o.fence): o.follow_ups for o in outcomes if o.follow_ups}
        failpoints.hit("before_record_commit")
        with self._database.transaction() as connection:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")
            recorded, released = dependency_store.record(
                connection,
                outcomes,
                worker_id=self._claimed_jobs.worker_id,
                head_start_seconds=self._settings.priority_head_start_seconds,
            )
            self._insert_follow_ups(connection, recorded, follow_ups)
            left = {(o.job_id, o.fence) for o in outcomes} - recorded
            locked = attempt_store.still_running(connection, left)
        self._put_off |= locked
        push_released(self._runway, released)
        return recorded

    def _insert_follow_ups(
        self,
        connection: Connection,
        recorded: Recorded,
        follow_ups: dict[tuple[int, int], tuple[NewJob, ...]],
    ) -> None:
        new_jobs = [job for key in sorted(recorded) for job in follow_ups.get(key, ())]
        if new_jobs:
            queue_store.ensure(connection, {job.queue for job in new_jobs})
            head_start = self._settings.priority_head_start_seconds
            nodes = [NewNode(job) for job in new_jobs]
            creation_store.create_many(connection, nodes, head_start_seconds=head_start)

    def _store(self, connection: Connection, outcomes: Sequence[Outcome]) -> Recorded:
        return attempt_store.record(
            connection,
            outcomes,
            worker_id=self._claimed_jobs.worker_id,
            head_start_seconds=self._settings.priority_head_start_seconds,
        )

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
        return self._write_patiently([refused], write)

    def _write_kinds(self, batch: Sequence[JobMessage]) -> None:
        """Keep what the fingerprints of failed attempts stand for: best effort, and each only once."""
        kinds = [m.outcome.failure_kind for m in batch if m.outcome is not None and m.outcome.failure_kind]
        if kinds:
            self._failure_kinds.write(kinds)

    def _log_stale(self, batch: Sequence[JobMessage], recorded: Recorded) -> None:
        if len(recorded) == len(batch):
            return
        for message in batch:
            if (message.current.id, message.current.fence) not in recorded:
                metrics.STALE_RESULTS.inc()
                log.warning("stale_result", job_id=message.current.id, fence=message.current.fence)

    def _acknowledge(self, batch: Sequence[JobMessage]) -> None:
        by_runway = defaultdict(list)
        for message in batch:
            by_runway[message.runway].append(message.message_id)
        for runway, keys in by_runway.items():
            try:
                self._runway.acknowledge(runway, keys)
            except RedisUnavailableError as error:
                # The entries stay until the dispatcher sweeps them; the claim refuses what they name.
                log.warning("acknowledge_failed", runway=runway, messages=len(keys), error=str(error))
