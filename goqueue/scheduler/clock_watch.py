"""The watch over the clocks by which silence is judged: hosts sleep, and clocks are set."""

from __future__ import annotations

import time
from datetime import datetime
from typing import NamedTuple


class ClockReading(NamedTuple):
    """The clocks at one moment, in seconds.

    Attributes:
        database: PostgreSQL's.
        monotonic: this machine's, which stands still while it sleeps.
        boottime: the same, but it goes on while the machine sleeps.
    """

    database: float
    monotonic: float
    boottime: float

    @classmethod
    def now(cls, database: datetime) -> ClockReading:
        """The clocks, right after PostgreSQL told its time."""
        monotonic = time.monotonic()
        # Only Linux has it; elsewhere PostgreSQL's clock tells of a sleep.
        clock = getattr(time, "CLOCK_BOOTTIME", None)
        boottime = monotonic if clock is None else time.clock_gettime(clock)
        return cls(database.timestamp(), monotonic, boottime)


class ClockWatch:
    """Compares the clocks from round to round.

    Args:
        round_seconds: how far apart two readings are at most, where this process turns.
    """

    def __init__(self, round_seconds: float) -> None:
        self._round_seconds = round_seconds
        self._last: ClockReading | None = None

    def jump(self, reading: ClockReading) -> float:
        """Tell for how many seconds since the last reading the silence of others may be nobody's fault.

        PostgreSQL's clock went faster or slower than this machine's, the machine slept, or this process stood
        still (so everything else may have as well).
        """
        last, self._last = self._last, reading
        if last is None:
            return 0.0
        passed = reading.monotonic - last.monotonic
        return max(
            abs(reading.database - last.database - passed),
            reading.boottime - last.boottime - passed,
            passed - self._round_seconds,
            0.0,
        )
