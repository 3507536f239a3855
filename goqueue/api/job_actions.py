"""Cancelling and running again, one job or many."""

from __future__ import annotations

from collections.abc import Iterator

import falcon

from goqueue.api.documents import job_document
from goqueue.api.frame.answers import as_json
from goqueue.api.frame.bodies import read_document
from goqueue.api.frame.permissions import narrowed
from goqueue.api.frame.resource import Resource
from goqueue.api.schemas import CancelSelection, RetrySelection
from goqueue.engine.listing import listing_rows as job_lists
from goqueue.engine.listing.filters import JobFilter
from goqueue.engine.options.request_models import validate
from goqueue.instance import GoQueue

#: Rows of one transaction: it holds their locks for some tens of milliseconds.
CHUNK = 1000
#: Of one request; more is the work of a bulk operation.
SELECTION_MAX_JOBS = 10_000


class CancelResource(Resource):
    """The cancel of an unfinished job."""

    def on_post(self, _request: falcon.Request, response: falcon.Response, job_id: int) -> None:
        """Cancel it; its worker is asked to stop a running one, and a cancelled one stays as it is."""
        response.data = as_json(job_document(self._goqueue.cancel(job_id)))


class RetryManyResource(Resource):
    """The retry of failed or cancelled jobs, by a filter."""

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Queue the jobs again; the answer is how many."""
        selection = validate(RetrySelection, read_document(request, self._goqueue.settings.job_max_bytes))
        selected = _Selected(self._goqueue, narrowed(request, selection.job_filter()))
        retried = sum(self._goqueue.retry_many(chunk) for chunk in selected)
        response.data = as_json({"retried": retried} | selected.note())


class CancelManyResource(Resource):
    """The cancel of unfinished jobs, by a filter."""

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Cancel the jobs; the answer is how many are cancelled, and how many workers were asked to stop."""
        selection = validate(CancelSelection, read_document(request, self._goqueue.settings.job_max_bytes))
        cancelled = requested = 0
        selected = _Selected(self._goqueue, narrowed(request, selection.job_filter()))
        for chunk in selected:
            done = self._goqueue.cancel_many(chunk)
            cancelled += len(done.ended)
            requested += len(done.requested)
        document = {"cancelled": cancelled, "requested": requested}
        response.data = as_json(document | selected.note())


class _Selected:
    """The ids of what a filter finds now, in chunks, oldest first: no job twice, however soon it is back.

    Attributes:
        more: there were more than one request may have.
    """

    def __init__(self, goqueue: GoQueue, wanted: JobFilter) -> None:
        self._database = goqueue.database
        self._wanted = wanted
        self.more = False

    def __iter__(self) -> Iterator[list[int]]:
        with self._database.autocommit() as connection:
            newest_id = job_lists.newest_id(connection)
        last_id = 0
        for _ in range(SELECTION_MAX_JOBS // CHUNK):
            ids = self._chunk(last_id, newest_id)
            if not ids:
                return
            yield ids
            last_id = ids[-1]
        self.more = bool(self._chunk(last_id, newest_id))

    def note(self) -> dict[str, bool]:
        """What the answer says about the rest, where there is one."""
        return {"more": True} if self.more else {}

    def _chunk(self, after_id: int, up_to_id: int) -> list[int]:
        with self._database.autocommit() as connection:
            return job_lists.chunk(
                connection, self._wanted, after_id=after_id, up_to_id=up_to_id, limit=CHUNK
            ).ids
