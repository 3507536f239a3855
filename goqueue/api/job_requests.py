"""The way from a request to validated jobs: their type, their queue, and the check of their payload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from goqueue.api.frame.json_reader import MAX_PROBLEMS
from goqueue.api.job_graphs import graph_of_batch
from goqueue.api.schemas import BATCH_MAX_JOBS, BatchJob, CreateBatch, CreateJob, PlainJob
from goqueue.engine.graph_rows import NewNode
from goqueue.engine.new_job import job_of_request
from goqueue.engine.options.job_settings import JobSettings
from goqueue.engine.options.request_models import validate
from goqueue.engine.options.uniqueness import of_client
from goqueue.errors import InvalidJobError
from goqueue.instance import GoQueue
from goqueue.jobs import NewJob


class JobRequests:
    """Makes validated jobs of request documents.

    Args:
        goqueue: knows the declared types and the queues.
    """

    def __init__(self, goqueue: GoQueue) -> None:
        self._types = goqueue.types
        self._python_types = goqueue.broker.job_types
        self._default_types = dict(goqueue.default_types)
        self._queues = goqueue.queues
        self._job_max_bytes = goqueue.settings.job_max_bytes

    def one(self, document: Any, *, client: str) -> list[NewNode]:
        """The job of a create request of a client, and those that follow it in a chain.

        Raises:
            InvalidJobError: with the wrong fields.
        """
        return [_of_client(client, node) for node in self._one(document)]

    def _one(self, document: Any) -> list[NewNode]:
        request = validate(CreateJob, document)
        nodes = [NewNode(self._new_job(request, request.settings()))]
        for position, then in enumerate(request.then or ()):
            path = f"then[{position}]"
            try:
                job = self._new_job(then, then.settings())
            except InvalidJobError as error:
                raise InvalidJobError(_below(path, error.fields)) from None
            nodes.append(NewNode(job, after=(position,), path=f"{path}."))
        return nodes

    def many(self, document: Any, *, client: str) -> list[NewNode]:
        """The jobs of a batch request of a client, in their order.

        Raises:
            InvalidJobError: with the wrong fields of every wrong job, up to 100: `jobs[3].payload.to`.
        """
        try:
            requests = validate(CreateBatch, document).jobs
            jobs = [self._of_batch(request) for request in requests]
        except InvalidJobError as error:
            raise InvalidJobError(self._wrong_fields(document) or error.fields) from None
        return [_of_client(client, node) for node in graph_of_batch(requests, jobs)]

    def default_type(self, queue: str) -> str | None:
        """The type of the queue's jobs that say none, or None where there is not exactly one."""
        if queue not in self._default_types:
            declared = [job_type.name for job_type in self._python_types.values() if job_type.queue == queue]
            if len(declared) != 1:
                return None
            self._default_types[queue] = declared[0]
        return self._default_types[queue]

    def _of_batch(self, request: BatchJob) -> NewJob:
        settings = request.settings()
        if request.depends_on:
            settings["depends_on"] = [parent for parent in request.depends_on if isinstance(parent, int)]
        return self._new_job(request, settings)

    def _new_job(self, request: PlainJob, settings: JobSettings) -> NewJob:
        if not self._queues.knows(request.queue):
            raise InvalidJobError({"queue": "there is no such queue"})
        type_name = request.type or self.default_type(request.queue)
        if type_name is None:
            raise InvalidJobError({"type": "required, because the queue has no type of its own"})
        job = job_of_request(self._types, type_name, request.payload, settings)
        if len(job.payload) > self._job_max_bytes // 4 and len(job.payload.encode()) > self._job_max_bytes:
            raise InvalidJobError({"payload": f"expected at most {self._job_max_bytes} bytes"})
        return job

    def _wrong_fields(self, document: Any) -> dict[str, str]:
        """Every job for itself: the fast path stops at the first wrong payload."""
        fields: dict[str, str] = {}
        listed = document.get("jobs") if isinstance(document, dict) and set(document) == {"jobs"} else None
        if not isinstance(listed, list) or len(listed) > BATCH_MAX_JOBS:
            return fields
        for index, item in enumerate(listed):
            try:
                self._of_batch(validate(BatchJob, item))
            except InvalidJobError as error:
                fields |= _below(f"jobs[{index}]", error.fields)
            if len(fields) >= MAX_PROBLEMS:
                break
        return fields


def _of_client(client: str, node: NewNode) -> NewNode:
    """The node with the unique key of its job among the client's own."""
    unique = node.job.unique
    if not client or unique is None:
        return node
    own = replace(unique, key=of_client(client, unique.key))
    return replace(node, job=replace(node.job, unique=own))


def _below(path: str, fields: Mapping[str, str]) -> dict[str, str]:
    """The wrong fields of a part, as fields of the whole."""
    return {path if name == "body" else f"{path}.{name}": wrong for name, wrong in fields.items()}
