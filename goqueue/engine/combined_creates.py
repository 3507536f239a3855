"""Creates that meet: threads of one process share an INSERT and a commit, and none waits for company.

Whoever comes first goes at once. Whoever comes while enough others wait for PostgreSQL waits until one of
them is back; then the first of those goes, with all that have come. A commit of sixty rows costs little more
than that of one. That is true of any statement over rows that do not know of each other: the ends of jobs
that were leased over HTTP are recorded so.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from goqueue.errors import DatabaseRefusedError, DatabaseUnavailableError
from goqueue.forks import call_in_children
from goqueue.jobs import Job, NewJob

__all__ = ["CombinedCalls", "CombinedCreates"]

Item = TypeVar("Item")
Row = TypeVar("Row")

#: The most jobs of one INSERT, and the most characters of their payloads: nobody waits for a long one.
JOBS_MAX = 64
PAYLOADS_MAX = 256 * 1024

#: So many may be away at once: while one waits for the disk, another's rows are written.
AWAY_MAX = 2

#: Who is away for longer is not waited for: the next one goes at once, on another connection.
PATIENCE_SECONDS = 0.05


class _Seat(Generic[Item, Row]):
    """A call that goes to PostgreSQL, alone or with others.

    Attributes:
        released: what the call waits for; None where it goes at once.
        leads: it was told to go.
        row: what became of its item.
        error: the error of what it was part of.
        goes_alone: what it was part of was refused, perhaps for the sake of another.
    """

    __slots__ = ("error", "goes_alone", "item", "leads", "released", "row")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.released: threading.Lock | None = None
        self.leads = False
        self.row: Row | None = None
        self.error: Exception | None = None
        self.goes_alone = False


class CombinedCalls(Generic[Item, Row]):
    """Carries out what several threads ask for at the same moment together. Thread-safe.

    Args:
        carry: does it for several items at once, committed when it returns, and returns a row for each.
        announce: tells others of what was committed.
        size_of: tells how many characters an item has: those of one call have a bound.
    """

    def __init__(
        self,
        carry: Callable[[Sequence[Item]], list[Row]],
        announce: Callable[[list[Row]], object],
        size_of: Callable[[Item], int],
    ) -> None:
        self._carry = carry
        self._announce = announce
        self._size_of = size_of
        self._begin()
        call_in_children(self._begin)

    def _begin(self) -> None:
        """Begin anew, also in a forked child: who was away or waited is a thread of its parent."""
        self._lock = threading.Lock()
        self._waiting: list[_Seat[Item, Row]] = []
        self._away = 0
        self._last_left = 0.0

    @property
    def away(self) -> int:
        """Tell how many threads wait for PostgreSQL."""
        return self._away

    @property
    def waiting(self) -> int:
        """Tell how many calls wait for one of them."""
        return len(self._waiting)

    def call(self, item: Item) -> Row:
        """Carry out one; it is committed when this returns.

        Raises:
            DatabaseUnavailableError: as `JobCreator.create`.
            DatabaseRefusedError: PostgreSQL refused this one.
        """
        seat = _Seat[Item, Row](item)
        together = self._go_or_queue(seat)
        if together is None:
            together = self._wait(seat)
        if together is not None:
            self._go(together)
        if seat.goes_alone:
            return self._carry_alone(item)
        if seat.error is not None:
            raise seat.error
        assert seat.row is not None
        return seat.row

    def _go_or_queue(self, seat: _Seat[Item, Row]) -> list[_Seat[Item, Row]] | None:
        """Who goes now, if there are not enough away; None: the seat waits."""
        with self._lock:
            if self._away < AWAY_MAX or time.monotonic() - self._last_left > PATIENCE_SECONDS:
                self._away += 1
                return self._depart(seat)
            seat.released = threading.Lock()
            seat.released.acquire()
            self._waiting.append(seat)
            return None

    def _wait(self, seat: _Seat[Item, Row]) -> list[_Seat[Item, Row]] | None:
        """Wait for the turn of the seat: who goes with it; None: somebody has taken it along, and is back."""
        assert seat.released is not None
        try:
            if not seat.released.acquire(timeout=PATIENCE_SECONDS):
                with self._lock:
                    if seat in self._waiting:
                        self._waiting.remove(seat)
                        self._away += 1
                        return self._depart(seat)
                # It is under way, and how long that may take has a bound of its own.
                seat.released.acquire()
            with self._lock:
                return self._depart(seat) if seat.leads else None
        except BaseException:
            self._leave(seat)
            raise

    def _leave(self, seat: _Seat[Item, Row]) -> None:
        """Wait no more: the thread was interrupted."""
        with self._lock:
            if seat in self._waiting:
                self._waiting.remove(seat)
            elif seat.leads:
                self._call_next()

    def _depart(self, seat: _Seat[Item, Row]) -> list[_Seat[Item, Row]]:
        """Take along who waits, as far as there is room."""
        self._last_left = time.monotonic()
        size = self._size_of(seat.item)
        count = 0
        for waiting in self._waiting[: JOBS_MAX - 1]:
            size += self._size_of(waiting.item)
            if size > PAYLOADS_MAX:
                break
            count += 1
        together = [seat, *self._waiting[:count]]
        del self._waiting[:count]
        return together

    def _call_next(self) -> None:
        """Let the first who waits go in the place of one who is back."""
        if not self._waiting:
            self._away -= 1
            return
        following = self._waiting.pop(0)
        following.leads = True
        _release(following)

    def _go(self, together: list[_Seat[Item, Row]]) -> None:
        """Carry out what all seats ask for, let the next ones go, and tell these what became of them."""
        rows: list[Row] = []
        error: Exception = DatabaseUnavailableError("the thread that asked for it was interrupted")
        try:
            rows = self._carry([seat.item for seat in together])
        except Exception as raised:  # noqa: BLE001  (each seat raises it)
            error = raised
        finally:
            with self._lock:
                self._call_next()
            _tell(together, rows, error)
        if rows:
            self._announce(rows)

    def _carry_alone(self, item: Item) -> Row:
        rows = self._carry([item])
        self._announce(rows)
        return rows[0]


class CombinedCreates(CombinedCalls[NewJob, Job]):
    """Inserts jobs that several threads create at the same moment together. Thread-safe.

    Args:
        insert: inserts jobs in one statement, which is committed when it returns, and returns their rows.
        announce: pushes and counts rows that were committed.
    """

    def __init__(
        self, insert: Callable[[Sequence[NewJob]], list[Job]], announce: Callable[[list[Job]], object]
    ) -> None:
        super().__init__(insert, announce, lambda job: len(job.payload))

    #: Create a job. It raises as `call`.
    create = CombinedCalls.call


def _tell(together: list[_Seat[Item, Row]], rows: list[Row], error: Exception) -> None:
    """Tell those who went together what became of each.

    What PostgreSQL refused left nothing behind, so each can go again. Of an outage nobody knows that.
    """
    is_apart = len(together) > 1 and isinstance(error, DatabaseRefusedError)
    for place, seat in enumerate(together):
        if rows:
            seat.row = rows[place]
        elif is_apart:
            seat.goes_alone = True
        else:
            # Each raises one of its own: raising adds to an error where it came by.
            seat.error = copy.copy(error) if place else error
        _release(seat)


def _release(seat: _Seat[Any, Any]) -> None:
    if seat.released is not None:
        seat.released.release()
