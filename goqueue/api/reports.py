"""The progress and the logs of jobs, while they run and afterwards."""

from __future__ import annotations

from dataclasses import asdict

import falcon

from goqueue.api.context import Context
from goqueue.api.documents import as_json
from goqueue.api.report_models import LogQuery
from goqueue.api.schemas import validate
from goqueue.engine import report_rows as reports
from goqueue.engine.transitions import jobs as job_store
from goqueue.errors import JobNotFoundError


class ProgressResource:
    """How far a job has come."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, _request: falcon.Request, response: falcon.Response, job_id: int) -> None:
        """What its latest attempt said."""
        with self._context.database.autocommit() as connection:
            progress = reports.progress_of(connection, job_id)
        if progress is None:
            raise JobNotFoundError(job_id)
        response.data = as_json(asdict(progress))


class LogsResource:
    """What a job logged."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, request: falcon.Request, response: falcon.Response, job_id: int) -> None:
        """The lines of one attempt, in their order."""
        query = validate(LogQuery, request.params, whole="after")
        with self._context.database.autocommit() as connection:
            lines = reports.lines_of(
                connection, job_id, fence=query.fence, after=query.after, limit=query.limit
            )
            if not lines:
                job_store.get(connection, job_id)
        response.data = as_json([asdict(line) for line in lines])
