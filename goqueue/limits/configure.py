"""Changing the limits of queues and job types from Python: `goqueue.configure_queue` and its like."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from goqueue.engine.queue_rows import Queue
from goqueue.engine.submit import current_broker
from goqueue.limits.flow_control import FlowControl
from goqueue.limits.flow_settings import KeySettings, PauseSettings, QueueSettings, TypeSettings, validated
from goqueue.limits.settings import KeyLimits, QueueLimits
from goqueue.limits.type_setting_rows import LimitedType

__all__ = [
    "configure_key",
    "configure_queue",
    "configure_type",
    "current_flow_control",
    "pause_queue",
    "resume_queue",
]


def current_flow_control() -> FlowControl:
    """Return the flow control of this process, over its broker's servers."""
    broker = current_broker()
    return FlowControl(
        broker.database,
        broker.runway,
        declared_queues=broker.get_declared_queues,
        declared_types=broker.type_names,
    )


def configure_queue(name: str, **settings: Any) -> QueueLimits:
    """Change limits of a queue, live; what they are then. See `QueueLimits` for the settings.

    Only what is given changes; None takes a setting back to its default.

    Raises:
        QueueNotFoundError: there is no such queue.
        InvalidJobError: with every setting that is wrong.
        DatabaseUnavailableError: PostgreSQL does not answer; nothing was changed.
    """
    return current_flow_control().set_queue(name, validated(QueueSettings, settings))


def configure_key(queue: str, key: str, **settings: Any) -> KeyLimits:
    """Change the `weight` or the `concurrency` of one key of a queue, live; what they are then.

    Raises:
        QueueNotFoundError: there is no such queue.
        InvalidJobError: with every setting that is wrong.
        DatabaseUnavailableError: PostgreSQL does not answer; nothing was changed.
    """
    return current_flow_control().set_key(queue, key, validated(KeySettings, settings))


def configure_type(name: str, **settings: Any) -> LimitedType:
    """Change the `concurrency` or the `breaker` of a job type, live; what they are then.

    Raises:
        TypeNotFoundError: there is no such type.
        InvalidJobError: with every setting that is wrong.
        DatabaseUnavailableError: PostgreSQL does not answer; nothing was changed.
    """
    return current_flow_control().set_type(name, validated(TypeSettings, settings))


def pause_queue(
    name: str,
    *,
    reason: str | None = None,
    author: str | None = None,
    until: datetime | None = None,
    seconds: float | None = None,
) -> Queue:
    """Start no more jobs of a queue until it is resumed, or until the end that is given; running ones go on.

    Pausing a paused queue changes its end, and its reason and author where they are given.

    Raises:
        QueueNotFoundError: there is no such queue.
        InvalidJobError: with every setting that is wrong.
        DatabaseUnavailableError: PostgreSQL does not answer; nothing was changed.
    """
    said = {"reason": reason, "author": author, "until": until, "seconds": seconds}
    return current_flow_control().pause(name, validated(PauseSettings, said))


def resume_queue(name: str) -> Queue:
    """Let the jobs of a paused or slowed-down queue start again: at once, or ramping up where it has a ramp.

    Raises:
        QueueNotFoundError: there is no such queue.
        DatabaseUnavailableError: PostgreSQL does not answer; nothing was changed.
    """
    return current_flow_control().resume(name)
