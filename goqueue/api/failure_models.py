"""What is asked and answered about failures, in groups."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from goqueue.api.documents import Document, JobDocument, job_document
from goqueue.api.schemas import Name, QueryMoment
from goqueue.insight.failure_rows import FailureGroup, Order
from goqueue.jobs import Job

GROUPS_MAX = 200


class FailuresQuery(BaseModel):
    """The query of GET /failures."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    queue: Name | None = None
    type: Name | None = None
    since: Annotated[QueryMoment | None, Field(description="Only jobs that failed then or later.")] = None
    order: Annotated[Order, Field(description="The latest, or the largest, first.")] = "last_seen"
    limit: Annotated[int, Field(ge=1, le=GROUPS_MAX)] = 50


class FailureQuery(BaseModel):
    """The query of GET /failures/{fingerprint}."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    limit: Annotated[int, Field(ge=1, le=GROUPS_MAX, description="Of the newest jobs.")] = 20


class FailureSampleDocument(Document):
    """The newest job of a group."""

    job_id: int
    error: str
    reason: str | None
    traceback: Annotated[str | None, Field(description="Of its last attempt.")]


class FailureDocument(Document):
    """Failed jobs of one kind."""

    fingerprint: str
    type: str
    exception: Annotated[str | None, Field(description="Null where no exception was seen: see the reason.")]
    message: Annotated[str, Field(description="With placeholders for what differs between the jobs.")]
    frame: Annotated[str | None, Field(description="The innermost function of your own code.")]
    count: Annotated[int, Field(description="Jobs that are failed now.")]
    first_seen: Annotated[datetime, Field(description="When the first of them failed.")]
    last_seen: datetime
    sample: FailureSampleDocument


class FailureDetailDocument(FailureDocument):
    """Failed jobs of one kind, and the newest of them."""

    jobs: list[JobDocument]


def failure_document(group: FailureGroup) -> dict[str, Any]:
    """A FailureDocument."""
    document = asdict(group)
    sample = {name: document.pop(f"sample_{name}") for name in FailureSampleDocument.model_fields}
    return document | {"sample": sample}


def failure_detail_document(group: FailureGroup, jobs: list[Job]) -> dict[str, Any]:
    """A FailureDetailDocument."""
    return failure_document(group) | {"jobs": [job_document(job) for job in jobs]}
