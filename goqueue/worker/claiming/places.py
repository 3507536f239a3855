"""The places of what one consumer fetches: of threads, of the event loop's slots, or of both.

A message is an id, and says nothing of its job's type. What a queue holds is known all the same: the types
that were declared for it, and what was seen there. Where that is one kind, its places alone are asked for.
Of a queue that holds both kinds the types of what was fetched are looked up before anything is claimed, and
what there is no room for goes back to the runway, unclaimed. So nothing that was claimed waits for a place.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from goqueue.engine.job_type_rows import types_of
from goqueue.engine.runway.runway import Message
from goqueue.jobs import QUARANTINE_QUEUE
from goqueue.middleware.attempt import JobAttempt
from goqueue.worker.batches.batch_places import BatchPlaces

if TYPE_CHECKING:
    from goqueue.worker.broker import JobBroker

#: After messages went back for want of a place of their kind, the next fetch waits for one; no longer than
#: this, for the sake of the other kind.
REFUSED_SECONDS = 0.04

#: For so long after that no more is fetched than there is room for either kind.
CAREFUL_SECONDS = 1.0

#: No more is fetched at once where async jobs are among it: a loop that has to begin more has no turn for
#: those that run.
FETCH_MAX = 256

#: While async jobs are short, a fetch waits so long for more free slots.
GATHER_SECONDS = 0.002

#: Whether a job is async, for both kinds.
_BOTH = frozenset({True, False})
_THREADS = frozenset({False})


# More methods than others have: what is taken, occupied and given back is counted in one place.
class Places:
    """Takes places for one queue. Called by the thread of its consumer alone."""

    def __init__(self, broker: JobBroker, queue_name: str) -> None:
        self._broker = broker
        self._slots = broker.slots
        self._queue = queue_name
        self._alone = queue_name == QUARANTINE_QUEUE
        #: Kinds of jobs that were seen in this queue.
        self._seen: set[bool] = set()
        #: Kinds that the last fetch brought more of than there was room for.
        self._refused: set[bool] = set()
        self._careful_until = float("-inf")
        #: Places that are taken and not occupied by a job, by kind.
        self._reserved: Counter[bool] = Counter()
        self._suspect = False
        self._batches = BatchPlaces(broker, queue_name)

    def wait_for_room(self, timeout_seconds: float) -> int:
        """Wait until there is room worth a fetch; how much, 0 when the time is over."""
        kinds, slots = self._kinds(), self._slots
        if self._takes_batches(kinds):
            return self._wait_for_batches(timeout_seconds, is_async=True in kinds)
        if True not in kinds:
            return slots.wait_for_room(timeout_seconds)
        if self._refused and timeout_seconds > 0:
            slots.wait_until(lambda: self._has_room(self._refused), REFUSED_SECONDS)
            self._refused.clear()
        slots.wait_until(lambda: self._has_room(kinds), timeout_seconds)
        if False not in kinds and timeout_seconds > 0 and slots.asynchronous.gathers:
            slots.wait_until(lambda: not slots.asynchronous.gathers, GATHER_SECONDS)
        rooms = [min(room, FETCH_MAX) for kind in kinds if (room := slots.room_of(is_async=kind))]
        if len(rooms) == 1 < len(kinds):
            # What there is room for may stand behind what there is none for.
            return FETCH_MAX
        is_careful = time.monotonic() < self._careful_until
        return (min if is_careful else max)(rooms, default=0)

    @property
    def has_free_thread(self) -> bool:
        """Tell whether a thread has room for a job."""
        return self._slots.room_of(is_async=False) > 0

    def take(self, messages: list[Message], *, suspects: bool = False) -> list[Message]:
        """Take places for these messages; those that got one.

        Raises:
            DatabaseUnavailableError: PostgreSQL does not say which kinds they are.
        """
        self._suspect = suspects
        if self._alone:
            return messages[: self._take_whole_process()]
        kinds = self._kinds()
        if len(kinds) > 1:
            return self._take_by_kind(messages)
        (kind,) = kinds
        if not suspects and self._takes_batches(kinds):
            return messages[: self._take_for_batches(len(messages), kind)]
        return messages[: self._take(len(messages), kind)]

    @property
    def are_mixed(self) -> bool:
        """Tell whether both kinds of jobs are to be expected."""
        return not self._alone and len(self._kinds()) > 1

    def take_count(self, count: int) -> int:
        """Take up to so many places for jobs that are of one kind; how many there were."""
        self._suspect = False
        kinds = self._kinds()
        kind = kinds == {True} and not self._alone
        return self._take_for_batches(count, kind) if self._takes_batches(kinds) else self._take(count, kind)

    def give_back(self, count: int) -> None:
        """Return so many of the places that were taken for jobs of one kind."""
        if self._batches.granted:
            self._batches.granted -= count
            if not self._batches.granted:
                self.give_back_rest()
            return
        (kind,) = +self._reserved or {False}
        self._reserved[kind] -= count
        if kind:
            self._slots.give_back_async(count)
        else:
            self._slots.give_back(count)

    def occupy(self, jobs: Sequence[JobAttempt]) -> list[JobAttempt]:
        """Give claimed jobs their places; those that have one of the other kind, and have to go back."""
        if self._batches.granted:
            return self._occupy_as_batches(jobs)
        if not self._broker.types.has_async:
            self._reserved[False] -= len(jobs)
            return []
        return [current for current in jobs if not self._occupy(current)]

    def _occupy(self, current: JobAttempt) -> bool:
        kind = self._broker.types.is_async(current.type) and not self._alone
        self._seen.add(kind)
        taken = kind if self._reserved[kind] else not kind
        self._reserved[taken] -= 1
        # A kind that was not seen here before, or a type that was changed since the look.
        is_good = taken is kind or self._exchange(taken)
        current.has_async_slot = kind if is_good else taken
        return is_good

    def _takes_batches(self, kinds: frozenset[bool]) -> bool:
        """Whether all that is to be expected here is batched, by handlers of one kind."""
        return len(kinds) == 1 and not self._alone and self._batches.jobs_per_place > 1

    def _wait_for_batches(self, timeout_seconds: float, *, is_async: bool) -> int:
        """Wait for a place, unless an open batch takes more; how many jobs there is room for."""
        timeout_seconds = 0.0 if self._batches.open_room else timeout_seconds
        if is_async:
            self._slots.wait_until(lambda: self._slots.room_of(is_async=True) > 0, timeout_seconds)
        else:
            self._slots.wait_for_room(timeout_seconds)
        return self._batches.room(self._slots.room_of(is_async=is_async))

    def _take_for_batches(self, count: int, kind: bool) -> int:
        return self._batches.grant(count, self._take(self._batches.places_for(count), kind))

    def _occupy_as_batches(self, jobs: Sequence[JobAttempt]) -> list[JobAttempt]:
        kind = self._reserved[True] > 0 or self._kinds() == {True}
        placed = self._batches.place(jobs, self._reserved[kind], is_async=kind)
        self._reserved[kind] -= placed.places
        self._seen |= {self._broker.types.is_async(job.type) for job in placed.misplaced}
        self.give_back(len(jobs))
        return placed.misplaced

    def give_back_rest(self) -> None:
        """Return the places that were taken and not occupied."""
        self._batches.granted = 0
        threads, slots = self._reserved[False], self._reserved[True]
        self._reserved.clear()
        if threads:
            self._slots.give_back(threads, suspect=self._suspect)
        if slots:
            self._slots.give_back_async(slots, suspect=self._suspect)

    def _kinds(self) -> frozenset[bool]:
        if not self._broker.types.has_async:
            return _THREADS
        return frozenset(self._broker.types.kinds_in(self._queue) | self._seen) or _BOTH

    def _has_room(self, kinds: frozenset[bool] | set[bool]) -> bool:
        return any(self._slots.room_of(is_async=kind) for kind in kinds)

    def _take(self, count: int, kind: bool) -> int:
        if self._suspect:
            taken = int(self._slots.take_suspect(is_async=kind))
        else:
            taken = self._slots.take_async(count) if kind else self._slots.take(count)
        self._reserved[kind] += taken
        return taken

    def _take_whole_process(self) -> int:
        slots = self._slots
        if not slots.take_all():
            return 0
        if len(self._broker.claimed_jobs):
            # Another queue's job came and went between the look and this.
            slots.give_back()
            return 0
        self._reserved[False] += 1
        return 1

    def _take_by_kind(self, messages: list[Message]) -> list[Message]:
        """Look the types up, and take places for as many of each kind as there are; in their order."""
        with self._broker.database.autocommit() as connection:
            types = types_of(connection, [message.job_id for message in messages])
        kinds = [self._broker.types.is_async(types.get(message.job_id, "")) for message in messages]
        left = {kind: self._take(count, kind) for kind, count in Counter(kinds).items()}
        granted = []
        for message, kind in zip(messages, kinds, strict=True):
            if left[kind]:
                left[kind] -= 1
                granted.append(message)
            else:
                self._refused.add(kind)
        if self._refused:
            self._careful_until = time.monotonic() + CAREFUL_SECONDS
        return granted

    def _exchange(self, taken: bool) -> bool:
        """Exchange a place for one of the other kind; False: there is none, and it stays."""
        got = self._slots.take(1) if taken else self._slots.take_async(1)
        if got and taken:
            self._slots.give_back_async()
        elif got:
            self._slots.give_back()
        return bool(got)
