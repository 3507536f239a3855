"""The gauges of the whole service, as the API tells them to Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial

from prometheus_client import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from goqueue.access.namespaces import Namespaces, Use
from goqueue.access.quotas import QUOTA_NAMES, Quotas
from goqueue.api.frame.reading import Reading, values_of
from goqueue.config.settings import Settings
from goqueue.db.database import Database
from goqueue.errors import NamespaceNotFoundError
from goqueue.insight import gauge_rows as gauges
from goqueue.insight.gauge_rows import QueueGauges, ServiceGauges
from goqueue.instance import GoQueue
from goqueue.observability import metrics

#: Several scrapers of one process within this time are one question to PostgreSQL.
GOOD_FOR_SECONDS = 1.0


class ServiceGaugesCollector(Collector):
    """Asks PostgreSQL one question a scrape.

    Every process of the API tells the same, so nothing of it is kept in the files that they share.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._reading = Reading(self._ask, max_age_seconds=GOOD_FOR_SECONDS)

    def collect(self) -> Iterable[Metric]:
        """Yield the gauges; only that PostgreSQL does not answer, where it does not."""
        return _gauges(self._reading.get())

    def _ask(self) -> ServiceGauges:
        return _read(self._database, self._settings)


class NamespaceGaugesCollector(Collector):
    """Asks each database for its gauges, and tells whose they are by the label `namespace`."""

    def __init__(self, goqueues: Sequence[GoQueue]) -> None:
        self._names = [goqueue.settings.name_of_namespace for goqueue in goqueues]
        self._readings = [_reading_of(goqueue) for goqueue in goqueues]

    def collect(self) -> Iterable[Metric]:
        """Yield each gauge once, with the values of all namespaces."""
        families: dict[str, Metric] = {}
        for namespace, found in zip(self._names, values_of(self._readings), strict=True):
            for metric in _gauges(found):
                family = families.setdefault(
                    metric.name, Metric(metric.name, metric.documentation, metric.type)
                )
                family.samples += [_labelled(sample, namespace) for sample in metric.samples]
        return families.values()


class NamespaceQuotasCollector(Collector):
    """Tells what each namespace inside of the database uses, and its quotas."""

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces
        self._reading = Reading(self._ask, max_age_seconds=GOOD_FOR_SECONDS)

    def collect(self) -> Iterable[Metric]:
        """Yield the gauges; none where PostgreSQL does not answer, or there are no namespaces."""
        found = self._reading.get()
        if not found:
            return
        yield metrics.NAMESPACE_WAITING_JOBS.of_each(
            ((name,), use.waiting) for name, (_, use) in found.items()
        )
        yield metrics.NAMESPACE_RUNNING_JOBS.of_each(
            ((name,), use.running) for name, (_, use) in found.items()
        )
        yield metrics.NAMESPACE_QUOTA.of_each(
            ((name, quota), getattr(quotas, quota))
            for name, (quotas, _) in found.items()
            for quota in QUOTA_NAMES
            if getattr(quotas, quota) is not None
        )

    def _ask(self) -> dict[str, tuple[Quotas, Use]]:
        found = {}
        for one in self._namespaces.every():
            # It may have been deleted since.
            with suppress(NamespaceNotFoundError):
                found[one.name] = one.quotas, self._namespaces.use_of(one.name)
        return found


def gauges_of(goqueue: GoQueue) -> Collector:
    """Return the gauges of one GoQueue; where it is one of several namespaces they say which."""
    if not goqueue.settings.is_one_of_several:
        return ServiceGaugesCollector(goqueue.settings, goqueue.database)
    return NamespaceGaugesCollector([goqueue])


def _reading_of(goqueue: GoQueue) -> Reading[ServiceGauges]:
    return Reading(partial(_read, goqueue.database, goqueue.settings), max_age_seconds=GOOD_FOR_SECONDS)


def _labelled(sample: Sample, namespace: str) -> Sample:
    return sample._replace(labels={"namespace": namespace, **sample.labels})


def _gauges(found: ServiceGauges | None) -> Iterable[Metric]:
    yield metrics.DATABASE_UP.of(float(found is not None))
    if found is not None:
        yield metrics.WORKERS_LIVE.of(found.workers)
        yield metrics.WORKER_THREADS.of(found.threads)
        yield metrics.WORKER_THREADS_BUSY.of(found.busy)
        yield metrics.WORKER_ASYNC_SLOTS.of(found.async_slots)
        yield metrics.WORKER_ASYNC_SLOTS_BUSY.of(found.async_busy)
        yield metrics.DATABASE_HORIZON_AGE.of(found.horizon_age_seconds)
        yield from _of_queues(bounded(found.queues))


def _read(database: Database, settings: Settings) -> ServiceGauges:
    with database.autocommit() as connection:
        return gauges.read(connection, lease_seconds=settings.lease_seconds)


def bounded(queues: Sequence[QueueGauges]) -> list[QueueGauges]:
    """The first queues by name, and the others as one that is called `other`."""
    kept, rest = list(queues[: metrics.QUEUES_MAX]), queues[metrics.QUEUES_MAX :]
    if rest:
        other = QueueGauges(
            name=metrics.OTHER,
            paused=all(queue.paused for queue in rest),
            depth=sum(queue.depth for queue in rest),
            oldest_age_seconds=max(queue.oldest_age_seconds for queue in rest),
            dead_letters=sum(queue.dead_letters for queue in rest),
            workers=min(queue.workers for queue in rest),
            slo_wait_seconds=None,
            slo_objective=None,
            unrunnable=sum(queue.unrunnable for queue in rest),
        )
        kept.append(other)
    return kept


def _of_queues(queues: Sequence[QueueGauges]) -> Iterable[Metric]:
    columns: list[tuple[metrics.DerivedGauge, Callable[[QueueGauges], float | None]]] = [
        (metrics.QUEUE_DEPTH, lambda queue: queue.depth),
        (metrics.QUEUE_OLDEST_AGE, lambda queue: queue.oldest_age_seconds),
        (metrics.QUEUE_DEAD_LETTERS, lambda queue: queue.dead_letters),
        (metrics.QUEUE_PAUSED, lambda queue: float(queue.paused)),
        (metrics.QUEUE_WORKERS_LIVE, lambda queue: queue.workers),
        (metrics.QUEUE_UNRUNNABLE_JOBS, lambda queue: queue.unrunnable),
        (metrics.QUEUE_SLO_WAIT, lambda queue: queue.slo_wait_seconds),
        (metrics.QUEUE_SLO_OBJECTIVE, lambda queue: queue.slo_objective),
    ]
    for gauge, value_of in columns:
        values = [((queue.name,), value_of(queue)) for queue in queues]
        yield gauge.of_each((labels, value) for labels, value in values if value is not None)
