"""The jobs that a job waits for, and those that wait for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import falcon
from pydantic import Field

from goqueue.access.principal import Principal
from goqueue.api.documents import JobDocument
from goqueue.api.frame.answers import Document, as_json, reader_of
from goqueue.api.frame.resource import Resource
from goqueue.api.frame.security import principal_of
from goqueue.engine import dependency_rows as dependency_lists
from goqueue.engine import job_rows as job_store
from goqueue.engine.dependency_rows import LINKS_MAX, Link
from goqueue.jobs import JobStatus, OnParentFailure


class CreatedDocument(JobDocument):
    """A job that was created."""

    then: Annotated[
        list[int] | None, Field(description="The jobs that follow it in a chain, in their order.")
    ] = None
    deduplicated: Annotated[
        bool | None, Field(description="Of a chain: its first job was there before, and has the unique key.")
    ] = None


class DependencyDocument(Document):
    """A job that waits for another one, or that another one waits for."""

    id: int
    status: Annotated[JobStatus | None, Field(description="As it is now; null where it was deleted.")]
    queue: str | None
    type: str | None
    on_parent_failure: OnParentFailure
    parent_outcome: Annotated[
        JobStatus | None,
        Field(description="What the parent came to for the child; null: the child waits for it."),
    ]


class DependenciesDocument(Document):
    """What a job waits for, and what waits for it, by id."""

    parents: list[DependencyDocument]
    children: list[DependencyDocument]
    more_children: Annotated[bool, Field(description="There are more than are listed.")]


_link_of = reader_of(DependencyDocument, parent_outcome="outcome")


class DependenciesResource(Resource):
    """The parents and children of a job."""

    def on_get(self, request: falcon.Request, response: falcon.Response, job_id: int) -> None:
        """List all parents of the job and its first 1,000 children, each with its state.

        A restricted key is told of those that exist for it.
        """
        with self._goqueue.database.autocommit() as connection:
            job_store.get(connection, job_id)
            parents = dependency_lists.parents_of(connection, job_id)
            children = dependency_lists.children_of(connection, job_id, limit=LINKS_MAX + 1)
        principal = principal_of(request)
        response.data = as_json(
            {
                "parents": _seen(principal, parents),
                "children": _seen(principal, children[:LINKS_MAX]),
                "more_children": len(children) > LINKS_MAX,
            }
        )


def _seen(principal: Principal, links: Sequence[Link]) -> list[Any]:
    return [_link_of(link) for link in links if principal.sees(link.queue, link.type)]
