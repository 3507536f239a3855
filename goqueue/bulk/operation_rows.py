"""Operations over many jobs: what was asked for, and how far it has come.

A step locks the operation's row, changes some jobs and moves the position in one transaction. So a step is
done or not, whoever dies in the middle of it, and two operators never take the same one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection

from goqueue.bulk.actions import BulkAction, BulkState
from goqueue.db.statements import Values, fetch_all, fetch_one
from goqueue.engine.listing import listing_rows as job_lists
from goqueue.engine.listing.filters import JobFilter
from goqueue.errors import BulkOperationEndedError, BulkOperationNotFoundError
from goqueue.jobs import JobStatus

__all__ = [
    "BulkOperation",
    "NewBulkOperation",
    "abort",
    "advance",
    "create",
    "finish",
    "get",
    "list_newest",
    "lock",
    "run_on",
    "unfinished",
]

_COLUMNS = (
    "id, action, filter, arguments, state, reason, rate, canary, total, done, changed, after_id, up_to_id, "
    "requested_by, next_at, created_at, updated_at, finished_at"
)

_INSERT = f"""
    INSERT INTO bulk_operations (action, filter, arguments, state, rate, canary, total, up_to_id,
                                 requested_by)
    VALUES (%(action)s, %(filter)s::json, %(arguments)s::json, %(state)s, %(rate)s, %(canary)s, %(total)s,
            %(up_to_id)s, %(author)s)
    RETURNING {_COLUMNS}
"""

_ADVANCE = """
    UPDATE bulk_operations
    SET after_id = %(after_id)s, done = done + %(done)s, changed = changed + %(changed)s,
        next_at = %(next_at)s, updated_at = now()
    WHERE id = %(id)s AND finished_at IS NULL
"""

_FINISH = f"""
    UPDATE bulk_operations SET state = %(state)s, reason = %(reason)s, finished_at = now(), updated_at = now()
    WHERE id = %(id)s AND finished_at IS NULL
    RETURNING {_COLUMNS}
