"""One command of a supervisor: its process, the one that is to take its place, and when either is started."""

from __future__ import annotations

import time
from signal import Signals
from typing import Any

import structlog

from goqueue.ops.processes import ChildProcess, Command
from goqueue.worker.shutdown_reason import Note, expect_notes, take_note

__all__ = ["KeptCommand"]

log = structlog.get_logger(__name__)

#: The wait before a restart: at first, doubling, and at most.
BACKOFF_MIN_SECONDS = 0.1
BACKOFF_MAX_SECONDS = 5.0

#: Who lived this long did not die of being started: the next restart is quick again.
STABLE_SECONDS = 10.0


class KeptCommand:
    """One command that is kept running.

    Attributes:
        child: its present process.
        exit_code: of its last process that ended.
        is_released: its process ended because an operator wanted it to.
    """

    def __init__(self, command: Command) -> None:
        self.command = command
        self.child: ChildProcess | None = None
        self.exit_code: int | None = None
        self.is_released = False
        #: Its process has asked to be replaced; who is to take its place; and who has made room.
        self._wants_successor = False
        self._successor: ChildProcess | None = None
        self._replaced: list[ChildProcess] = []
        self._backoff_seconds = BACKOFF_MIN_SECONDS
        self._start_at: float | None = None
        self._replace_at = 0.0

    def start(self) -> None:
        """Start a process of the command."""
        self.child = self._started()
        self._start_at = None
        self.is_released = False
        self._wants_successor = False

    @property
    def is_replacing(self) -> bool:
        """Whether a process is started that is to take the place of the present one."""
        return self._successor is not None

    def tend(self, *, may_replace: bool = True) -> None:
        """Start again what has ended, when its wait is over; replace what asks for it, if it may be now."""
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


def _how_it_ended(exit_code: int | None) -> dict[str, Any]:
    if exit_code is not None and exit_code < 0:
        return {"signal": Signals(-exit_code).name}
    return {"code": exit_code}
