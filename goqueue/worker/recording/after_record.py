"""Consequences of the record of a batch of ended attempts: pushes, counts, kinds of failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import structlog

from goqueue import failpoints
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine.runway.released_dependants import push_to_front
from goqueue.engine.runway.runway import Runway
from goqueue.jobs import AttemptOutcome, Outcome
from goqueue.middleware.job_message import JobMessage
from goqueue.observability import metrics
from goqueue.worker.claiming.claims import Key
from goqueue.worker.recording.outcome_writer import Recorded
from goqueue.worker.recording.outcomes import KnownFailureKinds, OutcomeCounter, count_outcomes
from goqueue.worker.slow_downs import apply_slow_downs

log = structlog.get_logger(__name__)


class AfterRecord:
    """Does what follows when a batch was recorded; nothing of it undoes the record."""

    def __init__(self, settings: Settings, database: Database, runway: Runway) -> None:
        self._settings = settings
        self._database = database
        self._runway = runway
        self._failure_kinds = KnownFailureKinds(database)
        self._outcomes = OutcomeCounter(database)

    def follow(
        self,
        batch: Sequence[JobMessage],
        recorded: Recorded,
        instead: Mapping[Key, Outcome],
        seconds: float,
    ) -> None:
        """Push what went back, slow down queues that asked for it, log what came too late, and count.

        Args:
            batch: the attempts, with the outcomes that they asked for.
            recorded: those that the record has.
            instead: what it has where that is another outcome.
            seconds: how long recording took.
        """
        self._push_given_back(batch, recorded)
        failpoints.hit("after_record_before_ack")
        apply_slow_downs(batch, self._settings, self._database, self._runway)
        self._log_stale(batch, recorded)
        count_outcomes(batch, recorded, instead, seconds)

    def note(self, batch: Sequence[JobMessage], recorded: Recorded) -> None:
        """Keep which kinds of failures there were, and how the attempts of guarded types ended."""
        self._write_kinds(batch)
        self._outcomes.count(batch, recorded)

    def _push_given_back(self, batch: Sequence[JobMessage], recorded: Recorded) -> None:
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
