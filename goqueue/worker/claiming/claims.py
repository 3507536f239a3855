"""The jobs that this process holds, and how many it may hold.

It holds jobs, from their claim until their outcome is recorded, and its lease. It may hold as many jobs as it
has threads, and a little ahead while jobs are short.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from goqueue.middleware.attempt import JobAttempt
from goqueue.worker.claiming.async_slots import AsyncSlots
from goqueue.worker.claiming.gathering import Gathering
from goqueue.worker.claiming.run_average import average_with

#: A job, and the fence under which it was claimed.
Key = tuple[int, int]

#: For so long after a failed claim every renewal of the lease reads all that this process holds.
DOUBT_SECONDS = 60.0

#: After a return the most jobs claimed ahead are half as many, and twice as many again after each so long.
EASE_SECONDS = 0.5

#: A wake-up of a thread costs about half as much.
SHORT_RUN_SECONDS = 0.0001

#: When every thread has had the same job for so long, the average speaks of jobs that are gone.
STALE_SECONDS = 0.25


class ClaimedJobs:
    """The jobs that this process claimed and has not recorded yet. Thread-safe.

    `remove` and `snapshot` are one operation of a dict each, which CPython does not interrupt; the lock is
    for a claim whose answer arrives while the lease gives it up as lost.
    """

    def __init__(self) -> None:
        self._jobs: dict[Key, JobAttempt] = {}
        self._given_up: set[Key] = set()
        self._lock = threading.Lock()
        #: The id under which this process holds its lease; 0 before it has one.
        self.worker_id = 0
        #: When the lease was last renewed, by the monotonic clock.
        self.renewed_at = 0.0
        #: Until then (by the same clock) there may be claims whose answer was lost.
        self.doubts_until = 0.0
        #: Another process serves nothing but the quarantine: this one leaves the suspects to it.
        self.quarantine_is_served = False

    def add(self, claimed: Iterable[JobAttempt]) -> list[JobAttempt]:
        """Note claimed jobs; return those that are too late: their claims were given up as lost.

        These must not run here.
        """
        jobs = {(current.id, current.fence): current for current in claimed}
        with self._lock:
            late = [jobs.pop(key) for key in self._given_up & jobs.keys()] if self._given_up else []
            self._jobs |= jobs
        return late

    def doubt(self) -> None:
        """Note that a claim failed here; PostgreSQL may have made it all the same, or may make it yet."""
        self.doubts_until = time.monotonic() + DOUBT_SECONDS

    def give_up(self, keys: Iterable[Key]) -> set[Key]:
        """Give up claims whose answer never came; those that are not here after all."""
        with self._lock:
            lost = set(keys) - self._jobs.keys()
            self._given_up |= lost
        return lost

    def expect(self, keys: Iterable[Key]) -> None:
        """Expect claims again that were given up but never made: they may be made yet, and run here."""
        with self._lock:
            self._given_up.difference_update(keys)

    def remove(self, current: JobAttempt) -> None:
        """Forget a job whose outcome was recorded, or refused."""
        self._jobs.pop((current.id, current.fence), None)

    def __len__(self) -> int:
        return len(self._jobs)

    def snapshot(self) -> dict[Key, JobAttempt]:
        """Tell what is held now, by (id, fence)."""
        return self._jobs.copy()

    def unbegun(self) -> list[JobAttempt]:
        """List what is held and has not begun."""
        return [current for current in self.snapshot().values() if not current.started]


# More methods than others have: all of them read or change the same few numbers under one lock.
class WorkerSlots:
    """The room that the consumers of one process share. Thread-safe.

    Args:
        threads: worker threads.
        ahead_seconds: how much work may be claimed ahead of free threads.
        ahead_max: the most jobs claimed ahead.
        async_slots: how many async jobs may run at once; they are held beside those of the threads.

    Attributes:
        asynchronous: the slots of async jobs.
    """

    def __init__(self, threads: int, *, ahead_seconds: float, ahead_max: int, async_slots: int = 0) -> None:
        self.threads = threads
        self.asynchronous = AsyncSlots(async_slots, ahead_seconds=ahead_seconds, ahead_max=ahead_max)
        self._ahead_seconds = ahead_seconds
        self._ahead_max = ahead_max
        #: So many attempts have ended here.
        self.ended = 0
        self._held = 0
        #: Of these, places beyond one a job.
        self._beyond = 0
        self._gathering = Gathering()
        self._alone = False
        self._suspect = False
        self._suspect_since = 0.0
        self._average_run_seconds = math.inf
        self._stuck = 0
        self._ahead_limit = ahead_max
        self._eased_at = 0.0
        self._given_back_at = time.monotonic()
        self._waiting = 0
        #: Who waits looks again when no more than so many jobs are held.
        self._wakes_at = 0
        #: How many look again at every change.
        self._watching = 0
        self._changed = threading.Condition(threading.Lock())

    @property
    def busy(self) -> int:
        """The number of threads that have a job."""
        return min(self._held, self.threads)

    @property
    def runs_are_short(self) -> bool:
        """Tell whether jobs run at present for less than it costs to wake a thread for each."""
        return self._average_run_seconds < SHORT_RUN_SECONDS

    @property
    def held(self) -> int:
        """The number of jobs taken and not given back."""
        return self._held

    def wait_for_room(self, timeout_seconds: float) -> int:
        """Wait until there is room worth a fetch; how much, 0 when the time is over.

        While jobs are short, a fetch for one free place would cost more than the job: it waits until half
        of the places are free.
        """
        with self._changed:
            self._wait(self._is_worth_a_fetch, timeout_seconds)
            return max(0, self._room())

    def wait_for_idle(self, timeout_seconds: float) -> bool:
        """Wait until this process holds nothing; False when the time is over."""
        with self._changed:
            self._wait(self._is_idle, timeout_seconds)
            return self._is_idle()

    def wait_until(self, ready: Callable[[], bool], timeout_seconds: float) -> None:
        """Wait until a change of the places makes this true, no longer than this."""
        with self._changed:
            self._watching += 1
            try:
                self._wait(ready, timeout_seconds)
            finally:
                self._watching -= 1

    def room_of(self, *, is_async: bool) -> int:
        """Tell how many jobs of a kind may be taken now."""
        return self.asynchronous.room if is_async else max(0, self._room())

    def take_async(self, count: int) -> int:
        """Take up to `count` slots of async jobs; how many were free."""
        with self._changed:
            granted = min(count, self.asynchronous.room)
            self.asynchronous.held += granted
            return granted

    def give_back_async(
        self, count: int = 1, *, suspect: bool = False, run_seconds: float | None = None, jobs: int = 1
    ) -> None:
        """Return slots of async jobs; `suspect`: that of the suspect; `run_seconds`: how long a job ran.

        `jobs`: so many shared the slot.
        """
        with self._changed:
            if run_seconds is not None:
                self.ended += jobs
                self.asynchronous.observe(run_seconds)
            slots = self.asynchronous
            was_full = not slots.room
            slots.held -= count
            if suspect:
                self._suspect = False
            # Whoever waits for more than one free slot is not woken for each.
            if self._waiting and (was_full or suspect or not slots.gathers):
                self._changed.notify_all()

    def note_async_stuck(self, *, is_stuck: bool) -> None:
        """Note whether the event loop turns: while it does not, no job is taken for it."""
        if is_stuck is not self.asynchronous.is_stuck:
            self.asynchronous.is_stuck = is_stuck
            self.give_back(0)

    def leave(self, jobs: Sequence[JobAttempt]) -> None:
        """Return the places of these jobs, of either kind."""
        is_async = sum(job.has_async_slot for job in jobs)
        suspect = any(job.suspect for job in jobs)
        if is_async:
            self.give_back_async(is_async, suspect=suspect)
        if is_async < len(jobs):
            beyond = sum(job.claimed.slots - 1 for job in jobs if not job.has_async_slot)
            self.give_back(len(jobs) - is_async, suspect=suspect, beyond=beyond)

    def leave_place(self, *, is_async: bool) -> None:
        """Return the place of a batch of which no job may begin."""
        if is_async:
            self.give_back_async()
        else:
            self.give_back()

    def fit(self, wanted: Sequence[int]) -> list[int]:
        """Take the further places of claimed jobs that take several, and tell which there is no room for.

        Beside a job that takes several nothing is claimed ahead: the places of all that is held are threads.
        Threads that become free are kept for the first that has no room; what is behind it goes back as well.

        Args:
            wanted: how many places each of the jobs takes; one of each is taken already.

        Returns:
            The positions of the jobs that go back; they still have the one place.
        """
        with self._changed:
            free, beyond = self.threads - (self._held - len(wanted)), self._beyond
            left: list[int] = []
            gathers = False
            for position, slots in enumerate(wanted):
                if gathers or (slots > free and (slots > 1 or beyond)):
                    gathers = gathers or (
                        slots > 1 and self._gathering.begin(slots, run_seconds=self._average_run_seconds)
                    )
                    left.append(position)
                    continue
                free -= slots
                beyond += slots - 1
            self._held += beyond - self._beyond
            self._beyond = beyond
            return left

    @property
    def free_threads(self) -> int:
        """The number of threads that nothing is held for."""
        return self.threads - self._held

    def take(self, count: int) -> int:
        """Take up to `count` places; how many were free."""
        with self._changed:
            granted = max(0, min(count, self._room()))
            self._held += granted
            return granted

    @property
    def has_suspect(self) -> bool:
        """Tell whether one of the jobs is a suspect that runs beside the others."""
        return self._suspect

    @property
    def suspect_seconds(self) -> float:
        """The seconds since the suspect, or the last one, took its place."""
        return time.monotonic() - self._suspect_since

    def wait_for_suspect(self, timeout_seconds: float) -> None:
        """Wait until no job is a suspect any more."""
        with self._changed:
            self._wait(lambda: not self._suspect, timeout_seconds)

    def take_suspect(self, *, is_async: bool = False) -> bool:
        """Take a place for a suspect; False when there is none, or one of the jobs is a suspect already."""
        with self._changed:
            if self._suspect or self.room_of(is_async=is_async) <= 0:
                return False
            if is_async:
                self.asynchronous.held += 1
            else:
                self._held += 1
            self._suspect = True
            self._suspect_since = time.monotonic()
            return True

    def take_all(self) -> bool:
        """Take the whole process for one job; False when it holds something."""
        with self._changed:
            if not self._is_idle():
                return False
            self._held = 1
            self._alone = self.asynchronous.is_closed = True
            return True

    def give_back(self, count: int = 1, *, suspect: bool = False, beyond: int = 0) -> None:
        """Return places, and so many beyond one a job; `suspect`: that of the suspect."""
        with self._changed:
            self._give_back(count, suspect=suspect, beyond=beyond)

    def end_run(self, run_seconds: float, *, suspect: bool = False, places: int = 1, jobs: int = 1) -> None:
        """Return the places of a job that ran for so long, and learn from it how long jobs run at present.

        `jobs`: so many shared the places.
        """
        with self._changed:
            self.observe(run_seconds)
            self.ended += jobs - 1
            self._give_back(1, suspect=suspect, beyond=places - 1)

    def _give_back(self, count: int, *, suspect: bool, beyond: int) -> None:
        self._held -= count + beyond
        self._beyond -= beyond
        if count:
            self._given_back_at = time.monotonic()
        if suspect:
            self._suspect = False
        if self._held == 0:
            self._alone = self.asynchronous.is_closed = False
        # Who waits is woken for something: to wake a consumer in vain costs as much as a short job.
        if self._waiting and (suspect or self._watching or self._held <= self._wakes_at):
            self._changed.notify_all()

    def note_stuck(self, threads: int) -> None:
        """Note how many threads have a job that runs for longer than is claimed ahead: they take no other."""
        self._stuck = threads

    def back_off(self) -> None:
        """Claim less ahead for some seconds: what was claimed had to be given back."""
        with self._changed:
            self._ahead_limit = self._limit() // 2
            self._eased_at = time.monotonic()

    def observe(self, run_seconds: float) -> None:
        """Learn how long jobs run at present."""
        self.ended += 1
        self._average_run_seconds = average_with(self._average_run_seconds, run_seconds)

    def _is_idle(self) -> bool:
        return self._held == 0 and self.asynchronous.held == 0

    def _room(self) -> int:
        if self._alone or self._gathering.goes_on(self.threads - self._held):
            return 0
        return self._capacity() - self._held

    def _is_worth_a_fetch(self) -> bool:
        capacity = self._capacity()
        wanted = max(1, capacity // 2) if capacity > self.threads else 1
        self._wakes_at = max(0, capacity - wanted)
        return self._room() >= wanted

    def _capacity(self) -> int:
        average = self._average_run_seconds
        if average > self._ahead_seconds or self._beyond:
            return self.threads
        if self._held >= self.threads and time.monotonic() - self._given_back_at > STALE_SECONDS:
            return self.threads
        moving = max(0, self.threads - self._stuck)
        return self.threads + min(self._limit(), int(moving * self._ahead_seconds / average))

    def _limit(self) -> int:
        """The most jobs claimed ahead now: after `back_off` it doubles every `EASE_SECONDS`, from 1."""
        if self._ahead_limit >= self._ahead_max:
            return self._ahead_max
        steps = int((time.monotonic() - self._eased_at) / EASE_SECONDS)
        return min(self._ahead_max, max(int(steps > 0), self._ahead_limit) << min(steps, 16))

    def _wait(self, ready: Callable[[], bool], timeout_seconds: float) -> None:
        self._waiting += 1
        try:
            self._changed.wait_for(ready, timeout_seconds)
        finally:
            self._waiting -= 1
