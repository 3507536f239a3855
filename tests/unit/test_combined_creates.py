"""Who goes with whom, who waits for how long, and that nobody waits for ever."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from goqueue.engine import combined_creates
from goqueue.engine.combined_creates import JOBS_MAX, PAYLOADS_MAX, CombinedCreates
from goqueue.engine.new_job_rows import _new_row
from goqueue.jobs import Job, JobStatus, NewJob
from tests.support.waiting import wait_until

NOW = datetime.now(UTC)


class Inserts:
    """What stands for PostgreSQL: each INSERT waits until it may go on."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.may_return = threading.Event()
        self.interrupted_size = 0

    def __call__(self, jobs: Sequence[NewJob]) -> list[Job]:
        """Wait, and return rows, or raise."""
        self.sizes.append(len(jobs))
        assert self.may_return.wait(60)
        if len(jobs) == self.interrupted_size:
            raise KeyboardInterrupt
        return [
            _new_row(job, JobStatus.QUEUED, (place, NOW, NOW, None, None)) for place, job in enumerate(jobs)
        ]


@pytest.fixture
def inserts() -> Iterator[Inserts]:
    """What stands for PostgreSQL; at the end it answers everybody."""
    inserts = Inserts()
    yield inserts
    inserts.may_return.set()


@pytest.fixture
def threads(inserts: Inserts) -> Iterator[ThreadPoolExecutor]:
    """Threads that create."""
    with ThreadPoolExecutor(80) as pool:
        yield pool
        inserts.may_return.set()


@pytest.fixture
def combined(inserts: Inserts, monkeypatch: pytest.MonkeyPatch) -> CombinedCreates:
    """Creates of which one is away at a time; the others wait for it however slow the machine is."""
    monkeypatch.setattr(combined_creates, "PATIENCE_SECONDS", 60.0)
    monkeypatch.setattr(combined_creates, "AWAY_MAX", 1)
    return CombinedCreates(inserts, lambda _rows: None)


def job(payload: str = "{}") -> NewJob:
    """A plain job."""
    return NewJob("q", "t", payload)


def _is_waiting(combined: CombinedCreates, count: int) -> bool:
    return combined.waiting == count


def send(threads: ThreadPoolExecutor, combined: CombinedCreates, jobs: Sequence[NewJob]) -> list[Any]:
    """Create a first job, and the others while that one is away."""
    first = threads.submit(combined.create, job())
    wait_until(lambda: combined.away, what="the first to leave")
    futures = []
    for count, one in enumerate(jobs, 1):
        futures.append(threads.submit(combined.create, one))
        wait_until(partial(_is_waiting, combined, count), what="another to wait")
    return [first, *futures]


def test_a_lone_create_waits_for_nobody(inserts: Inserts, combined: CombinedCreates) -> None:
    """It goes at once, and alone."""
    inserts.may_return.set()
    assert combined.create(job('{"a":1}')).payload == {"a": 1}
    assert inserts.sizes == [1]
    assert combined.away == 0


def test_two_are_away_at_once(
    inserts: Inserts, combined: CombinedCreates, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one waits for the disk, another's rows are written; who comes then waits for either."""
    monkeypatch.setattr(combined_creates, "AWAY_MAX", 2)
    futures = [threads.submit(combined.create, job()) for _ in range(6)]
    wait_until(lambda: (combined.away, combined.waiting) == (2, 4), what="two to leave")
    inserts.may_return.set()
    assert all(future.result() for future in futures)
    assert sum(inserts.sizes) == 6
    assert inserts.sizes[:2] == [1, 1]
    assert combined.away == 0


def test_no_insert_has_more_than_its_share(
    inserts: Inserts, combined: CombinedCreates, threads: ThreadPoolExecutor
) -> None:
    """What is too much for one INSERT goes with the next, in its order."""
    futures = send(threads, combined, [job()] * (JOBS_MAX + 5))
    inserts.may_return.set()
    assert all(future.result() for future in futures)
    assert inserts.sizes == [1, JOBS_MAX, 5]


def test_large_payloads_go_alone(
    inserts: Inserts, combined: CombinedCreates, threads: ThreadPoolExecutor
) -> None:
    """Nobody waits for what is slow to write."""
    large = job('"' + "x" * (PAYLOADS_MAX - 2) + '"')
    futures = send(threads, combined, [job(), large, job(), job()])
    inserts.may_return.set()
    assert all(future.result() for future in futures)
    assert inserts.sizes == [1, 1, 1, 2]


def test_who_is_away_for_long_is_not_waited_for(
    inserts: Inserts, combined: CombinedCreates, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that hangs holds up nobody else: those who wait go together, who comes later at once."""
    send(threads, combined, [job()])
    monkeypatch.setattr(combined_creates, "PATIENCE_SECONDS", 0.01)
    threads.submit(combined.create, job())
    wait_until(lambda: sum(inserts.sizes) == 3, what="all to be on their way, on other connections")


def test_an_interrupted_leader_leaves_nobody_waiting(
    inserts: Inserts, combined: CombinedCreates, threads: ThreadPoolExecutor
) -> None:
    """Who waits for it goes on."""
    inserts.interrupted_size = 1
    first, *others = send(threads, combined, [job(), job()])
    inserts.may_return.set()
    assert isinstance(first.exception(), KeyboardInterrupt)
    assert all(future.result() for future in others)


def test_those_with_an_interrupted_leader_are_told(
    inserts: Inserts, combined: CombinedCreates, threads: ThreadPoolExecutor
) -> None:
    """Their jobs may be created or not: an outage."""
    inserts.interrupted_size = 3
    _, *others = send(threads, combined, [job(), job(), job()])
    inserts.may_return.set()
    kinds = sorted(type(future.exception()).__name__ for future in others)
    assert kinds == ["DatabaseUnavailableError", "DatabaseUnavailableError", "KeyboardInterrupt"]
    assert combined.create(job())


def test_an_interrupted_thread_that_waits_holds_up_nobody(
    inserts: Inserts, combined: CombinedCreates, threads: ThreadPoolExecutor
) -> None:
    """It gives up its place."""
    ids: list[int] = []
    errors: list[BaseException] = []

    def create() -> None:
        ids.append(threading.get_ident())
        try:
            combined.create(job())
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    first = threads.submit(combined.create, job())
    wait_until(lambda: combined.away, what="the first to leave")
    waiting = threading.Thread(target=create)
    waiting.start()
    wait_until(lambda: combined.waiting == 1, what="the second to wait")
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ids[0]), ctypes.py_object(KeyboardInterrupt))
    inserts.may_return.set()
    waiting.join(60)
    first.result()
    assert [type(error) for error in errors] == [KeyboardInterrupt]
    assert combined.away == 0
    assert combined.create(job())
