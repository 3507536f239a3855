"""Operations over many jobs: beginning, previewing and aborting them. The scheduler does the work."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import structlog

from goqueue.audit import audit_rows as audit
from goqueue.bulk import operation_rows as bulk_store
from goqueue.bulk.actions import BulkAction, problems_of, status_of
from goqueue.bulk.operation_rows import BulkOperation, NewBulkOperation, filter_document
from goqueue.db import bounded_reads
from goqueue.db.database import Database
from goqueue.engine import job_rows as job_store
from goqueue.engine.listing import listing_rows as job_lists
from goqueue.engine.listing import preview_rows
from goqueue.engine.listing.filters import JobFilter
from goqueue.engine.options.arguments import expect_id
from goqueue.engine.options.request_models import KEY_MAX_CHARACTERS, validate
from goqueue.errors import BulkOperationNotFoundError, InvalidJobError
from goqueue.insight import failure_rows as failure_store
from goqueue.jobs import Job
from goqueue.observability import metrics

__all__ = [
    "BulkOperation",
    "Preview",
    "abort",
    "expect_failures",
    "get",
    "new_operation",
    "preview",
    "start",
]

log = structlog.get_logger(__name__)

PREVIEW_JOBS = 20

_FILTERS = "queue, type, created_after, created_before, fingerprint, ids, tag, payload, error"


@dataclass(frozen=True, slots=True)
class Preview:
    """A look at what an operation would change now: how many jobs, and the first of them.

    Attributes:
        exact: there are so many; else it is an estimate, or, of a search, at least so many.
        is_search: payloads or errors are searched.
    """

    total: int
    jobs: list[Job]
    exact: bool = True
    is_search: bool = False


def start(database: Database, new: NewBulkOperation, *, whole_status: bool = False) -> BulkOperation:
    """Begin an operation; the scheduler does it, step by step.

    `whole_status` says that all jobs of a status are meant, where the filter has nothing else: who asks has
    seen how many they are.

    Raises:
        InvalidJobError: something about it is wrong.
        DatabaseUnavailableError: PostgreSQL does not answer; it was not begun.
    """
    checked = _checked(new, whole_status=whole_status)
    with database.transaction() as connection:
        operation = bulk_store.create(connection, checked)
        wanted = filter_document(checked.filter)
        # What is searched for in payloads and errors may be a part of them.
        about = {"action": operation.action.value, "total": operation.total}
        about |= {name: value for name, value in wanted.items() if name not in {"payload", "error"}}
        audit.record(connection, "operation.begin", f"operation {operation.id}", after=about)
    log.info(
        "bulk_operation_begun",
        operation_id=operation.id,
        action=operation.action.value,
        author=operation.requested_by,
        total=operation.total,
    )
    return operation


def preview(database: Database, new: NewBulkOperation, *, whole_status: bool = False) -> Preview:
    """Count the jobs that an operation would change, and read the first of them.

    Nothing is changed; `whole_status` as of `start`.

    Raises:
        InvalidJobError: something about it is wrong.
    """
    wanted = _checked(new, whole_status=whole_status).filter
    with database.transaction() as connection:
        bounded_reads.along_indexes(connection)
        newest_id = job_lists.newest_id(connection)
        sighted = preview_rows.look(connection, wanted, up_to_id=newest_id, limit=PREVIEW_JOBS)
        jobs = job_store.get_many(connection, sighted.ids)
        return Preview(sighted.total, jobs, sighted.exact, wanted.searches)


def abort(database: Database, operation_id: int) -> BulkOperation:
    """Stop an operation for good; what it has done stays done. An aborted one stays as it is.

    Raises:
        BulkOperationNotFoundError: there is none with this id.
        BulkOperationEndedError: it has ended otherwise.
    """
    expect_id("operation_id", operation_id, BulkOperationNotFoundError)
    with database.transaction() as connection:
        before = bulk_store.get(connection, operation_id)
        aborted = bulk_store.abort(connection, operation_id)
        if before.finished_at is None:
            audit.record(
                connection, "operation.abort", f"operation {operation_id}", after={"done": aborted.done}
            )
    if before.finished_at is None:
        metrics.BULK_OPERATIONS.labels(aborted.action.value, aborted.state.value).inc()
        log.info("bulk_operation_aborted", operation_id=operation_id, done=aborted.done)
    return aborted


def get(database: Database, operation_id: int) -> BulkOperation:
    """Read how far an operation has come.

    Raises:
        BulkOperationNotFoundError: there is none with this id.
    """
    expect_id("operation_id", operation_id, BulkOperationNotFoundError)
    with database.autocommit() as connection:
        return bulk_store.get(connection, operation_id)


def expect_failures(database: Database, fingerprint: str) -> None:
    """Refuse a fingerprint that no failed job has.

    Raises:
        FailureNotFoundError: no failed job has this fingerprint.
        TypeError: it is no text.
    """
    if not isinstance(fingerprint, str):
        raise TypeError(f"fingerprint: expected a text, got {type(fingerprint).__qualname__}")
    with database.autocommit() as connection:
        failure_store.get_group(connection, fingerprint)


def new_operation(action: BulkAction | str, wanted: dict[str, Any], **others: Any) -> NewBulkOperation:
    """Make an operation of what a caller from Python said.

    Raises:
        InvalidJobError: there is no such action, or no such filter.
    """
    if action not in set(BulkAction):
        raise InvalidJobError({"action": f"expected one of {', '.join(BulkAction)}"})
    try:
        jobs = validate(JobFilter, wanted)
    except InvalidJobError as error:
        raise InvalidJobError({f"filter.{name}": wrong for name, wrong in error.fields.items()}) from None
    return NewBulkOperation(BulkAction(action), jobs, **others)


def _problems_of_filter(wanted: JobFilter, author: str | None, *, whole_status: bool) -> dict[str, str]:
    """What no single part of a filter shows, or only a type checker would see."""
    problems = {
        f"filter.{name}": "expected printable characters"
        for name, value in wanted
        if isinstance(value, str) and not value.isprintable()
    }
    if author is not None and not (
        isinstance(author, str) and 0 < len(author) <= KEY_MAX_CHARACTERS and author.isprintable()
    ):
        problems["author"] = f"expected 1 to {KEY_MAX_CHARACTERS} printable characters"
    if not whole_status and wanted.is_open:
        problems["filter"] = f"expected at least one of {_FILTERS}; a status alone is too easily a mistake"
    return problems


def _checked(new: NewBulkOperation, *, whole_status: bool = False) -> NewBulkOperation:
    """The operation with the status that it implies.

    Raises:
        InvalidJobError: something about it is wrong.
    """
    of_a_kind = new.filter.fingerprint is not None
    status = status_of(new.action, new.filter.status, of_a_kind=of_a_kind)
    problems = problems_of(
        new.action,
        status,
        of_a_kind=of_a_kind,
        priority=new.priority,
        rate=new.rate,
        canary=new.canary,
    )
    problems |= _problems_of_filter(new.filter, new.author, whole_status=whole_status)
    if problems:
        raise InvalidJobError(problems)
    return replace(new, filter=new.filter.with_status(status))
