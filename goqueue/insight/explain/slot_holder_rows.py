"""The holders of the slots of the concurrency limits that a job has to pass. Only reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection

from goqueue.db.fragments import RUNNING_JOBS
from goqueue.db.statements import fetch_all, fetch_one
from goqueue.insight.explain.facts import JobFacts, LimitFacts, QueueFacts, SlotHolder, TypeFacts
from goqueue.limits.settings import KeyLimits

__all__ = ["HOLDERS_MAX", "key_of", "limits_reached"]

#: The most holders of one limit that are told.
HOLDERS_MAX = 20

_KEY = "SELECT weight, concurrency FROM queue_keys WHERE queue = %(queue)s AND key = %(key)s"

# As `admission.holders`: what runs, and what was let in and has not started. Both are few.
_HELD = f"""
    SELECT coalesce(sum(limit_cost) FILTER (WHERE queue = %(queue)s), 0)::int,
           coalesce(sum(limit_cost) FILTER (WHERE queue = %(queue)s AND concurrency_key = %(key)s), 0)::int,
           coalesce(sum(limit_cost) FILTER (WHERE type = %(type)s), 0)::int
    FROM (
        SELECT queue, concurrency_key, type, limit_cost FROM {RUNNING_JOBS}
        WHERE (queue = %(queue)s OR type = %(type)s)
        UNION ALL
        SELECT queue, concurrency_key, type, limit_cost FROM jobs
        WHERE admitted AND (queue = %(queue)s OR type = %(type)s)
    ) AS holder
"""


# The two parts are read first, each from its partial index, and then put in order: asked for at once, the
# first rows by id might be looked for among all jobs.
def _holders(condition: str) -> str:
    return f"""
        WITH holder AS MATERIALIZED (
            SELECT id, 'running' AS status, started_at AS since FROM {RUNNING_JOBS}
            WHERE {condition}
            UNION ALL
            SELECT id, 'let_in', NULL FROM jobs WHERE admitted AND {condition}
        )
        SELECT id, status, since FROM holder ORDER BY id LIMIT {HOLDERS_MAX}
    """


_HOLDERS = {
    "queue": _holders("queue = %(queue)s"),
    "key": _holders("queue = %(queue)s AND concurrency_key = %(key)s"),
    "type": _holders("type = %(type)s"),
    "namespace": _holders("true"),
}

_HELD_OF_NAMESPACE = "SELECT (SELECT count(*) FROM running_jobs) + (SELECT count(*) FROM jobs WHERE admitted)"


def key_of(connection: Connection, queue: str, key: str | None) -> KeyLimits:
    """Read what is special about a key of a queue."""
    row = fetch_one(connection, _KEY, {"queue": queue, "key": key})
    return KeyLimits(*row) if row else KeyLimits()


def limits_reached(
    connection: Connection, job: JobFacts, queue: QueueFacts, key: KeyLimits, limited: TypeFacts | None
) -> tuple[int, tuple[LimitFacts, ...]]:
    """Tell how many slots of the queue are held, and the limits that have none left for the job."""
    parameters = {"queue": job.queue, "key": job.concurrency_key, "type": job.type}
    row = fetch_one(connection, _HELD, parameters)
    assert row is not None
    held = dict(zip(("queue", "key", "type"), row, strict=True))
    reached = tuple(
        LimitFacts(kind, name, number, held[kind], _held_by(connection, kind, parameters), job.limit_cost)
        for kind, name, number in _numbers(job, queue, key, limited)
        if held[kind] + min(job.limit_cost, number) > number
    )
    return held["queue"], (*reached, *_of_namespace(connection, queue, parameters))


def _of_namespace(
    connection: Connection, queue: QueueFacts, parameters: dict[str, Any]
) -> Iterator[LimitFacts]:
    """The quota of jobs that run, of which each takes one, where it is reached."""
    most = queue.namespace_max_running
    if queue.namespace is None or most is None:
        return
    row = fetch_one(connection, _HELD_OF_NAMESPACE, {})
    assert row is not None
    if row[0] >= most:
        holders = _held_by(connection, "namespace", parameters)
        yield LimitFacts("namespace", queue.namespace, most, row[0], holders)


def _numbers(
    job: JobFacts, queue: QueueFacts, key: KeyLimits, limited: TypeFacts | None
) -> Iterator[tuple[str, str, int]]:
    """The limits that the job has to pass: of what kind, of which, and how many at once."""
    limits = queue.limits
    if limits.concurrency is not None:
        yield "queue", job.queue, limits.concurrency
    if job.concurrency_key is not None and limits.by_key:
        number = limits.key_concurrency if key.concurrency is None else key.concurrency
        if limits.fifo:
            number = 1
        if number is not None:
            yield "key", job.concurrency_key, number
    if limited is not None and limited.limit_state.limits.concurrency is not None:
        yield "type", job.type, limited.limit_state.limits.concurrency


def _held_by(connection: Connection, kind: str, parameters: dict[str, Any]) -> tuple[SlotHolder, ...]:
    return tuple(SlotHolder(*row) for row in fetch_all(connection, _HOLDERS[kind], parameters))
