"""The spans of batches: a handler that works on jobs of many traces is in one of its own, which is linked."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar

import structlog
from opentelemetry import trace
from opentelemetry.context import Context, attach
from opentelemetry.trace import Link, Span, SpanContext, SpanKind

from goqueue.jobs import ClaimedJob
from goqueue.observability.exception_reader import ExceptionReader
from goqueue.observability.tracing.context import parsed
from goqueue.observability.tracing.spans import Tracing, messaging, span_name

__all__ = ["BatchTrace", "begin_batch", "link_to_batch"]

log = structlog.get_logger(__name__)

#: A span has no more links, by OpenTelemetry's default.
LINKS_MAX = 100

#: The batch whose jobs begin in the calling context.
_batch: ContextVar[SpanContext | None] = ContextVar("goqueue_batch_span", default=None)


class BatchTrace:
    """The trace of a batch. Its methods are called in the context of its run, which ends with it."""

    __slots__ = ("_span",)

    def __init__(self, span: Span | None) -> None:
        self._span = span
        _batch.set(None if span is None else span.get_span_context())

    def enter(self) -> None:
        """Let the handler be in this trace, and in none where no span is made: its jobs are of many."""
        attach(Context() if self._span is None else trace.set_span_in_context(self._span, Context()))

    def end(self, *, failed: int) -> None:
        """End the span, which tells how many of the jobs failed. Never raises."""
        if self._span is None:
            return
        try:
            self._span.set_attribute("goqueue.batch.failed", failed)
            self._span.end()
        except BaseException as error:  # noqa: BLE001  (a foreign processor may raise; the outcomes must be recorded)
            log.warning("tracing_failed", error=ExceptionReader(error).line)


def begin_batch(jobs: Sequence[ClaimedJob]) -> BatchTrace:
    """Begin the trace of a batch, before those of its jobs. Never raises."""
    if Tracing.tracer is None:
        return BatchTrace(None)
    first = jobs[0]
    described = {"messaging.batch.message_count": len(jobs), "goqueue.job.type": first.type}
    created = [context for job in jobs[:LINKS_MAX] if (context := parsed(job.traceparent)) is not None]
    try:
        span = Tracing.tracer.start_span(
            span_name("batch", first.queue),
            Context(),
            SpanKind.CONSUMER,
            messaging("batch", "process", first.queue) | described,
            [Link(context, {"goqueue.link": "created_by"}) for context in created],
        )
    except BaseException as error:  # noqa: BLE001  (what a foreign sampler raises is not the failure of the jobs)
        log.warning("tracing_failed", error=ExceptionReader(error).line)
        return BatchTrace(None)
    return BatchTrace(span)


def link_to_batch() -> list[Link]:
    """Return the link from the span of an attempt to that of the batch in which it begins, if it does."""
    batch = _batch.get()
    return [] if batch is None else [Link(batch, {"goqueue.link": "batch"})]
