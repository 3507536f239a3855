"""Setting traces up: what is wanted is there, what is sampled, and which ids spans get."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from goqueue.config.settings import Settings, load_settings
from goqueue.errors import ConfigurationError
from goqueue.jobs import NewJob
from goqueue.observability import tracing
from goqueue.observability.tracing import export
from goqueue.observability.tracing.context import parsed

ENDPOINT = "http://127.0.0.1:4318/v1/traces"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    """What was kept."""
    return InMemorySpanExporter()


@pytest.fixture
def sample(exporter: InMemorySpanExporter) -> Iterator[None]:
    """Spans of which nothing is kept unless a client wants it."""
    settings = Settings(tracing_sample_ratio=0.0)
    provider = export.make_provider(settings, "test", SimpleSpanProcessor(exporter))
    export.trace_with(provider)
    yield
    tracing.use(None)
    provider.shutdown()


def create(traceparent: str | None) -> NewJob:
    """A job as it would be inserted."""
    creation = tracing.begin_create([NewJob("default", "noop", "{}", traceparent=traceparent)])
    assert creation is not None
    with creation:
        creation.made([1])
    return creation.jobs[0]


@pytest.mark.usefixtures("sample")
def test_a_client_decides_what_is_kept(exporter: InMemorySpanExporter) -> None:
    """The ratio is for traces that begin here; both decisions go on with the job."""
    assert create(f"00-{'a' * 32}-{'b' * 16}-01").traceparent is not None
    (kept,) = exporter.get_finished_spans()
    assert kept.context is not None
    assert f"{kept.context.trace_id:032x}" == "a" * 32
    dropped = parsed(create(None).traceparent)
    assert len(exporter.get_finished_spans()) == 1
    assert dropped is not None
    assert not dropped.trace_flags.sampled


@pytest.mark.usefixtures("sample")
def test_the_version_of_the_conventions_is_told(exporter: InMemorySpanExporter) -> None:
    """The scope of the spans names the schema that their attributes follow."""
    create(f"00-{'a' * 32}-{'b' * 16}-01")
    (kept,) = exporter.get_finished_spans()
    assert kept.instrumentation_scope is not None
    assert (kept.instrumentation_scope.schema_url or "").endswith("/1.44.0")
    assert kept.resource.attributes["service.name"] == "goqueue-test"


def test_off_is_nothing() -> None:
    """Without a tracer and a trace there is nothing to do at a create."""
    assert tracing.begin_create([NewJob("default", "noop", "{}")]) is None


def test_what_makes_spans_is_installed_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is to make spans, and cannot, says before it serves what to install."""
    export.check_tracing(Settings(tracing_endpoint=ENDPOINT))
    missing = "opentelemetry.exporter.otlp.proto.http"
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == missing else find_spec(name))
    export.check_tracing(Settings())
    with pytest.raises(ConfigurationError, match=r"goqueue\[tracing\]"):
        export.check_tracing(Settings(tracing_endpoint=ENDPOINT))


def test_the_end_of_a_process_waits_for_no_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of spans that fill 100 batches, a collector that hangs is offered a few at the end, not all."""
    monkeypatch.setattr(export, "EXPORT_SECONDS", 0.1)
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
    monkeypatch.setattr(trace, "get_tracer_provider", object)  # the global one can be set only once
    with socket.create_server(("127.0.0.1", 0)) as collector:
        endpoint = f"http://127.0.0.1:{collector.getsockname()[1]}/v1/traces"
        export.start_tracing(Settings(tracing_endpoint=endpoint), "test")
        for _ in range(1000):
            create(None)
        started = time.monotonic()
        export.stop_tracing()
        assert time.monotonic() - started < 5
    assert not tracing.is_on()


@pytest.mark.parametrize(
    ("name", "value"),
    [("tracing_endpoint", "collector:4317"), ("tracing_endpoint", ""), ("tracing_sample_ratio", 1.5)],
    ids=["no scheme", "empty", "ratio"],
)
def test_wrong_settings_are_refused(name: str, value: object) -> None:
    """An endpoint that is no URL of HTTP, and a share that is none, are named."""
    with pytest.raises(ConfigurationError, match=f"GOQUEUE_{name.upper()}"):
        load_settings(**{name: value})


def test_flags_of_a_later_level_are_dropped() -> None:
    """Whether the trace is kept and its id random is handed on, and nothing that is not known here."""
    context = parsed(f"00-{'a' * 32}-{'b' * 16}-ff")
    assert context is not None
    assert context.trace_flags == 3
