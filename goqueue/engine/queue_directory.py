"""The directory of the queues that exist: those that need no row, and those with one."""

from __future__ import annotations

from collections.abc import Mapping

from goqueue.db.database import Database
from goqueue.engine import queue_rows as queue_store
from goqueue.engine.options.job_type import JobType
from goqueue.jobs import QUARANTINE_QUEUE

__all__ = ["QueueDirectory"]


class QueueDirectory:
    """Knows which queues exist.

    Args:
        database: where the rows are.
        job_types: the declared types, by name; more may be declared later.
        default_types: queue → the type of its jobs that say none.
    """

    def __init__(
        self, database: Database, job_types: Mapping[str, JobType], default_types: Mapping[str, str]
    ) -> None:
        self._database = database
        self._job_types = job_types
        self._default_types = default_types
        self._known: set[str] = set()

    def declared(self) -> set[str]:
        """Return the queues that need no row: those of declared types, and those with a default type."""
        return {job_type.queue for job_type in self._job_types.values()} | set(self._default_types)

    def knows(self, name: str) -> bool:
        """Tell whether clients may use a queue. Queues are never deleted, so what was found once is kept."""
        return name in self._known or self._finds(name)

    def _finds(self, name: str) -> bool:
        known = self.declared()
        if name not in known:
            with self._database.autocommit() as connection:
                known |= {queue.name for queue in queue_store.list_all(connection)}
        self._known = known - {QUARANTINE_QUEUE}
        return name in self._known
