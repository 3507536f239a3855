"""The one place where errors become answers: problem documents of RFC 9457.

Beside its standard members a problem carries `error`, the detail as the original service named it, and, where
single values are wrong, `fields`: path → what is wrong.
"""

from __future__ import annotations

import http
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import falcon
import structlog
from pydantic import BaseModel, Field

from goqueue.api.frame.answers import as_json
from goqueue.errors import (
    ApiKeyConflictError,
    ApiKeyNotFoundError,
    BulkOperationEndedError,
    BulkOperationNotFoundError,
    EventCursorError,
    EventsGoneError,
    FailureNotFoundError,
    ForbiddenError,
    GoQueueError,
    IdempotencyConflictError,
    IllegalTransitionError,
    InvalidJobError,
    JobNotFoundError,
    KeyNotFoundError,
    LeaseLostError,
    LeaseNotFoundError,
    NamespaceConflictError,
    NamespaceNotFoundError,
    NoBreakerError,
    QueueNotFoundError,
    QuotaExceededError,
    ResultTooLargeError,
    ScheduleConflictError,
    ScheduleNotFoundError,
    TypeConflictError,
    TypeNotFoundError,
    UnavailableError,
    UndecryptableError,
    UniqueKeyHeldError,
    WebhookConflictError,
    WebhookDeliveryNotFoundError,
    WebhookNotFoundError,
    WorkerConflictError,
    WorkerNotFoundError,
)
from goqueue.jobs import JobStatus

log = structlog.get_logger(__name__)

CONTENT_TYPE = "application/problem+json"
MAX_FIELDS = 100
NAME_MAX_CHARACTERS = 200
WRONG_MAX_CHARACTERS = 500
FIELDS_IN_DETAIL = 3

STATUS_OF: dict[type[GoQueueError], int] = {
    InvalidJobError: 400,
    JobNotFoundError: 404,
    QueueNotFoundError: 404,
    ScheduleNotFoundError: 404,
    ScheduleConflictError: 409,
    KeyNotFoundError: 404,
    ApiKeyNotFoundError: 404,
    ApiKeyConflictError: 409,
    NamespaceNotFoundError: 404,
    NamespaceConflictError: 409,
    QuotaExceededError: 429,
    ForbiddenError: 403,
    TypeNotFoundError: 404,
    TypeConflictError: 409,
    NoBreakerError: 409,
    WebhookNotFoundError: 404,
    WebhookDeliveryNotFoundError: 404,
    WebhookConflictError: 409,
    WorkerNotFoundError: 404,
    WorkerConflictError: 409,
    FailureNotFoundError: 404,
    BulkOperationNotFoundError: 404,
    BulkOperationEndedError: 409,
    EventCursorError: 400,
    EventsGoneError: 410,
    IllegalTransitionError: 409,
    LeaseNotFoundError: 404,
    LeaseLostError: 409,
    ResultTooLargeError: 413,
    UniqueKeyHeldError: 409,
    IdempotencyConflictError: 422,
    UndecryptableError: 409,
    UnavailableError: 503,
}


#: Answers with a page instead of a document: status, title, detail.
ProblemPage = Callable[[falcon.Request, falcon.Response, int, str, str], None]


