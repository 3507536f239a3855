"""What signals ask of a process of ours: to stop in order, or now."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from signal import SIGHUP, SIGINT, SIGTERM

import pytest

from goqueue.ops import supervisor
from goqueue.ops.supervisor import StopRequest
from tests.support.waiting import wait_until


def send(*numbers: int) -> None:
    """Send signals to this process; each is handled before the next."""
    for number in numbers:
        os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("numbers", "same_seconds", "forces"),
    [
        pytest.param([SIGTERM], 0.0, False, id="told"),
        pytest.param([SIGTERM, SIGTERM, SIGTERM], 0.0, False, id="told by several"),
        pytest.param([SIGTERM, SIGHUP], 0.0, False, id="as systemd may"),
        pytest.param([SIGINT, SIGHUP], 0.0, False, id="the terminal closes"),
        pytest.param([SIGINT, SIGINT], 60.0, False, id="passed on by a wrapper"),
        pytest.param([SIGINT, SIGINT], 0.0, True, id="Ctrl-C again"),
        pytest.param([SIGTERM, SIGINT], 0.0, True, id="Ctrl-C while it stops"),
    ],
)
def test_only_a_further_interrupt_forces(
    monkeypatch: pytest.MonkeyPatch, numbers: Sequence[int], same_seconds: float, *, forces: bool
) -> None:
    """Any signal asks to stop; only a further Ctrl-C, and not at once, to stop now."""
    monkeypatch.setattr(supervisor, "SAME_SIGNAL_SECONDS", same_seconds)
    with StopRequest().on_signals() as stop:
        send(*numbers)
        wait_until(stop.requested.is_set, what="the stop")
        if forces:
            wait_until(stop.forced.is_set, what="the force")
    assert stop.forced.is_set() == forces


def test_what_is_ignored_stays_ignored() -> None:
    """Under `nohup` a hang-up asks for nothing."""
    before = signal.signal(SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest().on_signals() as stop:
            send(SIGHUP)
        assert not stop.requested.is_set()
    finally:
        signal.signal(SIGHUP, before)
