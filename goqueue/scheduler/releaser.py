"""The releaser: finds blocked jobs whose parents have all ended, but which nobody released.

Whoever ends a job releases what waits for it, in the same transaction; so there is nothing to find here. It
is the proof of that, round after round, and the repair where something ended a job and told nobody (a
statement typed into psql, a program of another release).
"""

from __future__ import annotations

import structlog

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine.runway.released_dependants import push_released
from goqueue.engine.runway.runway import Runway
from goqueue.engine.transitions.release import sweep
from goqueue.observability import metrics
from goqueue.scheduler.service import Counts, Pause, Service

log = structlog.get_logger(__name__)

#: The most blocked jobs that one round looks at.
PAGE = 10_000


class Releaser(Service):
    """Walks over the blocked jobs by id, a page a round, and begins again at the end."""

    name = "releaser"

    def __init__(self, settings: Settings, database: Database, pause: Pause, runway: Runway) -> None:
        super().__init__(settings, database, pause)
        self._runway = runway
        self._after_id = 0

    def run_once(self) -> Counts:
        """Look at the next page, and release what was left blocked."""
        with self._database.transaction() as connection:
            page = sweep(connection, after_id=self._after_id, limit=PAGE)
        self._after_id = page.after_id or 0
        for job in page.released:
            metrics.LEFT_BLOCKED.inc()
            log.warning("job_was_left_blocked", job_id=job.id, status=job.status.value)
        push_released(self._runway, page.released)
        return {"released": len(page.released)}

    def pause(self, counts: Counts) -> None:  # noqa: ARG002  (each round is as long)
        """Wait for the next round."""
        self._pause(self._settings.release_interval_seconds)
