"""The ends of attempts of remote workers: the same verdicts, record and counts as of all others."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import orjson
import structlog

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine.combined_creates import CombinedCalls
from goqueue.engine.runway.runway import Runway
from goqueue.engine.transitions.claim import open_claimed
from goqueue.errors import DatabaseUnavailableError, JobNotFoundError, LeaseLostError, ResultTooLargeError
from goqueue.jobs import AttemptOutcome, ClaimedJob, JobStatus, Outcome
from goqueue.middleware.attempt import ClaimTimes, JobAttempt
from goqueue.middleware.follow_ups import JobCallbacks, JobPipelines, has_callback
from goqueue.middleware.job_message import JobMessage
from goqueue.middleware.job_retries import JobRetries
from goqueue.middleware.lifecycle import conclude
from goqueue.observability import metrics
from goqueue.remote.database_clock import DatabaseClock
from goqueue.remote.declared_types import TypeDirectory
from goqueue.remote.lease_tokens import HeldJob
from goqueue.remote.remote_job_rows import HeldContents, contents_of, earlier_end
from goqueue.remote.reported_failure import Ending, ReportedFailure
from goqueue.worker.broker import JobBroker
from goqueue.worker.claiming.claims import Key
from goqueue.worker.recording.after_record import AfterRecord
from goqueue.worker.recording.outcome_writer import OutcomeWriter

__all__ = ["AttemptEnd", "AttemptEnds"]

log = structlog.get_logger(__name__)

#: A row that somebody has locked is asked for again after so long, and so often.
LOCKED_SECONDS = 0.05
LOCKED_TRIES = 20

#: The outcomes after which the answer to an end is the same, whoever asks how often.
_ENDINGS = {
    Ending.FAILED: AttemptOutcome.FAILED,
    Ending.DISCARDED: AttemptOutcome.FAILED,
    Ending.CANCELLED: AttemptOutcome.CANCELLED,
    Ending.INTERRUPTED: AttemptOutcome.INTERRUPTED,
}


class AttemptEnd(NamedTuple):
    """The end of an attempt, and the state of its job after it."""

    job_id: int
    outcome: AttemptOutcome
    status: JobStatus


class _Ended(NamedTuple):
    """What became of an attempt that was to be recorded.

    Attributes:
        outcome: what the record has; None: it was held no more.
        is_put_off: its row is locked by somebody.
        seconds: how long recording took.
    """

    message: JobMessage
    outcome: Outcome | None
    is_put_off: bool
    seconds: float


class AttemptEnds:
    """Records how attempts of remote workers ended. Thread-safe; ends that meet share a commit."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        runway: Runway,
        broker: JobBroker,
        types: TypeDirectory,
        clock: DatabaseClock,
    ) -> None:
        self._settings = settings
        self._database = database
        self._runway = runway
        self._broker = broker
        self._types = types
        self._clock = clock
        self._after = AfterRecord(settings, database, runway)
        self._combined = CombinedCalls[JobMessage, _Ended](self._record, self._follow, _size_of)

    def complete(self, held: HeldJob, result: bytes | None, run_seconds: float | None = None) -> AttemptEnd:
        """Complete a job with this result, as JSON text; twice is as good as once.

        Args:
            held: what its token says.
            result: None: it has none.
            run_seconds: how long the handler ran, by its own account; None: since the claim.

        Raises:
            ResultTooLargeError: the result is; the job is still held.
            LeaseLostError: the job is not held any more, and its attempt did not complete.
            JobNotFoundError: it was deleted.
            DatabaseUnavailableError: PostgreSQL does not answer; asking again is safe.
        """
        message = self._completed(held, result, run_seconds)
        return self._end(held, message, AttemptOutcome.COMPLETED)

    def _completed(self, held: HeldJob, result: bytes | None, run_seconds: float | None) -> JobMessage:
        """The attempt with what its completion leads to, still to be recorded."""
        if result is not None and len(result) > self._settings.result_max_bytes:
            raise ResultTooLargeError(len(result), self._settings.result_max_bytes)
        message = self._message_of(held, run_seconds, self._contents_for_success(held))
        message.current.result = None if result is None else result.decode()
        if has_follow_ups(message, self._broker):
            value = None if result is None else orjson.loads(result)
            self._broker.conclude_elsewhere(message, (JobCallbacks, JobPipelines), result=value)
        conclude(message, None)
        return message

    def complete_many(
        self, results: Mapping[HeldJob, tuple[bytes | None, float | None]]
    ) -> dict[HeldJob, AttemptEnd]:
        """Complete jobs with these results, and how long their handlers ran, in one commit.

        Those that are not held any more, and did not complete so, are left out.

        Raises:
            ResultTooLargeError: a result is; none was completed.
            DatabaseUnavailableError: PostgreSQL does not answer; asking again is safe.
        """
        messages = {
            held: self._completed(held, result, run_seconds)
            for held, (result, run_seconds) in results.items()
        }
        if not messages:
            return {}
        rows = self._record(list(messages.values()))
        self._follow(rows)
        found: dict[HeldJob, AttemptEnd] = {}
        for (held, message), row in zip(messages.items(), rows, strict=True):
            with suppress(LeaseLostError, JobNotFoundError):
                found[held] = (
                    self._end(held, message, AttemptOutcome.COMPLETED)
                    if row.outcome is None
                    else AttemptEnd(held.id, AttemptOutcome.COMPLETED, row.outcome.status)
                )
        return found

    def fail(self, held: HeldJob, reported: ReportedFailure, run_seconds: float | None = None) -> AttemptEnd:
        """End an attempt that did not complete; twice is as good as once.

        Raises:
            LeaseLostError: the job is not held any more, and its attempt did not end so.
            JobNotFoundError: it was deleted.
            DatabaseUnavailableError: PostgreSQL does not answer; asking again is safe.
        """
        message = self._message_of(held, run_seconds, self._contents(held))
        if reported.ending is Ending.CANCELLED:
            message.current.control = (AttemptOutcome.CANCELLED, 0.0)
            conclude(message, None)
        elif reported.ending is Ending.INTERRUPTED:
            message.release()
        else:
            self._decide(message, reported)
        return self._end(held, message, _ENDINGS[reported.ending])

    def _decide(self, message: JobMessage, reported: ReportedFailure) -> None:
        """Let the policy of its type decide, as for a handler that raised."""
        exception = reported.exception()
        message.current.failure = (id(exception), reported.failure(message.current.type))
        message.stuff_exception(exception)
        if self._broker.job_type(message.actor_name) is not None:
            self._broker.conclude_elsewhere(message, (JobRetries, JobCallbacks), exception=exception)
        elif reported.ending is Ending.DISCARDED:
            message.fail()
        elif reported.retry_after_seconds is not None:
            message.retry_delay_ms = round(reported.retry_after_seconds * 1000)
            if message.current.claimed.attempts > message.current.claimed.max_retries:
                message.fail()
        self._broker.decide_by_count(message, self._types.retry_policy(message.actor_name))
        conclude(message, exception)

    def _contents_for_success(self, held: HeldJob) -> HeldContents | None:
        """What callbacks and pipelines are told, where the job or its type may have some."""
        actor = self._broker.actors.get(held.type)
        if held.has_options or (actor is not None and has_callback(actor.options)):
            return self._contents(held)
        return None

    def _contents(self, held: HeldJob) -> HeldContents | None:
        with self._database.autocommit() as connection:
            return contents_of(connection, held.key)

    def _message_of(
        self, held: HeldJob, run_seconds: float | None, contents: HeldContents | None
    ) -> JobMessage:
        """The attempt as one of a worker of GoQueue, which ran from its claim until now, or for less."""
        ahead, now = self._clock.ahead, time.monotonic()
        claimed = ClaimedJob(
            held.id,
            held.fence,
            held.queue,
            held.type,
            contents.payload if contents else "{}",
            held.attempts,
            held.max_retries,
            held.quarantined,
            None,
            contents.options if contents else None,
            held.claimed_at,
            wait_seconds=held.wait_seconds,
        )
        open_claimed(claimed, self._database.contents)
        claimed.encrypted = claimed.encrypted or held.encrypted
        claimed_at = min(now, held.claimed_at - ahead)
        current = JobAttempt(claimed, held.queue, times=ClaimTimes(claimed_at, claimed_at, ahead, claimed_at))
        longest = now - claimed_at
        current.run_seconds = longest if run_seconds is None else min(run_seconds, longest)
        current.started = now - current.run_seconds
        current.has_message = False
        return JobMessage(current, throws=self._broker.types.throws(held.type))

    def _end(self, held: HeldJob, message: JobMessage, wanted: AttemptOutcome) -> AttemptEnd:
        for _ in range(LOCKED_TRIES):
            ended = self._combined.call(message)
            if ended.outcome is not None and ended.outcome.attempt_outcome is wanted:
                return AttemptEnd(held.id, wanted, ended.outcome.status)
            if not ended.is_put_off:
                return self._ended_before(held, wanted)
            time.sleep(LOCKED_SECONDS)
        raise DatabaseUnavailableError(f"somebody has locked the row of job {held.id}")

    def _ended_before(self, held: HeldJob, wanted: AttemptOutcome) -> AttemptEnd:
        """The same answer as the first time, where the attempt ended so; the answer to that may be lost."""
        with self._database.autocommit() as connection:
            found = earlier_end(connection, held.key)
        if found is None:
            raise JobNotFoundError(held.id)
        if found.outcome == wanted:
            is_latest = found.fence == held.fence
            return AttemptEnd(held.id, wanted, found.status if is_latest else JobStatus.QUEUED)
        metrics.STALE_RESULTS.inc()
        log.warning("stale_result", job_id=held.id, fence=held.fence)
        raise LeaseLostError(held.id, found.status)

    def _record(self, messages: Sequence[JobMessage]) -> list[_Ended]:
        """Record attempts in one statement; of two ends of one attempt the first one counts."""
        started = time.perf_counter()
        outcomes: dict[Key, Outcome] = {}
        for message in messages:
            assert message.outcome is not None
            outcomes.setdefault(_key(message), message.outcome)
        writer = OutcomeWriter(self._database, self._runway, lambda: None, is_patient=False)
        recorded = writer.write(outcomes)
        seconds = time.perf_counter() - started
        return [
            _Ended(
                message,
                writer.instead.get(key, outcomes[key])
                if (key := _key(message)) in recorded and outcomes[key] is message.outcome
                else None,
                key in writer.put_off,
                seconds,
            )
            for message in messages
        ]

    def _follow(self, ended: Sequence[_Ended]) -> None:
        """Do what follows of a record, behind the answers to those who share it."""
        recorded = {_key(one.message): one.outcome for one in ended if one.outcome is not None}
        batch = [one.message for one in ended if one.outcome is not None]
        if not batch:
            return
        instead = {
            _key(one.message): one.outcome
            for one in ended
            if one.outcome is not None and one.outcome is not one.message.outcome
        }
        self._after.follow(batch, set(recorded), instead, ended[0].seconds)
        self._after.note(batch, set(recorded))


def has_follow_ups(message: JobMessage, broker: JobBroker) -> bool:
    """Tell whether the end of a job, or its type, names a callback or the next job of a pipeline."""
    actor = broker.actors.get(message.actor_name)
    of_type = actor is not None and has_callback(actor.options)
    return of_type or (
        actor is not None and (has_callback(message.options) or "pipe_target" in message.options)
    )


def _key(message: JobMessage) -> Key:
    return message.current.id, message.current.fence


def _size_of(message: JobMessage) -> int:
    return len(message.current.result or "")
