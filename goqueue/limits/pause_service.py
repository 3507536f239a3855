"""The end of pauses: a queue that was paused until some time goes on by itself."""

from __future__ import annotations

import structlog

from goqueue.audit import audit_rows as audit
from goqueue.engine import queue_rows as queue_store
from goqueue.scheduler.service import Counts, Service

log = structlog.get_logger(__name__)


class Pauses(Service):
    """Clears pauses whose end has come. Nothing waits for it: such a pause is over everywhere already."""

    name = "pauses"

    def run_once(self) -> Counts:
        """Clear, say so, and let the dispatcher look."""
        with self._database.transaction() as connection:
            ended = queue_store.end_pauses(connection)
            for pause in ended:
                audit.record(connection, "queue.resume", f"queue {pause.queue}", reason="its end has come")
        for pause in ended:
            log.info("queue_resumed", queue=pause.queue, paused_at=pause.paused_at.isoformat(), by="its end")
        if ended:
            self._wake()
        return {"resumed": len(ended)}

    def pause(self, counts: Counts) -> None:  # noqa: ARG002  (each round is as long)
        """Wait for the next look."""
        self._pause(self._settings.flow_interval_seconds)
