"""The jobs of the scenarios for GoQueue (`GOQUEUE_ACTORS=bench.faults.goqueue_jobs`)."""

from __future__ import annotations

import goqueue
from bench.faults import work
from goqueue.instance import default

for middleware in work.added_middleware():
    default().broker.add_middleware(middleware)

_declare = goqueue.actor(
    queue="bench", max_retries=work.MAX_RETRIES, min_backoff_seconds=work.RETRY_MS / 1000
)
_declare_limited = goqueue.actor(
    queue="bench",
    max_retries=work.MAX_RETRIES,
    min_backoff_seconds=work.RETRY_MS / 1000,
    time_limit_seconds=work.TIME_LIMIT_MS / 1000,
)

simple = _declare(work.simple)
slow = _declare(work.slow)
fail_in_outage = _declare(work.fail_in_outage)
fail_late = _declare_limited(work.fail_late)
