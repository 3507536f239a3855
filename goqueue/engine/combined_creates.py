"""Creates that meet: threads of one process share an INSERT and a commit, and none waits for company.

Whoever comes first goes at once. Whoever comes while enough others wait for PostgreSQL waits until one of
them is back; then the first of those goes, with all that have come. A commit of sixty rows costs little more
than that of one.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Sequence

from goqueue.errors import DatabaseRefusedError, DatabaseUnavailableError
from goqueue.forks import call_in_children
from goqueue.jobs import Job, NewJob

__all__ = ["CombinedCreates"]

#: The most jobs of one INSERT, and the most characters of their payloads: nobody waits for a long one.
JOBS_MAX = 64
PAYLOADS_MAX = 256 * 1024

#: So many may be away at once: while one waits for the disk, another's rows are written.
AWAY_MAX = 2

#: Who is away for longer is not waited for: the next one goes at once, on another connection.
PATIENCE_SECONDS = 0.05


class _Seat:
    """A create that goes to PostgreSQL, alone or with others.

    Attributes:
        released: what the create waits for; None where it goes at once.
        leads: it was told to go.
        row: the row that it became.
        error: the error of what it was part of.
        goes_alone: what it was part of was refused, perhaps for the sake of another.
    """

    __slots__ = ("error", "goes_alone", "job", "leads", "released", "row")

    def __init__(self, job: NewJob) -> None:
        self.job = job
        self.released: threading.Lock | None = None
        self.leads = False
        self.row: Job | None = None
        self.error: Exception | None = None
        self.goes_alone = False


class CombinedCreates:
    """Inserts jobs that several threads create at the same moment together. Thread-safe.

    Args:
        insert: inserts jobs in one statement, which is committed when it returns, and returns their rows.
        announce: pushes and counts rows that were committed.
    """

    def __init__(
        self, insert: Callable[[Sequence[NewJob]], list[Job]], announce: Callable[[list[Job]], object]
    ) -> None:
        self._insert = insert
        self._announce = announce
        self._begin()
        call_in_children(self._begin)

    def _begin(self) -> None:
        """Begin anew, also in a forked child: who was away or waited is a thread of its parent."""
        self._lock = threading.Lock()
        self._waiting: list[_Seat] = []
        self._away = 0
        self._last_left = 0.0

    @property
    def away(self) -> int:
        """Tell how many threads wait for PostgreSQL."""
        return self._away

    @property
    def waiting(self) -> int:
        """Tell how many creates wait for one of them."""
        return len(self._waiting)

    def create(self, job: NewJob) -> Job:
        """Create a job; it is committed when this returns.

        Raises:
            DatabaseUnavailableError: as `JobCreator.create`.
            DatabaseRefusedError: PostgreSQL refused this one.
        """
        seat = _Seat(job)
        together = self._go_or_queue(seat)
        if together is None:
            together = self._wait(seat)
        if together is not None:
            self._go(together)
        if seat.goes_alone:
            return self._create_alone(job)
        if seat.error is not None:
            raise seat.error
        assert seat.row is not None
        return seat.row

    def _go_or_queue(self, seat: _Seat) -> list[_Seat] | None:
        """Who goes now, if there are not enough away; None: the seat waits."""
        with self._lock:
            if self._away < AWAY_MAX or time.monotonic() - self._last_left > PATIENCE_SECONDS:
                self._away += 1
                return self._depart(seat)
            seat.released = threading.Lock()
            seat.released.acquire()
            self._waiting.append(seat)
            return None

    def _wait(self, seat: _Seat) -> list[_Seat] | None:
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

    def _leave(self, seat: _Seat) -> None:
        """Wait no more: the thread was interrupted."""
        with self._lock:
            if seat in self._waiting:
                self._waiting.remove(seat)
            elif seat.leads:
                self._call_next()

    def _depart(self, seat: _Seat) -> list[_Seat]:
        """Take along who waits, as far as there is room."""
        self._last_left = time.monotonic()
        size = len(seat.job.payload)
        count = 0
        for waiting in self._waiting[: JOBS_MAX - 1]:
            size += len(waiting.job.payload)
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

    def _go(self, together: list[_Seat]) -> None:
        """Insert the jobs of all seats, let the next ones go, and tell these what became of them."""
        rows: list[Job] = []
        error: Exception = DatabaseUnavailableError("the thread that created the job was interrupted")
        try:
            rows = self._insert([seat.job for seat in together])
        except Exception as raised:  # noqa: BLE001  (each seat raises it)
            error = raised
        finally:
            with self._lock:
                self._call_next()
            _tell(together, rows, error)
        if rows:
            self._announce(rows)

    def _create_alone(self, job: NewJob) -> Job:
        rows = self._insert([job])
        self._announce(rows)
        return rows[0]


def _tell(together: list[_Seat], rows: list[Job], error: Exception) -> None:
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


def _release(seat: _Seat) -> None:
    if seat.released is not None:
        seat.released.release()
