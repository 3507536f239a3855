"""The spans of attempts, and of the waits before them."""

from __future__ import annotations

import time
from hashlib import blake2b

import structlog
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Tracer

from goqueue.jobs import AttemptOutcome, ClaimedJob, Outcome
from goqueue.observability.exception_reader import ExceptionReader
from goqueue.observability.tracing.batches import link_to_batch
from goqueue.observability.tracing.context import context_of, parsed
from goqueue.observability.tracing.spans import Tracing, chosen_span_id, fail, messaging, span_name

__all__ = ["AttemptTrace", "begin_attempt"]

log = structlog.get_logger(__name__)

#: Of an error's text, in the status of a span: as much as a log line tells.
DESCRIPTION_MAX_CHARACTERS = 500


def begin_attempt(job: ClaimedJob) -> AttemptTrace | None:
    """Enter the trace of a claimed job that runs here from now on; None where it has none.

    Never raises: what a foreign sampler or processor raises would be the failure of the attempt.
    """
    creation = parsed(job.traceparent)
    try:
        if Tracing.tracer is not None:
            return AttemptTrace(_start_attempt(Tracing.tracer, job, creation))
    except BaseException as error:  # noqa: BLE001  (as said above)
        log.warning("tracing_failed", job_id=job.id, error=ExceptionReader(error).line)
    return None if creation is None else AttemptTrace(NonRecordingSpan(creation))


class AttemptTrace:
    """The trace that a thread is in while it runs an attempt, up to its `end` in the same thread."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: Span) -> None:
        self._span = span
        self._token = attach(trace.set_span_in_context(span, Context()))

    def resume(self) -> None:
        """Be in the trace again, in the same context: what runs was in another one meanwhile."""
        attach(trace.set_span_in_context(self._span, Context()))

    def end(self, outcome: Outcome | None) -> None:
        """Leave the trace; the span tells how the attempt ended. Never raises."""
        detach(self._token)
        try:
            if outcome is not None:
                _tell_outcome(self._span, outcome)
            self._span.end()
        except BaseException as error:  # noqa: BLE001  (a foreign processor may raise; the outcome must be recorded)
            log.warning("tracing_failed", error=ExceptionReader(error).line)


def _start_attempt(tracer: Tracer, job: ClaimedJob, creation: SpanContext | None) -> Span:
    """The span of an attempt, and of the wait that ends with its begin."""
    now = time.time_ns()
    described = {
        "messaging.message.id": str(job.id),
        "goqueue.job.type": job.type,
        "goqueue.job.attempt": job.attempt,
        "goqueue.job.fence": job.fence,
    }
    token = chosen_span_id.set(None if creation is None else _attempt_span_id(creation, job.id, job.fence))
    try:
        span = tracer.start_span(
            span_name("process", job.queue),
            context_of(creation),
            SpanKind.CONSUMER,
            messaging("process", "process", job.queue) | described,
            [*_links(job, creation), *link_to_batch()],
            now,
        )
    finally:
        chosen_span_id.reset(token)
    since = job.claimed_at - job.wait_seconds
    tracer.start_span(
        span_name("wait", job.queue),
        context_of(creation or span.get_span_context()),
        SpanKind.INTERNAL,
        messaging("wait", None, job.queue) | described,
        # By PostgreSQL's clock, which may be ahead of this machine's.
        start_time=min(now, int(since * 1e9)),
    ).end(now)
    return span


def _links(job: ClaimedJob, creation: SpanContext | None) -> list[Link]:
    """To the span of the create, and to the attempt before."""
    if creation is None:
        return []
    links = [Link(creation, {"goqueue.link": "created_by"})]
    if job.fence > 1 and Tracing.chooses_ids:
        before = SpanContext(
            creation.trace_id,
            _attempt_span_id(creation, job.id, job.fence - 1),
            is_remote=True,
            trace_flags=creation.trace_flags,
        )
        links.append(Link(before, {"goqueue.link": "previous_attempt"}))
    return links


def _attempt_span_id(creation: SpanContext, job_id: int, fence: int) -> int:
    """The id of the span of an attempt: the next one, wherever it runs, has to know it."""
    text = f"{creation.trace_id:032x}.{job_id}.{fence}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) or 1


def _tell_outcome(span: Span, outcome: Outcome) -> None:
    span.set_attribute("goqueue.attempt.outcome", outcome.attempt_outcome.value)
    span.set_attribute("goqueue.job.status", outcome.status.value)
    if outcome.attempt_outcome is AttemptOutcome.FAILED:
        kind = outcome.failure_kind
        described = "" if outcome.encrypted else (outcome.error or "")[:DESCRIPTION_MAX_CHARACTERS]
        fail(span, kind.exception if kind else outcome.reason or "_OTHER", described)
