"""Worker slots: how many jobs a process may hold, alone or ahead."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goqueue.worker.claiming import claims, gathering
from goqueue.worker.claiming.claims import WorkerSlots
from tests.support.waiting import wait_until


def slots(threads: int = 4, ahead_seconds: float = 0.025, ahead_max: int = 128) -> WorkerSlots:
    """The slots of one process."""
    return WorkerSlots(threads, ahead_seconds=ahead_seconds, ahead_max=ahead_max)


def test_as_many_as_threads_at_first() -> None:
    """Before any job ran, exactly the threads are places."""
    place = slots(4)
    assert place.take(10) == 4
    assert place.take(1) == 0
    assert (place.busy, place.held) == (4, 4)
    place.give_back(3)
    assert place.take(10) == 3


@pytest.mark.parametrize(
    ("run_seconds", "capacity"),
    [
        pytest.param(1.0, 4, id="long jobs: none ahead"),
        pytest.param(0.026, 4, id="just too long"),
        pytest.param(0.025, 8, id="one each"),
        pytest.param(0.01, 14, id="some"),
        pytest.param(0.0, 132, id="no-ops: the most"),
    ],
)
def test_short_jobs_are_claimed_ahead(run_seconds: float, capacity: int) -> None:
    """As much work as the setting says is claimed ahead of free threads, of long jobs none."""
    place = slots(4)
    place.observe(run_seconds)
    assert place.take(1000) == capacity


def test_while_all_threads_are_busy_for_long_nothing_is_claimed_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What ran before were short jobs; those that run now are not, and others may have a free thread."""
    place = slots(4)
    place.observe(0.001)
    assert place.take(4) == 4
    now = time.monotonic()
    monkeypatch.setattr(claims, "time", SimpleNamespace(monotonic=lambda: now + 1))
    assert place.wait_for_room(0) == 0
    assert place.take(10) == 0
    place.give_back()
    assert place.take(10) == 10


def test_one_suspect_at_a_time() -> None:
    """Beside other jobs, in a place of its own; nothing is one while a suspect runs alone."""
    place = slots(2)
    assert place.take_suspect()
    assert not place.take_suspect()
    assert (place.has_suspect, place.take(5)) == (True, 1)
    place.give_back()
    assert place.has_suspect
    place.give_back(suspect=True)
    assert (place.has_suspect, place.held) == (False, 0)
    assert place.take_all()
    assert not place.take_suspect()


def test_one_long_job_ends_claiming_ahead() -> None:
    """A longer run counts at once, shorter ones little by little."""
    place = slots(4)
    for _ in range(100):
        place.observe(0.001)
    place.observe(5.0)
    assert place.take(1000) == 4
    place.give_back(4)
    for _ in range(100):
        place.observe(0.001)
    assert place.take(1000) > 4


def test_a_free_thread_is_worth_a_fetch_when_jobs_are_long() -> None:
    """With long jobs a single free thread is room at once; it does not wait for half of them."""
    place = slots(4)
    place.observe(10.0)
    place.take(3)
    answers: list[int] = []
    waiting = threading.Thread(target=lambda: answers.append(place.wait_for_room(60)), daemon=True)
    waiting.start()
    wait_until(lambda: answers == [1], what="the free thread")


