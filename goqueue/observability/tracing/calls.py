"""The spans of calls to other services."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind

from goqueue.observability.tracing.spans import Tracing, fail

__all__ = ["calling", "tell_http_status"]

FIRST_ERROR_STATUS = 400


@contextmanager
def calling(name: str, attributes: Mapping[str, str | int]) -> Iterator[Span]:
    """The span of a call to another service, the current one inside."""
    if Tracing.tracer is None:
        yield trace.INVALID_SPAN
        return
    with Tracing.tracer.start_as_current_span(
        name,
        kind=SpanKind.CLIENT,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield span
        except BaseException as error:
            fail(span, type(error).__name__)
            raise


def tell_http_status(span: Span, status: int) -> None:
    """Tell what a server answered; from 400 on that is an error of the call."""
    span.set_attribute("http.response.status_code", status)
    if status >= FIRST_ERROR_STATUS:
        fail(span, str(status))
