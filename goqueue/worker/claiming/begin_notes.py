"""The begins of jobs that run for a while: written to their rows while they run."""

from __future__ import annotations

import structlog

from goqueue.db.database import Database
from goqueue.engine.transitions.begin import Begin, note_begins
from goqueue.errors import GoQueueError
from goqueue.middleware.attempt import JobAttempt
from goqueue.worker.claiming.claims import ClaimedJobs, Key
from goqueue.worker.interrupts import Interrupts
from goqueue.worker.recording.outcomes import count_begins

log = structlog.get_logger(__name__)

#: A job that still runs so long after it began has its begin written.
NOTE_SECONDS = 0.1


class BeginNotes:
    """Notes when the handlers began that still run, many in one statement."""

    def __init__(self, database: Database, claimed_jobs: ClaimedJobs, interrupts: Interrupts) -> None:
        self._database = database
        self._claimed_jobs = claimed_jobs
        self._interrupts = interrupts
        self._begun: dict[Key, JobAttempt] = {}

    def write(self) -> None:
        """Write when the handlers began that still run, and count how long their jobs had waited."""
        begun = self._interrupts.newly_running(NOTE_SECONDS)
        count_begins(begun)
        held = self._claimed_jobs.snapshot()
        self._begun |= {(current.id, current.fence): current for current in begun}
        self._begun = {key: current for key, current in self._begun.items() if key in held}
        if not self._begun:
            return
        begins = [Begin(*key, current.begun or 0.0) for key, current in self._begun.items()]
        try:
            with self._database.autocommit() as connection:
                for key in note_begins(connection, begins):
                    self._begun.pop(key, None)
        except GoQueueError as error:
            log.debug("begins_not_noted", jobs=len(begins), error=str(error))
