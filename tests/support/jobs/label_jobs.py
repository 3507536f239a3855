"""Job types that say at which worker they ran, and how many ran there at once; loaded by `GOQUEUE_ACTORS`."""

from __future__ import annotations

import threading
import time

import goqueue
from goqueue.config.settings import get_settings

QUEUE = "labels"

_lock = threading.Lock()
_running = {"slots": 0, "most": 0}


@goqueue.actor(queue=QUEUE, requires={"gpu": True})
def train(number: int) -> str:  # noqa: ARG001  (only to have a payload)
    """Say the labels of the worker."""
    return ",".join(f"{name}={value}" for name, value in sorted(get_settings().worker_labels.items()))


@goqueue.actor(queue=QUEUE)
def lift(slots: int, seconds: float) -> dict[str, int]:
    """Hold so many slots for a while; how many this process has held at most."""
    with _lock:
        _running["slots"] += slots
        _running["most"] = max(_running["most"], _running["slots"])
    time.sleep(seconds)
    with _lock:
        _running["slots"] -= slots
        return {"most": _running["most"]}
