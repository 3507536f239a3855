"""Why is it not running? Of one job, and of the keys of a queue."""

from __future__ import annotations

import base64
import binascii
import hashlib

import falcon

from goqueue.api.context import Context
from goqueue.api.cursors import link_next
from goqueue.api.documents import as_json
from goqueue.api.explanation_models import BlockedKeysQuery, blocked_key_document
from goqueue.api.schemas import validate
from goqueue.engine import queue_rows as queue_store
from goqueue.errors import InvalidJobError, QueueNotFoundError
from goqueue.insight.explain import blocked_key_rows as blocked_keys
from goqueue.insight.explain.explaining import explain_job
from goqueue.limits import queue_setting_rows as queue_settings_store
from goqueue.limits.rules import KEYLESS
from goqueue.limits.settings import QueueLimits

#: A cursor begins with so many bytes that stand for its queue.
_QUEUE_BYTES = 6


class ExplainResource:
    """Why a job does not run."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, _request: falcon.Request, response: falcon.Response, job_id: int) -> None:
        """What blocks it, with the evidence; of a running or finished job, that it is."""
        context = self._context
        response.data = as_json(explain_job(context.database, context.settings, job_id).as_document())


class BlockedKeysResource:
    """The keys of a queue in strict order whose oldest unfinished job holds up later ones."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Them, by key; the next page is in the Link header. Where no strict order is, there are none."""
        query = validate(BlockedKeysQuery, request.params, whole="limit")
        after = KEYLESS if query.cursor is None else _read_cursor(query.cursor, name)
        limits = self._limits(name)
        if not limits.fifo:
            response.data = as_json([])
            return
        with self._context.database.autocommit() as connection:
            page, last = blocked_keys.page(connection, name, after=after, limit=query.limit)
        if last is not None:
            link_next(request, response, _write_cursor(last, name))
        response.data = as_json([blocked_key_document(blocked) for blocked in page])

    def _limits(self, name: str) -> QueueLimits:
        queue_store.expect_name(name)
        try:
            with self._context.database.autocommit() as connection:
                return queue_settings_store.limits_of(connection, name)
        except QueueNotFoundError:
            if name in self._context.queues.declared():
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
