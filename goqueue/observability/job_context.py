"""The fields of a running job that every log record of its thread or task carries.

One context variable that is set once a job, not a binding of four: structlog's binding cost each job more
than all of its other hooks. Its fields are asked for by the records, of which most jobs write none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Protocol

from structlog.types import EventDict


class LoggedJob(Protocol):
    """A job that log records are about."""

    @property
    def log_fields(self) -> Mapping[str, Any]:
        """The fields of each of its log records."""

    @property
    def hidden(self) -> Sequence[str]:
        """Values of redacted fields."""

    @property
    def encrypted_payloads(self) -> Sequence[str]:
        """Payloads that are encrypted at rest, as JSON text."""


#: What was read of the error that the calling context is about to log, so that it is not read again.
known_error: ContextVar[str | None] = ContextVar("goqueue_known_error", default=None)

#: The job that the calling context works on.
job_context: ContextVar[LoggedJob | None] = ContextVar("goqueue_job_context", default=None)


def add_job_context(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: add the fields of the job that the calling context works on."""
    job = job_context.get()
    if job is not None:
        for name, value in job.log_fields.items():
            event.setdefault(name, value)
    return event
