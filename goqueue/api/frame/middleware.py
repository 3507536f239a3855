"""Falcon's middleware: what happens around every request."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable

import falcon
from structlog.contextvars import bind_contextvars, unbind_contextvars

from goqueue.api.frame.held_requests import held_request
from goqueue.observability import metrics
from goqueue.observability.tracing import context as trace_context

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"})


class RequestObservation:
    """Names each request, binds the name to its log records, enters its client's trace, and measures it.

    The labels of the measurement are bounded: the template of the route, never the path.
    """

    def process_request(self, request: falcon.Request, response: falcon.Response) -> None:
        """Take the client's X-Request-ID, or make one."""
        request.context.started = time.perf_counter()
        given = request.get_header("X-Request-ID")
        held = held_request(request)
        request_id = held.request_id or (
            given if given and _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
        )
        held.request_id = request_id
        response.set_header("X-Request-ID", request_id)
        bind_contextvars(request_id=request_id)
        request.context.trace = trace_context.enter(request.env.get("HTTP_TRACEPARENT"))

    def process_response(
        self, request: falcon.Request, response: falcon.Response, _resource: object, _succeeded: bool
    ) -> None:
        """Measure, and let go of the name: the thread answers somebody else next.

        A request that waits is measured when it is answered, without the time for which it waited.
        """
        if not held_request(request).is_kept:
            seconds = time.perf_counter() - request.context.started
            method = request.method if request.method in _METHODS else "other"
            route = request.uri_template or "unknown"
            metrics.HTTP_REQUEST_DURATION.labels(method, route, str(response.status)[:3]).observe(seconds)
        unbind_contextvars("request_id")
        trace_context.leave(request.context.trace)


class AnswerHeaders:
    """Lets nobody keep an answer of the API, nor take it for something else than it says that it is.

    Args:
        is_site: whether a path belongs to the site, which says this for itself.
    """

    def __init__(self, is_site: Callable[[str], bool] = lambda _path: False) -> None:
        self._is_site = is_site

    def process_response(
        self, request: falcon.Request, response: falcon.Response, _resource: object, _succeeded: bool
    ) -> None:
        """Add the headers, also to a problem."""
        if not self._is_site(request.path):
            response.set_header("X-Content-Type-Options", "nosniff")
            response.set_header("Cache-Control", "no-store")
