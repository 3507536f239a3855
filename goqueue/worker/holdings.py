"""What this process holds: jobs, from their claim until their outcome is recorded, and its lease."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from goqueue.middleware.job_message import CurrentJob

#: A job, and the fence under which it was claimed.
Key = tuple[int, int]


#: For so long after a failed claim every renewal of the lease reads all that this process holds.
DOUBT_SECONDS = 60.0


class Holdings:
    """The jobs that this process claimed and has not recorded yet. Thread-safe.

    `remove` and `snapshot` are one operation of a dict each, which CPython does not interrupt; the lock is
    for a claim whose answer arrives while the lease gives it up as lost.
    """

    def __init__(self) -> None:
        self._jobs: dict[Key, CurrentJob] = {}
        self._given_up: set[Key] = set()
        self._lock = threading.Lock()
        #: The id under which this process holds its lease; 0 before it has one.
        self.worker_id = 0
        #: When the lease was last renewed, by the monotonic clock.
        self.renewed_at = 0.0
        #: Until then (by the same clock) there may be claims whose answer was lost.
        self.doubts_until = 0.0
        #: Another process serves nothing but the quarantine: this one leaves the suspects to it.
        self.quarantine_is_served = False

    def add(self, current: CurrentJob) -> bool:
        """A job was claimed; False: too late, its claim was given up as lost and must not run here."""
        key = current.id, current.fence
        with self._lock:
            if key in self._given_up:
                return False
            self._jobs[key] = current
        return True

    def doubt(self) -> None:
        """A claim failed here; PostgreSQL may have made it all the same, or may make it yet."""
        self.doubts_until = time.monotonic() + DOUBT_SECONDS

    def give_up(self, keys: Iterable[Key]) -> set[Key]:
        """Give up claims whose answer never came; those that are not here after all."""
        with self._lock:
            lost = set(keys) - self._jobs.keys()
            self._given_up |= lost
        return lost

    def expect(self, keys: Iterable[Key]) -> None:
        """Claims that were given up were never made: they may be made yet, and run here."""
        with self._lock:
            self._given_up.difference_update(keys)

    def remove(self, current: CurrentJob) -> None:
        """Its outcome was recorded, or refused."""
        self._jobs.pop((current.id, current.fence), None)

    def __len__(self) -> int:
        return len(self._jobs)

    def snapshot(self) -> dict[Key, CurrentJob]:
        """What is held now, by (id, fence)."""
        return self._jobs.copy()
