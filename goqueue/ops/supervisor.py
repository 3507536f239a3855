"""Keeps commands running: starts them, restarts what ends unasked, stops them in order."""

from __future__ import annotations

import math
import signal
import threading
import time
from contextlib import contextmanager
from queue import SimpleQueue
from signal import SIGTERM
from typing import TYPE_CHECKING

import structlog

from goqueue.ops.kept_command import KeptCommand
from goqueue.ops.processes import POLL_SECONDS, ChildProcess, Command

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import FrameType

log = structlog.get_logger(__name__)

TEND_SECONDS = 0.1

#: A further Ctrl-C that comes sooner may be the same one, passed on by somebody.
SAME_SIGNAL_SECONDS = 1.0

#: What a GoQueue command exits with when it cannot work like this, and has said why.
EXIT_UNUSABLE = 2


class StopRequest:
    """A request of signals to this process: to stop in order; or, by a further Ctrl-C, to stop now.

    SIGTERM and SIGHUP never mean more than the first of them: systemd, `timeout` and `kill -- -pgid` send the
    same process several. A SIGINT forces only some time after the first signal, because wrappers pass on to
    their child what the terminal has sent it already.

    The handler only puts the signal into a queue that may be interrupted anywhere, and a thread sets the
    events: `Event.set` in a handler waits for ever when the interrupted code is just inside `Event.wait`.
    """

    def __init__(self) -> None:
        self.requested = threading.Event()
        self.forced = threading.Event()
        self._requested_at = math.inf
        self._signals: SimpleQueue[tuple[int, float] | None] = SimpleQueue()

    @contextmanager
    def on_signals(self) -> Iterator[StopRequest]:
        """Listen to the signals inside the block; afterwards they do what they did before.

        After a stop was requested, though, a SIGTERM or SIGHUP is ignored until the process ends, which it is
        about to do: the second of them must not turn an orderly exit into a death by a signal.
        """
        thread = threading.Thread(target=self._set_events, name="signals", daemon=True)
        thread.start()
        heard = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as `nohup` sets it
            heard.append(signal.SIGHUP)
        before = {number: signal.signal(number, self._note) for number in heard}
        try:
            yield self
        finally:
            for number, handler in before.items():
                # No handler of Python's lasts until the end: the interpreter removes them as it finalizes.
                over = self.requested.is_set() and number != signal.SIGINT
                signal.signal(number, signal.SIG_IGN if over else handler)
            self._signals.put(None)
            thread.join()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._signals.put((number, time.monotonic()))

    def _set_events(self) -> None:
        while (noted := self._signals.get()) is not None:
            number, at = noted
            if not self.requested.is_set():
                self._requested_at = at
                self.requested.set()
            elif number == signal.SIGINT and at - self._requested_at >= SAME_SIGNAL_SECONDS:
                self.forced.set()


class Supervisor:
    """Runs one process for each command, from `start` to `stop`.

    A command that keeps ending right after its start is started less and less often, down to every 5 s. One
    whose process ended because an operator wanted it to is not started again.
    """

    def __init__(self, commands: Sequence[Command]) -> None:
        self._kept = [KeptCommand(command) for command in commands]

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of what runs now, by the name of its command."""
        return {kept.command.name: kept.child.pid for kept in self._kept if kept.child is not None}

    @property
    def refused(self) -> list[str]:
        """The names of commands whose last run ended with exit code 2: they cannot work like this."""
        return [kept.command.name for kept in self._kept if kept.exit_code == EXIT_UNUSABLE]

    @property
    def names(self) -> list[str]:
        """The names of all commands."""
        return [kept.command.name for kept in self._kept]

    def start(self, names: Iterable[str] | None = None) -> None:
        """Start these commands (None: all)."""
        for kept in self._named(names):
            kept.start()

    def tend(self) -> None:
        """Restart what has ended, each when its wait is over; replace who asks for it, one at a time."""
        for kept in self._kept:
            others = (other for other in self._kept if other is not kept)
            kept.tend(may_replace=not any(other.is_replacing for other in others))

    @property
    def is_released(self) -> bool:
        """Tell whether an operator ended all of it, one after the other."""
        return all(kept.is_released for kept in self._kept)

    def run(self, stop: StopRequest) -> bool:
        """Start, tend until a stop is requested or nothing is left to tend, then stop; as `stop`."""
        try:
            self.start()
            while not stop.requested.wait(TEND_SECONDS) and not self.is_released:
                self.tend()
        finally:
            clean = self.stop(stop.forced)
        return clean and not any(kept.is_released and kept.exit_code for kept in self._kept)

    def stop(self, forced: threading.Event, names: Iterable[str] | None = None) -> bool:
        """Ask these commands (None: all) to end, wait for their grace period, then kill what is left.

        Returns:
            Whether all of them ended by themselves and without an error.
        """
        return _end([child for kept in self._named(names) for child in kept.let_go()], forced)

    def _named(self, names: Iterable[str] | None) -> list[KeptCommand]:
        wanted = None if names is None else set(names)
        return [kept for kept in self._kept if wanted is None or kept.command.name in wanted]


def _end(children: list[ChildProcess], forced: threading.Event) -> bool:
    for child in children:
        child.terminate()
    started = time.monotonic()
    waiting = [child for child in children if not child.has_ended()]
    while waiting and not forced.wait(POLL_SECONDS):
        passed = time.monotonic() - started
        waiting = [
            child for child in waiting if not child.has_ended() and passed < child.command.grace_seconds
        ]
    for child in children:
        if not child.has_ended():
            log.error("process_killed", process=child.command.name, pid=child.pid, forced=forced.is_set())
            child.kill()
    # SIGTERM before its handler was installed: it had not begun to do anything.
    return all(child.exit_code in {0, -SIGTERM} for child in children)
