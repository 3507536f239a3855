"""GoQueue: a job queue service. The names below are what users of the library need; they load when used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from goqueue.broker.execution import current_job
    from goqueue.bulk import (
        abort_bulk_operation,
        bulk_operation,
        preview_bulk_operation,
        retry_failures,
        start_bulk_operation,
    )
    from goqueue.chains import enqueue_chain
    from goqueue.configure import (
        configure_key,
        configure_queue,
        configure_type,
        pause_queue,
        resume_queue,
    )
    from goqueue.declare import actor
    from goqueue.declared_schedules import cron
    from goqueue.editing import edit_job, job_versions, retry_job
    from goqueue.errors import Discard, RetryAfter, Snooze
    from goqueue.explaining import explain
    from goqueue.jobs import RetryPolicy
    from goqueue.running_jobs import cancel_job, job_log, job_progress
    from goqueue.submit import enqueue
    from goqueue.uniqueness import Unique

__all__ = [
    "Discard",
    "RetryAfter",
    "RetryPolicy",
    "Snooze",
    "Unique",
    "abort_bulk_operation",
    "actor",
    "bulk_operation",
    "cancel_job",
    "configure_key",
    "configure_queue",
    "configure_type",
    "cron",
    "current_job",
    "edit_job",
    "enqueue",
    "enqueue_chain",
    "explain",
    "job_log",
    "job_progress",
    "job_versions",
    "pause_queue",
    "preview_bulk_operation",
    "resume_queue",
    "retry_failures",
    "retry_job",
    "start_bulk_operation",
]

_HOMES = {
    "start_bulk_operation": "goqueue.bulk",
    "retry_failures": "goqueue.bulk",
    "preview_bulk_operation": "goqueue.bulk",
    "bulk_operation": "goqueue.bulk",
    "abort_bulk_operation": "goqueue.bulk",
    "job_versions": "goqueue.editing",
    "retry_job": "goqueue.editing",
    "edit_job": "goqueue.editing",
    "Unique": "goqueue.uniqueness",
    "Discard": "goqueue.errors",
    "RetryAfter": "goqueue.errors",
    "RetryPolicy": "goqueue.jobs",
    "Snooze": "goqueue.errors",
    "actor": "goqueue.declare",
    "configure_key": "goqueue.configure",
    "configure_queue": "goqueue.configure",
    "configure_type": "goqueue.configure",
    "cron": "goqueue.declared_schedules",
    "cancel_job": "goqueue.running_jobs",
    "job_log": "goqueue.running_jobs",
    "job_progress": "goqueue.running_jobs",
    "current_job": "goqueue.broker.execution",
    "enqueue": "goqueue.submit",
    "enqueue_chain": "goqueue.chains",
    "explain": "goqueue.explaining",
    "pause_queue": "goqueue.configure",
    "resume_queue": "goqueue.configure",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its home at its first use: importing `goqueue` itself costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'goqueue' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
