"""Commands of an operator to this process, which the heartbeats of its lease bring."""

from __future__ import annotations

import threading

import structlog

from goqueue.config.settings import Settings
from goqueue.engine.workers.worker_rows import WorkerCommand
from goqueue.jobs import ShutdownReason
from goqueue.worker.shutdown_reason import Note, leave_note
from goqueue.worker.terminations import Terminations, listen

__all__ = ["ReceivedCommands"]

log = structlog.get_logger(__name__)


class ReceivedCommands:
    """Follows the command of the record.

    Quiet: nothing is fetched any more; what was claimed is finished. Stop: the same at once, and then the
    process ends as after SIGTERM.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._quiet = threading.Event()
        self._terminations: Terminations | None = None
        #: Why this process ends, once it does.
        self.shutdown_reason: ShutdownReason | None = None
        #: What is followed now.
        self.command: WorkerCommand | None = None

    @property
    def is_quiet(self) -> bool:
        """Tell whether nothing is to be fetched."""
        return self._quiet.is_set()

    def listen(self) -> None:
        """Prepare to stop this process; only in the main thread of a process of Dramatiq's command."""
        self._terminations = listen()

    def end_process(self) -> None:
        """End this process as SIGTERM does, unless it is somebody's own, with a Worker of Dramatiq in it."""
        if self._terminations is None:
            log.warning("worker_cannot_stop", reason="it was not started by Dramatiq's command")
        else:
            self._terminations.send()

    def follow(self, command: WorkerCommand | None) -> None:
        """Do what the record says; again it changes nothing."""
        if command is self.command:
            return
        self.command = command
        if command is None:
            self._quiet.clear()
        else:
            self._quiet.set()
        # After it was followed: whoever reads the line relies on it.
        log.info("worker_told", command=command or "resume")
        if command is WorkerCommand.STOP:
            self._stop()

    def note_shutdown(self, reason: ShutdownReason) -> None:
        """Note why this process ends; the first reason counts."""
        self.shutdown_reason = self.shutdown_reason or reason

    def _stop(self) -> None:
        self.note_shutdown(ShutdownReason.REQUESTED)
        if self._terminations is not None:
            leave_note(self._settings, Note.STOPPED)
        self.end_process()
