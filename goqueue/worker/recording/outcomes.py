"""Counts and kinds of failures that are kept of ended attempts, a batch at a time.

What the workers count: one write a series and batch costs less than one a job. What circuit breakers are
decided by: how the attempts of their types ended; other types cost nothing. And which kinds of failures this
process has written: each is written once, not once a failure.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence

import structlog

from goqueue.db.database import Database
from goqueue.errors import GoQueueError
from goqueue.insight import failure_rows as failure_store
from goqueue.jobs import AttemptOutcome, ClaimedJob, FailureKind, JobStatus, Outcome
from goqueue.limits import breaker_rows as breaker_store
from goqueue.limits.breaker_rows import End
from goqueue.middleware.attempt import JobAttempt
from goqueue.middleware.job_message import JobMessage
from goqueue.observability import metrics

log = structlog.get_logger(__name__)

#: How often it is read which types have a breaker.
TYPES_SECONDS = 2.0

#: Only these say something about a type: a snooze, a stop and a death of the worker do not.
COUNTED = {AttemptOutcome.COMPLETED: False, AttemptOutcome.FAILED: True}

#: After this a kind is written again: the cleaner may have forgotten it.
REMEMBERED_SECONDS = 3600.0
REMEMBERED_MAX = 10_000


def count_begins(jobs: Iterable[JobAttempt]) -> None:
    """Count how long jobs had waited when their handlers began."""
    waits: dict[str, list[float]] = {}
    for job in jobs:
        waits.setdefault(job.claimed.queue, []).append(job.wait_seconds)
    _count_waits(waits)


def _count_waits(waits: Mapping[str, Sequence[float]]) -> None:
    for queue, seconds_waited in waits.items():
        metrics.JOB_WAIT.labels(queue).observe_all(seconds_waited)


def count_outcomes(
    batch: Sequence[JobMessage],
    recorded: Collection[tuple[int, int]],
    instead: Mapping[tuple[int, int], Outcome],
    seconds: float,
) -> None:
    """Count what was recorded of a batch of ended attempts, which took so long to record.

    Args:
        batch: the attempts, with the outcomes that they asked for.
        recorded: those that the record has.
        instead: what it has where that is another outcome.
        seconds: how long recording took.
    """
    metrics.RECORDER_BATCH_SIZE.observe(len(batch))
    metrics.RECORDER_DURATION.observe(seconds)
    runs: dict[str, list[float]] = {}
    waits: dict[str, list[float]] = {}
    ended: dict[tuple[str, JobStatus], int] = {}
    for message in batch:
        outcome, current = message.outcome, message.current
        if current.started and not current.is_noted:
            # Those that ran for longer were counted while they did.
            waited = current.claimed.wait_seconds + current.started - current.times.claimed_at
            waits.setdefault(current.claimed.queue, []).append(waited)
        if outcome is None or (outcome.job_id, outcome.fence) not in recorded:
            continue
        outcome = instead.get((outcome.job_id, outcome.fence), outcome)
        queue = current.claimed.queue
        runs.setdefault(queue, []).append(outcome.run_seconds)
        ended[queue, outcome.status] = ended.get((queue, outcome.status), 0) + 1
        if outcome.attempt_outcome is AttemptOutcome.FAILED:
            _count_failure(current.claimed, outcome)
    _count_waits(waits)
    for queue, run_seconds in runs.items():
        metrics.JOB_DURATION.labels(queue).observe_all(run_seconds)
    for (queue, status), count in ended.items():
        metrics.JOBS_PROCESSED.labels(queue, status.value).inc(count)


def _count_failure(job: ClaimedJob, outcome: Outcome) -> None:
    if outcome.status is JobStatus.FAILED:
        metrics.JOBS_FAILED.labels(job.queue, job.type, _error_of(outcome)).inc()
    else:
        metrics.JOBS_RETRIED.labels(job.queue, job.type).inc()


def _error_of(outcome: Outcome) -> str:
    """The class of the exception without its module; the reason where there was none."""
    if outcome.failure_kind is not None:
        return outcome.failure_kind.exception.rpartition(".")[2]
    return outcome.reason or "failed"


class OutcomeCounter:
    """Counts what this process recorded, a statement a batch. What cannot be counted is not counted later."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._types: frozenset[str] = frozenset()
        self._types_at = 0.0

    def count(self, batch: Sequence[JobMessage], recorded: Collection[tuple[int, int]]) -> None:
        """Count the recorded ends of a batch, best effort."""
        try:
            self._read_types()
            ends = self._ends(batch, recorded) if self._types else []
            if ends:
                with self._database.autocommit() as connection:
                    breaker_store.count(connection, ends)
        except GoQueueError as error:
            log.warning("outcomes_not_counted", outcomes=len(batch), error=str(error))

    def _read_types(self) -> None:
        now = time.monotonic()
        if now < self._types_at:
            return
        with self._database.autocommit() as connection:
            self._types = breaker_store.guarded_types(connection)
        self._types_at = now + TYPES_SECONDS

    def _ends(self, batch: Sequence[JobMessage], recorded: Collection[tuple[int, int]]) -> list[End]:
        return [
            End(claimed.type, message.current.begun_at, COUNTED[message.outcome.attempt_outcome])
            for message in batch
            if message.outcome is not None
            and message.outcome.attempt_outcome in COUNTED
            and (claimed := message.current.claimed).type in self._types
            and (claimed.id, claimed.fence) in recorded
        ]


class KnownFailureKinds:
    """Writes kinds of failures that it has not written lately.

    A kind that cannot be written is lost until its next failure; its group shows the error of its newest job
    instead. So nothing waits for it, and nothing fails because of it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._written: dict[str, float] = {}

    def write(self, kinds: Iterable[FailureKind]) -> None:
        """Write those that are new to this process; never raises."""
        now = time.monotonic()
        new = {
            kind.fingerprint: kind
            for kind in kinds
            if now - self._written.get(kind.fingerprint, -REMEMBERED_SECONDS) >= REMEMBERED_SECONDS
        }
        if not new:
            return
        try:
            with self._database.autocommit() as connection:
                failure_store.insert_kinds(connection, new.values())
        except GoQueueError as error:
            log.warning("failure_kinds_not_written", kinds=len(new), error=str(error))
            return
        if len(self._written) + len(new) > REMEMBERED_MAX:
            self._written.clear()
        self._written.update(dict.fromkeys(new, now))
