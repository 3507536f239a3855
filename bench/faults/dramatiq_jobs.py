"""The jobs of the scenarios for stock Dramatiq, with the default middleware."""

from __future__ import annotations

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from bench.faults import work

broker = RedisBroker(url=os.environ["FAULTS_REDIS_URL"])  # type: ignore[no-untyped-call]  # Dramatiq's
for middleware in work.added_middleware():
    broker.add_middleware(middleware)
dramatiq.set_broker(broker)

_OPTIONS = {"queue_name": "bench", "max_retries": work.MAX_RETRIES, "min_backoff": work.RETRY_MS}

simple = dramatiq.actor(work.simple, **_OPTIONS)
slow = dramatiq.actor(work.slow, **_OPTIONS)
fail_in_outage = dramatiq.actor(work.fail_in_outage, **_OPTIONS)
fail_late = dramatiq.actor(work.fail_late, **_OPTIONS, time_limit=work.TIME_LIMIT_MS)
