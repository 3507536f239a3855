"""GoQueue: a job queue service. The names below are what users of the library need; they load when used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from goqueue.broker.execution import current_job
    from goqueue.control.autoscaling import autoscale
    from goqueue.control.bulk import (
        abort_bulk_operation,
        bulk_operation,
        preview_bulk_operation,
        retry_failures,
        start_bulk_operation,
    )
    from goqueue.control.chains import enqueue_chain
    from goqueue.control.configure import (
        configure_key,
        configure_queue,
        configure_type,
        pause_queue,
        resume_queue,
    )
    from goqueue.control.declared_schedules import cron
    from goqueue.control.editing import edit_job, job_versions, retry_job
    from goqueue.control.explaining import explain
    from goqueue.control.running_jobs import cancel_job, job_log, job_progress
    from goqueue.control.workers import quiet_worker, resume_worker, stop_worker
    from goqueue.declare import actor
    from goqueue.errors import Discard, RetryAfter, Snooze
    from goqueue.jobs import RetryPolicy
    from goqueue.rules.uniqueness import Unique
    from goqueue.submit import enqueue

__all__ = [
    "Discard",
    "RetryAfter",
    "RetryPolicy",
    "Snooze",
    "Unique",
    "abort_bulk_operation",
    "actor",
    "autoscale",
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
    "quiet_worker",
    "resume_queue",
    "resume_worker",
    "retry_failures",
    "retry_job",
    "start_bulk_operation",
    "stop_worker",
]

_HOMES = {
    "quiet_worker": "goqueue.control.workers",
    "resume_worker": "goqueue.control.workers",
    "stop_worker": "goqueue.control.workers",
    "start_bulk_operation": "goqueue.control.bulk",
    "retry_failures": "goqueue.control.bulk",
    "preview_bulk_operation": "goqueue.control.bulk",
    "bulk_operation": "goqueue.control.bulk",
    "abort_bulk_operation": "goqueue.control.bulk",
    "job_versions": "goqueue.control.editing",
    "retry_job": "goqueue.control.editing",
    "edit_job": "goqueue.control.editing",
    "Unique": "goqueue.rules.uniqueness",
    "Discard": "goqueue.errors",
    "RetryAfter": "goqueue.errors",
    "RetryPolicy": "goqueue.jobs",
    "Snooze": "goqueue.errors",
    "actor": "goqueue.declare",
    "autoscale": "goqueue.control.autoscaling",
    "configure_key": "goqueue.control.configure",
    "configure_queue": "goqueue.control.configure",
    "configure_type": "goqueue.control.configure",
    "cron": "goqueue.control.declared_schedules",
    "cancel_job": "goqueue.control.running_jobs",
    "job_log": "goqueue.control.running_jobs",
    "job_progress": "goqueue.control.running_jobs",
    "current_job": "goqueue.broker.execution",
    "enqueue": "goqueue.submit",
    "enqueue_chain": "goqueue.control.chains",
    "explain": "goqueue.control.explaining",
    "pause_queue": "goqueue.control.configure",
    "resume_queue": "goqueue.control.configure",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its home at its first use: importing `goqueue` itself costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'goqueue' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
