"""The indexer: makes the indexes on payloads that somebody asked for, and drops those not asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import structlog

from goqueue.db import concurrent_indexes
from goqueue.db.database import Connection
from goqueue.db.retired_indexes import unasked_indexes
from goqueue.engine.listing import payload_index_rows as payload_indexes
from goqueue.engine.listing.payload_index_rows import PayloadIndex
from goqueue.errors import GoQueueError, UnavailableError
from goqueue.scheduler.service import Counts, Service

log = structlog.get_logger(__name__)

#: How often it looks whether one is due.
LOOK_SECONDS = 2.0

#: How often it looks for indexes that only workers of a release before this one ask, and for such workers.
RETIRE_SECONDS = 10.0


class PayloadIndexer(Service):
    """Works on one index at a time, in a thread of its own: a build takes as long as it takes.

    A build that was cut off, with the process or the connection, is begun anew: what is due stands in the
    table until it is done.
    """

    name = "indexer"

    def run_once(self) -> Counts:
        """Begin the work that is due; how much is under way."""
        if self._worker is not None and self._worker.is_alive():
            return {"working": 1}
        with self._database.autocommit() as connection:
            index = payload_indexes.due(connection)
            unasked = self._unasked(connection) if index is None else []
        if index is not None:
            self._begin(partial(self._work, index))
        elif unasked:
            self._begin(partial(self._drop, unasked))
        else:
            return {"working": 0}
        return {"working": 1}

    def _begin(self, work: Callable[[], None]) -> None:
        self._worker = threading.Thread(target=work, name="payload-index", daemon=True)
        self._worker.start()

    def pause(self, counts: Counts) -> None:  # noqa: ARG002  (every role's signature)
        """Wait for a moment."""
        self._pause(LOOK_SECONDS)

    def wait(self, seconds: float) -> None:
        """Wait until the work that was begun is done, at most so long."""
        if self._worker is not None:
            self._worker.join(seconds)

    _worker: threading.Thread | None = None
    _asked_at = float("-inf")

    def _unasked(self, connection: Connection) -> list[str]:
        """Look, now and then, for indexes of a release before this one, whose workers are gone."""
        if time.monotonic() < self._asked_at + RETIRE_SECONDS:
            return []
        self._asked_at = time.monotonic()
        return unasked_indexes(connection)

    def _drop(self, names: list[str]) -> None:
        try:
            with self._own_connection() as connection:
                for name in names:
                    concurrent_indexes.drop(connection, name)
        except GoQueueError as failure:
            # The next look finds those that are left.
            log.warning("retired_indexes_postponed", error=str(failure))
            return
        log.info("retired_indexes_dropped", indexes=names)

    @contextmanager
    def _own_connection(self) -> Iterator[Connection]:
        """Open a connection whose time-outs may be changed: it does not come back into the pool."""
        with self._database.connection() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            try:
                yield connection
            finally:
                connection.invalidate()

    def _work(self, index: PayloadIndex) -> None:
        """Make or drop an index, and note how it ended."""
        error: str | None = None
        try:
            with self._own_connection() as connection:
                (payload_indexes.drop if index.state == "dropping" else payload_indexes.build)(
                    connection, index
                )
        except UnavailableError as failure:
            log.warning("payload_index_postponed", type=index.type, path=index.path, error=str(failure))
            with suppress(UnavailableError), self._database.autocommit() as connection:
                payload_indexes.wait_again(connection, index)
            return
        except GoQueueError as failure:
            error = str(failure)
        self._note(index, error)

    def _note(self, index: PayloadIndex, error: str | None) -> None:
        try:
            with self._database.autocommit() as connection:
                payload_indexes.finish(connection, index, error=error)
        except UnavailableError as failure:
            # It is due still, and found to be done.
            log.warning("payload_index_postponed", type=index.type, path=index.path, error=str(failure))
            return
        if error is None:
            done = "dropped" if index.state == "dropping" else "ready"
            log.info("payload_index_done", type=index.type, path=index.path, state=done)
        else:
            log.error("payload_index_failed", type=index.type, path=index.path, error=error)
