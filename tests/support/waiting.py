"""Waits for a condition instead of for a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

POLL_SECONDS = 0.01


def wait_until(
    condition: Callable[[], object],
    timeout_seconds: float = 10,
    what: str = "the condition",
    *,
    poll_seconds: float = POLL_SECONDS,
) -> None:
    """Return as soon as the condition holds; it is looked at so often.

    Raises:
        AssertionError: it did not hold in time.
    """
    deadline = time.monotonic() + timeout_seconds
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_seconds:g} s in vain for {what}")
        pause.wait(poll_seconds)
