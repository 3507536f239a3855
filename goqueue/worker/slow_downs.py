"""The closing of queues whose handlers raise `RetryAfter(scope="queue")`."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine import queue_rows as queue_store
from goqueue.engine.runway.runway import Runway
from goqueue.errors import GoQueueError, RedisUnavailableError
from goqueue.middleware.job_message import JobMessage
from goqueue.middleware.lifecycle import THROTTLED
from goqueue.observability import metrics

log = structlog.get_logger(__name__)


def apply_slow_downs(
    batch: Sequence[JobMessage], settings: Settings, database: Database, runway: Runway
) -> None:
    """Close the queues whose handlers asked for it; a queue once a batch, for the longest time.

    Right behind the record, not in its transaction: that one never holds the row of a queue, which the
    admission locks. A slow-down that is lost here is said again by the next attempt.
    """
    seconds: dict[str, float] = {}
    for message in batch:
        if message.outcome is not None and message.outcome.reason == THROTTLED:
            queue = message.current.queue
            seconds[queue] = max(seconds.get(queue, 0.0), message.outcome.delay_seconds)
    for queue in sorted(seconds):
        try:
            _slow_down(queue, seconds[queue], settings, database, runway)
        except GoQueueError as error:
            log.warning("queue_not_slowed_down", queue=queue, error=str(error))


def _slow_down(queue: str, seconds: float, settings: Settings, database: Database, runway: Runway) -> None:
    with database.transaction() as connection:
        news = queue_store.slow_down(
            connection, queue, seconds=seconds, ramp_seconds=settings.slow_down_ramp_seconds
        )
    if not news:
        return
    metrics.QUEUES_SLOWED_DOWN.labels(queue).inc()
    log.warning("queue_slowed_down", queue=queue, seconds=seconds)
    try:
        runway.close_gate(queue)
    except RedisUnavailableError as error:
        # The claim refuses what is on the runway.
        log.warning("gate_not_closed", queue=queue, error=str(error))