def test_short_jobs_wait_for_half_of_the_places() -> None:
    """With short jobs a fetch waits until it is worth it."""
    place = slots(4)
    place.observe(0.0)
    taken = place.take(1000)
    answers: list[int] = []
    waiting = threading.Thread(target=lambda: answers.append(place.wait_for_room(60)), daemon=True)
    waiting.start()
    place.give_back(taken // 2 - 1)
    assert answers == []
    place.give_back()
    wait_until(lambda: answers == [taken // 2], what="half of the places")


def test_waiting_ends_with_its_time() -> None:
    """Without room the answer is 0 when the time is over, and what there is otherwise."""
    place = slots(2)
    place.take(2)
    assert place.wait_for_room(0.01) == 0
    assert not place.wait_for_idle(0.01)
    place.give_back(2)
    assert place.wait_for_room(0) == 2
    assert place.wait_for_idle(0)


def test_alone_is_alone() -> None:
    """A process is taken whole only while it holds nothing, has no other room then, and is free again."""
    place = slots(4)
    place.take(1)
    assert not place.take_all()
    place.give_back()
    assert place.take_all()
    assert not place.take_all()
    assert (place.take(1), place.wait_for_room(0), place.held) == (0, 0, 1)
    place.give_back()
    assert place.take(10) == 4


@given(st.lists(st.tuples(st.sampled_from(["take", "all", "back"]), st.integers(0, 10))))
def test_never_more_than_the_capacity(steps: list[tuple[str, int]]) -> None:
    """Whatever is taken and given back in any order, the count stays between nothing and the capacity."""
    place = slots(4)
    for step, count in steps:
        if step == "take":
            place.take(count)
        elif step == "all":
            place.take_all()
        else:
            place.give_back(min(count, place.held))
        assert 0 <= place.held <= 4


def test_threads_at_once_never_take_too_much() -> None:
    """Places are handed out once, however many threads ask at the same moment."""
    place = slots(8)
    with ThreadPoolExecutor(16) as pool:
        granted = sum(pool.map(lambda _: place.take(1), range(200)))
    assert granted == place.held == 8


def test_stuck_threads_claim_nothing_ahead() -> None:
    """What is claimed ahead is for the threads that no longer job holds."""
    place = slots(4)
    place.observe(0.0025)
    assert place.take(1000) == 44
    place.give_back(44)
    place.note_stuck(3)
    assert place.take(1000) == 14
    place.give_back(14)
    place.note_stuck(4)
    assert place.take(1000) == 4


def test_after_a_return_less_is_claimed_ahead_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each return halves the most that is claimed ahead, down to nothing; time brings it back."""
    now = 100.0
    monkeypatch.setattr("goqueue.worker.claiming.claims.time.monotonic", lambda: now)
    place = slots(4)
    place.observe(0.0)
    ahead = []
    for _ in range(9):
        place.back_off()
        ahead.append(place.take(1000) - 4)
        place.give_back(ahead[-1] + 4)
    assert ahead == [64, 32, 16, 8, 4, 2, 1, 0, 0]
    for _ in range(20):
        now += 0.5
        ahead.append(place.take(1000) - 4)
        place.give_back(ahead[-1] + 4)
    assert ahead[-1] == 128
    assert ahead[9:] == sorted(ahead[9:])


@pytest.mark.parametrize(
    ("held", "wanted", "left"),
    [
        pytest.param(0, [4], [], id="all threads"),
        pytest.param(0, [2, 2], [], id="two that share them"),
        pytest.param(0, [2, 3, 1], [1, 2], id="one too many, and what is behind it"),
        pytest.param(2, [1, 2], [1], id="beside others"),
        pytest.param(2, [2, 1], [1], id="nothing beside it without a thread"),
        pytest.param(3, [2], [0], id="one thread too few"),
    ],
)
def test_a_job_that_takes_several_slots_has_so_many_threads(
    held: int, wanted: list[int], left: list[int]
) -> None:
    """Of jobs that have a place each, in order, those that there are too few threads for go back."""
    place = slots(4)
    assert place.take(held) == held
    place.observe(0.001)  # Short jobs: so many more places than threads.
    assert place.take(len(wanted)) == len(wanted)
    assert place.fit(wanted) == left
    kept = [number for position, number in enumerate(wanted) if position not in left]
    assert place.held == held + len(left) + sum(kept)
    place.give_back(len(left))
    for number in kept:
        place.end_run(0.001, places=number)
    assert place.held == held


def test_beside_a_job_that_takes_several_nothing_is_claimed_ahead() -> None:
    """The jobs that are held have a thread each; when it has ended, short jobs are claimed ahead again."""
    place = slots(4)
    place.observe(0.0)
    assert place.take(1) == 1
    assert place.fit([3]) == []
    assert (place.take(100), place.busy) == (1, 4)
    place.end_run(0.0, places=3)
    assert place.take(1000) > 100


def test_free_threads_are_kept_for_a_job_that_needs_several(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until there are enough, or twice as long as jobs run; after that was in vain others have a turn."""
    now = [100.0]
    monkeypatch.setattr(gathering, "time", SimpleNamespace(monotonic=lambda: now[0]))
    place = slots(4)
    place.observe(10.0)
    assert place.take(3) == 3
    assert place.take(1) == 1
    assert place.fit([3]) == [0]
    place.give_back()
    assert place.take(1) == 0
    place.give_back()
    assert place.take(1) == 0
    place.give_back()
    assert place.take(1) == 1
    assert place.fit([3]) == []
    place.end_run(10.0, places=3)
    assert (place.take(3), place.free(is_async=False)) == (3, 0)
    place.give_back()
    assert place.take(1) == 1
    assert place.fit([2]) == [0]
    place.give_back()
    assert place.take(1) == 0
    now[0] += 20.1
    assert place.take(1) == 1
    # In vain: the next one that has no room keeps nothing, for a while, and what is behind it may start.
    assert place.fit([2]) == [0]
    place.give_back()
    assert place.take(1) == 1
    place.give_back()
    now[0] += 41
    assert place.take(1) == 1
    assert place.fit([2]) == [0]
    place.give_back()
    assert place.take(1) == 0


def test_an_async_job_that_takes_several_slots_has_so_many() -> None:
    """As threads, and beside them: slots of the loop that are kept for one are no threads."""
    place = WorkerSlots(4, ahead_seconds=0.05, ahead_max=1000, async_slots=4)
    place.asynchronous.observe(0.0)
    assert place.take_async(2) == 2
    assert place.fit([3, 2], is_async=True) == [1]
    assert (place.free(is_async=True), place.asynchronous.busy, place.free(is_async=False)) == (0, 4, 4)
    place.give_back_async(1)
    assert (place.take_async(100), place.take(2)) == (
        0,
        2,
    )  # One is free, and kept for the one that takes two.
    place.give_back_async(1, beyond=2, run_seconds=0.0)
    assert place.free(is_async=True) == 4
    assert place.take_async(1000) > 100  # Short jobs are claimed ahead again.
