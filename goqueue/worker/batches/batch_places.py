"""The places of a queue whose types are all batched: one is enough for as many jobs as a batch takes.

A batch that is open has its place already: what it still takes can be claimed even if every thread is busy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from goqueue.middleware.attempt import JobAttempt

if TYPE_CHECKING:
    from goqueue.worker.broker import JobBroker

__all__ = ["CLAIM_MAX", "BatchPlaces", "Placed"]

#: No more is claimed at once, unless a single batch takes more: one statement for it has to stay quick.
CLAIM_MAX = 1_000


class Placed(NamedTuple):
    """The places that claimed jobs were given.

    Attributes:
        places: how many they are.
        misplaced: jobs of other types that have to go back, for want of a place of their kind.
    """

    places: int
    misplaced: list[JobAttempt]


class BatchPlaces:
    """Computes how many jobs of one queue its process takes. Called by the thread of its consumer alone.

    Attributes:
        granted: jobs that may be claimed now, for which places were taken.
    """

    def __init__(self, broker: JobBroker, queue_name: str) -> None:
        self._broker = broker
        self._queue = queue_name
        self._saw_others = False
        self.granted = 0

    @property
    def jobs_per_place(self) -> int:
        """The number of jobs that one place is enough for; 1: other types are in the queue as well."""
        types = self._broker.types
        most = types.jobs_per_place(self._queue) if types.has_batches and not self._saw_others else 1
        return min(most, max(2, int(most * self._broker.batches.claim_scales.get(self._queue, 1.0))))

    @property
    def open_room(self) -> int:
        """The number of jobs that the open batches still take."""
        return self._broker.batches.room_in(self._queue)

    def room(self, places: int) -> int:
        """Tell how many jobs may be claimed where so many places are free."""
        per_place = self.jobs_per_place
        return min(self.open_room + places * per_place, max(CLAIM_MAX, per_place))

    def places_for(self, count: int) -> int:
        """Tell how many places so many jobs need, beside those of the open batches."""
        return -(-max(0, count - self.open_room) // self.jobs_per_place)

    def grant(self, count: int, places: int) -> int:
        """Note that so many of the places for these jobs were free; how many jobs may be claimed."""
        self.granted = min(count, self.open_room + places * self.jobs_per_place)
        return self.granted

    def place(self, jobs: Sequence[JobAttempt], places: int, *, is_async: bool) -> Placed:
        """Give claimed jobs the places that were taken, those of other types first.

        Jobs of a batched type that get none join one that does: the collector sees to it.
        """
        types, left = self._broker.types, places
        others = [job for job in jobs if types.batch_of(job.type) is None]
        self._saw_others |= bool(others)
        misplaced = []
        for job in others:
            if left > 0 and types.is_async(job.type) is is_async:
                left -= 1
                job.has_async_slot = is_async
            else:
                job.claimed.slots -= 1
                misplaced.append(job)
        for job in jobs if not others else [job for job in jobs if types.batch_of(job.type)]:
            job.has_async_slot = is_async and left > 0
            job.claimed.slots = int(left > 0)
            left -= left > 0
        return Placed(places - left, misplaced)
