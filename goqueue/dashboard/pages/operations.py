"""Operations over many jobs: what one would be done to, begun, watched and aborted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import falcon

from goqueue.api.frame.permissions import narrowed
from goqueue.api.frame.security import principal_of
from goqueue.bulk import canary_rows as canary_store
from goqueue.bulk import operation_rows as bulk_store
from goqueue.bulk import operations as bulk
from goqueue.bulk.actions import STATUSES, BulkAction, BulkState, status_of
from goqueue.bulk.operation_rows import BulkOperation, NewBulkOperation
from goqueue.dashboard.access.guard import FOLDER, form_of
from goqueue.dashboard.access.withholding import without_contents
from goqueue.dashboard.forms.job_query import FIELDS, address, filter_parameters, in_words, query_of
from goqueue.dashboard.notices import go_to
from goqueue.dashboard.page import Page, one_moment
from goqueue.db.database import Connection
from goqueue.engine.listing.filters import JobFilter
from goqueue.errors import InvalidJobError
from goqueue.insight import job_summary_rows as job_summaries
from goqueue.insight.explain import Explanation
from goqueue.insight.explain import fact_rows as explanation
from goqueue.jobs import MAX_JOB_ID, PRIORITY_RANGE, JobStatus

__all__ = ["AbortAction", "NewOperationPage", "OperationPage", "OperationsPage"]

T = TypeVar("T")

PAGE_OPERATIONS = 50

PLACE = f"{FOLDER}/operations"

#: Of the canaries of an operation.
CANARIES_SHOWN = 20

WAITING = frozenset({JobStatus.QUEUED, JobStatus.BLOCKED})

#: What else the form of an operation says.
SETTINGS = ("priority", "rate", "canary", "author")


class _OperationForm(Page):
    """The form of an operation, with what it would be done to now."""

    def _confirm(
        self,
        request: falcon.Request,
        response: falcon.Response,
        said: dict[str, str],
        problems: dict[str, str],
    ) -> None:
        wanted, action, preview = JobFilter(), BulkAction.RETRY, None
        try:
            wanted = narrowed(request, query_of(said).job_filter())
            action = _action_of(said.get("action"), wanted.status)
            wanted = _with_status(action, wanted)
            # What the action needs is still to be said in the form.
            priority = 0 if action is BulkAction.SET_PRIORITY else None
            new = NewBulkOperation(action, wanted, priority=priority)
            preview = bulk.preview(self._goqueue.database, new, whole_status=True)
        except InvalidJobError as error:
            problems = error.fields | problems
        if problems:
            response.status = falcon.HTTP_400
        values = self._values(action, wanted, preview)
        shown = {name: said.get(name, "") for name in SETTINGS}
        self._renderer.page(request, response, "operation_new.html", **values, said=shown, problems=problems)

    def _values(self, action: BulkAction, wanted: JobFilter, preview: bulk.Preview | None) -> dict[str, Any]:
        return {
            "action": action,
            "actions": list(BulkAction),
            "statuses": STATUSES[action],
            "wanted": wanted,
            "fields": filter_parameters(wanted),
            "words": [word for word in in_words(wanted) if word[0] != "status"],
            "preview": preview,
            "whole_status": wanted.is_open,
            "jobs": self._rows(preview),
            "list_place": address(wanted),
            "priorities": PRIORITY_RANGE,
        }

    def _rows(self, preview: bulk.Preview | None) -> list[job_summaries.JobSummary]:
        if preview is None:
            return []
        with self._goqueue.database.autocommit() as connection:
            return job_summaries.of(connection, [job.id for job in preview.jobs])[::-1]


class NewOperationPage(_OperationForm):
    """The page with what an operation would be done to."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show a dry run, and the form that begins the operation.

        Raises:
            falcon.HTTPForbidden: nothing is changed here.
        """
        if self._goqueue.settings.dashboard_read_only:
            raise falcon.HTTPForbidden(description="this dashboard is read-only")
        said = {name: request.get_param(name, default="") for name in ("action", *FIELDS, *SETTINGS)}
        self._confirm(request, response, said, {})


class OperationsPage(_OperationForm):
    """The page with all operations over many jobs."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """List the operations, the newest first, page by page."""
        before = request.get_param_as_int("before", min_value=1, max_value=MAX_JOB_ID)
        with self._goqueue.read_database.autocommit() as connection:
            operations = bulk_store.list_newest(connection, limit=PAGE_OPERATIONS + 1, before_id=before)
        more = len(operations) > PAGE_OPERATIONS
        operations = _visible(request, operations[:PAGE_OPERATIONS])
        self._renderer.page(
            request,
            response,
            "operations.html",
            operations=[_shown(operation) for operation in operations],
            older=f"{PLACE}?before={operations[-1].id}" if more else None,
            is_first=before is None,
        )

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Begin an operation, and watch it. What is wrong is told in the form."""
        said = form_of(request)
        try:
            # Only the form of a dry run says so, which shows how many there are.
            whole_status = said.get("whole_status") == "yes"
            new = _new_of(said)
            narrowed(request, new.filter)
            operation = bulk.start(self._goqueue.database, new, whole_status=whole_status)
        except InvalidJobError as error:
            self._confirm(request, response, said, error.fields)
            return
        go_to(request, response, f"{PLACE}/{operation.id}", f"Operation {operation.id} has begun.")


