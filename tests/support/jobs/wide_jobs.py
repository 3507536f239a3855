"""A job type that takes more threads than a small worker has, loaded by `GOQUEUE_ACTORS`."""

from __future__ import annotations

import goqueue


@goqueue.actor(queue="wide", slots=3)
def span() -> None:
    """Do nothing, with three threads."""
