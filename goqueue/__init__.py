"""GoQueue: a job queue service. The names below are what users of the library need; they load when used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from goqueue.broker.execution import current_job
    from goqueue.declare import actor
    from goqueue.errors import Discard, RetryAfter, Snooze
    from goqueue.jobs import RetryPolicy
    from goqueue.submit import enqueue

__all__ = ["Discard", "RetryAfter", "RetryPolicy", "Snooze", "actor", "current_job", "enqueue"]

_HOMES = {
    "Discard": "goqueue.errors",
    "RetryAfter": "goqueue.errors",
    "RetryPolicy": "goqueue.jobs",
    "Snooze": "goqueue.errors",
    "actor": "goqueue.declare",
    "current_job": "goqueue.broker.execution",
    "enqueue": "goqueue.submit",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its home at its first use: importing `goqueue` itself costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'goqueue' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
