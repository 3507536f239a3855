"""The signals after which a worker process of Dramatiq's command ends: the first asks, more do nothing.

Whoever stops a service tells all of its processes: systemd, a terminal, `kill -- -pgid`, `timeout`. Then a
worker hears it twice, because its parent passes on what it heard itself. Dramatiq takes a second signal for
an order to drop everything: its main thread leaves at once, and the process stays, held by its event loop,
and goes on taking jobs. Here a process drains however often it is told. To end one at once there is SIGKILL,
after which its jobs are taken back as those of any lost worker.
"""

from __future__ import annotations

import inspect
import os
import signal
from types import FrameType
from typing import Any

__all__ = ["Terminations", "listen"]

#: What Dramatiq's worker process ends after, where the system has it.
NUMBERS = [signal.SIGTERM, signal.SIGHUP]


class Terminations:
    """Stands between these signals and Dramatiq's handlers of them, from its construction on."""

    def __init__(self) -> None:
        self._begun = False
        self._handlers: dict[int, Any] = {}
        for number in NUMBERS:
            self._handlers[number] = signal.signal(number, self._handle)
        self._begun |= _has_begun(self._handlers[signal.SIGTERM])

    def send(self) -> None:
        """End this process as SIGTERM does."""
        os.kill(os.getpid(), signal.SIGTERM)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # The main thread runs this, one signal after the other.
        if not self._begun:
            self._begun = True
            self._handlers[number](number, frame)


_terminations: Terminations | None = None


def listen(*, only_to_dramatiq: bool = False) -> Terminations | None:
    """Take the signals over, in the main thread of a process of Dramatiq's command; again it changes nothing.

    Args:
        only_to_dramatiq: do nothing in any other process, which has a handler of its own or none.
    """
    global _terminations  # noqa: PLW0603  (signals belong to the process)
    if _terminations is None and (not only_to_dramatiq or _is_dramatiqs(signal.getsignal(signal.SIGTERM))):
        _terminations = Terminations()
        # `goqueue worker` lets them wait until here.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT, *NUMBERS])
    return _terminations


def _is_dramatiqs(handler: object) -> bool:
    return getattr(handler, "__module__", None) == "dramatiq.cli"


def _has_begun(handler: Any) -> bool:
    """Whether Dramatiq's handler ran before it was replaced: then it has noted that nothing runs any more."""
    return _is_dramatiqs(handler) and not inspect.getclosurevars(handler).nonlocals.get("running", True)
