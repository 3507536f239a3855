"""What requests about queues, keys and job types look like, and their answers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from pydantic import Field

from goqueue.api.documents import Document, QueueDocument, Seconds
from goqueue.api.schemas import Moment
from goqueue.limits.flow_settings import KeySettings, PauseSettings, QueueSettings, TypeSettings
from goqueue.limits.settings import KeyLimits, OnConflict, QueueLimits, RateAlgorithm
from goqueue.limits.type_setting_rows import LimitedType

__all__ = [
    "KeySettings",
    "PauseRequest",
    "QueueDetailDocument",
    "QueueKeyDocument",
    "QueueSettings",
    "QueueSettingsDocument",
    "TypeSettings",
    "breaker_document",
    "key_document",
    "settings_document",
]


class PauseRequest(PauseSettings):
    """Why a queue is paused, by whom, and until when; all of it may be left out."""

    until: Annotated[Moment | None, Field(description="It goes on by itself then. Default: no end.")] = None


class RateDocument(Document):
    """At most `limit` starts in `period_seconds`."""

    limit: int
    period_seconds: Seconds
    algorithm: RateAlgorithm


class QueueSettingsDocument(Document):
    """How a queue lets its jobs in; null is without limit."""

    name: str
    concurrency: int | None
    key_concurrency: int | None
    on_conflict: OnConflict
    fair: bool
    fifo: bool
    rate: RateDocument | None
    key_rate: RateDocument | None
    ramp_seconds: Seconds
    slo_wait_seconds: Annotated[
        Seconds | None, Field(description="The wait that a job should not exceed. Null: none is promised.")
    ]
    slo_objective: Annotated[float, Field(description="The part of the jobs that has to keep it.")]


class QueueDetailDocument(QueueDocument, QueueSettingsDocument):
    """A queue: what waits in it, and how it lets its jobs in."""


class QueueKeyDocument(Document):
    """What is special about one key of a queue."""

    key: str
    weight: Annotated[int, Field(description="Its share of the turns.")]
    concurrency: Annotated[int | None, Field(description="Null: the queue's.")]


def settings_document(name: str, limits: QueueLimits) -> dict[str, Any]:
    """A QueueSettingsDocument."""
    return {"name": name} | asdict(limits)


def key_document(key: str, limits: KeyLimits) -> dict[str, Any]:
    """A QueueKeyDocument."""
    return {"key": key} | asdict(limits)


def breaker_document(limited: LimitedType | None) -> dict[str, Any] | None:
    """A BreakerDocument, or None where the type has none."""
    if limited is None or limited.limits.breaker is None:
        return None
    return asdict(limited.limits.breaker) | {
        "state": limited.limits.state.value,
        "changed_at": limited.changed_at,
        "reason": limited.reason,
    }
