"""The work queue of a process, and the clock that tells how long its oldest item has waited."""

from __future__ import annotations

import queue
import threading
from collections import Counter, deque
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goqueue.worker.claiming.wait_clock import WaitClock
from goqueue.worker.claiming.work_queue import WorkQueue
from tests.support.waiting import wait_until

TICK = 0.01


def test_each_item_is_taken_once_by_a_thread_or_given_back() -> None:
    """While threads take items and another one takes all that is left, each goes to exactly one of them.

    Nobody waits for longer than it wants to: in a SimpleQueue a thread of nearly every run waits
    without end.
    """
    work: WorkQueue = WorkQueue()
    taken: deque[int] = deque()
    ended = threading.Event()

    def take() -> None:
        while not (ended.is_set() and work.qsize() == 0):
            try:
                taken.append(work.get(timeout=0.0005))
            except queue.Empty:
                continue
            work.task_done()

    def take_all() -> None:
        while not ended.is_set():
            taken.extend(work.take_all())

    threads = [threading.Thread(target=take, daemon=True) for _ in range(4)]
    threads.append(threading.Thread(target=take_all, daemon=True))
    for thread in threads:
        thread.start()
    for number in range(20_000):
        work.put(number)
    ended.set()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    taken.extend(work.take_all())
    assert Counter(taken) == Counter(range(20_000))
    assert work.unfinished_tasks == 0


@pytest.mark.parametrize("at_once", [False, True], ids=["one by one", "at once"])
@pytest.mark.parametrize("are_short", [False, True], ids=["long", "short"])
def test_threads_are_woken_as_they_are_needed(are_short: bool, at_once: bool) -> None:
    """A thread for each item; while jobs are short one for all, until somebody tells that they wait."""
    work = WorkQueue(are_short=lambda: are_short)
    may_end = threading.Event()
    begun: deque[int] = deque()

    def work_on() -> None:
        while not may_end.is_set():
            with suppress(queue.Empty):
                begun.append(work.get(timeout=30))
                may_end.wait(30)

    threads = [threading.Thread(target=work_on, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(work._sleepers) == 4, what="all to sleep")  # noqa: SLF001  (which threads sleep, no order of events tells)
    if at_once:
        work.put_many(range(3))
    for number in range(0 if at_once else 3):
        work.put(number)
    expected = 1 if are_short else 3
    wait_until(lambda: len(begun) == expected and len(work._sleepers) == 4 - expected, what="the first")  # noqa: SLF001  (which threads sleep, no order of events tells)
    work.wake_for_waiting()
    wait_until(lambda: len(begun) == 3 and len(work._sleepers) == 1, what="each item to be taken")  # noqa: SLF001  (which threads sleep, no order of events tells)
    may_end.set()
    work.put(3)
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)


def test_what_may_not_begin_is_dealt_with_and_not_handed_out() -> None:
    """A thread that took an item which may not begin has nothing to do."""
    asked: list[int] = []

    def may_begin(item: int) -> bool:
        asked.append(item)
        return item != 1

    work = WorkQueue(may_begin)
    work.put(1)
    work.put(2)
    with pytest.raises(queue.Empty):
        work.get(timeout=0)
    assert work.get(timeout=0) == 2
    assert asked == [1, 2]
    assert work.unfinished_tasks == 1


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=60))
def test_the_clock_tells_the_oldest_wait_to_a_look(steps: list[tuple[int, int]]) -> None:
    """Whatever is put and taken between looks, the age is that of the oldest item, less one look at most."""
    work: WorkQueue = WorkQueue()
    clock = WaitClock(TICK)
    waiting: deque[float] = deque()
    for number, (put, take) in enumerate(steps):
        now = number * TICK
        for _ in range(put):
            work.put(None)
            # Somewhere between the last look and this one.
            waiting.append(now - TICK / 2)
        for _ in range(min(take, len(waiting))):
            work.get_nowait()
            waiting.popleft()
        clock.note(now, work.sample())
        oldest = now - waiting[0] if waiting else 0.0
        assert clock.age(now) <= oldest + 1e-9
        assert clock.age(now) >= oldest - TICK


def test_a_standstill_is_told_from_slow_work() -> None:
    """Looks without an item taken are counted, hasty ones not; one that is taken begins the count anew."""
    work: WorkQueue = WorkQueue()
    clock = WaitClock(TICK)
    for _ in range(3):
        work.put(None)
    for number in range(4):
        clock.note(number * TICK, work.sample())
    assert clock.standstill == 4
    clock.note(3.1 * TICK, work.sample())
    assert clock.standstill == 4
    work.get_nowait()
    clock.note(5 * TICK, work.sample())
    assert clock.standstill == 0
    work.take_all()
    clock.note(6 * TICK, work.sample())
    assert (clock.standstill, clock.age(6 * TICK)) == (0, 0.0)