class ProblemDocument(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    error: Annotated[str, Field(description="The detail again, where older clients look for it.")]
    fields: Annotated[
        dict[str, str] | None, Field(description="The path of a value → what is wrong with it.")
    ] = None
    job_status: Annotated[
        JobStatus | None,
        Field(description="Of a lease that is lost: the state that the job is in now."),
    ] = None


def answer_pages_with(
    app: falcon.App[falcon.Request, falcon.Response], is_page: Callable[[str], bool], write: ProblemPage
) -> None:
    """Let errors of some paths become pages: what was answered as a document is written again."""
    app.add_middleware(_ProblemPages(is_page, write))


class _ProblemPages:
    """Falcon middleware that knows the pages from the documents."""

    def __init__(self, is_page: Callable[[str], bool], write: ProblemPage) -> None:
        self._is_page = is_page
        self._write = write

    def process_request(self, request: falcon.Request, _response: falcon.Response) -> None:
        """Note who writes the problems of this request."""
        if self._is_page(request.path):
            request.context.problem_page = self._write


def add_error_handlers(app: falcon.App[falcon.Request, falcon.Response]) -> None:
    """Answer every error with a problem document. A later handler is asked before an earlier one."""
    app.add_error_handler(Exception, _answer_unexpected)
    app.add_error_handler(falcon.HTTPError, _answer_http_error)
    for kind in STATUS_OF:
        app.add_error_handler(kind, _answer_domain_error)


def _answer_domain_error(
    request: falcon.Request, response: falcon.Response, error: GoQueueError, _params: Mapping[str, Any]
) -> None:
    status = next(STATUS_OF[kind] for kind in type(error).__mro__ if kind in STATUS_OF)
    if isinstance(error, UnavailableError):
        log.warning("request_refused", reason=str(error))
        # What PostgreSQL said may name hosts and users.
        told = (type(error).__doc__ or "").strip().partition("\n")[0]
        namespace: str | None = getattr(request.context, "namespace", None)
        _answer(request, response, status, told if namespace is None else f"namespace {namespace}: {told}")
        return
    if isinstance(error, QuotaExceededError):
        response.set_header("Retry-After", str(math.ceil(error.retry_after_seconds)))
        for name, value in quota_headers(
            error.quota, error.limit, error.remaining, error.retry_after_seconds
        ):
            response.append_header(name, value)
    fields = error.fields if isinstance(error, InvalidJobError) else None
    job_status = error.job_status if isinstance(error, LeaseLostError) else None
    _answer(request, response, status, _detail_of(fields) if fields else str(error), fields, job_status)


def quota_headers(
    quota: str, limit: float, remaining: float, seconds: float, *, window: int | None = None
) -> list[tuple[str, str]]:
    """Return what the headers of draft-ietf-httpapi-ratelimit-headers tell about a quota of a namespace.

    Args:
        quota: its name.
        limit: what it allows.
        remaining: what is left of it.
        seconds: when there is more.
        window: in so many seconds; None: it is no rate.
    """
    policy = f'"{quota}";q={max(1, math.floor(limit))}' + ("" if window is None else f";w={window}")
    left = f'"{quota}";r={max(0, math.floor(remaining))};t={math.ceil(seconds)}'
    return [("RateLimit-Policy", policy), ("RateLimit", left)]


def _detail_of(fields: Mapping[str, str]) -> str:
    told = [
        f"{name[:NAME_MAX_CHARACTERS]}: {wrong[:WRONG_MAX_CHARACTERS]}"
        for name, wrong in itertools.islice(fields.items(), FIELDS_IN_DETAIL)
    ]
    more = len(fields) - FIELDS_IN_DETAIL
    return "; ".join(told) + (f"; and {more} more" if more > 0 else "")


def _answer_http_error(
    request: falcon.Request, response: falcon.Response, error: falcon.HTTPError, _params: Mapping[str, Any]
) -> None:
    if error.headers:
        response.set_headers(error.headers)
    status = error.status_code
    detail = error.description or http.HTTPStatus(status).description or error.title or ""
    _answer(request, response, status, detail)


def _answer_unexpected(
    request: falcon.Request, response: falcon.Response, error: Exception, _params: Mapping[str, Any]
) -> None:
    # The text of an error may quote a payload (a driver's does): only its type is logged, and the frames.
    log.error(
        "request_failed", method=request.method, route=request.uri_template, exc_info=_without_text(error)
    )
    _answer(request, response, 500, "something went wrong on our side; the log knows it by the X-Request-ID")


def _without_text(error: Exception) -> Exception:
    return GoQueueError(f"{type(error).__module__}.{type(error).__qualname__}").with_traceback(
        error.__traceback__
    )


def _answer(
    request: falcon.Request,
    response: falcon.Response,
    status: int,
    detail: str,
    fields: Mapping[str, str] | None = None,
    job_status: str | None = None,
) -> None:
    phrase = http.HTTPStatus(status).phrase
    response.status = falcon.code_to_http_status(status)
    if status == http.HTTPStatus.SERVICE_UNAVAILABLE and response.get_header("Retry-After") is None:
        # Here, and so on whatever way it became one.
        response.set_header("Retry-After", str(UnavailableError.retry_after_seconds))
    page: ProblemPage | None = getattr(request.context, "problem_page", None)
    if page is not None:
        response.data = None
        page(request, response, status, phrase, detail)
        return
    response.content_type = CONTENT_TYPE
    response.text = None
    response.data = problem_document(status, detail, fields, job_status)


def problem_document(
    status: int, detail: str, fields: Mapping[str, str] | None = None, job_status: str | None = None
) -> bytes:
    """The document that says what is wrong with a request, as JSON."""
    phrase = http.HTTPStatus(status).phrase
    document: dict[str, Any] = {
        "type": f"urn:goqueue:problem:{phrase.lower().replace(' ', '-')}",
        "title": phrase,
        "status": status,
        "detail": detail,
        "error": detail,
    }
    if fields:
        document["fields"] = {
            name[:NAME_MAX_CHARACTERS]: wrong[:WRONG_MAX_CHARACTERS]
            for name, wrong in itertools.islice(fields.items(), MAX_FIELDS)
        }
    if job_status is not None:
        document["job_status"] = job_status
    return as_json(document)
