"""Keeps commands running: starts them, restarts what ends unasked, stops them in order."""

from __future__ import annotations

import math
import signal
import threading
import time
from contextlib import contextmanager
from queue import SimpleQueue
from signal import SIGTERM, Signals
from typing import TYPE_CHECKING, Any

import structlog

from goqueue.ops.processes import POLL_SECONDS, ChildProcess, Command
from goqueue.worker.shutdown_reason import Note, expect_notes, take_note

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import FrameType

log = structlog.get_logger(__name__)

#: The wait before a restart: at first, doubling, and at most.
BACKOFF_MIN_SECONDS = 0.1
BACKOFF_MAX_SECONDS = 5.0

#: Who lived this long did not die of being started: the next restart is quick again.
STABLE_SECONDS = 10.0

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
        self._kept = [_KeptCommand(command) for command in commands]

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

    def _named(self, names: Iterable[str] | None) -> list[_KeptCommand]:
        wanted = None if names is None else set(names)
        return [kept for kept in self._kept if wanted is None or kept.command.name in wanted]


class _KeptCommand:
    """One command, its process, who is to take the place of that, and when it may be started again."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self.child: ChildProcess | None = None
        self.exit_code: int | None = None
        #: Its process ended because an operator wanted it to.
        self.is_released = False
        #: Its process has asked to be replaced; who is to take its place; and who has made room.
        self._wants_successor = False
        self._successor: ChildProcess | None = None
        self._replaced: list[ChildProcess] = []
        self._backoff_seconds = BACKOFF_MIN_SECONDS
        self._start_at: float | None = None
        self._replace_at = 0.0

    def start(self) -> None:
        self.child = self._started()
        self._start_at = None
        self.is_released = False
        self._wants_successor = False

    @property
    def is_replacing(self) -> bool:
        return self._successor is not None

    def tend(self, *, may_replace: bool = True) -> None:
        if self.child is not None and self.child.has_ended():
            self._note_exit(self.child)
        self._tend_replacement(may_replace=may_replace)
        if self._start_at is not None and time.monotonic() >= self._start_at:
            self.start()
            assert self.child is not None
            log.info("process_restarted", process=self.command.name, pid=self.child.pid)

    def let_go(self) -> list[ChildProcess]:
        """Stop keeping it; its processes, which are still to be ended."""
        children = [child for child in (self.child, self._successor, *self._replaced) if child is not None]
        self.child = self._successor = self._start_at = None
        self._replaced = []
        return children

    def _started(self) -> ChildProcess:
        child = ChildProcess(self.command)
        if self.command.shutdown_reasons is not None:
            # An older process may have had its number, and ended together with its supervisor.
            expect_notes(self.command.shutdown_reasons, child.pid)
        return child

    def _takes(self, child: ChildProcess, note: Note) -> bool:
        return self.command.shutdown_reasons is not None and take_note(
            self.command.shutdown_reasons, child.pid, note
        )

    def _tend_replacement(self, *, may_replace: bool) -> None:
        """Start another process beside one that asked for it, and end that when the other fetches."""
        for child in self._replaced.copy():
            self._tend_replaced(child)
        if self.child is None:
            return
        self._wants_successor |= self._takes(self.child, Note.REPLACE)
        if self._successor is not None and self._successor.has_ended():
            self._note_failed_successor(self._successor)
        elif self._successor is not None and self._takes(self._successor, Note.FETCHING):
            log.info(
                "process_replaced", process=self.command.name, pid=self.child.pid, by=self._successor.pid
            )
            self.child.terminate()
            self._replaced.append(self.child)
            self.child, self._successor, self._wants_successor = self._successor, None, False
        elif self._wants_successor and may_replace and time.monotonic() >= self._replace_at:
            self._successor = self._successor or self._started()

    def _tend_replaced(self, child: ChildProcess) -> None:
        if child.has_ended():
            self._replaced.remove(child)
        elif child.asked_to_end_seconds > self.command.grace_seconds:
            log.error("process_killed", process=self.command.name, pid=child.pid, forced=False)
            child.kill()

    def _note_failed_successor(self, child: ChildProcess) -> None:
        """The one that it was to replace works on, and another is tried after a while."""
        self._log_exit(child)
        self._successor = None
        self._replace_at = self._backed_off()

    def _note_exit(self, child: ChildProcess) -> None:
        if self._takes(child, Note.STOPPED):
            log.info(
                "process_stopped_on_request",
                process=self.command.name,
                pid=child.pid,
                **_how_it_ended(child.exit_code),
            )
            self.child, self.exit_code, self.is_released = None, child.exit_code, True
            if self._successor is not None:
                self._successor.terminate()
                self._replaced.append(self._successor)
                self._successor = None
            return
        if child.lived_seconds >= STABLE_SECONDS:
            self._backoff_seconds = BACKOFF_MIN_SECONDS
        self._log_exit(child)
        self.exit_code, self._wants_successor = child.exit_code, False
        # Who was to take its place takes it now.
        self.child, self._successor = self._successor, None
        if self.child is None:
            self._start_at = self._backed_off()

    def _log_exit(self, child: ChildProcess) -> None:
        log.error(
            "process_exited",
            process=self.command.name,
            pid=child.pid,
            restart_in_seconds=self._backoff_seconds,
            **_how_it_ended(child.exit_code),
        )

    def _backed_off(self) -> float:
        """The time of the next try, after which another waits longer."""
        at = time.monotonic() + self._backoff_seconds
        self._backoff_seconds = min(2 * self._backoff_seconds, BACKOFF_MAX_SECONDS)
        return at


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


def _how_it_ended(exit_code: int | None) -> dict[str, Any]:
    if exit_code is not None and exit_code < 0:
        return {"signal": Signals(-exit_code).name}
    return {"code": exit_code}
