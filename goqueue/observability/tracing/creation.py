"""The spans of creates, and the context that new jobs carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

import structlog
from opentelemetry.trace import Span, SpanContext, SpanKind, Tracer

from goqueue.jobs import NewJob
from goqueue.observability.exception_reader import ExceptionReader
from goqueue.observability.tracing.context import context_of, current_traceparent, formatted, parsed
from goqueue.observability.tracing.spans import Tracing, adopt, fail, messaging, span_name

__all__ = ["Creation", "begin_create", "belongs_to_trace"]

log = structlog.get_logger(__name__)


def begin_create(jobs: Sequence[NewJob]) -> Creation | None:
    """Begin what gives new jobs their trace: a span, or else the trace that they are in; None: neither is.

    Never raises, nor does what it returns: what a foreign sampler or processor raises costs the span alone.
    """
    if not belongs_to_trace(jobs):
        return None
    current = current_traceparent()
    try:
        return Creation(adopt(), jobs, current)
    except Exception as error:  # noqa: BLE001  (as said above)
        log.warning("tracing_failed", error=ExceptionReader(error).line)
        return Creation(None, jobs, current)


def belongs_to_trace(jobs: Sequence[NewJob]) -> bool:
    """Tell whether new jobs are to carry a trace: spans are made here, or they or their maker are in one."""
    if Tracing.tracer is not None or any(job.traceparent for job in jobs):
        return True
    return current_traceparent() is not None


class Creation:
    """The new jobs with the context that each is to carry; and, until it is left, the span of their create.

    Jobs that are created together have one span: a "send" whose context is their creation context. Only jobs
    of different causes, as are follow-ups that are recorded together, have several.

    Attributes:
        jobs: the same jobs, each with its `traceparent`.
        has_spans: there is something to tell of them.
    """

    def __init__(self, tracer: Tracer | None, jobs: Sequence[NewJob], current: str | None) -> None:
        self.has_spans = tracer is not None
        self._causes = [job.traceparent or current for job in jobs]
        self._spans: dict[str | None, Span] = {}
        carried = {cause: cause for cause in self._causes}
        if tracer is not None:
            for cause, places in self._places().items():
                span = _start_create(tracer, [jobs[place] for place in places], parsed(cause))
                self._spans[cause] = span
                carried[cause] = _traceparent_of(span) or cause
        self.jobs = [
            replace(job, traceparent=carried[cause]) for job, cause in zip(jobs, self._causes, strict=True)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _frames: TracebackType | None
    ) -> None:
        try:
            for span in self._spans.values():
                if kind is not None:
                    fail(span, kind.__name__)
                span.end()
        except Exception as error:  # noqa: BLE001  (the jobs are created, whatever a processor raises)
            log.warning("tracing_failed", error=ExceptionReader(error).line)

    def link(self, traceparents: Sequence[str]) -> None:
        """Link to the traces of the jobs that these wait for."""
        contexts = [context for text in traceparents if (context := parsed(text)) is not None]
        for cause, span in self._spans.items():
            own = parsed(cause)
            for context in contexts:
                if own is None or context.trace_id != own.trace_id:
                    span.add_link(context, {"goqueue.link": "depends_on"})

    def made(self, ids: Sequence[int], *, deduplicated: int = 0) -> None:
        """Tell which jobs they became, and how many were there already."""
        for cause, places in self._places().items() if self._spans else ():
            span = self._spans[cause]
            if len(places) == 1:
                span.set_attribute("messaging.message.id", str(ids[places[0]]))
            if deduplicated:
                span.set_attribute("goqueue.deduplicated", deduplicated)

    def _places(self) -> dict[str | None, list[int]]:
        """Which of the jobs have which cause."""
        places: dict[str | None, list[int]] = {}
        for place, cause in enumerate(self._causes):
            places.setdefault(cause, []).append(place)
        return places


def _start_create(tracer: Tracer, jobs: Sequence[NewJob], parent: SpanContext | None) -> Span:
    queues, types = {job.queue for job in jobs}, {job.type for job in jobs}
    queue = queues.pop() if len(queues) == 1 else None
    attributes = messaging("create", "send", queue)
    if len(types) == 1:
        attributes["goqueue.job.type"] = types.pop()
    if len(jobs) > 1:
        attributes["messaging.batch.message_count"] = len(jobs)
    return tracer.start_span(span_name("create", queue), context_of(parent), SpanKind.PRODUCER, attributes)


def _traceparent_of(span: Span) -> str | None:
    context = span.get_span_context()
    return formatted(context) if context.is_valid else None
