"""What circuit breakers are decided by: how the attempts of their types ended. Other types cost nothing."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

import structlog

from goqueue.db.database import Database
from goqueue.errors import GoQueueError
from goqueue.jobs import AttemptOutcome
from goqueue.limits import breaker_rows as breaker_store
from goqueue.limits.breaker_rows import End
from goqueue.middleware.job_message import JobMessage

log = structlog.get_logger(__name__)

#: How often it is read which types have a breaker.
TYPES_SECONDS = 2.0

#: Only these say something about a type: a snooze, a stop and a death of the worker do not.
COUNTED = {AttemptOutcome.COMPLETED: False, AttemptOutcome.FAILED: True}


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
