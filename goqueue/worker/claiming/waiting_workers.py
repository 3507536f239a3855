"""The search for other workers that wait for what was claimed here and has not begun."""

from __future__ import annotations

import time

from goqueue.engine.runway.runway import Runway
from goqueue.errors import RedisUnavailableError
from goqueue.worker.claiming.claims import ClaimedJobs

#: A fetch that got all it asked for says that no other worker waits: those would have taken it.
FULL_FETCH_SECONDS = 0.05


class WaitingWorkers:
    """Asks Redis who waits at the runways of jobs that have not begun here."""

    def __init__(self, runway: Runway, claimed_jobs: ClaimedJobs) -> None:
        self._runway = runway
        self._claimed_jobs = claimed_jobs
        self._full_fetches: dict[str, float] = {}

    def note_full_fetch(self, runway: str) -> None:
        """Note that a fetch got all that it asked for: no other worker waits at this runway."""
        self._full_fetches[runway] = time.monotonic()

    def is_somebody_there(self) -> bool:
        """Tell whether another worker waits for what has not begun here."""
        now = time.monotonic()
        ways = {
            (runway, lane)
            for runway, lane in {(current.runway, current.lane) for current in self._claimed_jobs.unbegun()}
            if now - self._full_fetches.get(runway, 0.0) >= FULL_FETCH_SECONDS
        }
        try:
            return any(
                self._runway.is_waited_for(runway, except_worker=self._claimed_jobs.worker_id, lane=lane)
                for runway, lane in sorted(ways)
            )
        except RedisUnavailableError:
            return False
