"""The rows of the audit log: written in the transaction of the change, read page by page, never changed.

Their table is in partitions of a month each, in a schema of their own (`public_audit`), so that retention
takes a partition away and deletes no row. No role may change or delete a row, the service's own among them:
migration 0021 says so by privileges and by a trigger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection

from goqueue.audit.actor import current_actor
from goqueue.db.statements import fetch_all, fetch_one

__all__ = [
    "IDS_KEPT",
    "AuditEntry",
    "AuditFilter",
    "drop_before",
    "make_ahead",
    "page",
    "record",
    "record_of_jobs",
]

#: Of a change of many jobs, so many ids are kept.
IDS_KEPT = 100

_RECORD = """
    INSERT INTO audit_log (actor_kind, actor, key_id, address, request_id, action, target, before, after,
                           reason, issuer, subject)
    VALUES (%(actor_kind)s, %(actor)s, %(key_id)s, %(address)s, %(request_id)s, %(action)s, %(target)s,
            %(before)s::json, %(after)s::json, %(reason)s, %(issuer)s, %(subject)s)
    RETURNING id
"""

_COLUMNS = (
    "id, noted_at, actor_kind, actor, key_id, address, request_id, action, target, before, after, reason, "
    "issuer, subject"
)

_CONDITIONS = {
    "actor": "actor = %(actor)s",
    "key_id": "key_id = %(key_id)s",
    "subject": "subject = %(subject)s",
    "action": "action = %(action)s",
    "target": "target = %(target)s",
    "since": "noted_at >= %(since)s",
    "until": "noted_at < %(until)s",
}

_MAKE = """
    SELECT goqueue_audit_partition(now() + make_interval(months => n))
    FROM generate_series(0, %(months)s) AS n
"""
_OLD = """
    SELECT child.relname FROM pg_inherits
    JOIN pg_class AS child ON child.oid = inhrelid
    WHERE inhparent = 'audit_log'::regclass AND child.relname ~ '^month_[0-9]{4}_[0-9]{2}$'
      AND to_date(substr(child.relname, 7), 'YYYY_MM') + interval '1 month'
          < now() - make_interval(secs => %(age)s)
    ORDER BY child.relname
"""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A change that somebody made.

    Attributes:
        actor: who made it; `actor_kind` says of which kind that is.
        address: where it came from.
        action: what was done: `queue.pause`, `job.cancel`.
        target: to what: `queue mail`, `job 7`.
        before, after: of what changed, what it was and what it is then; without payloads.
        reason: as whoever made it said.
        issuer, subject: of a user, the provider that said who that is, and what it calls that one for ever.
    """

    id: int
    noted_at: datetime
    actor_kind: str
    actor: str
    key_id: str | None
    address: str | None
    request_id: str | None
    action: str
    target: str
    before: Any
    after: Any
    reason: str | None
    issuer: str | None
    subject: str | None


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """A choice of changes; what is None does not matter.

    Attributes:
        since, until: the first belongs to the range, the second does not.
    """

    actor: str | None = None
    key_id: str | None = None
    action: str | None = None
    target: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    subject: str | None = None


def record(
    connection: Connection,
    action: str,
    target: str,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    reason: str | None = None,
) -> None:
    """Write that something is changed, in the transaction of the change, by whoever acts here.

    Args:
        connection: of the transaction.
        action: what is done: `queue.pause`.
        target: to what: `queue mail`.
        before: of what changes, what it was; never a payload.
        after: what it is then.
        reason: as whoever makes the change says.
    """
    actor = current_actor()
    parameters = {
        "actor_kind": actor.kind.value,
        "actor": actor.name,
        "key_id": actor.key_id,
        "address": actor.address,
        "request_id": actor.request_id,
        "action": action,
        "target": target,
        "before": _json(before),
        "after": _json(after),
        "reason": reason,
        "issuer": actor.issuer,
        "subject": actor.subject,
    }
    fetch_one(connection, _RECORD, parameters)


def record_of_jobs(connection: Connection, action: str, job_ids: Iterable[int], **after: Any) -> None:
    """Write that these jobs are changed, as `record` does: one by its id, of many the first hundred ids."""
    ids = list(job_ids)
    if len(ids) == 1:
        record(connection, action, f"job {ids[0]}", after=after or None)
    elif ids:
        record(connection, action, "jobs", after={"jobs": len(ids), "ids": ids[:IDS_KEPT]} | after)


def page(
    connection: Connection, wanted: AuditFilter, *, limit: int, before_id: int | None = None
) -> list[AuditEntry]:
    """Read changes, the newest first, at most so many, with ids below one."""
    parameters: dict[str, Any] = {"limit": limit, "before_id": before_id}
    conditions = []
    for name, condition in _CONDITIONS.items():
        value = getattr(wanted, name)
        if value is not None:
            parameters[name] = value
            conditions.append(condition)
    if before_id is not None:
        conditions.append("id < %(before_id)s")
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    sql = f"SELECT {_COLUMNS} FROM audit_log {where} ORDER BY id DESC LIMIT %(limit)s"
    return [AuditEntry(*row) for row in fetch_all(connection, sql, parameters)]


def make_ahead(connection: Connection, *, months: int) -> None:
    """Make the partitions of this month and of so many after it, where they are not there."""
    fetch_all(connection, _MAKE, {"months": months})


def drop_before(connection: Connection, *, age_seconds: float) -> list[str]:
    """Drop the partitions whose last moment is longer ago than the age; their names."""
    names = [str(row[0]) for row in fetch_all(connection, _OLD, {"age": age_seconds})]
    for name in names:
        fetch_all(connection, "SELECT goqueue_audit_drop(%(name)s)", {"name": name})
    return names


def _json(document: Mapping[str, Any] | None) -> str | None:
    return None if document is None else orjson.dumps(document, option=orjson.OPT_UTC_Z, default=str).decode()
