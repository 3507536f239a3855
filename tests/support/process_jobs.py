"""Job types that do to their process what a handler should not, loaded by `GOQUEUE_ACTORS`."""

from __future__ import annotations

import threading

import goqueue
from tests.support.chaos_jobs import QUEUE


@goqueue.actor(queue=QUEUE)
def leaves_thread(token: str) -> str:
    """Leave a thread for which Python waits at its end, for ever."""
    threading.Thread(target=threading.Event().wait, name="left-behind").start()
    return token