"""


@dataclass(frozen=True, slots=True)
class NewBulkOperation:
    """An operation that is asked for.

    Attributes:
        priority: of set_priority.
        rate: jobs a second; None: as fast as it goes.
        canary: so many jobs first, and the others only when all of these completed.
        author: who asks.
    """

    action: BulkAction
    filter: JobFilter
    priority: int | None = None
    rate: float | None = None
    canary: int | None = None
    author: str | None = None


@dataclass(frozen=True, slots=True)
class BulkOperation:
    """One row of `bulk_operations`.

    Attributes:
        total: how many jobs the filter found at the start; where it searches payloads or errors, how many a
            bounded look found.
        done: how many were taken so far; changed: how many of them were in a state to be changed.
        after_id: the position: every job up to this id was done.
        next_at: when the rate lets the next one be done.
    """

    id: int
    action: BulkAction
    filter: JobFilter
    arguments: Mapping[str, Any]
    state: BulkState
    reason: str | None
    rate: float | None
    canary: int | None
    total: int
    done: int
    changed: int
    after_id: int
    up_to_id: int
    requested_by: str | None
    next_at: datetime
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None


def create(connection: Connection, new: NewBulkOperation) -> BulkOperation:
    """Begin an operation over the jobs that the filter finds now."""
    newest_id = job_lists.newest_id(connection)
    row = fetch_one(
        connection,
        _INSERT,
        {
            "action": new.action.value,
            "filter": orjson.dumps(filter_document(new.filter)).decode(),
            "arguments": None if new.priority is None else orjson.dumps({"priority": new.priority}).decode(),
            "state": (BulkState.CANARY if new.canary else BulkState.RUNNING).value,
            "rate": new.rate,
            "canary": new.canary,
            "total": job_lists.count(connection, new.filter, up_to_id=newest_id),
            "up_to_id": newest_id,
            "author": new.author,
        },
    )
    assert row is not None
    return _from_row(row)


def get(connection: Connection, operation_id: int) -> BulkOperation:
    """Read the operation with an id.

    Raises:
        BulkOperationNotFoundError: there is none with this id.
    """
    row = fetch_one(
        connection, f"SELECT {_COLUMNS} FROM bulk_operations WHERE id = %(id)s", {"id": operation_id}
    )
    if row is None:
        raise BulkOperationNotFoundError(operation_id)
    return _from_row(row)


def list_newest(connection: Connection, *, limit: int, before_id: int | None = None) -> list[BulkOperation]:
    """Read the newest operations, below an id."""
    rows = fetch_all(
        connection,
        f"SELECT {_COLUMNS} FROM bulk_operations WHERE %(before)s::bigint IS NULL OR id < %(before)s "
        "ORDER BY id DESC LIMIT %(limit)s",
        {"before": before_id, "limit": limit},
    )
    return [_from_row(row) for row in rows]


def unfinished(connection: Connection) -> list[int]:
    """Read the ids of the operations that go on, oldest first."""
    rows = fetch_all(connection, "SELECT id FROM bulk_operations WHERE finished_at IS NULL ORDER BY id", {})
    return [row[0] for row in rows]


def lock(connection: Connection, operation_id: int) -> BulkOperation | None:
    """Lock an operation for the rest of the transaction; None: it has ended."""
    sql = f"SELECT {_COLUMNS} FROM bulk_operations WHERE id = %(id)s AND finished_at IS NULL FOR UPDATE"
    row = fetch_one(connection, sql, {"id": operation_id})
    return None if row is None else _from_row(row)


def advance(
    connection: Connection, operation_id: int, *, after_id: int, done: int, changed: int, next_at: datetime
) -> None:
    """Move the position of a locked operation."""
    parameters = {
        "id": operation_id,
        "after_id": after_id,
        "done": done,
        "changed": changed,
        "next_at": next_at,
    }
    connection.exec_driver_sql(_ADVANCE, parameters)


def run_on(connection: Connection, operation_id: int) -> None:
    """Go on with the others, as the canaries completed: canary → running."""
    connection.exec_driver_sql(
        "UPDATE bulk_operations SET state = 'running', updated_at = now() "
        "WHERE id = %(id)s AND state = 'canary'",
        {"id": operation_id},
    )


def finish(
    connection: Connection, operation_id: int, state: BulkState, *, reason: str | None = None
) -> BulkOperation | None:
    """End an operation: canary and running → a final state; None: it had ended before."""
    row = fetch_one(connection, _FINISH, {"id": operation_id, "state": state.value, "reason": reason})
    return None if row is None else _from_row(row)


def abort(connection: Connection, operation_id: int, *, reason: str | None = None) -> BulkOperation:
    """Stop an operation for good; a step that is under way is done first. An aborted one stays as it is.

    Raises:
        BulkOperationNotFoundError: there is none with this id.
        BulkOperationEndedError: it has ended otherwise.
    """
    aborted = finish(connection, operation_id, BulkState.ABORTED, reason=reason)
    operation = aborted or get(connection, operation_id)
    if operation.state is not BulkState.ABORTED:
        raise BulkOperationEndedError(operation_id, operation.state)
    return operation


def filter_document(wanted: JobFilter) -> dict[str, Any]:
    """A filter as it is kept and answered: what does not matter is left out."""
    return {name: value for name, value in wanted if value is not None}


def _from_row(row: Values) -> BulkOperation:
    operation_id, action, document, arguments, state, *others = row
    return BulkOperation(
        operation_id,
        BulkAction(action),
        _filter_from(document),
        arguments or {},
        BulkState(state),
        *others,
    )


def _filter_from(document: Mapping[str, Any]) -> JobFilter:
    """A filter that was kept; it was checked before."""
    values = dict(document)
    for name in ("created_after", "created_before"):
        if name in values:
            values[name] = datetime.fromisoformat(values[name])
    if "status" in values:
        values["status"] = JobStatus(values["status"])
    if "ids" in values:
        values["ids"] = tuple(values["ids"])
    return JobFilter.model_construct(**values)
