"""The counter: keeps the counts of jobs that are too many to be counted for each request."""

from __future__ import annotations

import time

from goqueue.engine.listing import kept_count_rows as kept_counts
from goqueue.scheduler.service import Counts, Service

#: The least time between two rounds.
INTERVAL_SECONDS = 5.0

#: The longest, at which the kept counts are still taken for fresh.
LONGEST_SECONDS = 60.0

#: A round takes at most this part of the time: counting ten million jobs that wait takes a second.
SHARE = 50


class JobCounter(Service):
    """Counts the jobs of each state by queue, and those of each kind of failure.

    A round that is cut off has written some kinds anew and others not; each is whole.
    """

    name = "counter"

    def run_once(self) -> Counts:
        """Count every kind; how many counts are kept, and how long it took."""
        started = time.monotonic()
        kept = 0
        for kind in (*kept_counts.KINDS, kept_counts.KIND_OF_FAILURE):
            with self._database.autocommit() as connection:
                kept += kept_counts.keep(connection, kind)
        return {"kept": kept, "milliseconds": round((time.monotonic() - started) * 1000)}

    def pause(self, counts: Counts) -> None:
        """Wait, and the longer the more there was to count."""
        seconds = SHARE * counts["milliseconds"] / 1000
        self._pause(min(LONGEST_SECONDS, max(INTERVAL_SECONDS, seconds)))
