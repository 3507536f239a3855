"""The export of a process's spans: OpenTelemetry's SDK, set up once a process, after its fork."""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from opentelemetry import trace

from goqueue.errors import ConfigurationError
from goqueue.observability.tracing.spans import SYSTEM, adopt, chosen_span_id, use

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

    from goqueue.config.settings import Settings

__all__ = ["check_tracing", "make_provider", "start_tracing", "stop_tracing", "trace_with"]

#: How long one try to hand a batch to the collector takes, and the end of a process waits for the last ones.
EXPORT_SECONDS = 2


class _Exporting:
    """What hands the spans of this process on, and after when it need not."""

    provider: TracerProvider | None = None
    give_up_at: float | None = None


def check_tracing(settings: Settings) -> None:
    """Check that what makes spans is installed, where spans are wanted.

    Raises:
        ConfigurationError: it is not.
    """
    wanted = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
    if settings.tracing_endpoint is not None and not all(_is_installed(name) for name in wanted):
        raise ConfigurationError(["GOQUEUE_TRACING_ENDPOINT: it needs pip install 'goqueue[tracing]'"])


def start_tracing(settings: Settings, role: str) -> None:
    """Make spans in this process, where its settings name a collector, or its own code has set that up.

    A batch of spans is handed on by a thread, so this is called in the process that serves, after its fork.

    Args:
        settings: where spans go.
        role: api, worker or scheduler: part of the service's name.

    Raises:
        ConfigurationError: what makes spans is not installed.
    """
    if settings.tracing_endpoint is None:
        adopt()
        return
    check_tracing(settings)
    _Exporting.provider = make_provider(settings, role, _processor(settings.tracing_endpoint))
    _Exporting.give_up_at = None
    trace_with(_Exporting.provider)
    # Dramatiq's processes end without it, and call it themselves.
    atexit.register(stop_tracing)
    # What handlers and their libraries do is then part of the same traces.
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        trace.set_tracer_provider(_Exporting.provider)


def stop_tracing() -> None:
    """Hand on the last spans; no batch is begun after two seconds, for no process waits for a collector."""
    provider, _Exporting.provider = _Exporting.provider, None
    if provider is not None:
        use(None)
        _Exporting.give_up_at = time.monotonic() + EXPORT_SECONDS
        provider.shutdown()


def make_provider(settings: Settings, role: str, processor: SpanProcessor) -> TracerProvider:
    """A provider whose sampling is the settings', and whose spans of attempts have ids that retries know."""
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator  # noqa: PLC0415
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio  # noqa: PLC0415

    class AttemptIds(RandomIdGenerator):
        """Random ids, but for the spans whose id is chosen."""

        def generate_span_id(self) -> int:
            return chosen_span_id.get() or super().generate_span_id()

    resource = Resource.create(
        {"service.name": f"goqueue-{role}", "service.version": version("goqueue"), "process.pid": os.getpid()}
    )
    provider = TracerProvider(
        sampler=ParentBasedTraceIdRatio(settings.tracing_sample_ratio),
        resource=resource,
        id_generator=AttemptIds(),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(processor)
    return provider


def _processor(endpoint: str) -> SpanProcessor:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult  # noqa: PLC0415

    class Exporter(OTLPSpanExporter):
        """Begins no batch after it was given up."""

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            if _Exporting.give_up_at is not None and time.monotonic() > _Exporting.give_up_at:
                return SpanExportResult.FAILURE
            return super().export(spans)

    return BatchSpanProcessor(Exporter(endpoint=endpoint, timeout=EXPORT_SECONDS))


def trace_with(provider: TracerProvider) -> None:
    """Let a provider that `make_provider` made make the spans of this process."""
    from opentelemetry.semconv.schemas import Schemas  # noqa: PLC0415

    tracer = provider.get_tracer(SYSTEM, version("goqueue"), Schemas.V1_44_0.value)
    use(tracer, chooses_ids=True)


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False
