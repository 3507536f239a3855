"""The jobs: found by filters, page by page, and what is done to those that were chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import falcon

from goqueue.api.app import JobIdConverter
from goqueue.api.frame.permissions import narrowed
from goqueue.api.frame.reading import Reading
from goqueue.bulk.actions import BulkAction
from goqueue.dashboard.access.guard import FOLDER, form_of
from goqueue.dashboard.forms.job_query import (
    FIELDS,
    JobQuery,
    address,
    filter_parameters,
    in_words,
    query_of,
    read_query,
)
from goqueue.dashboard.notices import go_to
from goqueue.dashboard.page import Page, Site
from goqueue.db.database import Connection
from goqueue.engine import queue_rows as queue_store
from goqueue.engine.job_changes import delete_jobs, set_priority_of_jobs
from goqueue.engine.listing.filters import JobFilter
from goqueue.engine.listing.job_search import written
from goqueue.engine.listing.walk_rows import walk
from goqueue.errors import InvalidJobError
from goqueue.insight import job_summary_rows as job_summaries
from goqueue.insight.job_summary_rows import JobSummary
from goqueue.jobs import MAX_JOB_ID, PRIORITY_RANGE, JobStatus

__all__ = ["JobsPage", "SelectedJobsAction"]

PAGE_JOBS = 50

#: Names that the filter bar offers.
OFFERED = 200

#: The checkbox of a job in the form of the list.
BOX = "job-"


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of a list of jobs.

    Attributes:
        older, newer: where the pages beside it begin, as parameters of their addresses; None: there is none.
        looked: how many rows were looked at for it.
        stopped: the look was ended before the page was full.
    """

    jobs: list[JobSummary]
    older: int | None
    newer: int | None
    looked: int
    stopped: bool


class JobsPage(Page):
    """The page with the list of jobs."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        # All dashboards together ask once a second.
        self._counts = Reading(self._count, max_age_seconds=1.0)

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show the list, or, after something was said in the search field, lead to what was found."""
        problems: dict[str, str] = {}
        query, text = JobQuery(), request.get_param("q")
        try:
            if text is not None:
                raise _to_what_was_found(text, request.params)
            query = query_of(request.params)
            narrowed(request, query.job_filter())
        except InvalidJobError as error:
            problems = error.fields
            response.status = falcon.HTTP_400
        listing = None
        if not problems:
            with self._goqueue.read_database.autocommit() as connection:
                listing = _listing(connection, query)
        self._show(request, response, query.job_filter(), listing, problems)

    def _show(
        self,
        request: falcon.Request,
        response: falcon.Response,
        wanted: JobFilter,
        listing: Listing | None,
        problems: dict[str, str],
    ) -> None:
        said = {name: request.get_param(name, default="") for name in FIELDS} if problems else {}
        fields = dict.fromkeys(FIELDS, "") | filter_parameters(wanted) | said
        self._renderer.page(
            request,
            response,
            "jobs.html",
            listing=listing,
            fields=fields,
            search=request.get_param("q") or written(payload=wanted.payload, error=wanted.error),
            words=in_words(wanted),
            problems=problems,
            tabs=self._tabs(wanted),
            older=None if listing is None else _beside(wanted, "before", listing.older),
            newer=None if listing is None else _beside(wanted, "after", listing.newer),
            newest=address(wanted),
            is_first=request.get_param("before") is None and request.get_param("after") is None,
            searches=wanted.searches,
            priorities=PRIORITY_RANGE,
            **self._names(),
        )

    def _names(self) -> dict[str, list[str]]:
        with self._goqueue.read_database.autocommit() as connection:
            queues = {queue.name for queue in queue_store.list_all(connection)}
        names = queues | self._goqueue.queues.declared()
        return {"queues": sorted(names)[:OFFERED], "types": sorted(self._goqueue.types.all_types())[:OFFERED]}

    def _tabs(self, wanted: JobFilter) -> list[dict[str, Any]]:
        """The states, with counts where nothing else is asked for: they are of all jobs."""
        is_plain = wanted.is_open
        counts = (self._counts.get() if is_plain else None) or {}
        tabs: list[dict[str, Any]] = [
            {
                "name": "all",
                "place": address(wanted.with_status(None)),
                "count": None,
                "is_chosen": wanted.status is None,
            }
        ]
        tabs += [
            {
                "name": status.value,
                "place": address(wanted.with_status(status)),
                "count": counts.get(status),
                "is_chosen": wanted.status is status,
            }
            for status in JobStatus
        ]
        return tabs

    def _count(self) -> dict[JobStatus, int]:
        with self._goqueue.read_database.autocommit() as connection:
            return job_summaries.count_by_status(connection)


