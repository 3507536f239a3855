"""Outcomes that wait for the recorder: none is lost or held up, and many that end together go together."""

from __future__ import annotations

import threading
from collections import Counter
from typing import cast

import pytest

from goqueue.middleware.job_message import JobMessage
from goqueue.worker.recording import pending_outcomes
from goqueue.worker.recording.pending_outcomes import PendingOutcomes
from tests.support.waiting import wait_until


def outcome() -> JobMessage:
    """Something that tells itself from others."""
    return cast("JobMessage", object())


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gather for as long as a test takes."""
    monkeypatch.setattr(pending_outcomes, "GATHER_SECONDS", 60.0)


def taken_by_a_thread(pending: PendingOutcomes, count: int) -> tuple[threading.Thread, list[JobMessage]]:
    """A thread that takes one batch, and what it took."""
    found: list[JobMessage] = []
    thread = threading.Thread(target=lambda: found.extend(pending.take(count)[0]), daemon=True)
    thread.start()
    return thread, found


@pytest.mark.usefixtures("patient")
def test_a_lone_outcome_is_taken_at_once() -> None:
    """Nothing is gathered while few jobs end, also by a recorder that sleeps already."""
    pending = PendingOutcomes()
    for _ in range(3):
        thread, found = taken_by_a_thread(pending, 100)
        one = outcome()
        pending.put(one)
        thread.join(20)
        assert found == [one]


@pytest.mark.usefixtures("patient")
def test_after_a_large_batch_the_next_is_gathered() -> None:
    """What is there is not taken before there is enough; the end ends the wait as well."""
    pending = PendingOutcomes()
    for _ in range(pending_outcomes.GATHER_FROM):
        pending.put(outcome())
    assert len(pending.take(500)[0]) == pending_outcomes.GATHER_FROM
    pending.put(outcome())
    thread, found = taken_by_a_thread(pending, 500)
    for _ in range(pending_outcomes.GATHER_UP_TO - 2):
        pending.put(outcome())
    assert found == []
    pending.put(outcome())
    thread.join(20)
    assert len(found) == pending_outcomes.GATHER_UP_TO
    pending.put(outcome())
    thread, found = taken_by_a_thread(pending, 500)
    pending.end()
    thread.join(20)
    assert len(found) == 1
    assert pending.take(500) == ([], True)


def test_gathering_ends_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing more ends, what is there is recorded."""
    monkeypatch.setattr(pending_outcomes, "GATHER_SECONDS", 0.01)
    pending = PendingOutcomes()
    for _ in range(pending_outcomes.GATHER_FROM):
        pending.put(outcome())
    pending.take(500)
    pending.put(outcome())
    assert len(pending.take(500)[0]) == 1


def test_every_outcome_is_taken_once_whoever_puts_when() -> None:
    """Many threads put while one takes; what was put off comes again, and the end comes last."""
    pending, put, threads = PendingOutcomes(), list[JobMessage](), []
    taken: Counter[int] = Counter()
    off: set[int] = set()

    def take() -> None:
        is_over = False
        while not is_over:
            batch, is_over = pending.take(50)
            later = [one for one in batch if id(one) % 7 == 0 and id(one) not in off]
            off.update(map(id, later))
            pending.put_off(later)
            taken.update(id(one) for one in batch if one not in later)

    def put_some() -> None:
        for _ in range(1000):
            one = outcome()
            put.append(one)
            pending.put(one)

    taker = threading.Thread(target=take, daemon=True)
    taker.start()
    threads = [threading.Thread(target=put_some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    pending.end()
    taker.join(60)
    assert not taker.is_alive()
    assert taken == Counter(map(id, put))
    wait_until(lambda: len(pending) == 0, what="the end")
