"""The expirer: ends jobs whose time passed before they were started."""

from __future__ import annotations

from collections import Counter

import structlog

from goqueue.engine.transitions.expire import Expired, expire
from goqueue.observability import metrics
from goqueue.scheduler.service import Counts, Service, passing_over_locked

log = structlog.get_logger(__name__)

#: The most jobs of one transaction: it holds their locks for some tens of milliseconds.
BATCH = 1000


class Expirer(Service):
    """Gives late jobs their final state. That none of them starts is not its doing: no claim takes one."""

    name = "expirer"

    def run_once(self) -> Counts:
        """Expire one batch of jobs whose time has passed."""
        expired = passing_over_locked(self._expire)
        for queue, count in Counter(job.queue for job in expired).items():
            metrics.JOBS_EXPIRED.labels(queue).inc(count)
            log.info("jobs_expired", queue=queue, jobs=count)
        return {"expired": len(expired)}

    def _expire(self, leave_locked: bool) -> list[Expired]:
        with self._database.autocommit() as connection:
            return expire(connection, limit=BATCH, leave_locked=leave_locked)

    def pause(self, counts: Counts) -> None:
        """Go on at once while batches are full; else wait."""
        if counts["expired"] < BATCH:
            self._pause(self._settings.expire_interval_seconds)