class SelectedJobsAction(Page):
    """The action on the jobs that were chosen in the list."""

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Act on the jobs at once, and go back to the list; what is in no state for it stays as it is.

        Raises:
            falcon.HTTPBadRequest: the form says no action, or a priority that there is not.
        """
        form = form_of(request)
        ids = _selected(form)
        place = _place_of(form.get("place"))
        if not ids:
            go_to(request, response, place, "No job was selected.")
            return
        try:
            action = BulkAction(form.get("action", ""))
        except ValueError:
            raise falcon.HTTPBadRequest(description="expected an action") from None
        done = self._do(action, ids, form)
        go_to(request, response, place, _said(action, done, len(ids)))

    def _do(self, action: BulkAction, ids: Sequence[int], form: dict[str, str]) -> int:
        goqueue = self._goqueue
        match action:
            case BulkAction.RETRY:
                return goqueue.retry_many(ids)
            case BulkAction.CANCEL:
                cancelled = goqueue.cancel_many(ids)
                return len(cancelled.ended) + len(cancelled.requested)
            case BulkAction.DELETE:
                return len(delete_jobs(goqueue.database, ids))
            case BulkAction.SET_PRIORITY:
                priority = _priority(form.get("priority", ""))
                return len(set_priority_of_jobs(goqueue.database, ids, priority))


def _selected(form: Mapping[str, str]) -> list[int]:
    """The ids of the checked boxes; what is none is passed over, and what is more than a list shows."""
    convert = JobIdConverter().convert
    ids = (convert(name.removeprefix(BOX)) for name in form if name.startswith(BOX))
    return sorted(job_id for job_id in ids if job_id is not None)[: 4 * PAGE_JOBS]


def _to_what_was_found(text: str, parameters: Mapping[str, Any]) -> Exception:
    """The way to a job, or to the list whose address says what was searched for."""
    found = read_query(text, parameters)
    if isinstance(found, int):
        return falcon.HTTPFound(f"{FOLDER}/jobs/{found}")
    return falcon.HTTPFound(address(query_of(found).job_filter()))


def _listing(connection: Connection, query: JobQuery) -> Listing:
    wanted = query.job_filter()
    older: int | None
    newer: int | None = None
    if query.after is not None:
        found = walk(connection, wanted, limit=PAGE_JOBS, above=query.after, newest_first=False)
        newer = found.reached
        older = found.ids[0] if found.ids else query.after + 1
    else:
        found = walk(connection, wanted, limit=PAGE_JOBS, below=query.before or MAX_JOB_ID)
        older = found.reached
        if query.before is not None:
            newer = found.ids[0] if found.ids else query.before - 1
    stopped = found.reached is not None and len(found.ids) < PAGE_JOBS
    return Listing(job_summaries.of(connection, found.ids), older, newer, found.looked, stopped)


def _beside(wanted: JobFilter, side: str, at: int | None) -> str | None:
    return None if at is None else address(wanted, **{side: at})


def _place_of(wanted: str | None) -> str:
    """The list that the form was shown in: only a place of ours, whatever a form says."""
    query = wanted or ""
    return f"{FOLDER}/jobs?{query}" if query and query.isascii() and query.isprintable() else f"{FOLDER}/jobs"


def _priority(text: str) -> int:
    low, high = PRIORITY_RANGE
    try:
        priority = int(text)
    except ValueError:
        priority = high + 1
    if not low <= priority <= high:
        raise falcon.HTTPBadRequest(description=f"priority: expected a whole number from {low} to {high}")
    return priority


def _said(action: BulkAction, done: int, of: int) -> str:
    words = {
        BulkAction.RETRY: ("queued again", "only failed and cancelled jobs are"),
        BulkAction.CANCEL: ("cancelled, or their workers were asked to stop them", "the others had ended"),
        BulkAction.DELETE: ("deleted", "the others have not ended, or jobs wait for them"),
        BulkAction.SET_PRIORITY: ("given the priority", "only queued and blocked jobs are"),
    }
    what, otherwise = words[action]
    subject = "1 job was" if done == 1 else f"{done} jobs were"
    if done == of:
        return f"{subject} {what}."
    return f"{subject} {what}, of {of} selected: {otherwise}."
