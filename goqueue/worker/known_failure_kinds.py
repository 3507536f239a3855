"""Which kinds of failures this process has written: each is written once, not once a failure."""

from __future__ import annotations

import time
from collections.abc import Iterable

import structlog

from goqueue.db.database import Database
from goqueue.errors import GoQueueError
from goqueue.insight import failure_rows as failure_store
from goqueue.jobs import FailureKind

log = structlog.get_logger(__name__)

#: After this a kind is written again: the cleaner may have forgotten it.
REMEMBERED_SECONDS = 3600.0
REMEMBERED_MAX = 10_000


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
