"""Live changes of how queues and job types let their jobs in: settings, pauses, circuit breakers.

A change is one transaction; what had been let in by the old settings and has not started is decided about
again. Then Redis is told, best effort: a claim refuses what may not start, whatever Redis holds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any

import structlog

from goqueue.audit import audit_rows as audit
from goqueue.contents.redaction import is_redacted_path
from goqueue.db.database import Connection, Database
from goqueue.engine import queue_rows as queue_store
from goqueue.engine.listing import payload_index_rows as payload_indexes
from goqueue.engine.options.job_type import JobType
from goqueue.engine.options.uniqueness import KEY_MAX_CHARACTERS
from goqueue.engine.queue_rows import Queue
from goqueue.engine.runway.runway import Runway
from goqueue.errors import (
    InvalidJobError,
    KeyNotFoundError,
    RedisUnavailableError,
    TypeNotFoundError,
)
from goqueue.limits import breaker_rows as breaker_store
from goqueue.limits import queue_setting_rows as queue_settings_store
from goqueue.limits import type_setting_rows as type_settings_store
from goqueue.limits.breaker_rules import BreakerChange
from goqueue.limits.flow_settings import (
    KeySettings,
    PauseSettings,
    QueueSettings,
    TypeSettings,
    refuse_contradictions,
)
from goqueue.limits.settings import BreakerState, KeyLimits, QueueLimits
from goqueue.limits.type_setting_rows import LimitedType

__all__ = ["FlowControl"]

log = structlog.get_logger(__name__)

#: Why a breaker stands where an operator put it.
BY_HAND = "by an operator"


class FlowControl:
    """The live changes of how queues and types let their jobs in.

    Args:
        declared_queues: the queues that exist without a row.
        knows_type: tells whether there is a job type of a name.
        job_type: finds one of them by its name.
    """

    def __init__(
        self,
        database: Database,
        runway: Runway,
        *,
        declared_queues: Callable[[], Collection[str]],
        knows_type: Callable[[str], bool],
        job_type: Callable[[str], JobType | None],
    ) -> None:
        self._database = database
        self._runway = runway
        self._declared_queues = declared_queues
        self._knows_type = knows_type
        self._job_type = job_type

    def set_queue(self, name: str, settings: QueueSettings) -> QueueLimits:
        """Change limits of a queue; what they are then.

        Raises:
            QueueNotFoundError: there is no such queue.
            InvalidJobError: the settings contradict each other.
        """
        with self._database.transaction() as connection:
            self._expect_queue(connection, name)
            before = queue_settings_store.limits_of(connection, name, lock=True)
            limits = dataclasses.replace(before, **settings.changes())
            refuse_contradictions(limits)
            queue_settings_store.set_limits(connection, name, limits)
            _note(connection, "queue.settings", f"queue {name}", before, limits, settings.changes())
        log.info("queue_configured", queue=name, **_plain(settings.changes()))
        self._close_gate(name)
        self._wake_dispatcher()
        return limits

    def keys(self, queue: str) -> dict[str, KeyLimits]:
        """The keys that have settings of their own.

        Raises:
            QueueNotFoundError: there is no such queue.
        """
        with self._database.transaction() as connection:
            self._expect_queue(connection, queue)
            queue_settings_store.limits_of(connection, queue)
            return queue_settings_store.key_limits(connection, queue)

    def set_key(self, queue: str, key: str, settings: KeySettings) -> KeyLimits:
        """Change what is special about a key of a queue; what it is then.

        Raises:
            QueueNotFoundError: there is no such queue.
            InvalidJobError: no job can have such a key.
        """
        _expect_key(key)
        with self._database.transaction() as connection:
            self._expect_queue(connection, queue)
            queue_settings_store.limits_of(connection, queue, lock=True)
            before = queue_settings_store.key_limits(connection, queue).get(key, KeyLimits())
            limits = dataclasses.replace(before, **settings.changes())
            queue_settings_store.set_key(connection, queue, key, limits)
            _note(connection, "queue.key", f"queue {queue} key {key}", before, limits, settings.changes())
        log.info("key_configured", queue=queue, key=key, **settings.changes())
        self._wake_dispatcher()
        return limits

    def delete_key(self, queue: str, key: str) -> None:
        """Take away the settings of one key, which makes it like every other.

        Raises:
            QueueNotFoundError: there is no such queue.
            KeyNotFoundError: the key has no settings of its own.
        """
        _expect_key(key)
        with self._database.transaction() as connection:
            self._expect_queue(connection, queue)
            queue_settings_store.limits_of(connection, queue, lock=True)
            if not queue_settings_store.delete_key(connection, queue, key):
                raise KeyNotFoundError(queue, key)
            audit.record(connection, "queue.forget_key", f"queue {queue} key {key}")
        log.info("key_forgotten", queue=queue, key=key)
        self._wake_dispatcher()

    def set_type(self, name: str, settings: TypeSettings) -> LimitedType:
        """Change limits of a job type, and the indexes on its payloads; what the limits are then.

        Raises:
            TypeNotFoundError: there is no such type.
            InvalidJobError: an index is asked for on what nobody can search.
        """
        self.expect_type(name)
        _expect_searchable(self._job_type(name), settings.indexed or ())
        with self._database.transaction() as connection:
            before = type_settings_store.locked(connection, name)
            limits = dataclasses.replace(before.limits, **settings.changes())
            if settings.changes():
                type_settings_store.set_limits(connection, name, limits)
            if "indexed" in settings.model_fields_set:
                payload_indexes.set_paths(connection, name, settings.indexed or ())
            changed = type_settings_store.locked(connection, name)
            _note(
                connection, "type.settings", f"type {name}", before.limits, changed.limits, settings.changes()
            )
        log.info("type_configured", type=name, **_plain(settings.model_dump(exclude_unset=True)))
        self._wake_dispatcher()
        return changed

    def move_breaker(self, name: str, state: BreakerState) -> LimitedType:
        """Open or close the circuit breaker of a type, wherever it stands.

        Raises:
            TypeNotFoundError: there is no such type.
            NoBreakerError: it has no breaker.
        """
        self.expect_type(name)
        with self._database.transaction() as connection:
            changed = breaker_store.moved_by_hand(connection, name, BreakerChange(state, BY_HAND))
            audit.record(connection, "type.breaker", f"type {name}", after={"breaker_state": state.value})
        log.info("breaker_moved", type=name, state=state.value, reason=BY_HAND)
        self._wake_dispatcher()
        return changed

    def pause(self, name: str, settings: PauseSettings) -> Queue:
        """Start no more jobs of a queue, for good or until the end that is given.

        Raises:
            QueueNotFoundError: there is no such queue.
            InvalidJobError: the end has passed.
        """
        with self._database.transaction() as connection:
            self._expect_queue(connection, name)
            queue = queue_store.pause(connection, name, **settings.model_dump())
            if queue.paused_at is None:
                raise InvalidJobError({"until": "expected a time that has not passed"})
            until = {"until": _text(queue.paused_until), "author": queue.paused_by}
            audit.record(connection, "queue.pause", f"queue {name}", after=until, reason=queue.pause_reason)
        log.info(
            "queue_paused",
            queue=name,
            reason=queue.pause_reason,
            author=queue.paused_by,
            until=_text(queue.paused_until),
        )
        self._close_gate(name)
        return queue

    def resume(self, name: str) -> Queue:
        """Let the jobs of a queue start again: a pause and a slow-down are over.

        Raises:
            QueueNotFoundError: there is no such queue.
        """
        with self._database.transaction() as connection:
            self._expect_queue(connection, name)
            queue = queue_store.resume(connection, name)
            audit.record(connection, "queue.resume", f"queue {name}")
        log.info("queue_resumed", queue=name)
        self._wake_dispatcher()
        return queue

    def expect_type(self, name: str) -> None:
        """Check that there is such a type.

        Raises:
            TypeError: that is no text.
            TypeNotFoundError: there is none.
        """
        if not isinstance(name, str):
            raise TypeError(f"name: expected a text, got {type(name).__qualname__}")
        if not self._knows_type(name):
            raise TypeNotFoundError(name)

    def _expect_queue(self, connection: Connection, name: str) -> None:
        """Make the row of a declared queue; what has none after that does not exist."""
        queue_store.expect_name(name)
        if name in self._declared_queues():
            queue_store.ensure(connection, [name])

    def _close_gate(self, queue: str) -> None:
        try:
            self._runway.close_gate(queue)
        except RedisUnavailableError as error:
            log.warning("gate_not_closed", queue=queue, error=str(error))

    def _wake_dispatcher(self) -> None:
        """It would look by itself in a moment."""
        try:
            self._runway.wake_dispatcher()
        except RedisUnavailableError as error:
            log.warning("dispatcher_not_woken", error=str(error))


def _expect_searchable(job_type: JobType | None, paths: Collection[str]) -> None:
    if job_type is None or not paths:
        return
    if job_type.encrypt:
        raise InvalidJobError({"indexed": "payloads of this type are encrypted: no index can read them"})
    if hidden := [path for path in paths if is_redacted_path(path, job_type.redact)]:
        raise InvalidJobError({"indexed": f"redacted fields are not searched: {', '.join(hidden)}"})


def _note(
    connection: Connection, action: str, target: str, before: Any, after: Any, changes: Mapping[str, Any]
) -> None:
    """Write to the audit log what was changed of settings: what it was, and what it is then."""
    was, becomes = (
        _plain({name: getattr(settings, name) for name in changes if hasattr(settings, name)})
        for settings in (before, after)
    )
    audit.record(connection, action, target, before=was, after=becomes)


def _expect_key(key: str) -> None:
    if not isinstance(key, str) or not 0 < len(key) <= KEY_MAX_CHARACTERS or not key.isprintable():
        raise InvalidJobError({"key": f"expected 1 to {KEY_MAX_CHARACTERS} printable characters"})


def _plain(changes: dict[str, Any]) -> dict[str, Any]:
    """Settings as a log line shows them."""
    return {
        name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]
        for name, value in changes.items()
    }


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
