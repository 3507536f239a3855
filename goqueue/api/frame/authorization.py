"""The check of what a key allows: the scope of each operation, and the queues and types it is restricted to.

The table of operations says what each of them needs; a job, queue or type that does not exist for a key is
answered as one that is not there.
"""

from __future__ import annotations

from typing import Any

import falcon

from goqueue.access.principal import Principal
from goqueue.api.frame.permissions import expect_scope
from goqueue.api.frame.security import principal_of
from goqueue.api.operations import Operation, Reach, operation_of
from goqueue.engine import job_rows
from goqueue.errors import (
    ForbiddenError,
    JobNotFoundError,
    QueueNotFoundError,
    TypeNotFoundError,
)
from goqueue.instance import GoQueue

__all__ = ["Authorization"]


class Authorization:
    """Falcon middleware behind the authentication: 403 for what a key may not do, 404 for what is not its.

    Args:
        goqueue: knows of which queue and type a job is; None: there are no routes about jobs.
    """

    def __init__(self, goqueue: GoQueue | None) -> None:
        self._goqueue = goqueue

    def process_resource(
        self, request: falcon.Request, _response: falcon.Response, _resource: object, params: dict[str, Any]
    ) -> None:
        """Let the request pass, or refuse it.

        Raises:
            ForbiddenError: the key has not the scope, or is restricted and the operation is about everything.
            JobNotFoundError, QueueNotFoundError, TypeNotFoundError: it does not exist for the key.
        """
        operation = operation_of(request.method, request.uri_template)
        if operation is None or operation.scope is None:
            return
        principal = principal_of(request)
        expect_scope(principal, operation.scope)
        if principal.is_restricted:
            self._expect_within(principal, operation, params)

    def _expect_within(self, principal: Principal, operation: Operation, params: dict[str, Any]) -> None:
        match operation.reach:
            case Reach.JOB:
                self._expect_job(principal, params["job_id"])
            case Reach.QUEUE if principal.types is None:
                if "name" in params and not principal.sees(params["name"], None):
                    raise QueueNotFoundError(params["name"])
            case Reach.TYPE if principal.queues is None:
                if "name" in params and not principal.sees(None, params["name"]):
                    raise TypeNotFoundError(params["name"])
            case Reach.NARROWED:
                return
            case _:
                raise ForbiddenError("a key that is restricted to queues or types may not use this")

    def _expect_job(self, principal: Principal, job_id: int) -> None:
        assert self._goqueue is not None
        with self._goqueue.database.autocommit() as connection:
            found = job_rows.queues_and_types(connection, [job_id])
        if not any(principal.sees(queue, type_name) for queue, type_name in found.values()):
            raise JobNotFoundError(job_id)
