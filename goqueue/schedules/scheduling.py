"""Making, changing, pausing and running schedules, each in one transaction.

Whoever changes a schedule locks its row, as a scheduler does that decides its ticks: so a tick is decided by
the old definition or by the new one, and once.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import structlog

from goqueue.audit import audit_rows as audit
from goqueue.config.bounds import read_stored_json
from goqueue.contents.redaction import marker_in, merged
from goqueue.db.database import Connection, Database
from goqueue.db.statements import atomic
from goqueue.engine import queue_rows as queue_store
from goqueue.engine.create import JobCreator, insert_one
from goqueue.engine.creation_rows import Created
from goqueue.engine.options.job_type import JobType
from goqueue.errors import InvalidJobError, ScheduleConflictError, ScheduleNotFoundError
from goqueue.schedules import schedule_rows as schedule_store
from goqueue.schedules import tick_rows as tick_store
from goqueue.schedules.rules import Schedule, ScheduleDefinition, Source, Tick, ticks

__all__ = ["create", "declare", "delete", "pause", "put", "resume", "run_now", "with_stored_values"]

log = structlog.get_logger(__name__)

#: Who paused a schedule whose declaration has gone, and why.
CARETAKER = "goqueue"
NOT_DECLARED = "no longer declared in code"

_INSTANT = timedelta(microseconds=1)


def create(database: Database, definition: ScheduleDefinition) -> Schedule:
    """Create a schedule; its first tick is the next one of its line.

    Raises:
        ScheduleConflictError: its name is taken.
    """
    _ensure_queue(database, definition)
    with database.autocommit() as connection:
        first = _first(definition, schedule_store.now(connection))
        with atomic(connection):
            schedule = schedule_store.insert(connection, definition, first)
            if schedule is not None:
                _note(connection, "schedule.create", definition)
    if schedule is None:
        name = definition.name
        raise ScheduleConflictError(name, f"there is a schedule {name!r} already")
    log.info("schedule_created", schedule=schedule.definition.name)
    return schedule


def put(database: Database, definition: ScheduleDefinition) -> tuple[Schedule, bool]:
    """Create a schedule or define it anew; and whether it is new. A paused one stays paused.

    Raises:
        ScheduleConflictError: it is declared in code, and this definition is not.
    """
    _ensure_queue(database, definition)
    with database.transaction() as connection:
        now = schedule_store.now(connection)
        schedule = schedule_store.insert(connection, definition, _first(definition, now))
        if schedule is not None:
            _note(connection, "schedule.create", definition)
            return schedule, True
        old = schedule_store.lock(connection, definition.name)
        if old.definition == definition:
            return old, False
        if old.definition.source is Source.CODE and definition.source is not Source.CODE:
            message = f"the schedule {definition.name!r} is declared in code: change it there"
            raise ScheduleConflictError(definition.name, message)
        first = _continued(old, definition, now)
        _note(connection, "schedule.change", definition, before=old.definition)
        return schedule_store.update(connection, old.id, definition, first), False


def with_stored_values(database: Database, job_type: JobType | None, name: str, payload: Any) -> Any:
    """Return a payload with what that of a schedule has wherever it has the marker of a redacted value.

    Raises:
        InvalidJobError: nothing is stored there.
    """
    if job_type is None or marker_in(payload, job_type.redact) is None:
        return payload
    try:
        with database.autocommit() as connection:
            stored = schedule_store.get(connection, name).definition.job.payload
        return merged(payload, read_stored_json(stored), job_type.redact)
    except ScheduleNotFoundError:
        return payload
    except LookupError as error:
        raise InvalidJobError({str(error.args[0]): "expected a value: none is stored here"}) from None


def pause(database: Database, name: str, *, author: str | None, reason: str | None) -> Schedule:
    """Decide no more ticks; those of the pause are never made up for. A paused one gets what is given.

    Raises:
        ScheduleNotFoundError: there is none of this name.
    """
    with database.transaction() as connection:
        schedule = schedule_store.lock(connection, name)
        paused = schedule_store.set_paused(connection, schedule.id, paused=True, author=author, reason=reason)
        audit.record(
            connection,
            "schedule.pause",
            f"schedule {name}",
            after={"author": paused.paused_by},
            reason=paused.pause_reason,
        )
    log.info("schedule_paused", schedule=name, reason=paused.pause_reason, author=paused.paused_by)
    return paused


def resume(database: Database, name: str) -> Schedule:
    """Go on with the next tick from now. One that is not paused stays as it is.

    Raises:
        ScheduleNotFoundError: there is none of this name.
    """
    with database.transaction() as connection:
        schedule = schedule_store.lock(connection, name)
        if schedule.paused_at is None:
            return schedule
        first = _first(schedule.definition, schedule_store.now(connection))
        resumed = schedule_store.set_paused(connection, schedule.id, paused=False, first=first)
        audit.record(connection, "schedule.resume", f"schedule {name}")
    log.info("schedule_resumed", schedule=name)
    return resumed


def delete(database: Database, name: str) -> None:
    """Delete a schedule and its history; its jobs stay.

    Raises:
        ScheduleNotFoundError: there is none of this name.
    """
    with database.transaction() as connection:
        schedule_store.delete(connection, name)
        audit.record(connection, "schedule.delete", f"schedule {name}")
    log.info("schedule_deleted", schedule=name)


def run_now(database: Database, creator: JobCreator, name: str) -> Created:
    """Create the job of a schedule now, whatever its pause, its blackouts and its overlap policy say.

    Raises:
        ScheduleNotFoundError: there is none of this name.
        QuotaExceededError: the namespace has no room for it now.
    """
    with database.transaction() as connection:
        schedule = schedule_store.lock(connection, name)
        job = schedule.definition.job
        creator.admit([job])
        created = insert_one(connection, job)
        if not created.deduplicated:
            tick_store.record_manual(connection, schedule.id, created.job.id)
        audit.record(connection, "schedule.run", f"schedule {name}", after={"job_id": created.job.id})
    creator.announce([job], [created.node])
    return created


def declare(database: Database, definitions: Iterable[ScheduleDefinition]) -> None:
    """Put the schedules that code declares right, and pause those that it no longer does."""
    declared = {definition.name: definition for definition in definitions}
    for definition in declared.values():
        schedule, new = put(database, definition)
        if (schedule.paused_by, schedule.pause_reason) == (CARETAKER, NOT_DECLARED):
            resume(database, definition.name)
        log.info("schedule_declared", schedule=definition.name, new=new)
    with database.autocommit() as connection:
        gone = set(schedule_store.running_names(connection, Source.CODE)) - set(declared)
    for name in sorted(gone):
        pause(database, name, author=CARETAKER, reason=NOT_DECLARED)
        log.warning("schedule_not_declared", schedule=name)


def _note(
    connection: Connection,
    action: str,
    definition: ScheduleDefinition,
    *,
    before: ScheduleDefinition | None = None,
) -> None:
    """Write to the audit log what a schedule is, and what it was, without the payload of its jobs."""
    was = None if before is None else _shown(before)
    becomes = _shown(definition)
    if was is not None:
        changed = [name for name, value in becomes.items() if was[name] != value]
        was, becomes = ({name: one[name] for name in changed} for one in (was, becomes))
    audit.record(connection, action, f"schedule {definition.name}", before=was, after=becomes)


def _shown(definition: ScheduleDefinition) -> dict[str, Any]:
    return {
        "cron": definition.cron,
        "timezone": definition.timezone,
        "queue": definition.job.queue,
        "type": definition.job.type,
        "priority": definition.job.priority,
        "overlap": definition.overlap.value,
        "catch_up": definition.catch_up.value,
    }


def _ensure_queue(database: Database, definition: ScheduleDefinition) -> None:
    with database.autocommit() as connection:
        queue_store.ensure(connection, [definition.job.queue])


def _first(definition: ScheduleDefinition, after: datetime) -> Tick | None:
    return next(ticks(definition, after), None)


def _continued(old: Schedule, definition: ScheduleDefinition, now: datetime) -> Tick | None:
    """The next tick of a new definition; where the line is the old one's, none of its ticks is lost."""
    same_line = (old.definition.cron, old.definition.timezone) == (definition.cron, definition.timezone)
    if same_line and old.next_at is not None:
        return _first(definition, old.next_at - _INSTANT)
    return _first(definition, now)
