"""The wait before the retry of a failed attempt, whatever a user's exception says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import structlog

from goqueue.errors import seconds_to_wait
from goqueue.jobs import RetryPolicy
from goqueue.middleware.job_message import JobMessage

log = structlog.get_logger(__name__)


def retry_delay(message: JobMessage, policy: RetryPolicy, delay_ms: Any) -> int:
    """Tell the wait before a retry in milliseconds. The given one may be what an exception says: anything.

    What is no time to wait must not lose the retry: it gets the wait that the policy of its type has.
    """
    try:
        return _spread_or_exact(message, policy, round(1000 * seconds_to_wait((delay_ms or 0) / 1000)))
    except (TypeError, ValueError, OverflowError) as error:
        log.warning("retry_delay_refused", job_id=message.current.id, error=str(error))
        return round(policy.backoff_seconds(message.current.attempt - 1) * 1000)


def _spread_or_exact(message: JobMessage, policy: RetryPolicy, delay_ms: int) -> int:
    """Dramatiq always spreads its backoff; a type or a job may want it exact."""
    options = message.options
    if options.get("jitter", policy.jitter) or message.retry_is_requested:
        return delay_ms
    exact = replace(
        policy,
        min_backoff_seconds=options.get("min_backoff", policy.min_backoff_seconds * 1000) / 1000,
        max_backoff_seconds=options.get("max_backoff", policy.max_backoff_seconds * 1000) / 1000,
        jitter=False,
    )
    return round(exact.backoff_seconds(message.current.attempt - 1) * 1000)
