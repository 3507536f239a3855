"""Queues: what waits in them, how they let it in, pause and resume."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

import falcon
from pydantic import Field

from goqueue.api.frame.answers import Document, Seconds, as_json, reader_of
from goqueue.api.frame.bodies import read_document, read_optional_document
from goqueue.api.frame.resource import Resource
from goqueue.api.frame.security import principal_of
from goqueue.db import bounded_reads
from goqueue.engine import queue_rows as queue_store
from goqueue.engine.options.request_models import Moment, validate
from goqueue.engine.queue_rows import Queue
from goqueue.errors import InvalidJobError
from goqueue.insight import statistic_rows as statistics
from goqueue.insight.statistic_rows import QueueStatistics
from goqueue.instance import GoQueue
from goqueue.limits import queue_setting_rows as queue_settings_store
from goqueue.limits.flow_settings import KeySettings, PauseSettings, QueueSettings
from goqueue.limits.settings import KeyLimits, OnConflict, QueueLimits, RateAlgorithm

#: The largest request of settings.
SETTINGS_MAX_BYTES = 64 * 1024

REPLACEMENT_CHARACTER = "\N{REPLACEMENT CHARACTER}"


class PauseRequest(PauseSettings):
    """Why a queue is paused, by whom, and until when; all of it may be left out."""

    until: Annotated[Moment | None, Field(description="It goes on by itself then. Default: no end.")] = None


class QueueDocument(Document):
    """A queue. Counts of more than a thousand are those that the scheduler made a few seconds ago."""

    name: str
    paused: bool
    paused_at: datetime | None
    paused_until: Annotated[datetime | None, Field(description="It goes on by itself then.")]
    paused_by: str | None
    pause_reason: str | None
    throttled_until: Annotated[
        datetime | None, Field(description="A handler asked to slow it down: nothing starts before.")
    ]
    ready: Annotated[int, Field(description="Queued jobs that may start now.")]
    waiting: Annotated[int, Field(description="Queued jobs whose time has not come.")]
    quarantined: Annotated[int, Field(description="Queued jobs that will run alone.")]
    running: int
    failed: int
    oldest_ready_age_seconds: Annotated[Seconds | None, Field(description="Null where none is ready.")]
    workers: Annotated[int, Field(description="Live worker processes that serve it.")]
    threads: Annotated[int, Field(description="Their worker threads.")]
    slots: Annotated[
        int,
        Field(
            description="Jobs of the queue that these run at once: on their threads, on their event loops "
            "(async types), or both, by the types that are declared for it."
        ),
    ]
    estimated: Annotated[list[str], Field(description="Counts that are not of this moment.")]


class PausedDocument(Document):
    """A queue that was paused or resumed."""

    name: str
    paused: bool
    paused_at: datetime | None
    paused_until: datetime | None
    paused_by: str | None
    pause_reason: str | None


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
    """Return the settings of a queue as a `QueueSettingsDocument`."""
    return {"name": name} | asdict(limits)


def key_document(key: str, limits: KeyLimits) -> dict[str, Any]:
    """Return the settings of a key as a `QueueKeyDocument`."""
    return {"key": key} | asdict(limits)


def _queue_document(row: QueueStatistics) -> dict[str, Any]:
    return asdict(row) | {"paused": row.paused_at is not None}


_pause_of = reader_of(PausedDocument, paused="paused_at")


def _paused_document(queue: Queue) -> dict[str, Any]:
    return _pause_of(queue) | {"paused": queue.paused_at is not None}


class QueuesResource(Resource):
    """The queues with their counts."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """List the queues by name, with their counts; also declared ones that no job has used yet."""
        goqueue, principal = self._goqueue, principal_of(request)
        with goqueue.read_database.transaction() as connection:
            bounded_reads.along_indexes(connection)
            rows = statistics.by_queue(connection, lease_seconds=goqueue.settings.lease_seconds)
        unused = goqueue.queues.declared() - {row.name for row in rows}
        rows += [QueueStatistics(name) for name in unused]
        rows.sort(key=lambda row: row.name)
        response.data = as_json([_queue_document(row) for row in rows if principal.sees(row.name, None)])


class QueueResource:
    """One queue and its settings."""

    def __init__(self, goqueue: GoQueue) -> None:
        self._goqueue = goqueue
        self._flow = goqueue.flow

    def on_get(self, _request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Return the counts and the settings of the queue."""
        goqueue = self._goqueue
        queue_store.expect_name(name)
        with goqueue.database.transaction() as connection:
            bounded_reads.along_indexes(connection)
            rows = statistics.by_queue(connection, lease_seconds=goqueue.settings.lease_seconds, name=name)
            if not rows and name in goqueue.queues.declared():
                rows = [QueueStatistics(name)]
                limits = queue_settings_store.DEFAULTS
            else:
                limits = queue_settings_store.limits_of(connection, name)
        response.data = as_json(settings_document(name, limits) | _queue_document(rows[0]))

    def on_put(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Change the settings that are given; the answer is all of them."""
        settings = validate(QueueSettings, read_document(request, SETTINGS_MAX_BYTES))
        response.data = as_json(settings_document(name, self._flow.set_queue(name, settings)))


class QueueKeysResource:
    """The keys of a queue that have settings of their own."""

    def __init__(self, goqueue: GoQueue) -> None:
        self._flow = goqueue.flow

    def on_get(self, _request: falcon.Request, response: falcon.Response, name: str) -> None:
        """List the settings of these keys, by key."""
        response.data = as_json([key_document(key, limits) for key, limits in self._flow.keys(name).items()])


class QueueKeyResource:
    """The settings of one key of a queue."""

    def __init__(self, goqueue: GoQueue) -> None:
        self._flow = goqueue.flow

    def on_put(self, request: falcon.Request, response: falcon.Response, name: str, key: str) -> None:
        """Change the settings that are given; the answer is all of them."""
        _expect_utf_8(key)
        settings = validate(KeySettings, read_document(request, SETTINGS_MAX_BYTES))
        response.data = as_json(key_document(key, self._flow.set_key(name, key, settings)))

    def on_delete(self, _request: falcon.Request, response: falcon.Response, name: str, key: str) -> None:
        """Take the key's settings away, which makes it like every other."""
        _expect_utf_8(key)
        self._flow.delete_key(name, key)
        response.status = falcon.HTTP_204


class PauseResource:
    """The pause of a queue: none of its jobs starts any more; running ones go on."""

    def __init__(self, goqueue: GoQueue) -> None:
        self._flow = goqueue.flow

    def on_post(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Pause the queue; a paused one gets the new end, and what reason and author are given."""
        settings = validate(PauseRequest, read_optional_document(request, SETTINGS_MAX_BYTES))
        response.data = as_json(_paused_document(self._flow.pause(name, settings)))


class ResumeResource:
    """The end of a queue's pause: its jobs start again."""

    def __init__(self, goqueue: GoQueue) -> None:
        self._flow = goqueue.flow

    def on_post(self, _request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Let the queue's jobs start again."""
        response.data = as_json(_paused_document(self._flow.resume(name)))


def _expect_utf_8(key: str) -> None:
    """Refuse what the decoding of a path replaced: it would be another key than the one that was meant.

    Raises:
        InvalidJobError: the key was not encoded as UTF-8.
    """
    if REPLACEMENT_CHARACTER in key:
        raise InvalidJobError({"key": "expected percent-encoded UTF-8"})
