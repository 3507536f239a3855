"""GoQueue: a job queue service. The names below are what users of the library need.

Each function is a method of the process's own `GoQueue`, which is made from its environment at the first use.
What they need is imported then: importing `goqueue` itself costs nothing.
"""

# A line for each function: longer than other modules by their signatures alone.
from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping
    from contextlib import AbstractContextManager
    from datetime import datetime
    from typing import Unpack

    from dramatiq.actor import Actor

    from goqueue.bulk.actions import BulkAction
    from goqueue.bulk.operations import BulkOperation, Preview
    from goqueue.config.labels import LabelValue
    from goqueue.db.callers_transaction import CallersTransaction
    from goqueue.engine.chains import ChainStep
    from goqueue.engine.edits import EditedVersion
    from goqueue.engine.options.batch import Batch
    from goqueue.engine.options.declare import ActorOptions
    from goqueue.engine.options.injection import Depends
    from goqueue.engine.options.job_settings import JobSettings
    from goqueue.engine.options.uniqueness import Unique
    from goqueue.engine.queue_rows import Queue
    from goqueue.engine.report_rows import LoggedLine, ProgressOfJob
    from goqueue.engine.workers.worker_rows import Worker
    from goqueue.errors import BatchFailed, Discard, RetryAfter, Snooze
    from goqueue.events.event import Event
    from goqueue.insight.autoscale import Autoscale
    from goqueue.insight.explain import Explanation
    from goqueue.instance import AnyActor, GoQueue, Handler
    from goqueue.jobs import Job, RetryPolicy
    from goqueue.limits.settings import KeyLimits, QueueLimits
    from goqueue.limits.type_setting_rows import LimitedType
    from goqueue.middleware.current_batch import CurrentBatch, current_batch
    from goqueue.remote.type_declarations import MadeType
    from goqueue.schedules.declared import ScheduleOptions
    from goqueue.worker.execution import current_job

__all__ = [
    "Batch",
    "BatchFailed",
    "CurrentBatch",
    "Depends",
    "Discard",
    "GoQueue",
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
    "current_batch",
    "current_job",
    "declare_type",
    "edit_job",
    "enqueue",
    "enqueue_chain",
    "enqueue_many",
    "explain",
    "job_log",
    "job_progress",
    "job_versions",
    "lifespan",
    "listen",
    "override_dependency",
    "pause_queue",
    "preview_bulk_operation",
    "quiet_worker",
    "remove_type",
    "resume_queue",
    "resume_worker",
    "retry_failures",
    "retry_job",
    "rotate_type_secret",
    "start_bulk_operation",
    "stop_worker",
    "wait",
]

