"""Reading jobs, and what clients that run jobs themselves write to them."""

from __future__ import annotations

from dataclasses import asdict

import falcon
import orjson

from goqueue.api.create import CreateJobResource
from goqueue.api.documents import job_document
from goqueue.api.frame.answers import as_json
from goqueue.api.frame.bodies import read_document
from goqueue.api.frame.cursors import link_next, read_cursor, write_cursor
from goqueue.api.frame.permissions import narrowed
from goqueue.api.frame.resource import Resource
from goqueue.api.schemas import ListQuery, SaveResult, SetStatus
from goqueue.db import bounded_reads
from goqueue.engine import job_rows as job_store
from goqueue.engine.listing import listing_rows as job_lists
from goqueue.engine.listing.filters import JobFilter
from goqueue.engine.options.request_models import validate
from goqueue.engine.transitions.set_status import set_status
from goqueue.errors import InvalidJobError
from goqueue.jobs import JobStatus


class JobsResource(CreateJobResource):
    """The jobs: a POST creates one, a GET lists them."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """List jobs, newest first; the next page is in the Link header."""
        query = validate(ListQuery, request.params, whole="queue")
        wanted = narrowed(request, _filter_of(query))
        before_id = None if query.cursor is None else read_cursor(query.cursor, wanted)
        with self._goqueue.read_database.transaction() as connection:
            bounded_reads.along_indexes(connection)
            jobs, looked, last_id = job_lists.search(
                connection, wanted, limit=query.limit, before_id=before_id
            )
        if looked is not None:
            response.set_header("Jobs-Searched", str(looked))
        if wanted.searches and self._goqueue.database.contents.keys is not None:
            response.set_header("Jobs-Not-Searched", "encrypted")
        if last_id is not None:
            link_next(request, response, write_cursor(last_id, wanted))
        response.data = as_json([job_document(job) for job in jobs])


def _filter_of(query: ListQuery) -> JobFilter:
    """The filter of a query.

    Raises:
        InvalidJobError: a group of failures was asked for in another status.
    """
    if query.fingerprint is not None and query.status not in {None, JobStatus.FAILED}:
        raise InvalidJobError({"status": "expected failed, or none, with a fingerprint"})
    return query.job_filter()


class JobResource(Resource):
    """A job, read by its id."""

    def on_get(self, _request: falcon.Request, response: falcon.Response, job_id: int) -> None:
        """Return the job as it is now."""
        with self._goqueue.database.autocommit() as connection:
            response.data = as_json(job_document(job_store.get(connection, job_id)))


class AttemptsResource(Resource):
    """The attempts of a job."""

    def on_get(self, _request: falcon.Request, response: falcon.Response, job_id: int) -> None:
        """List the attempts that have ended, in their order."""
        with self._goqueue.database.autocommit() as connection:
            attempts = job_lists.attempts_of(connection, job_id)
            if not attempts:
                job_store.get(connection, job_id)
        response.data = as_json([asdict(attempt) | {"error": attempt.error or ""} for attempt in attempts])


class StatusResource(Resource):
    """The status of a job."""

    def on_put(self, request: falcon.Request, response: falcon.Response, job_id: int) -> None:
        """Move the job, where the state machine allows it."""
        goqueue = self._goqueue
        wanted = validate(SetStatus, read_document(request, goqueue.settings.job_max_bytes)).status
        with goqueue.database.autocommit() as connection:
            set_status(connection, job_id, wanted)
        response.status = falcon.HTTP_204


class IncrementResource(Resource):
    """The attempts counter of a job."""

    def on_post(self, _request: falcon.Request, response: falcon.Response, job_id: int) -> None:
        """Count one more attempt of the job."""
        with self._goqueue.database.autocommit() as connection:
            job_store.increment_attempts(connection, job_id)
        response.status = falcon.HTTP_204


class SaveResource(Resource):
    """The result and the error of a job."""

    def on_post(self, request: falcon.Request, response: falcon.Response, job_id: int) -> None:
        """Keep a result and an error with the job."""
        saved = validate(SaveResult, read_document(request, self._goqueue.settings.job_max_bytes))
        result = None if saved.result is None else orjson.dumps(saved.result).decode()
        with self._goqueue.database.autocommit() as connection:
            job_store.save(connection, job_id, result=result, error=saved.error)
        response.status = falcon.HTTP_204
