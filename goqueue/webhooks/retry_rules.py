"""The waits between the attempts of a delivery."""

from __future__ import annotations

import random

__all__ = ["RETRIES", "WAITS_SECONDS", "wait_seconds"]

#: Before each retry, as Standard Webhooks 1.0 recommends: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h,
#: 24 h. Together a little more than three days.
WAITS_SECONDS = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)

RETRIES = len(WAITS_SECONDS)

#: A wait is longer by up to this part, so that what failed together does not come back together.
SPREAD = 0.1


def wait_seconds(attempt: int, *, asked_seconds: float | None = None) -> float:
    """Return how long to wait after an attempt that failed.

    Args:
        attempt: which one it was, from 1.
        asked_seconds: what the receiver asks for at least; more than the longest wait is not granted.
    """
    wait = WAITS_SECONDS[min(attempt, RETRIES) - 1]
    asked = min(asked_seconds or 0.0, WAITS_SECONDS[-1])
    return max(asked, wait * (1 + SPREAD * random.random()))  # noqa: S311  (no secret)
