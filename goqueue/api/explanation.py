"""The answers to "why is it not running?". Of one job, and of the keys of a queue."""

from __future__ import annotations

import base64
import binascii
import hashlib
from datetime import datetime
from typing import Annotated, Any, Literal

import falcon
from pydantic import BaseModel, ConfigDict, Field

from goqueue.api.frame.answers import Document, as_json
from goqueue.api.frame.cursors import link_next
from goqueue.api.frame.resource import Resource
from goqueue.api.frame.security import principal_of
from goqueue.engine import queue_rows as queue_store
from goqueue.engine.options.request_models import validate
from goqueue.errors import InvalidJobError, QueueNotFoundError
from goqueue.insight.explain import ReasonCode
from goqueue.insight.explain import blocked_key_rows as blocked_keys
from goqueue.insight.explain.blocked_key_rows import WAITING_UP_TO
from goqueue.jobs import JobStatus
from goqueue.limits import queue_setting_rows as queue_settings_store
from goqueue.limits.rules import KEYLESS
from goqueue.limits.settings import QueueLimits

#: A cursor begins with so many bytes that stand for its queue.
_QUEUE_BYTES = 6


class ReasonDocument(Document):
    """One reason why a job does not run."""

    code: ReasonCode
    message: Annotated[str, Field(description="A sentence.")]
    evidence: Annotated[
        dict[str, Any], Field(description="What it was concluded from; its members depend on the code.")
    ]


class ExplanationDocument(Document):
    """Why a job does not run, or what it does instead, at the moment of the question."""

    job_id: int
    status: JobStatus
    summary: Annotated[str, Field(description="One sentence.")]
    reasons: Annotated[
        list[ReasonDocument], Field(description="The first one decides. Empty for a finished job.")
    ]
    ahead: Annotated[
        int | None,
        Field(description="How many jobs come before it, counted up to a bound: see the evidence."),
    ]
    expected_start_at: Annotated[
        datetime | None, Field(description="If everything goes on as it does now. Null: not known.")
    ]
    rate_per_second: Annotated[
        float | None, Field(description="Starts of its queue a second, measured over the last minute.")
    ]


class BlockedKeysQuery(BaseModel):
    """The query of GET /queues/{name}/blocked-keys."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    cursor: Annotated[str | None, Field(description="From the Link header of the page before.")] = None


class BlockedKeyDocument(Document):
    """A key whose oldest unfinished job has to move before its later ones can start."""

    key: str
    job_id: Annotated[int, Field(description="The oldest unfinished job of the key.")]
    status: JobStatus
    why: Literal["running", "backoff", "snooze", "run_at", "dependencies", "quarantined"]
    since: datetime
    until: Annotated[datetime | None, Field(description="When its time comes, where it waits for that.")]
    waiting: Annotated[int, Field(description=f"Jobs ready behind it, counted up to {WAITING_UP_TO:,}.")]


class ExplainResource(Resource):
    """The explanation why a job does not run."""

    def on_get(self, request: falcon.Request, response: falcon.Response, job_id: int) -> None:
        """Explain with evidence what blocks the job, or tell that it runs or has finished."""
        with_errors = principal_of(request).reads_contents
        response.data = as_json(self._goqueue.explain(job_id, with_errors=with_errors).as_document())


class BlockedKeysResource(Resource):
    """The keys of a queue in strict order whose oldest unfinished job holds up later ones."""

    def on_get(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """List the blocked keys; the next page is in the Link header. Without strict order there are none."""
        query = validate(BlockedKeysQuery, request.params, whole="limit")
        after = KEYLESS if query.cursor is None else _read_cursor(query.cursor, name)
        limits = self._limits(name)
        if not limits.fifo:
            response.data = as_json([])
            return
        with self._goqueue.database.autocommit() as connection:
            page, last = blocked_keys.page(connection, name, after=after, limit=query.limit)
        if last is not None:
            link_next(request, response, _write_cursor(last, name))
        response.data = as_json(page)

    def _limits(self, name: str) -> QueueLimits:
        queue_store.expect_name(name)
        try:
            with self._goqueue.database.autocommit() as connection:
                return queue_settings_store.limits_of(connection, name)
        except QueueNotFoundError:
            if name in self._goqueue.queues.declared():
                return queue_settings_store.DEFAULTS
            raise


def _write_cursor(key: str, queue: str) -> str:
    return base64.urlsafe_b64encode(_of_queue(queue) + key.encode()).decode()


def _read_cursor(cursor: str, queue: str) -> str:
    try:
        content = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
        key = content[_QUEUE_BYTES:].decode()
    except (binascii.Error, ValueError):
        content, key = b"", ""
    if content[:_QUEUE_BYTES] != _of_queue(queue) or not key.isprintable() or not key:
        raise InvalidJobError({"cursor": "expected the cursor of a Link header of this queue"})
    return key


def _of_queue(queue: str) -> bytes:
    return hashlib.sha256(queue.encode(errors="replace")).digest()[:_QUEUE_BYTES]
