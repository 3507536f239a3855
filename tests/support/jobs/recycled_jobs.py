"""Job types that make their process large, loaded by `GOQUEUE_ACTORS`."""

from __future__ import annotations

import goqueue
from tests.support.jobs.chaos_jobs import QUEUE, logged

_kept: list[bytes] = []


@goqueue.actor(queue=QUEUE)
def hoards(token: str, mebibytes: int) -> str:
    """Keep so much memory as long as the process lives."""
    with logged():
        _kept.append(b"x" * (mebibytes << 20))
        return token
