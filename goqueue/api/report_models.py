"""What is asked and answered about the progress and the logs of jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from goqueue.api.documents import Document
from goqueue.engine.running_jobs import MAX_INTEGER
from goqueue.jobs import JobStatus

LOG_PAGE_MAX_LINES = 10_000


class LogQuery(BaseModel):
    """The query of GET /jobs/{id}/logs."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    after: Annotated[
        int, Field(ge=0, le=MAX_INTEGER, description="Only lines behind the one of this number.")
    ] = 0
    fence: Annotated[
        Annotated[int, Field(ge=0, le=MAX_INTEGER)] | None,
        Field(description="Of the attempt with this fence. Default: the latest."),
    ] = None
    limit: Annotated[int, Field(ge=1, le=LOG_PAGE_MAX_LINES)] = 1000


class LogLineDocument(Document):
    """A line of the log of an attempt."""

    fence: Annotated[int, Field(description="Which attempt, as in GET /jobs/{id}/attempts.")]
    line: Annotated[int, Field(description="Its number, from 1.")]
    text: str
    logged_at: datetime


class ProgressDocument(Document):
    """How far the latest attempt of a job has come, by its own account."""

    job_id: int
    status: JobStatus
    attempts: int
    fence: int
    progress: Annotated[float | None, Field(description="0 to 1. Null: the attempt has not said.")]
    message: str | None
    updated_at: datetime | None
