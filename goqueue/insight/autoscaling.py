"""Asking from Python how many worker threads a queue needs; REST asks by `GET /queues/{name}/autoscale`."""

from __future__ import annotations

from collections.abc import Collection

from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine import queue_rows as queue_store
from goqueue.engine.options.arguments import expect_finite
from goqueue.engine.submit import current_broker
from goqueue.insight import demand_rows as demand_store
from goqueue.insight.autoscale import (
    ASSUMED_RUN_SECONDS,
    MAX_ASSUMED_RUN_SECONDS,
    MAX_WINDOW_SECONDS,
    WINDOW_SECONDS,
    Autoscale,
)
from goqueue.insight.autoscale import autoscale as decided

__all__ = ["autoscale", "autoscale_queue"]


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
        DatabaseUnavailableError: PostgreSQL does not answer.
    """
    queue_store.expect_name(queue)
    with database.transaction() as connection:
        demand, objective = demand_store.of_queue(
            connection,
            queue,
            is_declared=queue in declared_queues,
            window_seconds=window_seconds,
            lease_seconds=settings.lease_seconds,
        )
    return decided(demand, objective, assumed_run_seconds=assumed_run_seconds)


def autoscale(
    queue: str,
    *,
    window_seconds: float = WINDOW_SECONDS,
    assumed_run_seconds: float = ASSUMED_RUN_SECONDS,
) -> Autoscale:
    """Work out how many worker threads a queue needs for its objective, with all that this follows from.

    Args:
        queue: its name.
        window_seconds: how far back, and ahead, arrivals are counted.
        assumed_run_seconds: the mean run of a job, where none has ended and none runs.

    Raises:
        QueueNotFoundError: there is no such queue.
        DatabaseUnavailableError: PostgreSQL does not answer.
    """
    expect_finite("window_seconds", window_seconds, least=10, most=MAX_WINDOW_SECONDS)
    expect_finite("assumed_run_seconds", assumed_run_seconds, least=1e-9, most=MAX_ASSUMED_RUN_SECONDS)
    broker = current_broker()
    return autoscale_queue(
        broker.database,
        broker.settings,
        queue,
        declared_queues=broker.get_declared_queues(),
        window_seconds=window_seconds,
        assumed_run_seconds=assumed_run_seconds,
    )
