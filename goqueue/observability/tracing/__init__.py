"""Traces: what a job goes through as OpenTelemetry spans, by the messaging conventions 1.44.0.

A job carries the context of the span that created it (`traceparent`). Its waits and its attempts are children
of that span, so one trace holds it from the request that created it to the webhook of its last retry. Without
a tracer no span is made, and the context that a client sent is handed on as it came.

What makes spans is set up once a process (`export.py`). In an application that has set up OpenTelemetry
itself, its own provider does.
"""

from __future__ import annotations

from goqueue.observability.tracing.attempts import AttemptTrace, begin_attempt
from goqueue.observability.tracing.batches import BatchTrace, begin_batch
from goqueue.observability.tracing.calls import calling, tell_http_status
from goqueue.observability.tracing.creation import Creation, begin_create, belongs_to_trace
from goqueue.observability.tracing.spans import adopt, is_on, use

__all__ = [
    "AttemptTrace",
    "BatchTrace",
    "Creation",
    "adopt",
    "begin_attempt",
    "begin_batch",
    "begin_create",
    "belongs_to_trace",
    "calling",
    "is_on",
    "tell_http_status",
    "use",
]
