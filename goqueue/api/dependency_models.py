"""What the answers about dependencies look like."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from goqueue.api.documents import Document, JobDocument
from goqueue.engine.dependency_rows import Link
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


def link_document(link: Link) -> dict[str, Any]:
    """A DependencyDocument."""
    return {
        "id": link.id,
        "status": link.status,
        "queue": link.queue,
        "type": link.type,
        "on_parent_failure": link.on_parent_failure,
        "parent_outcome": link.outcome,
    }
