"""Waiting for leases: who is woken by what stands on a runway, in which order, and by what else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping

import pytest

from goqueue.config.settings import Settings
from goqueue.engine.runway.runway import Message, Runway
from goqueue.engine.workers.remote_worker_rows import RemoteStanding
from goqueue.engine.workers.worker_rows import WorkerCommand
from goqueue.jobs import QUARANTINE_QUEUE
from goqueue.remote import lease_waiters
from goqueue.remote.lease_waiters import LeaseWaiters
from tests.support.shared_database import module_settings
from tests.support.waiting import wait_until

settings = module_settings

STANDING = RemoteStanding(1, None)


class Renewals:
    """What stands for PostgreSQL: the standing of each worker whose lease is renewed."""

    def __init__(self) -> None:
        self.standings: dict[int, RemoteStanding] = {}
        self.asked: list[set[int]] = []

    def __call__(self, ids: Iterable[int]) -> Mapping[int, RemoteStanding]:
        """Renew the leases of these."""
        self.asked.append(set(ids))
        return {one: self.standings.get(one, STANDING._replace(worker_id=one)) for one in ids}


@pytest.fixture
def renewals() -> Renewals:
    """The renewals of the test."""
    return Renewals()


@pytest.fixture
def runway(settings: Settings) -> Iterator[Runway]:
    """An empty runway."""
    runway = Runway(settings)
    for queue in ("q", "other", QUARANTINE_QUEUE):
        runway.remove(queue)
    yield runway
    runway.close()


@pytest.fixture
def waiters(settings: Settings, runway: Runway, renewals: Renewals) -> LeaseWaiters:
    """Those who wait, with leases that are renewed all the time."""
    quick = settings.model_copy(update={"heartbeat_seconds": 0.02})
    return LeaseWaiters(quick, runway, renewals)


@pytest.fixture
def wait(waiters: LeaseWaiters) -> Iterator[Callable[..., threading.Event]]:
    """Lets a request wait; it is set when that is woken."""
    ends = []

    def wait(queue: str = "q", signature: str = "s", standing: RemoteStanding = STANDING) -> threading.Event:
        woken = threading.Event()
        ends.append(waiters.watch(queue, signature, standing, woken.set))
        return woken

    yield wait
    for end in ends:
        end()


def push(runway: Runway, *ids: int, queue: str = "q") -> None:
    """Let messages stand on a runway."""
    runway.submit(queue, [Message(job_id, 0) for job_id in ids])


def test_an_entry_wakes_the_first_who_waits(
    runway: Runway, waiters: LeaseWaiters, wait: Callable[..., threading.Event]
) -> None:
    """And no second one, until the first has looked and left it there."""
    first, second = wait(), wait()
    push(runway, 1)
    wait_until(first.is_set)
    assert waiters.waiting == 1
    assert not second.is_set()
    waiters.note_look("q")
    wait_until(second.is_set)


def test_as_many_are_woken_as_there_are_entries(
    runway: Runway, waiters: LeaseWaiters, wait: Callable[..., threading.Event]
) -> None:
    """In the order in which they came."""
    those = [wait() for _ in range(5)]
    push(runway, 1, 2, 3)
    wait_until(lambda: waiters.waiting == 2)
    assert [one.is_set() for one in those] == [True, True, True, False, False]


def test_what_was_there_before_wakes(runway: Runway, wait: Callable[..., threading.Event]) -> None:
    """It matters not when it came."""
    push(runway, 1)
    wait_until(wait().is_set)


def test_only_those_who_may_take_it_are_woken(
    runway: Runway, waiters: LeaseWaiters, wait: Callable[..., threading.Event]
) -> None:
    """A lane is for its workers, a queue for its own; who is quiet, or runs a job alone, takes nothing."""
    quiet = wait(standing=RemoteStanding(2, WorkerCommand.QUIET))
    alone = wait(standing=RemoteStanding(3, None, runs_alone=True))
    other, elsewhere = wait(signature="other"), wait(queue="other")
    mine = wait(signature="mine")
    runway.dispatch_to("q", "mine", [Message(1, 0)], limit=9)
    wait_until(mine.is_set)
    assert not any(one.is_set() for one in (other, elsewhere))
    waiters.note_look("q")
    push(runway, 2)
    wait_until(other.is_set)
    assert not elsewhere.is_set()
    # Their workers are known to be neither quiet nor alone any more: that is what wakes them in the end.
    wait_until(lambda: quiet.is_set() and alone.is_set())


def test_the_leases_of_those_who_wait_are_renewed(
    renewals: Renewals, wait: Callable[..., threading.Event]
) -> None:
    """And whoever is told something, or has lost its lease, is woken."""
    told, well = wait(standing=RemoteStanding(7, None)), wait(standing=RemoteStanding(8, None))
    wait_until(lambda: {7, 8} in renewals.asked)
    assert not told.is_set()
    renewals.standings[7] = RemoteStanding(7, WorkerCommand.STOP)
    wait_until(told.is_set)
    assert not well.is_set()


def test_the_quarantine_wakes_as_well(
    runway: Runway, wait: Callable[..., threading.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who might take what has to run alone."""
    monkeypatch.setattr(lease_waiters, "QUARANTINE_SECONDS", 0.01)
    push(runway, 1, queue=QUARANTINE_QUEUE)
    wait_until(wait().is_set)


def test_who_was_woken_and_never_looks_holds_nobody_up(
    runway: Runway, wait: Callable[..., threading.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client has gone: after a while the next one is woken for the same entry."""
    monkeypatch.setattr(lease_waiters, "LOOKS_WITHIN_SECONDS", 0.05)
    first, second = wait(), wait()
    push(runway, 1)
    wait_until(first.is_set)
    wait_until(second.is_set)


def test_nobody_is_woken_who_has_left(runway: Runway, waiters: LeaseWaiters) -> None:
    """A wait that was ended is none."""
    woken, after = threading.Event(), threading.Event()
    waiters.watch("q", "s", STANDING, woken.set)()
    waiters.watch("q", "s", STANDING, after.set)
    push(runway, 1)
    wait_until(after.is_set)
    assert not woken.is_set()
