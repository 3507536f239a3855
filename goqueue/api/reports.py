"""The progress and the logs of jobs, while they run and afterwards."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import falcon
from pydantic import BaseModel, ConfigDict, Field

from goqueue.api.frame.answers import CONTENTS, WITHHELD, Document, as_json
from goqueue.api.frame.resource import Resource
from goqueue.engine import job_rows as job_store
from goqueue.engine import report_rows as reports
from goqueue.engine.options.request_models import validate
from goqueue.engine.reports import MAX_INTEGER
from goqueue.errors import JobNotFoundError
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
    text: Annotated[str | None, CONTENTS, Field(description=WITHHELD)]
    logged_at: datetime


class ProgressDocument(Document):
    """How far the latest attempt of a job has come, by its own account."""

    job_id: int
    status: JobStatus
    attempts: int
    fence: int
    progress: Annotated[float | None, Field(description="0 to 1. Null: the attempt has not said.")]
    message: Annotated[str | None, CONTENTS]
    updated_at: datetime | None


class ProgressResource(Resource):
    """The progress that a job reports."""

    def on_get(self, _request: falcon.Request, response: falcon.Response, job_id: int) -> None:
        """Return what the latest attempt of the job said."""
        with self._goqueue.database.autocommit() as connection:
            progress = reports.progress_of(connection, job_id)
        if progress is None:
            raise JobNotFoundError(job_id)
        response.data = as_json(progress)


class LogsResource(Resource):
    """The lines that a job logged."""

    def on_get(self, request: falcon.Request, response: falcon.Response, job_id: int) -> None:
        """List the lines of one attempt, in their order."""
        query = validate(LogQuery, request.params, whole="after")
        with self._goqueue.database.autocommit() as connection:
            lines = reports.lines_of(
                connection, job_id, fence=query.fence, after=query.after, limit=query.limit
            )
            if not lines:
                job_store.get(connection, job_id)
        response.data = as_json(lines)
