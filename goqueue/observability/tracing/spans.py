"""The tracer of this process, and the names and attributes that all of its spans have."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import Span, Status, StatusCode, Tracer

__all__ = ["SYSTEM", "Tracing", "adopt", "chosen_span_id", "fail", "is_on", "messaging", "span_name", "use"]

SYSTEM = "goqueue"

#: The id that the next span which is started here shall have, where the provider is GoQueue's own.
chosen_span_id: ContextVar[int | None] = ContextVar("goqueue_chosen_span_id", default=None)


class Tracing:
    """Holds what makes the spans of this process.

    Attributes:
        tracer: None: nothing does.
        chooses_ids: its spans of attempts have the ids that retries expect.
    """

    tracer: Tracer | None = None
    chooses_ids = False


def use(tracer: Tracer | None, *, chooses_ids: bool = False) -> None:
    """Let this tracer make the spans of this process; None ends that."""
    Tracing.tracer, Tracing.chooses_ids = tracer, chooses_ids


def adopt() -> Tracer | None:
    """Find what makes the spans of this process: where nothing does, what its application has set up."""
    if Tracing.tracer is None:
        provider = trace.get_tracer_provider()
        if not isinstance(provider, trace.ProxyTracerProvider):
            use(provider.get_tracer(SYSTEM))
    return Tracing.tracer


def is_on() -> bool:
    """Tell whether this process makes spans."""
    return Tracing.tracer is not None


def messaging(operation: str, operation_type: str | None, queue: str | None) -> dict[str, Any]:
    """The attributes that every span of a job has, by the conventions for messaging."""
    attributes: dict[str, Any] = {"messaging.system": SYSTEM, "messaging.operation.name": operation}
    if operation_type is not None:
        attributes["messaging.operation.type"] = operation_type
    if queue is not None:
        attributes["messaging.destination.name"] = queue
    return attributes


def span_name(operation: str, queue: str | None) -> str:
    """The name of a span, by the same conventions."""
    return operation if queue is None else f"{operation} {queue}"


def fail(span: Span, error_type: str, description: str | None = None) -> None:
    """Say that what a span stands for has failed, and of which class the error is."""
    span.set_attribute("error.type", error_type)
    span.set_status(Status(StatusCode.ERROR, description))
