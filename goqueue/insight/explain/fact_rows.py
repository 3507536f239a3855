"""The facts about a job that does not run: a handful of bounded index lookups in one snapshot. Only reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection

from goqueue.contents.contents import of_job
from goqueue.db import bounded_reads
from goqueue.db.fragments import MAX_RETRIES, RUNNING_JOBS, begin_of, fits
from goqueue.db.statements import Values, contents_of, fetch_one
from goqueue.engine import dependency_rows as dependency_lists
from goqueue.engine.options.batch import Batch
from goqueue.engine.queue_rows import GOVERNED, PAUSED
from goqueue.engine.workers.worker_rows import ALIVE
from goqueue.engine.workers.worker_slot_rows import EACH_QUEUE, QUEUE_SLOTS
from goqueue.errors import JobNotFoundError
from goqueue.insight.explain import Explanation, explained
from goqueue.insight.explain.facts import (
    PARENTS_MAX,
    AttemptFacts,
    Blocker,
    CollectedFacts,
    EligibleWorkers,
    Facts,
    JobFacts,
    Parent,
    QueueFacts,
    TypeFacts,
    WorkerFacts,
)
from goqueue.insight.explain.position_rows import position_of, starts_per_second
from goqueue.insight.explain.rate_forecast_rows import rates_reached
from goqueue.insight.explain.slot_holder_rows import key_of, limits_reached
from goqueue.jobs import FINAL_STATUSES, QUARANTINE_QUEUE, AttemptOutcome, JobStatus
from goqueue.limits.queue_setting_rows import limits_from_row, type_limits_from_row
from goqueue.limits.rules import TypeLimitState
from goqueue.scheduler.leadership_rows import is_led

__all__ = ["explain", "explain_here", "not_batched"]

#: Of an error, so many characters are read.
ERROR_CHARACTERS = 2_000

# Not the payload, nor the result: they may have a MiB.
_JOB = f"""
    SELECT now(), id, queue, type, status, attempts, {MAX_RETRIES}, fence, deaths, quarantined, admitted,
           rank IS NOT NULL, rank, available_at, created_at, updated_at, started_at, finished_at, worker_id,
           {begin_of("error", ERROR_CHARACTERS)}, reason, concurrency_key, rate_cost, expires_at, deadline_at,
           cancel_requested_at, cancel_acknowledged_at, begun_at, suspicion,
           coalesce(unreadable_by, ARRAY[]::text[]),
           CASE WHEN unreadable_until > now() THEN unreadable_until END, requires, slots,
           limit_cost
    FROM jobs WHERE id = %(id)s
"""

#: Sets of labels that are told, of the workers that lack one that is required.
LABELS_MAX = 50

_ATTEMPT = f"""
    SELECT attempt, fence, outcome, {begin_of("error", ERROR_CHARACTERS)}, finished_at,
           (SELECT count(*) FROM attempts WHERE job_id = %(id)s AND outcome = 'worker_died')::int
    FROM attempts WHERE job_id = %(id)s ORDER BY fence DESC LIMIT 1
"""

# As `admission.open_queue` reads it, without its lock.
_QUEUE = f"""
    SELECT concurrency, key_concurrency, on_conflict, fair, fifo, rate, key_rate, ramp_seconds,
           coalesce({GOVERNED}, false),
           CASE WHEN {PAUSED} THEN paused_at END, CASE WHEN {PAUSED} THEN paused_until END,
           CASE WHEN {PAUSED} THEN paused_by END, CASE WHEN {PAUSED} THEN pause_reason END,
           CASE WHEN throttled_until > now() THEN throttled_until END,
           CASE WHEN ramping_until > now()
               THEN greatest(0, extract(epoch FROM now() - ramping_since)
                             / greatest(0.001, extract(epoch FROM ramping_until - ramping_since)))::float END,
           ramping_since, ramping_until,
           (SELECT namespace FROM running_quota WHERE namespace_governed),
           (SELECT max_running_jobs FROM running_quota WHERE namespace_governed)
    FROM queues WHERE name = %(queue)s
