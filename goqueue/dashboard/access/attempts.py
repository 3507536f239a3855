"""Attempts to sign in, limited by address, so that nobody tries keys and codes until one fits."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque

__all__ = ["ATTEMPTS_MAX", "ATTEMPTS_SECONDS", "STARTS_MAX", "SignInAttempts"]

#: An address may fail so often in so many seconds, with each process of the API.
ATTEMPTS_MAX = 10
ATTEMPTS_SECONDS = 60.0

#: It may begin so many sign-ins at the provider in that time; many people may share an address.
STARTS_MAX = 60

#: Of so many addresses the attempts are remembered, those that tried last.
ADDRESSES_MAX = 10_000


class SignInAttempts:
    """The attempts to sign in that count, by address, over a sliding minute. Thread-safe.

    Args:
        most: so many of them an address may make.
    """

    def __init__(self, most: int = ATTEMPTS_MAX) -> None:
        self._most = most
        self._made: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_seconds(self, address: str) -> float:
        """Return how long this address has to wait for its next attempt; 0.0: it need not."""
        now = time.monotonic()
        with self._lock:
            made = self._made.get(address)
            if made is None or len(made) < self._most:
                return 0.0
            return max(0.0, made[0] + ATTEMPTS_SECONDS - now)

    def note(self, address: str) -> None:
        """Count an attempt of this address that was made now."""
        with self._lock:
            made = self._made.setdefault(address, deque(maxlen=self._most))
            made.append(time.monotonic())
            self._made.move_to_end(address)
            while len(self._made) > ADDRESSES_MAX:
                self._made.popitem(last=False)

    def forget(self, address: str) -> None:
        """Drop the attempts of an address that signed in."""
        with self._lock:
            self._made.pop(address, None)
