"""How often a browser may try a key."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque

__all__ = ["ATTEMPTS_MAX", "ATTEMPTS_SECONDS", "SignInAttempts"]

#: An address may fail so often in so many seconds, with each process of the API.
ATTEMPTS_MAX = 10
ATTEMPTS_SECONDS = 60.0

#: Of so many addresses the failures are remembered, those that failed last.
ADDRESSES_MAX = 10_000


class SignInAttempts:
    """Failed attempts by the address that made them, over a sliding minute. Thread-safe."""

    def __init__(self) -> None:
        self._failed: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_seconds(self, address: str) -> float:
        """How long this address has to wait for its next attempt; 0.0: it need not."""
        now = time.monotonic()
        with self._lock:
            failed = self._failed.get(address)
            if failed is None or len(failed) < ATTEMPTS_MAX:
                return 0.0
            return max(0.0, failed[0] + ATTEMPTS_SECONDS - now)

    def note_failure(self, address: str) -> None:
        """Count one that failed now."""
        with self._lock:
            failed = self._failed.setdefault(address, deque(maxlen=ATTEMPTS_MAX))
            failed.append(time.monotonic())
            self._failed.move_to_end(address)
            while len(self._failed) > ADDRESSES_MAX:
                self._failed.popitem(last=False)

    def forget(self, address: str) -> None:
        """It showed a key."""
        with self._lock:
            self._failed.pop(address, None)