"""

_TYPE = """
    SELECT concurrency, breaker, breaker_state,
           CASE WHEN probed_at >= breaker_changed_at THEN probes_let_in ELSE 0 END,
           extract(epoch FROM now() - probed_at)::float, breaker_changed_at, breaker_reason,
           breaker_changed_at + make_interval(secs => (breaker ->> 'cooldown_seconds')::float)
    FROM types WHERE name = %(type)s AND governed
"""

_WORKER = f"""
    SELECT id, hostname, pid,
           {ALIVE},
           heartbeat_at
    FROM workers WHERE id = %(id)s
"""

# What a worker holds is counted in its part of `running_jobs`: its own count is as old as its heartbeat.
_CREW = f"""
    WITH live AS MATERIALIZED (
        SELECT id, queues, threads, queue_slots, command, async_types, kind.is_async, kind.slots,
               coalesce(labels, ARRAY[]::text[]) AS labels,
               CASE WHEN types IS NULL THEN true
                    ELSE %(type)s = ANY (types) END AS knows,
               CASE WHEN types IS NULL THEN true
                    ELSE %(type)s = ANY (types) AND NOT schemas && %(tried)s::text[] END AS reads,
               {fits("(%(requires)s::text[])", "coalesce(labels, ARRAY[]::text[])")}
                   AND (labels IS NOT NULL OR NOT %(needs)s) AS suits,
               kind.slots >= %(slots)s AS holds
        FROM workers CROSS JOIN LATERAL (
            SELECT is_async, CASE WHEN is_async THEN async_slots ELSE threads END AS slots
            FROM (SELECT (%(type)s = ANY (async_types)) IS TRUE AND NOT %(alone)s AS is_async) AS asked
        ) AS kind
        WHERE {ALIVE}
    ), serving AS (
        SELECT live.queues, live.slots, held.busy FROM live CROSS JOIN LATERAL (
            SELECT least(live.slots, coalesce(sum(jobs.slots), 0)) AS busy FROM {RUNNING_JOBS}
            WHERE running_jobs.holder = live.id
              AND (jobs.type = ANY (live.async_types)) IS TRUE = live.is_async
        ) AS held
        WHERE %(runway)s = ANY (live.queues) AND live.command IS NULL
          AND live.reads AND live.suits AND live.holds
    ), unlabelled AS (
        SELECT labels, count(*)::int AS workers FROM live
        WHERE %(runway)s = ANY (live.queues) AND live.command IS NULL AND live.reads AND NOT live.suits
        GROUP BY labels
    ), small AS (
        SELECT slots FROM live
        WHERE %(runway)s = ANY (live.queues) AND live.command IS NULL AND live.reads AND live.suits
          AND NOT live.holds
    )
    SELECT count(*)::int, coalesce(sum(slots), 0)::int, coalesce(sum(busy), 0)::int,
           coalesce(bool_or(queues = ARRAY['{QUARANTINE_QUEUE}']), false),
           ARRAY (SELECT DISTINCT name FROM live CROSS JOIN unnest(live.queues) AS name
                  WHERE name <> '{QUARANTINE_QUEUE}' AND live.command IS NULL ORDER BY name),
           (SELECT count(*)::int FROM live WHERE %(runway)s = ANY (live.queues) AND live.command IS NOT NULL),
           (SELECT count(*)::int FROM live
            WHERE %(runway)s = ANY (live.queues) AND live.command IS NULL AND NOT live.knows),
           (SELECT count(*)::int FROM live
            WHERE %(runway)s = ANY (live.queues) AND live.command IS NULL AND live.knows AND NOT live.reads),
           (SELECT coalesce(sum(workers), 0)::int FROM unlabelled),
           (SELECT count(*)::int FROM small), (SELECT coalesce(max(slots), 0)::int FROM small),
           (SELECT coalesce(json_agg(json_build_array(labels, workers)), '[]')
            FROM (SELECT * FROM unlabelled ORDER BY workers DESC, labels LIMIT {LABELS_MAX}) AS first),
           (SELECT coalesce(bool_and(is_async), false) FROM live
            WHERE %(runway)s = ANY (live.queues) AND live.command IS NULL AND live.reads),
           (SELECT coalesce(sum({QUEUE_SLOTS}), 0)::int FROM live CROSS JOIN {EACH_QUEUE}
            WHERE listens.queue = %(queue)s AND live.command IS NULL)
    FROM serving
