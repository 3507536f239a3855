"""Keeping threads that become free for a job that takes several of them. Not thread-safe.

What is said of threads here is as true of the slots of async jobs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

#: Threads are kept for twice as long as jobs run at present, within these bounds: by then most have become
#: free. Where that was in vain, none are kept for twice as long again, so that a long job beside it costs the
#: others at most a third of the threads' time.
BOUNDS_SECONDS = (0.5, 60.0)
RUNS = 2
REST = 2


class Gathering:
    """The free threads that a process keeps, and for how long.

    Without it a job that takes several threads would wait for ever where all others take one: each that
    becomes free would have the next of these.
    """

    def __init__(self) -> None:
        self._wanted = 0
        self._ends_at = 0.0
        self._rests_until = 0.0

    def begin(self, slots: int, *, run_seconds: float) -> bool:
        """Keep threads for a job that takes so many; False: that was in vain a while ago.

        Args:
            slots: how many it takes.
            run_seconds: how long jobs run at present; infinite: unknown.
        """
        now = time.monotonic()
        if self._wanted or now < self._rests_until:
            return self._wanted > 0
        least, most = BOUNDS_SECONDS
        seconds = least if run_seconds == math.inf else min(most, max(least, RUNS * run_seconds))
        self._wanted, self._ends_at = slots, now + seconds
        self._rests_until = self._ends_at + REST * seconds
        return True

    def goes_on(self, free: int) -> bool:
        """Tell whether threads are still kept, now that so many are free."""
        if self._wanted and free >= self._wanted:
            self._wanted, self._rests_until = 0, 0.0
        elif self._wanted and time.monotonic() >= self._ends_at:
            self._wanted = 0
        return self._wanted > 0


def fit(
    wanted: Sequence[int], free: int, beyond: int, gathering: Gathering, *, run_seconds: float
) -> tuple[list[int], int]:
    """Find out which claimed jobs have room for all places that they take.

    Args:
        wanted: how many places each of the jobs takes; one of each is taken already.
        free: how many are free, these not counted as taken.
        beyond: how many places are taken beyond one a job.
        gathering: keeps places for the first that has no room; what is behind it has none either.
        run_seconds: how long jobs run at present.

    Returns:
        The positions of the jobs that have no room, and how many places are taken beyond one a job then.
    """
    free += len(wanted)
    left: list[int] = []
    gathers = False
    for position, places in enumerate(wanted):
        if gathers or (places > free and (places > 1 or beyond)):
            gathers = gathers or (places > 1 and gathering.begin(places, run_seconds=run_seconds))
            left.append(position)
            continue
        free -= places
        beyond += places - 1
    return left, beyond