@dataclass(frozen=True, slots=True)
class Canaries:
    """The first jobs of an operation, which show whether the others would run.

    Attributes:
        wanted: how many there are to be; fewer than were asked for where there are no more jobs.
        jobs: some of them, those that have not completed first.
        why: of one that waits, why it does not run.
    """

    counts: canary_store.CanaryCounts
    wanted: int
    jobs: list[job_summaries.JobSummary]
    why: Explanation | None


class OperationPage(Page):
    """The page of one operation over many jobs."""

    def on_get(self, request: falcon.Request, response: falcon.Response, operation_id: int) -> None:
        """Show how far the operation has come."""
        with one_moment(self._goqueue.database) as connection:
            operation = bulk_store.get(connection, operation_id)
            canaries = None
            if operation.canary:
                with_errors = principal_of(request).reads_contents
                canaries = self._canaries(connection, operation, with_errors=with_errors)
        shown = _shown(_visible(request, operation))
        self._renderer.page(request, response, "operation.html", shown=shown, canaries=canaries)

    def _canaries(self, connection: Connection, operation: BulkOperation, *, with_errors: bool) -> Canaries:
        counts = canary_store.count(connection, operation.id)
        ids = canary_store.list_ids(connection, operation.id, limit=CANARIES_SHOWN)
        jobs = job_summaries.of(connection, ids)
        waiting = [job.id for job in jobs if job.status in WAITING]
        why = None
        if waiting and operation.finished_at is None:
            settings = self._goqueue.settings
            why = explanation.explain_here(
                connection,
                min(waiting),
                lease_seconds=settings.lease_seconds,
                max_deaths=settings.max_deaths,
                with_errors=with_errors,
            )
        is_through = operation.after_id >= operation.up_to_id
        wanted = counts.total if is_through else (operation.canary or 0)
        return Canaries(counts, wanted, jobs[::-1], why)


class AbortAction(Page):
    """The action that aborts an operation over many jobs."""

    def on_post(self, request: falcon.Request, response: falcon.Response, operation_id: int) -> None:
        """Stop the operation for good."""
        operation = bulk.abort(self._goqueue.database, operation_id)
        said = f"Operation {operation_id} is aborted: {operation.done:,} jobs were taken before."
        go_to(request, response, f"{PLACE}/{operation_id}", said)


def _visible(request: falcon.Request, rows: T) -> T:
    """Operations as the key of the session may read them: without what was searched for, where it may not."""
    return rows if principal_of(request).reads_contents else without_contents(rows)


def _shown(operation: BulkOperation) -> dict[str, Any]:
    """An operation with what its page says of it."""
    return {
        "operation": operation,
        "words": in_words(operation.filter),
        "jobs_place": None if operation.filter.ids else address(operation.filter),
        "share": _share(operation),
        "is_counted": not operation.filter.searches,
    }


def _share(operation: BulkOperation) -> float:
    """How far it has come, 0 to 1: by its count, or, where that was not the whole, by its position."""
    if operation.state is BulkState.COMPLETED:
        return 1.0
    if operation.filter.searches:
        return operation.after_id / max(operation.up_to_id, 1)
    return min(1.0, operation.done / max(operation.total, 1))


def _action_of(said: str | None, status: JobStatus | None) -> BulkAction:
    """The action that was said, or the first that fits the status."""
    if said:
        if said not in set(BulkAction):
            raise InvalidJobError({"action": f"expected one of {', '.join(BulkAction)}"})
        return BulkAction(said)
    fitting = (action for action in BulkAction if status in STATUSES[action])
    return next(fitting, BulkAction.RETRY)


def _with_status(action: BulkAction, wanted: JobFilter) -> JobFilter:
    """The filter with a status that the action is for, where the one of the list is not."""
    status = wanted.status if wanted.status in STATUSES[action] else None
    default = status_of(action, status, of_a_kind=wanted.fingerprint is not None)
    return wanted.with_status(default or STATUSES[action][0])


def _new_of(said: dict[str, str]) -> NewBulkOperation:
    """The operation that a form says.

    Raises:
        InvalidJobError: with the wrong fields.
    """
    wanted = query_of(said).job_filter()
    action = _action_of(said.get("action"), wanted.status)
    is_priority = action is BulkAction.SET_PRIORITY
    return NewBulkOperation(
        action,
        wanted,
        priority=_number(said, "priority", int) if is_priority else None,
        rate=_number(said, "rate", float),
        canary=_number(said, "canary", int) if action is BulkAction.RETRY else None,
        author=said.get("author", "").strip() or None,
    )


def _number(said: dict[str, str], name: str, kind: type[int | float]) -> Any:
    text = said.get(name, "").strip()
    if not text:
        return None
    try:
        return kind(text)
    except ValueError:
        raise InvalidJobError({name: "expected a number"}) from None