"""

_COLLECTED = """
    SELECT (SELECT json_array_length(value) FROM json_each(payload)
            WHERE json_typeof(value) = 'array' LIMIT 1),
           held.collect_max, held.until
    FROM unique_keys AS held JOIN jobs ON jobs.id = held.job_id
    WHERE held.job_id = %(id)s AND held.collect_max IS NOT NULL AND held.until > now() AND jobs.fence = 0
"""

# As in `candidates`: in strict order only the oldest unfinished job of a key may start.
_OLDEST = """
    SELECT id FROM jobs
    WHERE queue = %(queue)s AND unfinished_key = %(key)s
    ORDER BY queue, unfinished_key, id LIMIT 1
"""


#: Stands for the text of an error where that is withheld.
WITHHELD_ERROR = "its error is withheld from this key"

HasError = TypeVar("HasError", JobFacts, AttemptFacts)


def not_batched(_type_name: str) -> None:
    """Tell of no type that its jobs are batched."""


def explain(
    connection: Connection,
    job_id: int,
    *,
    lease_seconds: float,
    max_deaths: int,
    batch_of: Callable[[str], Batch | None] = not_batched,
    with_errors: bool = True,
) -> Explanation:
    """Explain why a job does not run. In a transaction in which nothing was asked before.

    `batch_of`: tells how the jobs of a type are batched, as far as this process knows. `with_errors`: quote
    the texts of errors.

    Raises:
        JobNotFoundError: there is no such job.
    """
    bounded_reads.begin(connection)
    return explain_here(
        connection,
        job_id,
        lease_seconds=lease_seconds,
        max_deaths=max_deaths,
        batch_of=batch_of,
        with_errors=with_errors,
    )


def explain_here(
    connection: Connection,
    job_id: int,
    *,
    lease_seconds: float,
    max_deaths: int,
    batch_of: Callable[[str], Batch | None] = not_batched,
    with_errors: bool = True,
) -> Explanation:
    """Read the same beside other questions of a transaction that has begun to read one moment.

    Raises:
        JobNotFoundError: there is no such job.
    """
    facts = Inquiry(connection, lease_seconds, max_deaths, with_errors=with_errors).facts_of(job_id)
    batch = batch_of(facts.job.type) if facts.job.status is JobStatus.RUNNING else None
    return explained(facts if batch is None else replace(facts, batch_wait_ms=batch.wait_ms))


@dataclass(frozen=True, slots=True)
class Inquiry:
    """Finds out what has to be known, over one connection."""

    connection: Connection
    lease_seconds: float
    max_deaths: int
    with_errors: bool = True

    def facts_of(self, job_id: int, *, with_blocker: bool = True) -> Facts:
        """Return everything about a job; `with_blocker`: also why an older job of its key does not move.

        Raises:
            JobNotFoundError: there is no such job.
        """
        row = self._row(_JOB, id=job_id)
        if row is None:
            raise JobNotFoundError(job_id)
        now, job = row[0], self._quotable(JobFacts(*row[1:])._replace(status=JobStatus(row[4])), row[1])
        if job.status in FINAL_STATUSES:
            return Facts(now, job)
        if job.status is JobStatus.RUNNING:
            return Facts(now, job, worker=self._worker(job.worker_id))
        return self._of_waiting(now, job, with_blocker=with_blocker)

    def _of_waiting(self, now: datetime, job: JobFacts, *, with_blocker: bool) -> Facts:
        queue, limited = self._queue(job.queue), self._type(job.type)
        due = job.status is JobStatus.QUEUED and job.available_at <= now
        facts = Facts(
            now,
            job,
            self.max_deaths,
            attempt=self._attempt(job.id),
            queue=queue,
            type=limited,
            eligible=self._eligible(job),
            parents=self._parents(job.id) if job.status is JobStatus.BLOCKED else (),
            collected=None if due else self._collected(job.id),
            starts_per_second=starts_per_second(self.connection, job.queue, now),
        )
        return self._of_due(facts, with_blocker=with_blocker) if due else facts

    def _of_due(self, facts: Facts, *, with_blocker: bool) -> Facts:
        """What only matters to a job whose time has come."""
        connection, job, queue = self.connection, facts.job, facts.queue
        key = key_of(connection, job.queue, job.concurrency_key)
        position = position_of(connection, job, by_key=queue.limits.by_key, weight=key.weight)
        facts = replace(facts, position=position, led=is_led(connection))
        if job.admitted or not (queue.limited or facts.type):
            return facts
        held, limits = limits_reached(connection, job, queue, key, facts.type)
        return replace(
            facts,
            held=held,
            limits=limits,
            rates=rates_reached(connection, job, queue.limits, facts.now.timestamp()),
            blocker=self._blocker(job) if queue.limits.fifo and with_blocker else None,
        )

    def _worker(self, worker_id: int | None) -> WorkerFacts | None:
        row = self._row(_WORKER, id=worker_id, lease_seconds=self.lease_seconds)
        return WorkerFacts(*row) if row else None

    def _queue(self, name: str) -> QueueFacts:
        row = self._row(_QUEUE, queue=name)
        return QueueFacts(limits_from_row(row[:8]), *row[8:]) if row else QueueFacts()

    def _type(self, name: str) -> TypeFacts | None:
        row = self._row(_TYPE, type=name)
        if row is None:
            return None
        return TypeFacts(TypeLimitState(type_limits_from_row(row[:3]), row[3], row[4]), *row[5:])

    def _attempt(self, job_id: int) -> AttemptFacts | None:
        row = self._row(_ATTEMPT, id=job_id)
        if row is None:
            return None
        return self._quotable(AttemptFacts(*row)._replace(outcome=AttemptOutcome(row[2])), job_id)

    def _quotable(self, facts: HasError, job_id: int) -> HasError:
        """The facts as they may be quoted: of an error that is withheld, only that there is one."""
        if facts.error is None:
            return facts
        if not self.with_errors:
            return facts._replace(error=WITHHELD_ERROR)
        error = contents_of(self.connection).shown(facts.error, of_job("error", job_id))
        return facts._replace(error=error and error[:ERROR_CHARACTERS])

    def _eligible(self, job: JobFacts) -> EligibleWorkers:
        """Who would run it: one that runs alone does so on the quarantine."""
        runway = QUARANTINE_QUEUE if job.runs_alone else job.queue
        tried = job.unreadable_by if job.unreadable_until is not None else []
        row = self._row(
            _CREW,
            runway=runway,
            type=job.type,
            tried=tried,
            requires=job.requires or [],
            needs=job.requires is not None,
            queue=job.queue,
            alone=job.runs_alone,
            # Who runs alone has the whole process.
            slots=1 if job.runs_alone else job.slots,
            lease_seconds=self.lease_seconds,
        )
        assert row is not None
        return EligibleWorkers(runway, *row)

    def _parents(self, job_id: int) -> tuple[Parent, ...]:
        links = dependency_lists.pending_parents(self.connection, job_id, limit=PARENTS_MAX)
        return tuple(Parent(link.id, link.status, link.queue, link.type) for link in links)

    def _collected(self, job_id: int) -> CollectedFacts | None:
        row = self._row(_COLLECTED, id=job_id)
        return CollectedFacts(*row) if row and row[0] else None

    def _blocker(self, job: JobFacts) -> Blocker | None:
        """The oldest unfinished job of its key, if that is another one, and why it has not ended."""
        row = self._row(_OLDEST, queue=job.queue, key=job.concurrency_key)
        if row is None or row[0] == job.id:
            return None
        return Blocker(row[0], explained(self.facts_of(row[0], with_blocker=False)))

    def _row(self, sql: str, **parameters: Any) -> Values | None:
        return fetch_one(self.connection, sql, parameters)
