"""POST /jobs/create, POST /jobs and POST /jobs/batch, once per `Idempotency-Key`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import falcon
import orjson

from goqueue import failpoints
from goqueue.api.bodies import read_document
from goqueue.api.context import Context
from goqueue.api.documents import as_json, job_document
from goqueue.db import Connection
from goqueue.errors import InvalidJobError
from goqueue.jobs import NewJob
from goqueue.store import idempotency
from goqueue.store import new_jobs as new_job_store
from goqueue.store import queues as queue_store

_KEY = re.compile(r"[\x21-\x7e]{1,255}")

#: Inserts in a transaction; the ids, and the body of the answer.
Insert = Callable[[Connection], tuple[list[int], dict[str, Any]]]


class CreateJobResource:
    """One job."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Create one job: 201, the job, and its Location."""
        context = self._context
        document = read_document(request, context.settings.job_max_bytes)
        job = context.requests.one(document)
        key = _idempotency_key(request)
        if key is None:
            _answer_created(response, job_document(context.submitter.one(job)))
            return

        def insert(connection: Connection) -> tuple[list[int], dict[str, Any]]:
            row = new_job_store.insert(
                connection, job, head_start_seconds=context.settings.priority_head_start_seconds
            )
            return [row.id], job_document(row)

        _create_once(context, response, key, _hash("create", document), [job], insert)


class CreateBatchResource:
    """Many jobs, all or none."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Create a batch: 201 and the ids, in the order of the jobs."""
        context = self._context
        document = read_document(request, context.settings.batch_max_bytes)
        jobs = context.requests.many(document)
        key = _idempotency_key(request)
        if key is None:
            _answer_created(response, _batch_document(context.submitter.many(jobs)))
            return

        def insert(connection: Connection) -> tuple[list[int], dict[str, Any]]:
            ids = new_job_store.insert_many(
                connection, jobs, head_start_seconds=context.settings.priority_head_start_seconds
            )
            return ids, _batch_document(ids)

        _create_once(context, response, key, _hash("batch", document), jobs, insert)


def _create_once(
    context: Context,
    response: falcon.Response,
    key: str,
    request_hash: str,
    jobs: Sequence[NewJob],
    insert: Insert,
) -> None:
    """Key and jobs in one transaction; or the answer that the key got before.

    Raises:
        IdempotencyConflictError: the key was used with another request.
        DatabaseUnavailableError: nothing was created, or asking again tells.
    """
    with context.database.transaction() as connection:
        replayed = idempotency.reserve(connection, key, request_hash)
        if replayed is None:
            queue_store.ensure(connection, {job.queue for job in jobs})
            ids, document = insert(connection)
            idempotency.keep(connection, key, document)
            failpoints.hit("after_insert")
    if replayed is not None:
        response.set_header("Idempotent-Replayed", "true")
        _answer_created(response, replayed)
        return
    failpoints.hit("after_commit_before_push")
    context.submitter.announce(jobs, ids)
    _answer_created(response, document)


def _answer_created(response: falcon.Response, document: dict[str, Any]) -> None:
    response.status = falcon.HTTP_201
    response.data = as_json(document)
    if "id" in document:
        response.set_header("Location", f"/jobs/{document['id']}")


def _batch_document(ids: list[int]) -> dict[str, Any]:
    return {"ids": ids, "count": len(ids)}


def _idempotency_key(request: falcon.Request) -> str | None:
    key = request.get_header("Idempotency-Key")
    if key is not None and not _KEY.fullmatch(key):
        raise InvalidJobError({"Idempotency-Key": "expected 1 to 255 visible ASCII characters"})
    return key


def _hash(operation: str, document: Any) -> str:
    """Equal for requests that say the same, however they are written."""
    canonical = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(operation.encode() + b"\n" + canonical).hexdigest()
