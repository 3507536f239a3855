"""Every metric, declared once. Nothing else creates one (a test fails that does).

What a process counts is a Counter, Histogram or Gauge of `prometheus_client`. What is true of the whole
service, and read from PostgreSQL when somebody asks, is a `DerivedGauge`: only the API tells those, every
API process the same value, so queries take the `max` of them, never the sum.

Label values are bounded: of the queues, types and exceptions that a process meets, the first so many have
their names, and the rest are `other`.
"""

# Longer than a module should be: every metric is declared in this one place.

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import prometheus_client
from prometheus_client import Metric, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics import MetricWrapperBase

WAIT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
RUN_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)
BATCH_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)

OTHER = "other"


class BoundedLabel:
    """A limit on the different values that a label has in this process; those that come later are `other`."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._values: set[str] = set()

    def __call__(self, value: str) -> str:
        """The value, or `other`."""
        if value in self._values:
            return value
        if len(self._values) >= self._maximum:
            return OTHER
        self._values.add(value)
        return value


#: Labels whose values are other people's names, and how many of them have series of their own.
QUEUES_MAX = 500
BOUNDS = {"queue": BoundedLabel(QUEUES_MAX), "type": BoundedLabel(500), "error": BoundedLabel(100)}


class Bounded(MetricWrapperBase):
    """A metric whose labels are given in their order, and bounded on the way."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        # What `labels` has found once: finding it in the base costs as much as counting.
        self._known: dict[tuple[object, ...], Self] = {}
        super().__init__(*arguments, **options)

    def labels(self, *values: object, **_: object) -> Self:
        """The series of these values of the labels."""
        known = self._known.get(values)
        if known is not None:
            return known
        bounded = tuple(
            BOUNDS[name](str(value)) if name in BOUNDS else value
            for name, value in zip(self._labelnames, values, strict=True)
        )
        series = super().labels(*bounded)
        if bounded == values:
            self._known[values] = series
        return series

    def remove(self, *values: object) -> None:
        """Tell this series no more."""
        self._known.pop(values, None)
        super().remove(*values)

    def forget(self) -> None:
        """Forget all series: where their values are kept is decided when they are made."""
        self._known.clear()


class Counter(Bounded, prometheus_client.Counter):
    """A metric that only goes up."""


class Gauge(Bounded, prometheus_client.Gauge):
    """A metric that goes up and down."""


class Histogram(Bounded, prometheus_client.Histogram):
    """A metric of values in buckets, with their sum and their number."""

    def observe(self, amount: float, exemplar: object = None) -> None:  # noqa: ARG002  (the base's signature)
        """Count a value in its bucket. The base looks at every bucket in turn."""
        self._sum.inc(amount)
        self._buckets[bisect_left(self._upper_bounds, amount)].inc(1)

    def observe_all(self, values: Sequence[float]) -> None:
        """Count many values: each bucket that they fall into is written once, which is what costs."""
        self._sum.inc(sum(values))
        places: dict[int, int] = {}
        for value in values:
            place = bisect_left(self._upper_bounds, value)
            places[place] = places.get(place, 0) + 1
        for place, count in places.items():
            self._buckets[place].inc(count)


# No `_created` series beside each counter: it would double their number.
disable_created_metrics()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class DerivedGauge:
    """A gauge of the whole service, read from PostgreSQL when somebody asks for it."""

    name: str
    help: str
    labels: tuple[str, ...] = ()

    def of(self, value: float) -> Metric:
        """The metric with its one value."""
        return self.of_each([((), value)])

    def of_each(self, values: Iterable[tuple[Sequence[str], float]]) -> Metric:
        """The metric with a value for each of these label values."""
        family = GaugeMetricFamily(self.name, self.help, labels=self.labels)
        for labels, value in values:
            family.add_metric(labels, value)
        return family


# API
JOBS_CREATED = Counter("jobs_created_total", "Jobs accepted: committed rows.", ["queue"])
JOBS_DEDUPLICATED = Counter(
    "jobs_deduplicated_total", "Creates that met the holder of their unique key.", ["queue"]
)
PAYLOADS_COLLECTED = Counter(
    "jobs_collected_total", "Creates whose payload a waiting job took beside its own.", ["queue"]
)
HTTP_REQUEST_DURATION = Histogram(
    "http_request_duration_seconds", "Answering one HTTP request.", ["method", "route", "status"]
)

