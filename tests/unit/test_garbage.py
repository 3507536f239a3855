"""Collections are paused while a block runs, in whatever way it ends, and never switched on by it."""

from __future__ import annotations

import gc
import multiprocessing
import threading
from collections.abc import Iterator

import pytest

from goqueue.garbage import PauseOfCollections


@pytest.fixture(autouse=True)
def _collector_on() -> Iterator[None]:
    gc.enable()
    yield
    gc.enable()


def test_nothing_is_collected_within_and_again_after_it() -> None:
    """A pause within a pause ends with the outer one."""
    pause = PauseOfCollections()
    with pause:
        assert not gc.isenabled()
        with pause:
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_ends_with_an_error_as_well() -> None:
    """An error ends the pause."""
    with pytest.raises(KeyError), PauseOfCollections():
        raise KeyError
    assert gc.isenabled()


def test_what_was_off_before_stays_off() -> None:
    """A program that has no collections gets none."""
    gc.disable()
    with PauseOfCollections():
        pass
    assert not gc.isenabled()


def test_the_last_thread_that_leaves_ends_it() -> None:
    """Threads that overlap share one pause."""
    pause, entered, leave = PauseOfCollections(), threading.Event(), threading.Event()

    def stay() -> None:
        with pause:
            entered.set()
            leave.wait(10)

    with pause:
        other = threading.Thread(target=stay)
        other.start()
        assert entered.wait(10)
    assert not gc.isenabled()
    leave.set()
    other.join(10)
    assert gc.isenabled()


def test_a_child_that_is_forked_within_it_collects() -> None:
    """The thread that would end the pause is the parent's."""
    pause = PauseOfCollections()
    context = multiprocessing.get_context("fork")
    found = context.SimpleQueue()
    with pause:
        child = context.Process(target=lambda: found.put(gc.isenabled()))
        child.start()
        assert found.get() is True
        child.join(10)
        assert not gc.isenabled()
