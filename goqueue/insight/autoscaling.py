"""The number of worker threads that a queue needs, by what the record says of its jobs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from goqueue.config.labels import LabelValue, entries_of, labels_of
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.engine import queue_rows as queue_store
from goqueue.engine.options.arguments import expect_finite
from goqueue.insight import demand_rows as demand_store
from goqueue.insight import labelled_demand_rows as labelled_store
from goqueue.insight.autoscale import (
    MAX_ASSUMED_RUN_SECONDS,
    MAX_WINDOW_SECONDS,
    Autoscale,
    autoscale,
)
from goqueue.insight.label_needs import of_worker_group, unmet_needs

__all__ = ["autoscale_queue", "slots_per_worker"]


def autoscale_queue(
    database: Database,
    settings: Settings,
    queue: str,
    *,
    declared_queues: Collection[str],
    window_seconds: float,
    assumed_run_seconds: float,
    labels: Mapping[str, LabelValue] | None = None,
) -> Autoscale:
    """Work out how many threads a queue needs, by the database of these settings. Reads only.

    `labels` are those of a group of workers: the answer is for jobs that are theirs alone (`label_needs.py`).

    Raises:
        QueueNotFoundError: there is no such queue.
        ValueError: a number of seconds is out of its range, or labels are none.
        DatabaseUnavailableError: PostgreSQL does not answer.
    """
    expect_finite("window_seconds", window_seconds, least=10, most=MAX_WINDOW_SECONDS)
    expect_finite("assumed_run_seconds", assumed_run_seconds, least=1e-9, most=MAX_ASSUMED_RUN_SECONDS)
    queue_store.expect_name(queue)
    group = None if labels is None else frozenset(entries_of(labels_of(labels)))
    with database.transaction() as connection:
        demand, objective = demand_store.of_queue(
            connection,
            queue,
            is_declared=queue in declared_queues,
            window_seconds=window_seconds,
            lease_seconds=settings.lease_seconds,
        )
        parameters = {"queue": queue, "lease_seconds": settings.lease_seconds}
        jobs = labelled_store.jobs_by_labels(connection, parameters)
        workers = labelled_store.workers_by_labels(connection, parameters)
    needs = unmet_needs(demand, objective, jobs, workers, assumed_run_seconds=assumed_run_seconds)
    if group is not None:
        demand = of_worker_group(demand, jobs, workers, group)
    answer = autoscale(demand, objective, assumed_run_seconds=assumed_run_seconds)
    return replace(answer, label_needs=needs)


def slots_per_worker(answer: Autoscale, settings: Settings) -> int:
    """Tell how many jobs of a queue one `goqueue worker` of these settings runs at once."""
    return settings.worker_processes * (answer.demand.process_slots or settings.worker_threads)
