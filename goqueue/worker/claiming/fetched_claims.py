"""Claims of what was fetched from a runway, for any worker, and the end of what stands for nothing."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine.options.known_types import KnownTypes
from goqueue.engine.runway.runway import Message, Runway
from goqueue.engine.transitions.claim import claim, locked_messages
from goqueue.engine.transitions.set_aside import is_of_a_row, set_aside
from goqueue.errors import DatabaseRefusedError
from goqueue.jobs import ClaimedJob
from goqueue.observability import metrics

log = structlog.get_logger(__name__)


class FetchedClaims:
    """Claims messages, and forgets those that stand for nothing. Thread-safe."""

    def __init__(self, settings: Settings, database: Database, runway: Runway) -> None:
        self._settings = settings
        self._database = database
        self._runway = runway

    def claim(self, messages: Sequence[Message], *, worker_id: int, known: KnownTypes) -> list[ClaimedJob]:
        """Claim them for a worker; a row that PostgreSQL refuses to change is set aside.

        Raises:
            UnavailableError: PostgreSQL does not answer; which were claimed is unknown, if any were.
        """
        try:
            with self._database.autocommit() as connection:
                return claim(
                    connection,
                    messages,
                    worker_id=worker_id,
                    lease_seconds=self._settings.lease_seconds,
                    known=known,
                )
        except DatabaseRefusedError as error:
            if not is_of_a_row(error):
                raise
            if len(messages) > 1:
                return [
                    job
                    for message in messages
                    for job in self.claim([message], worker_id=worker_id, known=known)
                ]
            self._set_aside(messages[0], error)
            return []

    def drop_stale(self, queue: str, messages: Sequence[Message], claimed: Sequence[ClaimedJob]) -> None:
        """Forget messages that no claim took: somebody else has it, it was cancelled or paused, or a repeat.

        Or its row is locked: its message stays, and the dispatcher puts it on the runway again in a while.
        """
        alive = {(job.id, job.fence - 1) for job in claimed}
        left = [message for message in messages if message not in alive]
        with self._database.autocommit() as connection:
            locked = locked_messages(connection, left)
        stale = [message for message in left if message not in locked]
        metrics.STALE_DELIVERIES.inc(len(stale))
        log.debug("stale_deliveries", runway=queue, messages=len(stale), locked=len(locked))
        self._runway.acknowledge(queue, [message.key for message in stale])

    def drop_garbage(self, queue: str, garbage: Sequence[bytes]) -> None:
        """Forget entries that are no messages."""
        if garbage:
            metrics.GARBAGE_MESSAGES.inc(len(garbage))
            log.warning("garbage_dropped", runway=queue, entries=len(garbage), sample=repr(garbage[0][:80]))
            self._runway.acknowledge(queue, garbage)

    def _set_aside(self, message: Message, error: DatabaseRefusedError) -> None:
        with self._database.autocommit() as connection:
            found = set_aside(connection, [message.job_id], error=f"PostgreSQL refused its claim: {error}")
        for job in found:
            metrics.JOBS_SET_ASIDE.labels(job.queue).inc()
            log.error("job_set_aside", **job._asdict())
