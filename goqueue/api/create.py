"""POST /jobs/create, POST /jobs and POST /jobs/batch, once per `Idempotency-Key`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import falcon
import orjson

from goqueue import failpoints
from goqueue.api.documents import job_document
from goqueue.api.frame.answers import as_json
from goqueue.api.frame.bodies import read_document
from goqueue.api.frame.permissions import expect_sees
from goqueue.api.frame.resource import Resource
from goqueue.api.frame.security import client_of, principal_of
from goqueue.api.job_requests import JobRequests
from goqueue.db.database import Connection
from goqueue.db.statements import contents_of
from goqueue.engine import create as creation
from goqueue.engine import idempotency_rows as idempotency
from goqueue.engine import job_rows as job_store
from goqueue.engine.creation_rows import Created, CreatedNode
from goqueue.engine.graph_rows import NewNode, expect_parents
from goqueue.engine.options.uniqueness import of_client
from goqueue.errors import InvalidJobError
from goqueue.instance import GoQueue
from goqueue.jobs import FINAL_STATUSES, JobStatus, NewJob

#: What of a job's document is what the job holds, and what stands there before it has any.
_CONTENTS = {"payload": None, "result": None, "error": ""}

_KEY = re.compile(r"[\x21-\x7e]{1,255}")

#: Inserts in a transaction; what became of each job, and the body of the answer.
Insert = Callable[[Connection], tuple[list[CreatedNode], dict[str, Any]]]


class CreateJobResource(Resource):
    """The creation of one job, or of a chain."""

    def __init__(self, goqueue: GoQueue) -> None:
        super().__init__(goqueue)
        self._requests = JobRequests(goqueue)

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Create one job: 201, the job, and its Location; or 200, and the holder of its unique key."""
        goqueue = self._goqueue
        document = read_document(request, goqueue.settings.job_max_bytes)
        nodes = self._requests.one(document, client=client_of(request))
        _expect_allowed(request, nodes)
        key = _idempotency_key(request)
        if len(nodes) > 1:
            _create_chain(goqueue, request, response, _canonical("create", document), nodes)
            return
        job = nodes[0].job
        if key is None:
            _expect_parents(request, nodes, goqueue.database.autocommit)
            _answer_created(response, _created_document(goqueue.creator.create(job)))
            return

        def insert(connection: Connection) -> tuple[list[CreatedNode], dict[str, Any]]:
            _expect_parents(request, nodes, lambda: nullcontext(connection))
            created = creation.insert_one(connection, job)
            return [created.node], _created_document(created)

        _create_once(goqueue, response, key, _canonical("create", document), [job], insert)


