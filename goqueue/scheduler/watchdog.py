"""The watchdog of a scheduler: ends a process that cannot lead and does not know it.

A thread of its own, so that no round, no statement and no server can hold it up. Whoever watches the process
(a supervisor, systemd, Kubernetes) starts a new one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import structlog

from goqueue.scheduler.leader import Leader, clock
from goqueue.scheduler.loop_watch import LoopWatch

log = structlog.get_logger(__name__)

#: sysexits.h: try again later.
EXIT_CODE = os.EX_TEMPFAIL

CHECK_SECONDS = 1.0

#: A loop that hangs fails the liveness of the process first, and after so long it ends the process.
GRACE_SECONDS = 10.0


def end_process(reason: str) -> None:
    """End this process at once: nothing is waited for, and nothing is written any more."""
    log.critical("process_ended_by_watchdog", reason=reason)
    os._exit(EXIT_CODE)


class Watchdog:
    """Looks whether this process was stopped for longer than its lease, and whether its loops turn.

    Args:
        leader: whose lease.
        watch: which loops.
        end: what to do with a process that must not go on.
    """

    def __init__(self, leader: Leader, watch: LoopWatch, end: Callable[[str], None] = end_process) -> None:
        self._leader = leader
        self._watch = watch
        self._end = end
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Start looking at the loops."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking at the loops."""
        self._stopping.set()

    def _run(self) -> None:
        # Each turn begins where the one before ended: nobody can be stopped between them unseen.
        before, led = clock(), self._leader.term is not None
        while not self._stopping.wait(CHECK_SECONDS):
            now = clock()
            self.look(now - before, leads=led)
            before, led = now, self._leader.term is not None

    def look(self, slept_seconds: float, *, leads: bool) -> None:
        """Judge one turn of so many seconds, at whose beginning this process led or not."""
        if leads and slept_seconds > self._leader.lease_seconds:
            self._end(f"it was stopped for {slept_seconds:.0f} s, longer than the lease of its leadership")
        stuck = self._watch.hanging(GRACE_SECONDS)
        if stuck:
            self._end("; ".join(stuck))
