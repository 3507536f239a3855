"""Answers that many browsers ask for at nearly the same time, read or made once for all of them."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from goqueue.errors import GoQueueError

__all__ = ["SharedAnswers"]

T = TypeVar("T")

#: So many answers are kept, those that were asked for last.
KEPT = 256

#: An answer is good for so many times as long as it took: whatever is asked, and however many ask, reading
#: takes no more than a twentieth of the time.
COST_FACTOR = 20.0

#: A reading that takes longer than this is long beside the page that shows it.
LONG_SECONDS = 0.010

#: The answer of a long one that was good until so long ago is given once more while the next is read: whoever
#: looks at a page, which asks every two seconds, does not wait for it.
GIVEN_ONCE_MORE_SECONDS = 2.5


@dataclass(slots=True)
class _Slot:
    """One question: its last answer, and who asks it anew."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    value: Any = None
    is_known: bool = False
    made_at: float = 0.0
    good_until: float = 0.0
    took_seconds: float = 0.0

    def is_good(self, so_long_ago: float = 0.0) -> bool:
        """Tell whether its answer is good, or was so long ago."""
        return self.is_known and time.monotonic() < self.good_until + so_long_ago


class SharedAnswers:
    """A cache of answers by key. Thread-safe: one thread asks anew; meanwhile others get the old one, if any.

    `get` asks by itself. `find` and `keep` are for an answer that its caller makes on the way.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._slots: OrderedDict[Hashable, _Slot] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, ask: Callable[[], T], *, good_for_seconds: float = 1.5) -> T:
        """Return the answer to a question, at most a little older than it is good for.

        An error of `ask` is its caller's; the next one asks again.
        """
        with self._lock:
            slot = self._put(key, self._slots.get(key) or _Slot())
        if slot.is_good():
            return cast("T", slot.value)
        # Where there is an answer nobody waits for the one who asks.
        if not slot.lock.acquire(blocking=not slot.is_known):
            return cast("T", slot.value)
        if slot.took_seconds > LONG_SECONDS and slot.is_good(GIVEN_ONCE_MORE_SECONDS):
            value = slot.value
            # It has the lock from here on.
            name, arguments = "shared-answer", (slot, ask, good_for_seconds)
            threading.Thread(target=self._ask_quietly, args=arguments, name=name, daemon=True).start()
            return cast("T", value)
        try:
            self._ask(slot, ask, good_for_seconds)
            return cast("T", slot.value)
        finally:
            slot.lock.release()

    def find(self, key: Hashable, *, good_for_seconds: float, oldest_seconds: float) -> Any | None:
        """Return the answer that was kept; None: it is the caller's to make the next, and to keep it."""
        now = time.monotonic()
        with self._lock:
            slot = self._slots.get(key)
            if slot is None or now > slot.made_at + oldest_seconds:
                return None
            if now > slot.good_until:
                # For those who ask meanwhile it is good for a little longer.
                slot.good_until = now + good_for_seconds
                return None
            return slot.value

    def keep(self, key: Hashable, answer: Any, *, good_for_seconds: float) -> None:
        """Give this answer to the next ones who ask."""
        now = time.monotonic()
        with self._lock:
            self._put(key, _Slot(value=answer, is_known=True, made_at=now, good_until=now + good_for_seconds))

    def forget(self) -> None:
        """Drop every answer: whoever asks next sees what was changed."""
        with self._lock:
            self._slots.clear()

    def _put(self, key: Hashable, slot: _Slot) -> _Slot:
        self._slots[key] = slot
        self._slots.move_to_end(key)
        while len(self._slots) > self._kept:
            self._slots.popitem(last=False)
        return slot

    def _ask_quietly(self, slot: _Slot, ask: Callable[[], Any], good_for_seconds: float) -> None:
        """Ask without anybody who waits: an error is left to who asks when the answer is too old."""
        try:
            with suppress(GoQueueError):
                self._ask(slot, ask, good_for_seconds)
        finally:
            slot.lock.release()

    @staticmethod
    def _ask(slot: _Slot, ask: Callable[[], Any], good_for_seconds: float) -> None:
        if slot.is_good():
            return
        started = time.monotonic()
        slot.value = ask()
        now = time.monotonic()
        slot.took_seconds = now - started
        slot.made_at = now
        slot.good_until = now + max(good_for_seconds, slot.took_seconds * COST_FACTOR)
        slot.is_known = True