#: Where the names live that are no functions of `GoQueue`.
_HOMES = {
    "Batch": "goqueue.engine.options.batch",
    "BatchFailed": "goqueue.errors",
    "CurrentBatch": "goqueue.middleware.current_batch",
    "Depends": "goqueue.engine.options.injection",
    "Discard": "goqueue.errors",
    "GoQueue": "goqueue.instance",
    "RetryAfter": "goqueue.errors",
    "RetryPolicy": "goqueue.jobs",
    "Snooze": "goqueue.errors",
    "Unique": "goqueue.engine.options.uniqueness",
    "current_batch": "goqueue.middleware.current_batch",
    "current_job": "goqueue.worker.execution",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its home at its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'goqueue' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def _default() -> GoQueue:
    goqueue: GoQueue = _instance().default()
    return goqueue


@cache
def _instance() -> Any:
    return import_module("goqueue.instance")


@overload
def actor(function: Handler, /) -> Actor[..., Any]: ...


@overload
def actor(**options: Unpack[ActorOptions]) -> Callable[[Handler], Actor[..., Any]]: ...


def actor(function: Any = None, **options: Any) -> Any:
    """Declare a job type: a Dramatiq actor whose jobs are rows with a validated payload.

    See `GoQueue.actor`.
    """
    return _default().actor(function, **options)


def abort_bulk_operation(operation_id: int) -> BulkOperation:
    """Stop an operation for good; what it has done stays done. An aborted one stays as it is.

    See `GoQueue.abort_bulk_operation`.
    """
    return _default().abort_bulk_operation(operation_id)


def autoscale(
    queue: str,
    *,
    window_seconds: float = 300.0,
    assumed_run_seconds: float = 1.0,
    labels: Mapping[str, LabelValue] | None = None,
) -> Autoscale:
    """Compute how many worker threads a queue needs for its objective, with all that this follows from.

    See `GoQueue.autoscale`.
    """
    return _default().autoscale(
        queue, window_seconds=window_seconds, assumed_run_seconds=assumed_run_seconds, labels=labels
    )


def bulk_operation(operation_id: int) -> BulkOperation:
    """Return how far an operation has come.

    See `GoQueue.bulk_operation`.
    """
    return _default().bulk_operation(operation_id)


def cancel_job(job_id: int) -> Job:
    """Cancel an unfinished job, and return it as it is now.

    See `GoQueue.cancel`.
    """
    return _default().cancel(job_id)


def configure_key(queue: str, key: str, **settings: Any) -> KeyLimits:
    """Change the `weight` or the `concurrency` of one key of a queue, live; return what they are then.

    See `GoQueue.configure_key`.
    """
    return _default().configure_key(queue, key, **settings)


def configure_queue(name: str, **settings: Any) -> QueueLimits:
    """Change limits of a queue, live, and return what they are then. See `QueueLimits` for the settings.

    See `GoQueue.configure_queue`.
    """
    return _default().configure_queue(name, **settings)


def configure_type(name: str, **settings: Any) -> LimitedType:
    """Change the `concurrency` or the `breaker` of a job type, live; return what they are then.

    See `GoQueue.configure_type`.
    """
    return _default().configure_type(name, **settings)


def cron(
    line: str,
    *,
    name: str | None = None,
    payload: Any = None,
    job: JobSettings | None = None,
    **options: Unpack[ScheduleOptions],
) -> Callable[[AnyActor], AnyActor]:
    """Declare that jobs of an actor are created by a cron line. The scheduler process sees to it.

    See `GoQueue.cron`.
    """
    return _default().cron(line, name=name, payload=payload, job=job, **options)


def declare_type(name: str, *, by: str = "python", **declaration: Any) -> MadeType:
    """Declare a job type whose jobs no Python process runs, in place of what was declared before.

    See `GoQueue.declare_type`.
    """
    return _default().declare_type(name, by=by, **declaration)


def edit_job(
    job_id: int,
    *,
    payload: Any = None,
    priority: int | None = None,
    available_at: datetime | None = None,
    requires: Mapping[str, LabelValue] | None = None,
    slots: int | None = None,
    min_version: int | None = None,
    author: str | None = None,
) -> Job:
    """Edit a queued or blocked job, and return it as it is now; what is None stays as it is.

    See `GoQueue.edit`.
    """
    return _default().edit(
        job_id,
        payload=payload,
        priority=priority,
        available_at=available_at,
        requires=requires,
        slots=slots,
        min_version=min_version,
        author=author,
    )


def enqueue(
    actor: Actor[Any, Any] | str,
    payload: Any,
    *,
    session: CallersTransaction | None = None,
    retry: RetryPolicy | None = None,
    **settings: Unpack[JobSettings],
) -> int:
    """Create a job of a declared actor, and return its id.

    See `GoQueue.create`.
    """
    return _default().create(actor, payload, session=session, retry=retry, **settings)


def enqueue_chain(*steps: ChainStep, session: CallersTransaction | None = None) -> list[int]:
    """Create jobs of which each waits until the one before has completed; their ids, in their order.

    See `GoQueue.create_chain`.
    """
    return _default().create_chain(*steps, session=session)


def enqueue_many(
    actor: Actor[Any, Any] | str,
    payloads: Iterable[Any],
    *,
    session: CallersTransaction | None = None,
    retry: RetryPolicy | None = None,
    **settings: Unpack[JobSettings],
) -> list[int]:
    """Create a job of an actor for each payload, all or none; their ids, in the order of the payloads.

    See `GoQueue.create_many`.
    """
    return _default().create_many(actor, payloads, session=session, retry=retry, **settings)


def explain(job_id: int, *, with_errors: bool = True) -> Explanation:
    """Explain why a job does not run: what blocks it, with the evidence, and when it is expected to start.

    See `GoQueue.explain`.
    """
    return _default().explain(job_id, with_errors=with_errors)


def job_log(job_id: int, *, after: int = 0, fence: int | None = None, limit: int = 1000) -> list[LoggedLine]:
    """Return what an attempt of a job logged, in order.

    See `GoQueue.log`.
    """
    return _default().log(job_id, after=after, fence=fence, limit=limit)


def job_progress(job_id: int) -> ProgressOfJob:
    """Return how far the latest attempt of a job has come, by its own account.

    See `GoQueue.progress`.
    """
    return _default().progress(job_id)


def job_versions(job_id: int) -> list[EditedVersion]:
    """Return what a job was before each of its edits, the oldest first, and what it is now.

    See `GoQueue.versions`.
    """
    return _default().versions(job_id)


def lifespan(function: Handler) -> Handler:
    """Declare a context manager of each worker process: opened before its first fetch, closed at its end.

    See `GoQueue.lifespan`.
    """
    return _default().lifespan(function)


def listen(
    *kinds: str,
    queue: str | None = None,
    type: str | None = None,  # noqa: A002  (what a job's is called everywhere)
    job_id: int | None = None,
    tag: str | None = None,
    after: str | None = None,
    seconds: float | None = None,
) -> Generator[Event]:
    """Return an iterator of what changes, which waits for the next event; it begins with this call.

    See `GoQueue.listen`.
    """
    return _default().listen(
        *kinds, queue=queue, type=type, job_id=job_id, tag=tag, after=after, seconds=seconds
    )


def override_dependency(
    dependency: Callable[..., Any], replacement: Callable[..., Any]
) -> AbstractContextManager[None]:
    """Let another function stand for a dependency or a lifespan inside a `with` block, for tests.

    See `GoQueue.override_dependency`.
    """
    return _default().override_dependency(dependency, replacement)


def pause_queue(
    name: str,
    *,
    reason: str | None = None,
    author: str | None = None,
    until: datetime | None = None,
    seconds: float | None = None,
) -> Queue:
    """Start no more jobs of a queue until it is resumed, or until the end that is given; running ones go on.

    See `GoQueue.pause_queue`.
    """
    return _default().pause_queue(name, reason=reason, author=author, until=until, seconds=seconds)


def preview_bulk_operation(
    action: BulkAction | str, *, priority: int | None = None, **wanted: Any
) -> Preview:
    """Return what `start_bulk_operation` would be done to now; nothing is changed.

    See `GoQueue.preview_bulk_operation`.
    """
    return _default().preview_bulk_operation(action, priority=priority, **wanted)


def quiet_worker(worker_id: int) -> Worker:
    """Let a worker process fetch no more jobs: it finishes those it has, and stays until it is resumed.

    See `GoQueue.quiet_worker`.
    """
    return _default().quiet_worker(worker_id)


def remove_type(name: str) -> None:
    """Remove a job type that was declared from outside of Python code.

    See `GoQueue.remove_type`.
    """
    _default().remove_type(name)


def resume_queue(name: str) -> Queue:
    """Let the jobs of a paused or slowed-down queue start again: at once, or ramping up where it has a ramp.

    See `GoQueue.resume_queue`.
    """
    return _default().resume_queue(name)


def resume_worker(worker_id: int) -> Worker:
    """Let a quiet worker process fetch jobs again. Raises as `quiet_worker`.

    See `GoQueue.resume_worker`.
    """
    return _default().resume_worker(worker_id)


def retry_failures(
    fingerprint: str, *, rate: float | None = None, canary: int | None = None, author: str | None = None
) -> BulkOperation:
    """Run the failed jobs of one group again: begin the bulk operation that does it.

    See `GoQueue.retry_failures`.
    """
    return _default().retry_failures(fingerprint, rate=rate, canary=canary, author=author)


def retry_job(
    job_id: int,
    *,
    payload: Any = None,
    priority: int | None = None,
    available_at: datetime | None = None,
    requires: Mapping[str, LabelValue] | None = None,
    slots: int | None = None,
    min_version: int | None = None,
    author: str | None = None,
) -> Job:
    """Queue a failed or cancelled job again, edited or as it is, with its attempts counted anew.

    See `GoQueue.retry`.
    """
    return _default().retry(
        job_id,
        payload=payload,
        priority=priority,
        available_at=available_at,
        requires=requires,
        slots=slots,
        min_version=min_version,
        author=author,
    )


def rotate_type_secret(name: str, *, overlap_seconds: float = 86_400.0) -> MadeType:
    """Give a type that is sent to a URL another secret, and return it; it is not told again.

    See `GoQueue.rotate_type_secret`.
    """
    return _default().rotate_type_secret(name, overlap_seconds=overlap_seconds)


def start_bulk_operation(
    action: BulkAction | str,
    *,
    priority: int | None = None,
    rate: float | None = None,
    canary: int | None = None,
    author: str | None = None,
    **wanted: Any,
) -> BulkOperation:
    """Begin an operation over the jobs that a filter finds now; the scheduler does it, step by step.

    See `GoQueue.start_bulk_operation`.
    """
    return _default().start_bulk_operation(
        action, priority=priority, rate=rate, canary=canary, author=author, **wanted
    )


def stop_worker(worker_id: int) -> Worker:
    """Let a worker process end as after SIGTERM: what it runs may finish within the grace period.

    See `GoQueue.stop_worker`.
    """
    return _default().stop_worker(worker_id)


def wait(job_id: int, *, timeout_seconds: float | None = None) -> Job:
    """Return a job when it has ended, or as it is when the time is over.

    See `GoQueue.wait`.
    """
    return _default().wait(job_id, timeout_seconds=timeout_seconds)
