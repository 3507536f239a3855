"""The fields of a running job that every log record of its thread or task carries.

One context variable that is set once a job, not a binding of four: structlog's binding cost each job more
than all of its other hooks.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from structlog.types import EventDict

#: The fields of the job that the calling context works on.
job_context: ContextVar[Mapping[str, Any] | None] = ContextVar("goqueue_job_context", default=None)


def add_job_context(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: add the fields of the job that the calling context works on."""
    fields = job_context.get()
    if fields is not None:
        for name, value in fields.items():
            event.setdefault(name, value)
    return event