# Workers
JOBS_PROCESSED = Counter(
    "jobs_processed_total", "Attempts that ended, by what the job became.", ["queue", "status"]
)
JOBS_RETRIED = Counter(
    "jobs_retried_total", "Attempts that failed and are followed by another one.", ["queue", "type"]
)
JOBS_FAILED = Counter(
    "jobs_failed_total",
    "Jobs that became dead letters, by the class of the exception, or by the reason where there was none.",
    ["queue", "type", "error"],
)
JOB_DURATION = Histogram(
    "job_duration_seconds", "Running one attempt's handler.", ["queue"], buckets=RUN_BUCKETS
)
JOB_WAIT = Histogram(
    "job_wait_seconds",
    "From the moment at which a job could start (created, its run-at, the end of its backoff) until its "
    "handler began.",
    ["queue"],
    buckets=WAIT_BUCKETS,
)
JOBS_GIVEN_BACK = Counter(
    "jobs_given_back_total",
    "Jobs that a worker claimed and gave back before their handler began, with no attempt spent, by why.",
    ["reason"],
)
ASYNC_HANDLERS_GIVEN_UP = Counter(
    "async_handlers_given_up_total", "Async handlers that went on although they were cancelled.", ["type"]
)
EVENT_LOOP_BLOCKS = Counter(
    "event_loop_blocks_total",
    "Times that an async handler blocked the event loop of its process for a quarter of a second.",
    ["type"],
)
WORKERS_RECYCLED = Counter(
    "workers_recycled_total",
    "Worker processes that asked to be replaced, by the limit that they had reached.",
    ["reason"],
)
STALE_RESULTS = Counter("stale_results_total", "Outcomes refused because the job was no longer held.")
STALE_DELIVERIES = Counter("stale_deliveries_total", "Messages whose claim returned no row.")
GARBAGE_MESSAGES = Counter("garbage_messages_total", "Runway entries that are no messages.")
QUEUES_SLOWED_DOWN = Counter("queues_slowed_down_total", "Slow-downs that handlers asked for.", ["queue"])
CLAIM_DURATION = Histogram("claim_duration_seconds", "One claim of a batch of jobs in PostgreSQL.")
BATCH_SIZE = Histogram("batch_size", "Jobs in one call of a batch handler.", ["type"], buckets=BATCH_BUCKETS)
RECORDER_BATCH_SIZE = Histogram("recorder_batch_size", "Outcomes in one commit.", buckets=BATCH_BUCKETS)
RECORDER_DURATION = Histogram(
    "recorder_duration_seconds", "Recording one batch of outcomes, an outage of PostgreSQL included."
)
RECORDER_PENDING = Gauge(
    "recorder_pending",
    "Outcomes of this group of worker processes that are not recorded yet.",
    multiprocess_mode="livesum",
)
FETCHING_PAUSED = Counter(
    "fetching_paused_total", "Times that a consumer paused because PostgreSQL or Redis did not answer."
)
WEBHOOK_ATTEMPTS = Counter(
    "webhook_attempts_total", "Calls of receivers: delivered, failed, or gone (410).", ["outcome"]
)
WEBHOOKS_DISABLED = Counter(
    "webhooks_disabled_total", "Webhooks that were disabled because their receivers failed or are gone."
)

# Scheduler
LEADER = Gauge("leader", "1 where this scheduler process leads, 0 where it stands by.")
PARTITIONS = Gauge("partitions", "Partitions of the jobs; 0 where they are in none.")
PARTITION_IDS_AHEAD = Gauge(
    "partition_ids_ahead",
    "How many jobs can still come before the partition without an upper bound has to take them.",
)
DISPATCHER_LAG = Gauge(
    "dispatcher_lag_seconds",
    "How late the leader's dispatcher is: since its last round ended, or since the first due job without a "
    "place in the order became due.",
)
SERVICE_ROUND_DURATION = Histogram(
    "service_round_duration_seconds", "One round of a background role.", ["service"], buckets=RUN_BUCKETS
)
JOBS_SET_ASIDE = Counter(
    "jobs_set_aside_total",
    "Queued jobs made dead letters because a moment of theirs cannot be read.",
    ["queue"],
)
SERVICE_FAILURES = Counter(
    "service_failures_total", "Rounds of a background role that failed or were postponed.", ["service"]
)
JOBS_DISPATCHED = Counter("jobs_dispatched_total", "Jobs that the dispatcher pushed to runways.")
JOBS_RESCUED = Counter(
    "jobs_rescued_total", "Jobs taken back from workers that are gone, by what they became.", ["status"]
)
SCHEDULE_TICKS = Counter("schedule_ticks_total", "Ticks of schedules, by what was decided.", ["outcome"])
LEASES_EXPIRED = Counter("leases_expired_total", "Workers whose lease was ended because they fell silent.")
CANCELS_FORCED = Counter(
    "cancels_forced_total", "Jobs cancelled without their worker, which did not stop them in time."
)
JOBS_EXPIRED = Counter("jobs_expired_total", "Jobs whose time passed before they were started.", ["queue"])
LEFT_BLOCKED = Counter(
    "jobs_left_blocked_total", "Blocked jobs that the releaser found: nobody told them of their parents' end."
)
BREAKER_STATE = Gauge(
    "breaker_state", "Circuit breakers: 0 closed, 1 open, 2 half-open and letting probes in.", ["type"]
)
BREAKER_OPENED = Counter("breaker_opened_total", "Circuit breakers that opened.", ["type"])
BULK_OPERATIONS = Counter(
    "bulk_operations_total", "Bulk operations that ended, by how they did.", ["action", "state"]
)
BULK_JOBS_CHANGED = Counter("bulk_jobs_changed_total", "Jobs that bulk operations changed.", ["action"])
WEBHOOK_DELIVERIES = Counter("webhook_deliveries_total", "Events that webhooks are to be told of.")
WEBHOOK_GAPS = Counter("webhook_gaps_total", "Times whose events a webhook was not told of.")

