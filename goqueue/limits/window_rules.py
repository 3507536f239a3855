"""The window of jobs that are let in ahead of their start. Pure Python."""

from __future__ import annotations

from dataclasses import dataclass

#: So many rounds in a row find a window empty that is too short. One may find it so by chance: all threads
#: can become free at the same moment.
EMPTIED_ROUNDS = 3


@dataclass(slots=True)
class Window:
    """The number of jobs that may be let in ahead of their start.

    Short enough that the order of turns is the order of starts, and that what is decided later still matters;
    long enough that workers do not wait for the next round. It begins at half of the worker threads, so that
    nobody waits for longer than two jobs run; it doubles when round after round finds it empty, which only
    short jobs can do, and shrinks when one finds it still nearly half full.

    Attributes:
        was_filled: the last round let in as many as there was room for.
        emptied: how many rounds in a row found it empty after that.
    """

    floor: int
    ceiling: int
    size: int
    was_filled: bool = False
    emptied: int = 0

    def room(self, let_in: int) -> int:
        """Return how many more jobs to let in now; 0 while more than half of the window is still there."""
        if let_in > self.size // 2:
            self.emptied = 0
            return 0
        is_empty = self.was_filled and let_in < max(1, self.size // 8)
        self.emptied = self.emptied + 1 if is_empty else 0
        if self.emptied >= EMPTIED_ROUNDS:
            self.size *= 2
        elif let_in > self.size * 3 // 8:
            self.size = self.size * 15 // 16
        self.size = min(self.ceiling, max(self.floor, self.size))
        return self.size - let_in
