"""The number of worker threads that a queue needs, by what the record says of its jobs."""

from __future__ import annotations

from collections.abc import Collection

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine import queue_rows as queue_store
from goqueue.engine.options.arguments import expect_finite
from goqueue.insight import demand_rows as demand_store
from goqueue.insight.autoscale import (
    MAX_ASSUMED_RUN_SECONDS,
    MAX_WINDOW_SECONDS,
    Autoscale,
    autoscale,
)

__all__ = ["autoscale_queue"]


def autoscale_queue(
    database: Database,
    settings: Settings,
    queue: str,
    *,
    declared_queues: Collection[str],
    window_seconds: float,
    assumed_run_seconds: float,
) -> Autoscale:
    """Work out how many threads a queue needs, by the database of these settings. Reads only.

    Raises:
        QueueNotFoundError: there is no such queue.
        ValueError: a number of seconds is out of its range.
        DatabaseUnavailableError: PostgreSQL does not answer.
    """
    expect_finite("window_seconds", window_seconds, least=10, most=MAX_WINDOW_SECONDS)
    expect_finite("assumed_run_seconds", assumed_run_seconds, least=1e-9, most=MAX_ASSUMED_RUN_SECONDS)
    queue_store.expect_name(queue)
    with database.transaction() as connection:
        demand, objective = demand_store.of_queue(
            connection,
            queue,
            is_declared=queue in declared_queues,
            window_seconds=window_seconds,
            lease_seconds=settings.lease_seconds,
        )
    return autoscale(demand, objective, assumed_run_seconds=assumed_run_seconds)
