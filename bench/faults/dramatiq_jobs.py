"""The jobs of the scenarios for stock Dramatiq, with the default middleware."""

from __future__ import annotations

import os
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from bench.faults import work

broker = RedisBroker(url=os.environ["FAULTS_REDIS_URL"])  # type: ignore[no-untyped-call]  # Dramatiq's
for middleware in work.added_middleware():
    broker.add_middleware(middleware)
dramatiq.set_broker(broker)

_OPTIONS: dict[str, Any] = {
    "queue_name": "bench",
    "max_retries": work.MAX_RETRIES,
    "min_backoff": work.RETRY_MS,
}

simple = dramatiq.actor(**_OPTIONS)(work.simple)
slow = dramatiq.actor(**_OPTIONS)(work.slow)
fail_in_outage = dramatiq.actor(**_OPTIONS)(work.fail_in_outage)
fail_late = dramatiq.actor(**_OPTIONS, time_limit=work.TIME_LIMIT_MS)(work.fail_late)