#: Gauges that no other process has, not even as zeros.
OF_THE_SCHEDULER = (LEADER, DISPATCHER_LAG, BREAKER_STATE)

# Read from PostgreSQL, exposed by the API
DATABASE_UP = DerivedGauge(
    "database_up", "1 where PostgreSQL answered this scrape; else 0, and no other gauge."
)
QUEUE_DEPTH = DerivedGauge(
    "queue_depth",
    "Jobs that could start now: queued, and their time has come; counted up to 1,000,000. Of more than 1,000 "
    "it is the scheduler's count of a few seconds ago.",
    ("queue",),
)
QUEUE_OLDEST_AGE = DerivedGauge(
    "queue_oldest_age_seconds",
    "How long the oldest of the next 1,000 jobs in the order of a queue could have started already.",
    ("queue",),
)
QUEUE_DEAD_LETTERS = DerivedGauge(
    "queue_dead_letters",
    "Jobs that are failed now; counted up to 1,000,000 over all queues. Of more than 1,000 it is the "
    "scheduler's count of a few seconds ago.",
    ("queue",),
)
QUEUE_PAUSED = DerivedGauge("queue_paused", "1 where the queue is paused, else 0.", ("queue",))
QUEUE_WORKERS_LIVE = DerivedGauge(
    "queue_workers_live",
    "Live worker processes that serve the queue, without those that were told to take no more jobs.",
    ("queue",),
)
QUEUE_UNRUNNABLE_JOBS = DerivedGauge(
    "queue_unrunnable_jobs",
    "Of the next 1,000 jobs of the queue, those whose type no live worker knows, whose payload one could "
    "not read, or that require what no worker has.",
    ("queue",),
)
QUEUE_SLO_WAIT = DerivedGauge(
    "queue_slo_wait_seconds",
    "The wait that jobs of the queue should not exceed, where it has one.",
    ("queue",),
)
QUEUE_SLO_OBJECTIVE = DerivedGauge(
    "queue_slo_objective", "The share of jobs that keep that wait, where the queue has one.", ("queue",)
)
WORKERS_LIVE = DerivedGauge(
    "workers_live",
    "Worker processes that hold a lease, without those that were told to take no more jobs.",
)
WORKER_THREADS = DerivedGauge("worker_threads", "Worker threads of the live worker processes.")
WORKER_THREADS_BUSY = DerivedGauge(
    "worker_threads_busy", "Worker threads that had a job at the last heartbeat of their process."
)
WORKER_ASYNC_SLOTS = DerivedGauge(
    "worker_async_slots", "Async jobs that the live worker processes run at once, beside their threads."
)
WORKER_ASYNC_SLOTS_BUSY = DerivedGauge(
    "worker_async_slots_busy", "Async slots that were taken at the last heartbeat of their process."
)
NAMESPACE_WAITING_JOBS = DerivedGauge(
    "namespace_waiting_jobs",
    "Jobs of a namespace inside of the database that have not begun; counted up to 1,000,000.",
    ("namespace",),
)
NAMESPACE_RUNNING_JOBS = DerivedGauge(
    "namespace_running_jobs",
    "Jobs of a namespace inside of the database that run; counted up to 1,000,000.",
    ("namespace",),
)
NAMESPACE_QUOTA = DerivedGauge(
    "namespace_quota", "The quotas of a namespace inside of the database.", ("namespace", "quota")
)
DATABASE_HORIZON_AGE = DerivedGauge(
    "database_horizon_age_seconds", "Age of the oldest transaction that holds back vacuum."
)


@dataclass(frozen=True, slots=True)
class Declaration:
    """One declared metric, as documents and dashboards name it.

    Attributes:
        kind: counter, gauge or histogram.
        constant: its name in this module.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]
    derived: bool
    constant: str

    @property
    def series(self) -> tuple[str, ...]:
        """The names that queries use."""
        if self.kind == "histogram":
            return tuple(f"{self.name}_{suffix}" for suffix in ("bucket", "sum", "count"))
        return (self.name,)


def declared() -> dict[str, Declaration]:
    """Return every metric of this module by its name, in the order of their declaration."""
    found = [_declaration(constant, value) for constant, value in globals().items()]
    return {declaration.name: declaration for declaration in found if declaration is not None}


def _declaration(constant: str, value: object) -> Declaration | None:
    if isinstance(value, DerivedGauge):
        return Declaration(value.name, "gauge", value.help, value.labels, derived=True, constant=constant)
    if not isinstance(value, Counter | Gauge | Histogram):
        return None
    (described,) = value.describe()
    name = f"{described.name}_total" if described.type == "counter" else described.name
    labels = tuple(value._labelnames)  # noqa: SLF001  (prometheus_client has no public reader)
    return Declaration(
        name, described.type, described.documentation, labels, derived=False, constant=constant
    )
