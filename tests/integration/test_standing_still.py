"""A worker process that stood still: when it takes its own lease for lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from goqueue.config.settings import Settings
from goqueue.jobs import AttemptOutcome
from goqueue.middleware.attempt import JobAttempt
from goqueue.worker import lease as lease_module
from goqueue.worker.lease import Lease
from tests.support.engine import process_of
from tests.support.factories import claimed_job


class Clock:
    """A monotonic clock that the test sets."""

    def __init__(self) -> None:
        self.now = time.monotonic()
        self.step = 0.0

    def monotonic(self) -> float:
        """The time; it goes on by a step whenever somebody looks."""
        self.now += self.step
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What the lease reads the time from."""
    clock = Clock()
    monkeypatch.setattr(lease_module, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


@pytest.fixture
def held(settings: Settings, clock: Clock) -> Iterator[tuple[Lease, JobAttempt]]:
    """A lease that was renewed just now, and a job that is held under it."""
    with process_of(settings) as broker:
        current = JobAttempt(claimed_job(), "default")
        broker.claimed_jobs.add([current])
        broker.claimed_jobs.renewed_at = clock.now
        yield (
            Lease(
                broker.settings,
                broker.database,
                broker.claimed_jobs,
                broker.interrupts,
                broker.slots,
                broker.received_commands,
                lambda: ["default"],
                known_types=lambda: broker.known_types,
                slots_in=lambda _queue: broker.slots.threads,
            ),
            current,
        )


def test_a_lease_that_could_not_be_renewed_is_lost(
    held: tuple[Lease, JobAttempt], clock: Clock, settings: Settings
) -> None:
    """After its time without a renewal the jobs stop: somebody else may run them."""
    lease, current = held
    clock.now += settings.lease_seconds - 1
    lease._stop_orphans_when_expired()  # noqa: SLF001  (the one step that is tested, without its thread)
    assert current.interruption is None
    clock.now += 2
    lease._stop_orphans_when_expired()  # noqa: SLF001  (the one step that is tested, without its thread)
    assert current.interruption is AttemptOutcome.INTERRUPTED


def test_who_stood_still_waits_for_a_lease(
    held: tuple[Lease, JobAttempt], clock: Clock, settings: Settings
) -> None:
    """The jobs go on: whoever ends leases may have stood still as well, and waits for as long."""
    lease, current = held
    clock.step = settings.lease_seconds + 10
    assert not lease._wait(0)  # noqa: SLF001  (the one step that is tested, without its thread)
    clock.step = 0.0
    lease._stop_orphans_when_expired()  # noqa: SLF001  (the one step that is tested, without its thread)
    assert current.interruption is None
    clock.now += settings.lease_seconds + 1
    lease._stop_orphans_when_expired()  # noqa: SLF001  (the one step that is tested, without its thread)
    assert current.interruption is AttemptOutcome.INTERRUPTED
