"""What many open pages ask for at once, read once for all of them."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

__all__ = ["SharedReadings"]

T = TypeVar("T")

#: So many answers are kept, those that were asked for last.
KEPT = 256

#: An answer is good for so many times as long as it took: whatever is asked, and however many ask, reading
#: takes no more than a twentieth of the time.
COST_FACTOR = 20.0


@dataclass(slots=True)
class _Slot:
    """One question: its last answer, and who asks it anew."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    value: Any = None
    is_known: bool = False
    good_until: float = 0.0


class SharedReadings:
    """Answers by key. Thread-safe: one thread asks; meanwhile others get the answer before, if any."""

    def __init__(self) -> None:
        self._slots: OrderedDict[Hashable, _Slot] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, ask: Callable[[], T], *, good_for_seconds: float = 1.5) -> T:
        """The answer to a question, at most a little older than it is good for.

        An error of `ask` is its caller's; the next one asks again.
        """
        slot = self._slot(key)
        if slot.is_known and time.monotonic() < slot.good_until:
            return cast("T", slot.value)
        # Where there is an answer nobody waits for the one who asks.
        if not slot.lock.acquire(blocking=not slot.is_known):
            return cast("T", slot.value)
        try:
            if not slot.is_known or time.monotonic() >= slot.good_until:
                self._ask(slot, ask, good_for_seconds)
            return cast("T", slot.value)
        finally:
            slot.lock.release()

    @staticmethod
    def _ask(slot: _Slot, ask: Callable[[], Any], good_for_seconds: float) -> None:
        started = time.monotonic()
        slot.value = ask()
        now = time.monotonic()
        slot.good_until = now + max(good_for_seconds, (now - started) * COST_FACTOR)
        slot.is_known = True

    def _slot(self, key: Hashable) -> _Slot:
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
            self._slots.move_to_end(key)
            while len(self._slots) > KEPT:
                self._slots.popitem(last=False)
            return slot
