"""Dramatiq middleware, and the ordered list of it."""

from __future__ import annotations

from dramatiq import Middleware

from goqueue.config.settings import Settings
from goqueue.middleware.event_loop import JobEventLoop
from goqueue.middleware.follow_ups import JobCallbacks, JobPipelines
from goqueue.middleware.job_retries import JobRetries
from goqueue.middleware.lifecycle import Lifecycle

__all__ = ["job_middleware"]


def job_middleware(settings: Settings) -> list[Middleware]:
    """The middleware of a JobBroker. Before-hooks run in this order, after-hooks in reverse.

    - Lifecycle first: its after-hook must see the verdict of Retries and the follow-ups of the others.
    - Retries decides about a failed attempt.
    - Callbacks and Pipelines enqueue follow-ups; the broker notes them on the message, and they are inserted
      in the transaction that records it.
    - JobEventLoop gives async actors their event loop, which none of them can end.

    Left out on purpose: TimeLimit and ShutdownNotifications raise in whatever the thread does, hooks
    included, which kills the thread (the broker arms and disarms both around the handler alone); AgeLimit,
    because expiry is a state; CurrentMessage, because `current_job` is cleared on every way out.
    """
    return [
        Lifecycle(),
        JobRetries(
            max_retries=settings.max_retries,
            min_backoff=max(1, round(settings.min_backoff_seconds * 1000)),
            max_backoff=max(1, round(settings.max_backoff_seconds * 1000)),
        ),
        JobCallbacks(),
        JobPipelines(),
        JobEventLoop(settings.worker_event_loop),
    ]
