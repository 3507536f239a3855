"""GET /jobs/{id}/wait: the job, when it has ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import falcon
from pydantic import BaseModel, ConfigDict, Field

from goqueue.api.documents import job_document
from goqueue.api.frame.answers import as_json
from goqueue.api.frame.held_requests import held_request
from goqueue.api.frame.resource import Resource
from goqueue.engine import job_rows as job_store
from goqueue.engine.options.request_models import validate
from goqueue.jobs import FINAL_STATUSES

__all__ = ["WaitQuery", "WaitResource"]

TIMEOUT_MAX_SECONDS = 300.0


class WaitQuery(BaseModel):
    """The query of GET /jobs/{id}/wait."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    timeout: Annotated[
        float,
        Field(
            ge=0,
            le=TIMEOUT_MAX_SECONDS,
            allow_inf_nan=False,
            description="So many seconds, and then the job is answered as it is.",
        ),
    ] = 30.0


class WaitResource(Resource):
    """A job, once it has ended."""

    def on_get(self, request: falcon.Request, response: falcon.Response, job_id: int) -> None:
        """Return the job when it has ended, or as it is when the time is over."""
        query = validate(WaitQuery, request.params, whole="timeout")

        def watch(wake: Callable[[], None]) -> Callable[[], None]:
            return self._goqueue.ended_jobs.watch(job_id, wake)

        with self._goqueue.database.autocommit() as connection:
            job = job_store.get(connection, job_id)
        if job.status not in FINAL_STATUSES and held_request(request).wait(query.timeout, watch):
            return
        response.data = as_json(job_document(job))
