"""The dispatcher's memory of one runway: how long it may be, and how far pushes came."""

from __future__ import annotations

import time
from dataclasses import dataclass

from goqueue.engine.ready_rows import ReadyJob, Wanted
from goqueue.engine.runway.messages import Place

#: A backlog is read from its first row again so often: for newcomers of a higher rank, and for lost pushes.
FIRST_ROW_SECONDS = 0.2

#: The next look from the first row on comes after so many times as long as the last one took: what it reads
#: is on the runway already, but for newcomers of a higher rank.
FIRST_ROW_REST = 9


@dataclass(slots=True)
class RunwayState:
    """Remembers a runway from one round of the dispatcher to the next.

    Attributes:
        floor, ceiling: the shortest and longest that its runway may be.
        limit: how long it may be now. A runway that was nearly empty when it was refilled from a backlog was
            too short, and doubles; one that was still nearly half full shrinks a little.
        backlog: more rows are ready than fit.
        frontier: the (rank, id) of the last row that was pushed from the backlog.
        by_range: what is behind the frontier was pushed by ranges the last time.
        has_peeked: the last look was for what came before the ranges that are out; the next one is for more.
    """

    floor: int
    ceiling: int
    limit: int
    backlog: bool = False
    frontier: tuple[str, int] | None = None
    first_row_at: float = 0.0
    looked_at: float = 0.0
    by_range: bool = False
    has_peeked: bool = False

    def adapt(self, length: int) -> None:
        """Learn from a refill that found `length` entries."""
        if self.backlog and length < self.limit // 8:
            self.limit *= 2
        elif not self.backlog or length > self.limit * 3 // 8:
            self.limit = self.limit * 15 // 16
        self.limit = min(self.ceiling, max(self.floor, self.limit))

    def wants(self, length: int, known: int) -> Wanted | None:
        """Tell what to read for a runway of `length` jobs, while Redis knows `known` in all.

        A runway that is more than half full has time. In a backlog the next rows are behind the frontier;
        from the first row on there may stand as many as Redis knows already: those on the runway, and those
        fetched a moment ago and not claimed yet.
        """
        half = self.limit // 2
        if length <= half:
            self.adapt(length)
        elif self.backlog:
            return None
        room = max(0, self.limit - length) + 1
        now = time.monotonic()
        if self.frontier is not None and (now < self.first_row_at or self.has_peeked):
            self.has_peeked = False
            return Wanted(room, self.frontier)
        self.looked_at = now
        # All between the first row and the frontier stands in ranges, but for what came later: that is first.
        self.has_peeked = self.by_range and self.frontier is not None
        return Wanted(min(self.floor, room) if self.has_peeked else room + known)

    def note(self, rows: list[ReadyJob], wanted: Wanted, known: int) -> None:
        """Remember how far a push came: the first `known` rows are in Redis."""
        complete = len(rows) < wanted.count
        if wanted.behind is None:
            self.backlog = not complete
            now = time.monotonic()
            self.first_row_at = now + max(FIRST_ROW_SECONDS, FIRST_ROW_REST * (now - self.looked_at))
        if known and not self.has_peeked:
            self._move((rows[known - 1].rank, rows[known - 1].id), by_range=False)
        if complete:
            # Behind the frontier is nothing; before it there may be newcomers.
            self._move(None, by_range=False)

    def note_ranges(self, last: Place | None, *, complete: bool) -> None:
        """Remember how far ranges came that were pushed; complete: behind them is nothing."""
        self._move(None if complete else last or self.frontier, by_range=not complete)

    def _move(self, frontier: Place | None, *, by_range: bool) -> None:
        self.frontier, self.by_range = frontier, by_range
