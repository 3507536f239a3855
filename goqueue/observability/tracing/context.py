"""The trace that the calling code belongs to, and its written form: W3C's `traceparent`."""

from __future__ import annotations

import re
from contextvars import Token

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from structlog.types import EventDict

__all__ = [
    "add_trace_id",
    "context_of",
    "current_traceparent",
    "enter",
    "formatted",
    "leave",
    "parsed",
    "trace_id_of",
    "traceparent_or_none",
]

#: That the trace is kept, and (level 2) that its id is random; what comes later is not handed on.
KNOWN_FLAGS = 0x03

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


def parsed(traceparent: object) -> SpanContext | None:
    """The context that a `traceparent` names; None where it is not valid, which W3C says to ignore."""
    found = _TRACEPARENT.fullmatch(traceparent.strip()) if isinstance(traceparent, str) else None
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    flags = TraceFlags(int(found[4], 16) & KNOWN_FLAGS)
    context = SpanContext(int(found[2], 16), int(found[3], 16), is_remote=True, trace_flags=flags)
    return context if context.is_valid else None


def formatted(context: SpanContext) -> str:
    """The `traceparent` that names a context."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def context_of(parent: SpanContext | None) -> Context:
    """Make what a span is started in that is a child of this one; None is nobody's child."""
    return Context() if parent is None else trace.set_span_in_context(NonRecordingSpan(parent), Context())


def traceparent_or_none(text: object) -> str | None:
    """A client's `traceparent` as it is stored; None where it is not valid."""
    context = parsed(text)
    return None if context is None else formatted(context)


def trace_id_of(traceparent: str | None) -> str | None:
    """The trace that a stored `traceparent` names, as 32 hex digits."""
    return None if traceparent is None else traceparent[3:35]


def current_traceparent() -> str | None:
    """The span that is current in the calling code, as a `traceparent`; None where it is in no trace."""
    context = trace.get_current_span().get_span_context()
    return formatted(context) if context.is_valid else None


def enter(traceparent: object) -> Token[Context] | None:
    """Let what follows in this thread belong to the trace that a client names; None where it names none."""
    context = parsed(traceparent)
    return None if context is None else attach(context_of(context))


def leave(token: Token[Context] | None) -> None:
    """End what `enter` began."""
    if token is not None:
        detach(token)


def add_trace_id(_logger: object, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: add the trace that the calling code belongs to, where it does."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event.setdefault("trace_id", f"{context.trace_id:032x}")
    return event
