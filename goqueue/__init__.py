"""GoQueue: a job queue service. The names below are what users of the library need; they load when used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from goqueue.bulk.operations import (
        abort_bulk_operation,
        bulk_operation,
        preview_bulk_operation,
        retry_failures,
        start_bulk_operation,
    )
    from goqueue.engine.chains import enqueue_chain
    from goqueue.engine.edits import edit_job, job_versions, retry_job
    from goqueue.engine.options.declare import actor
    from goqueue.engine.options.uniqueness import Unique
    from goqueue.engine.running_jobs import cancel_job, job_log, job_progress
    from goqueue.engine.submit import enqueue
    from goqueue.errors import Discard, RetryAfter, Snooze
    from goqueue.insight.autoscaling import autoscale
    from goqueue.insight.explain.explaining import explain
    from goqueue.jobs import RetryPolicy
    from goqueue.limits.configure import (
        configure_key,
        configure_queue,
        configure_type,
        pause_queue,
        resume_queue,
    )
    from goqueue.schedules.declared import cron
    from goqueue.worker.commands import quiet_worker, resume_worker, stop_worker
    from goqueue.worker.execution import current_job

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
    "quiet_worker": "goqueue.worker.commands",
    "resume_worker": "goqueue.worker.commands",
    "stop_worker": "goqueue.worker.commands",
    "start_bulk_operation": "goqueue.bulk.operations",
    "retry_failures": "goqueue.bulk.operations",
    "preview_bulk_operation": "goqueue.bulk.operations",
    "bulk_operation": "goqueue.bulk.operations",
    "abort_bulk_operation": "goqueue.bulk.operations",
    "job_versions": "goqueue.engine.edits",
    "retry_job": "goqueue.engine.edits",
    "edit_job": "goqueue.engine.edits",
    "Unique": "goqueue.engine.options.uniqueness",
    "Discard": "goqueue.errors",
    "RetryAfter": "goqueue.errors",
    "RetryPolicy": "goqueue.jobs",
    "Snooze": "goqueue.errors",
    "actor": "goqueue.engine.options.declare",
    "autoscale": "goqueue.insight.autoscaling",
    "configure_key": "goqueue.limits.configure",
    "configure_queue": "goqueue.limits.configure",
    "configure_type": "goqueue.limits.configure",
    "cron": "goqueue.schedules.declared",
    "cancel_job": "goqueue.engine.running_jobs",
    "job_log": "goqueue.engine.running_jobs",
    "job_progress": "goqueue.engine.running_jobs",
    "current_job": "goqueue.worker.execution",
    "enqueue": "goqueue.engine.submit",
    "enqueue_chain": "goqueue.engine.chains",
    "explain": "goqueue.insight.explain.explaining",
    "pause_queue": "goqueue.limits.configure",
    "resume_queue": "goqueue.limits.configure",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its home at its first use: importing `goqueue` itself costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'goqueue' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
