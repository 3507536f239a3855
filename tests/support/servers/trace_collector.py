"""A collector of spans: takes OTLP over HTTP, as the processes of a stack send it."""

from __future__ import annotations

from dataclasses import dataclass

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from goqueue.dev.fakes.http_server import FakeAnswer, FakeRequest, HttpServer

__all__ = ["CollectedSpan", "TraceCollector"]


@dataclass(frozen=True, slots=True)
class CollectedSpan:
    """One span, and the service that sent it."""

    service: str
    pid: int
    name: str
    trace_id: str
    span_id: str
    parent_id: str


class TraceCollector(HttpServer):
    """Keeps every span that it is sent.

    Attributes:
        spans: all so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.spans: list[CollectedSpan] = []

    def answer(self, request: FakeRequest) -> FakeAnswer:
        """Take the spans of a batch."""
        batch = ExportTraceServiceRequest.FromString(request.body)
        for resource in batch.resource_spans:
            told = {item.key: item.value for item in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [
                    CollectedSpan(
                        service=told["service.name"].string_value,
                        pid=told["process.pid"].int_value,
                        name=span.name,
                        trace_id=span.trace_id.hex(),
                        span_id=span.span_id.hex(),
                        parent_id=span.parent_span_id.hex(),
                    )
                    for span in scope.spans
                ]
        return FakeAnswer(headers={"Content-Type": "application/x-protobuf"}, body=b"")

    def of(self, trace_id: str) -> dict[str, CollectedSpan]:
        """The spans of a trace, by their names: of two of one name, the first that came."""
        return {span.name: span for span in reversed(self.spans) if span.trace_id == trace_id}
