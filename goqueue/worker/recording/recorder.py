"""The recorder: writes outcomes behind the workers, a batch a commit, and acknowledges only then.

No worker thread waits for a commit. An outage of PostgreSQL holds the batch until it ends; what is pending is
bounded, because the consumers stop fetching while there is no room. An outcome whose row somebody else has
locked, or that alone takes too long, is put off, and the others are recorded meanwhile.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence

import structlog

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine.runway.runway import Runway
from goqueue.errors import RedisUnavailableError
from goqueue.middleware.job_message import JobMessage
from goqueue.worker.background_thread import BackgroundThread
from goqueue.worker.claiming.claims import ClaimedJobs
from goqueue.worker.recording.after_record import AfterRecord
from goqueue.worker.recording.outcome_writer import OutcomeWriter
from goqueue.worker.recording.pending_outcomes import PendingOutcomes

log = structlog.get_logger(__name__)


class Recorder(BackgroundThread):
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
        super().__init__("recorder")
        self._settings = settings
        self._runway = runway
        self._claimed_jobs = claimed_jobs
        self._flush_reports = flush_reports
        self._after = AfterRecord(settings, database, runway)
        self._pending = PendingOutcomes()
        self._writer = OutcomeWriter(database, runway, lambda: claimed_jobs.worker_id)

    def stop(self, timeout_seconds: float) -> bool:
        """Record what is pending and end; False when PostgreSQL did not take it in time.

        What was not recorded is still `running` by its row: the rescuer takes it back.
        """
        self._pending.end()
        self._thread.join(timeout_seconds)
        self._writer.giving_up.set()
        return not self._thread.is_alive()

    def put(self, message: JobMessage) -> None:
        """Take over a concluded message; never blocks."""
        self._pending.put(message)

    @property
    def pending(self) -> int:
        """The number of outcomes that nobody has begun to record, or that were put off."""
        return len(self._pending)

    def has_room(self) -> bool:
        """Tell whether more jobs may be fetched."""
        return self.pending < self._settings.recorder_pending_max

    def _run(self) -> None:
        ending = False
        while not ending and not self._writer.giving_up.is_set():
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
        recorded = self._writer.write(outcomes)
        batch = self._settled(batch)
        self._after.follow(batch, recorded, self._writer.instead, time.perf_counter() - started)
        self._forget(batch)
        self._acknowledge(batch)
        self._after.note(batch, recorded)

    def _settled(self, batch: list[JobMessage]) -> list[JobMessage]:
        """The batch without what was put off, which is pending again."""
        if not self._writer.put_off:
            return batch
        later = [
            m for m in batch if m.outcome and (m.outcome.job_id, m.outcome.fence) in self._writer.put_off
        ]
        log.info("outcomes_put_off", outcomes=len(later))
        self._pending.put_off(later)
        put_off = set(map(id, later))
        return [message for message in batch if id(message) not in put_off]

    def _forget(self, batch: list[JobMessage]) -> None:
        for message in batch:
            self._claimed_jobs.remove(message.current)

    def _acknowledge(self, batch: Sequence[JobMessage]) -> None:
        by_runway = defaultdict(list)
        for message in batch:
            if message.current.has_message:
                by_runway[message.runway].append(message.message_id)
        for runway, keys in by_runway.items():
            try:
                self._runway.acknowledge(runway, keys)
            except RedisUnavailableError as error:
                # The entries stay until the dispatcher sweeps them; the claim refuses what they name.
                log.warning("acknowledge_failed", runway=runway, messages=len(keys), error=str(error))