class CreateBatchResource(Resource):
    """The create of many jobs, all or none."""

    def __init__(self, goqueue: GoQueue) -> None:
        super().__init__(goqueue)
        self._requests = JobRequests(goqueue)

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Create a batch: 201 and the ids, in the order of the jobs."""
        goqueue = self._goqueue
        document = read_document(request, goqueue.settings.batch_max_bytes)
        nodes = self._requests.many(document, client=client_of(request))
        _expect_allowed(request, nodes)
        jobs = [node.job for node in nodes]
        key = _idempotency_key(request)
        if key is None:
            _expect_parents(request, nodes, goqueue.database.autocommit)
            _answer_created(response, _batch_document(goqueue.creator.create_many(nodes)))
            return

        def insert(connection: Connection) -> tuple[list[CreatedNode], dict[str, Any]]:
            _expect_parents(request, nodes, lambda: nullcontext(connection))
            created = creation.insert(connection, nodes)
            return created, _batch_document(created)

        _create_once(goqueue, response, key, _canonical("batch", document), jobs, insert)


def _expect_allowed(request: falcon.Request, nodes: Sequence[NewNode]) -> None:
    principal = principal_of(request)
    if principal.is_restricted:
        for node in nodes:
            expect_sees(principal, node.job.queue, node.job.type)


def _expect_parents(
    request: falcon.Request,
    nodes: Sequence[NewNode],
    connect: Callable[[], AbstractContextManager[Connection]],
) -> None:
    """Refuse jobs that would wait for one that does not exist for their key: its result would come to them.

    Raises:
        InvalidJobError: as for an id that no job has.
    """
    principal = principal_of(request)
    parents = {parent for node in nodes for parent in node.job.depends_on}
    if principal.is_restricted and parents:
        with connect() as connection:
            found = job_store.queues_and_types(connection, parents)
        expect_parents(nodes, {parent for parent, place in found.items() if principal.sees(*place)})


def _create_chain(
    goqueue: GoQueue,
    request: falcon.Request,
    response: falcon.Response,
    said: bytes,
    nodes: Sequence[NewNode],
) -> None:
    """The first job as any create answers it, and beside it the ids of those that follow."""

    def insert(connection: Connection) -> tuple[list[CreatedNode], dict[str, Any]]:
        _expect_parents(request, nodes, lambda: nullcontext(connection))
        first, *others = creation.insert(connection, nodes)
        head = Created(job_store.get(connection, first.id), first.deduplicated)
        return [first, *others], _created_document(head) | {"then": [row.id for row in others]}

    key = _idempotency_key(request)
    _create_once(goqueue, response, key, said, [node.job for node in nodes], insert)


def _create_once(
    goqueue: GoQueue,
    response: falcon.Response,
    key: str | None,
    said: bytes,
    jobs: Sequence[NewJob],
    insert: Insert,
) -> None:
    """Key, if there is one, and jobs in one transaction; or the answer that the key got before.

    Raises:
        IdempotencyConflictError: the key was used with another request.
        QuotaExceededError: the namespace has no room for them now.
        DatabaseUnavailableError: nothing was created, or asking again tells.
    """
    with goqueue.database.transaction() as connection:
        kept = None if key is None else idempotency.reserve(connection, key, *_hashes(goqueue, said, jobs))
        replayed = None if kept is None else _replayed(connection, kept, jobs)
        if replayed is None:
            goqueue.creator.admit(jobs)
            created, document = insert(connection)
            if key is not None:
                idempotency.keep(connection, key, _kept(document))
            failpoints.hit("after_insert")
    if replayed is not None:
        response.set_header("Idempotent-Replayed", "true")
        _answer_created(response, replayed)
        return
    failpoints.hit("after_commit_before_push")
    goqueue.creator.announce(jobs, created)
    _answer_created(response, document)


def _kept(document: dict[str, Any]) -> dict[str, Any]:
    """What is kept of an answer for whoever asks again: nothing of what a job holds.

    A job that is deleted is gone. A repeat brings the payload of a job that was created along, and what the
    holder of a unique key holds is read again.
    """
    return document | dict.fromkeys(_CONTENTS) if "payload" in document else document


def _replayed(connection: Connection, kept: dict[str, Any], jobs: Sequence[NewJob]) -> dict[str, Any] | None:
    """The answer that is repeated; None: it named a job that is deleted, and created none."""
    if kept.get("payload", ...) is not None:
        return kept
    if kept.get("deduplicated") is not True:
        payload = contents_of(connection).shown_value(orjson.loads(jobs[0].payload), "", jobs[0].type)
        return kept | {"payload": payload, "error": ""}
    found = job_store.get_many(connection, [kept["id"]])
    if not found:
        return kept | {"payload": {}, "error": ""} if "then" in kept else None
    holder = job_document(found[0])
    has_ended = JobStatus(kept["status"]) in FINAL_STATUSES
    return kept | {
        name: holder[name] if name == "payload" or has_ended else empty for name, empty in _CONTENTS.items()
    }


def _answer_created(response: falcon.Response, document: dict[str, Any]) -> None:
    suppressed = document.get("deduplicated") is True and "then" not in document
    response.status = falcon.HTTP_200 if suppressed else falcon.HTTP_201
    response.data = as_json(document)
    if "id" in document:
        response.set_header("Location", f"/jobs/{document['id']}")


def _created_document(created: Created) -> dict[str, Any]:
    """A JobDocument; or, where nothing was created, a DeduplicatedDocument."""
    document = job_document(created.job)
    if created.deduplicated:
        document |= {"deduplicated": True}
    return document | {"collected": True} if created.collected else document


def _batch_document(created: Sequence[CreatedNode]) -> dict[str, Any]:
    """A BatchDocument."""
    ids = [row.id for row in created]
    document = {"ids": ids, "count": len(ids), "deduplicated": sum(row.deduplicated for row in created)}
    collected = sum(row.collected for row in created)
    return document | {"collected": collected} if collected else document


def _idempotency_key(request: falcon.Request) -> str | None:
    key = request.get_header("Idempotency-Key")
    if key is not None and not _KEY.fullmatch(key):
        raise InvalidJobError({"Idempotency-Key": "expected 1 to 255 visible ASCII characters"})
    return None if key is None else of_client(client_of(request), key)


def _canonical(operation: str, document: Any) -> bytes:
    """Equal for requests that say the same, however they are written."""
    return operation.encode() + b"\n" + orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def _hashes(goqueue: GoQueue, said: bytes, jobs: Sequence[NewJob]) -> list[str]:
    """What tells a request from others; and what did, under other keys.

    From the hash of a payload that is encrypted, nobody without a key may find out what it is.
    """
    plain, keys = hashlib.sha256(said).hexdigest(), goqueue.database.contents.keys
    if keys is None or not any(job.encrypted for job in jobs):
        return [plain]
    return [keys.fingerprint(said), *keys.fingerprints(said), plain]
