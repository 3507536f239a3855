"""The answers of the server itself, before the application has seen a request: problem documents as well."""

from __future__ import annotations

import http
from collections.abc import Mapping

from gunicorn.http import errors

from goqueue.api.frame.problems import CONTENT_TYPE, problem_document

DETAIL_MAX_CHARACTERS = 200

#: Everything else that gunicorn's parser refuses is a 400.
_STATUS_OF: Mapping[type[Exception], int] = {
    errors.LimitRequestLine: 414,
    errors.LimitRequestHeaders: 431,
    errors.ExpectationFailed: 417,
    errors.UnsupportedTransferCoding: 501,
    errors.ForbiddenProxyRequest: 403,
    errors.ConfigurationProblem: 500,
}


class RefusedRequestError(Exception):
    """A request that does not reach the application.

    Attributes:
        status, detail: of the answer.
        retry_after_seconds: when it may be sent again; None says nothing about that.
    """

    def __init__(self, status: int, detail: str, *, retry_after_seconds: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail[:DETAIL_MAX_CHARACTERS]
        self.retry_after_seconds = retry_after_seconds


def refusal_of(error: Exception) -> RefusedRequestError:
    """Return the refusal that an exception of gunicorn's parser means."""
    if isinstance(error, errors.NoMoreData):
        return RefusedRequestError(400, "the request ends before its header does")
    return RefusedRequestError(_STATUS_OF.get(type(error), 400), str(error))


def as_answer(refusal: RefusedRequestError) -> bytes:
    """Write the refusal as an answer, after which the connection is closed."""
    body = problem_document(refusal.status, refusal.detail)
    head = [
        f"HTTP/1.1 {refusal.status} {http.HTTPStatus(refusal.status).phrase}",
        "Connection: close",
        f"Content-Type: {CONTENT_TYPE}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
    ]
    if refusal.retry_after_seconds is not None:
        head.append(f"Retry-After: {refusal.retry_after_seconds}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body
