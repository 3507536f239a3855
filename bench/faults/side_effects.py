"""What jobs really did: an append-only file, a line for each start, end and passed check of a job.

A line is one write, so lines of several processes never mix, and what a killed process wrote stays.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

STARTED, ENDED, CHECKED = "started", "ended", "checked"


class SideEffects:
    """The file of one scenario."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()

    def note(self, number: int, what: str) -> None:
        """Append what a job did."""
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(file, f"{number} {what} {time.monotonic()!r}\n".encode())
        finally:
            os.close(file)

    def counted(self, what: str) -> Counter[int]:
        """How often each job did it."""
        return Counter(number for number, done, _ in self._lines() if done == what)

    def last(self, what: str) -> float:
        """When any job did it last, by the monotonic clock; 0 where none did."""
        return max((moment for _, done, moment in self._lines() if done == what), default=0.0)

    def _lines(self) -> list[tuple[int, str, float]]:
        split = (line.split() for line in self._path.read_text().splitlines())
        return [(int(number), what, float(moment)) for number, what, moment in split]
