"""The watch over the vacuum horizon: says when a transaction of somebody holds back vacuum for too long.

Dead rows of a queue table pile up behind such a transaction, and every claim and dispatch has to step over
them. Nobody but whoever opened it can end it; so it is told, not mended.
"""

from __future__ import annotations

import structlog

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.insight import gauge_rows as gauges
from goqueue.scheduler.service import Counts, Pause, Service

log = structlog.get_logger(__name__)


class HorizonWatch(Service):
    """Looks at the age of the oldest such transaction."""

    name = "horizon_watch"

    def __init__(self, settings: Settings, database: Database, pause: Pause) -> None:
        super().__init__(settings, database, pause)
        self._is_held = False

    def run_once(self) -> Counts:
        """Warn at each look while it is held, and say when it is not any more."""
        with self._database.autocommit() as connection:
            age_seconds = gauges.horizon_age(connection)
        held = age_seconds >= self._settings.horizon_warning_seconds
        if held:
            log.warning("vacuum_horizon_held", age_seconds=round(age_seconds, 1))
        elif self._is_held:
            log.info("vacuum_horizon_free")
        self._is_held = held
        return {"held": int(held)}

    def pause(self, counts: Counts) -> None:  # noqa: ARG002  (each round is as long)
        """Wait for the next look."""
        self._pause(self._settings.horizon_interval_seconds)
