"""The handlers with `process=True` that the imported modules have declared, by their names."""

from __future__ import annotations

from typing import Any, Protocol

from goqueue.middleware.attempt import JobAttempt
from goqueue.middleware.current_job import Reports
from goqueue.worker.interrupts import Interrupts

__all__ = ["ChildHandler", "JobChannel", "declare_handler", "handler_of"]


class JobChannel(Reports, Protocol):
    """The way from a running handler to its worker: what it says, what it asks, who may interrupt it."""

    def begin(self, current: JobAttempt, interrupts: Interrupts) -> None:
        """Note which job runs from now on, and what interrupts it."""

    def results_of_parents(self, job_id: int) -> dict[int, Any]:
        """Ask what the jobs returned that this one waited for."""


class ChildHandler(Protocol):
    """A handler as a child process knows it."""

    def open(self) -> None:
        """Prepare the process for the first job of this handler."""

    def close(self) -> None:
        """Close what was opened for its jobs."""

    def run(self, document: dict[str, Any], channel: JobChannel) -> dict[str, Any]:
        """Run an attempt, and return what it came to as a document."""


_declared: dict[str, ChildHandler] = {}


def declare_handler(name: str, handler: ChildHandler) -> None:
    """Let a handler be found by its name in this process, as in each that imports the same modules."""
    _declared[name] = handler


def handler_of(name: str) -> ChildHandler:
    """Find a handler that an imported module has declared.

    Raises:
        LookupError: none has.
    """
    try:
        return _declared[name]
    except KeyError:
        raise LookupError(f"no module that was imported declares {name}") from None
