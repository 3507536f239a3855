"""What an operator wants of this process, told by the heartbeats of its lease."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

import structlog

from goqueue.config import Settings
from goqueue.stop_notes import leave_note
from goqueue.store.workers import WorkerCommand

__all__ = ["Orders"]

log = structlog.get_logger(__name__)


class Orders:
    """Follows the command of the record.

    Quiet: nothing is fetched any more; what was claimed is finished. Stop: the same at once, and then the
    process ends as after SIGTERM.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._quiet = threading.Event()
        self._terminations: _Terminations | None = None
        #: What is followed now.
        self.command: WorkerCommand | None = None

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is to be fetched."""
        return self._quiet.is_set()

    def listen(self) -> None:
        """In the main thread of a process of Dramatiq's command: be able to stop it."""
        self._terminations = _Terminations()

    def follow(self, command: WorkerCommand | None) -> None:
        """Do what the record says; again it changes nothing."""
        if command is self.command:
            return
        log.info("worker_told", command=command or "resume")
        self.command = command
        if command is None:
            self._quiet.clear()
            return
        self._quiet.set()
        if command is WorkerCommand.STOP:
            self._stop()

    def _stop(self) -> None:
        if self._terminations is None:
            # Somebody's own process with a Worker of Dramatiq in it: it is not ours to end.
            log.warning("worker_cannot_stop", reason="it was not started by Dramatiq's command")
            return
        leave_note(self._settings)
        self._terminations.send()


class _Terminations:
    """The signals after which Dramatiq's worker process ends, and one of our own among them.

    Dramatiq takes a second one for an order to drop everything. Ours is no second one of somebody else's, nor
    is theirs of ours: while a process drains because it was told to stop, a deployment may well end it, too.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Any] = {}
        self._begun = False
        self._sent = False
        for number in (signal.SIGTERM, signal.SIGHUP):
            self._handlers[number] = signal.signal(number, self._handle)

    def send(self) -> None:
        """End this process as SIGTERM does."""
        self._sent = True
        os.kill(os.getpid(), signal.SIGTERM)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # The main thread runs this, one signal after the other.
        if self._begun and self._sent:
            self._sent = False
            return
        self._begun = True
        self._handlers[number](number, frame)
