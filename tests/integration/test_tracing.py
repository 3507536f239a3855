"""Traces: one of them holds a job from the request of its client to the webhook of its last retry."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import dramatiq
import pytest
import structlog
from falcon import testing
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from pydantic import SecretStr

import goqueue
from goqueue.actors.outgoing import shared_caller
from goqueue.actors.send_email import DeliveryError, EmailPayload, deliver
from goqueue.actors.send_webhook import WebhookPayload
from goqueue.actors.webhook_call import post
from goqueue.api.app import create_app
from goqueue.config.settings import Settings, get_settings
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.dev.fakes.smtp_sink import SmtpSink
from goqueue.dev.fakes.webhook_receiver import WebhookReceiver
from goqueue.engine.new_job import new_job
from goqueue.instance import default
from goqueue.observability import tracing
from goqueue.observability.logging import configure_logging
from goqueue.observability.tracing.context import current_traceparent
from goqueue.observability.tracing.export import make_provider, trace_with
from tests.support.engine import Engine, running_engine
from tests.support.shared_database import TESTED_HOST
from tests.support.waiting import wait_until

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CLIENT_SPAN = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{CLIENT_SPAN}-01"
UNSAMPLED = f"00-{TRACE}-{CLIENT_SPAN}-00"

seen: list[str | None] = []
options_seen: list[dict[str, Any] | None] = []


def declare() -> None:  # noqa: C901  (a list of actors, nothing is decided)
    """Declare the actors of these tests on the present broker."""

    @goqueue.actor(queue="webhooks", max_retries=3)
    def send_webhook(payload: WebhookPayload) -> dict[str, Any]:
        return post(payload, job_id=goqueue.current_job().id, settings=get_settings())

    @goqueue.actor(queue="traced", max_retries=1)
    def note(fails: bool = False) -> None:  # noqa: FBT002  (a field of the payload)
        seen.append(current_traceparent())
        options_seen.append(goqueue.current_job().claimed.options)
        structlog.get_logger("handler").info("noted")
        if fails and goqueue.current_job().attempt == 1:
            raise ValueError("wrong")

    @goqueue.actor(queue="traced")
    async def note_async() -> None:
        seen.append(current_traceparent())

    @goqueue.actor(queue="traced_batches", batch=goqueue.Batch(size=2, wait_ms=5_000), max_retries=0)
    def note_together(items: list[dict[str, Any]]) -> None:
        seen.append(current_traceparent())
        raise goqueue.BatchFailed({place: ValueError("wrong") for place, one in enumerate(items) if one})

    @goqueue.actor(queue="traced_batches", batch=goqueue.Batch(size=2, wait_ms=5_000), max_retries=0)
    async def note_together_async(items: list[dict[str, Any]]) -> None:
        seen.append(current_traceparent())
        raise goqueue.BatchFailed({place: ValueError("wrong") for place, one in enumerate(items) if one})

    @goqueue.actor(queue="traced")
    def create_another() -> None:
        goqueue.enqueue(note, {})

    @goqueue.actor(queue="traced", max_retries=2)
    def snooze_once() -> None:
        if goqueue.current_job().fence == 1:
            raise goqueue.Snooze(0.02)

    @dramatiq.actor(queue_name="traced")
    def and_then(*_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def engine(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> Iterator[Engine]:
    """An engine that all tests of this module share."""
    changes = {
        "webhook_allow_networks": ("127.0.0.0/8",),
        "max_backoff_seconds": 0.05,
        "allowed_hosts": (TESTED_HOST,),
    }
    with running_engine(postgres, valkey, "tracing", declare, **changes) as engine:
        yield engine
        shared_caller(engine.settings.webhook_allow_networks).close()


@pytest.fixture
def client(engine: Engine) -> testing.TestClient:
    """A client of the API over the engine's database."""
    broker = engine.broker
    return testing.TestClient(create_app(engine.settings, database=broker.database, runway=broker.runway))


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    seen.clear()
    options_seen.clear()


@pytest.fixture
def exporter(engine: Engine) -> Iterator[InMemorySpanExporter]:
    """What this process makes spans for, while the test runs."""
    exporter = InMemorySpanExporter()
    provider = make_provider(engine.settings, "test", SimpleSpanProcessor(exporter))
    trace_with(provider)
    yield exporter
    tracing.use(None)
    provider.shutdown()


class Spans:
    """The ended spans of one trace, the earliest first."""

    def __init__(self, exporter: InMemorySpanExporter, trace_id: str = TRACE) -> None:
        found = [span for span in exporter.get_finished_spans() if trace_id_of(span) == trace_id]
        self.all = sorted(found, key=lambda span: span.start_time or 0)

    def named(self, prefix: str) -> list[ReadableSpan]:
        """Those whose name begins so."""
        return [span for span in self.all if span.name.startswith(prefix)]


def trace_id_of(span: ReadableSpan) -> str:
    """The trace of a span, as documents and logs name it."""
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


def span_id_of(span: ReadableSpan) -> int:
    """The id of a span."""
    assert span.context is not None
    return int(span.context.span_id)


def links_of(span: ReadableSpan) -> dict[str, int]:
    """What a span links to: why → the id of the span."""
    return {
        str(link.attributes["goqueue.link"]): link.context.span_id for link in span.links if link.attributes
    }


def parents_of(spans: Sequence[ReadableSpan]) -> set[int]:
    """The ids of the parents of spans."""
    return {span.parent.span_id for span in spans if span.parent is not None}


def webhook_request(receiver: WebhookReceiver, path: str, **members: Any) -> dict[str, Any]:
    """The body of a request for a webhook."""
    payload = {"url": receiver.url + path, "method": "POST", "body": {"secret": "s3cret"}, "timeout": 5}
    return {"queue": "webhooks", "type": "send_webhook", "payload": payload} | members


def create(client: testing.TestClient, body: dict[str, Any], traceparent: str | None) -> dict[str, Any]:
    """Create a job, within a client's trace."""
    headers = {} if traceparent is None else {"traceparent": traceparent}
    answer = client.simulate_post("/jobs/create", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json
    return document


def test_one_trace_holds_a_job_from_its_client_to_the_webhook_of_its_retry(
    engine: Engine, client: testing.TestClient, exporter: InMemorySpanExporter
) -> None:
    """Create, two waits, two attempts and two calls: all in the client's trace, and linked as they follow."""
    with WebhookReceiver() as receiver:
        document = create(client, webhook_request(receiver, "/fail/1"), TRACEPARENT)
        engine.wait_for(document["id"])
        wait_until(lambda: len(Spans(exporter).named("process")) == 2, what="the spans of both attempts")
        assert receiver.last is not None
        received = receiver.last.headers["traceparent"]
    spans = Spans(exporter)
    (created,) = spans.named("create webhooks")
    waits, attempts, calls = (spans.named(name) for name in ("wait webhooks", "process webhooks", "POST"))
    assert len(spans.all) == 7
    assert (len(waits), len(attempts), len(calls)) == (2, 2, 2)
    assert created.parent is not None
    assert created.parent.span_id == int(CLIENT_SPAN, 16)
    assert parents_of([*waits, *attempts]) == {span_id_of(created)}
    assert [parents_of([call]) for call in calls] == [{span_id_of(attempt)} for attempt in attempts]
    assert links_of(attempts[0]) == {"created_by": span_id_of(created)}
    assert links_of(attempts[1]) == {
        "created_by": span_id_of(created),
        "previous_attempt": span_id_of(attempts[0]),
    }
    assert received == f"00-{TRACE}-{span_id_of(calls[1]):016x}-01"
    assert document["trace_id"] == TRACE
    assert client.simulate_get(f"/jobs/{document['id']}").json["trace_id"] == TRACE


def test_spans_say_what_the_conventions_ask(
    engine: Engine, client: testing.TestClient, exporter: InMemorySpanExporter
) -> None:
    """Kinds, operations, destination, message and error are told; payload, path and body are not."""
    with WebhookReceiver() as receiver:
        job_id = create(client, webhook_request(receiver, "/fail/1"), TRACEPARENT)["id"]
        engine.wait_for(job_id)
        wait_until(lambda: len(Spans(exporter).named("process")) == 2, what="the spans of both attempts")
    spans = Spans(exporter)
    common = {
        "messaging.system": "goqueue",
        "messaging.destination.name": "webhooks",
        "messaging.message.id": str(job_id),
        "goqueue.job.type": "send_webhook",
    }
    (created,) = spans.named("create")
    assert created.kind is SpanKind.PRODUCER
    assert created.attributes == common | {
        "messaging.operation.name": "create",
        "messaging.operation.type": "send",
    }
    assert [wait.kind for wait in spans.named("wait")] == [SpanKind.INTERNAL] * 2
    first, second = spans.named("process")
    told = {"messaging.operation.name": "process", "messaging.operation.type": "process"}
    assert first.kind is SpanKind.CONSUMER
    assert first.attributes == common | told | {
        "goqueue.job.attempt": 1,
        "goqueue.job.fence": 1,
        "goqueue.job.status": "queued",
        "goqueue.attempt.outcome": "failed",
        "error.type": "goqueue.actors.outgoing.CallFailedError",
    }
    assert first.status.status_code is StatusCode.ERROR
    assert first.status.description == "CallFailedError: the receiver answered 503"
    assert second.attributes is not None
    assert second.attributes["goqueue.attempt.outcome"] == "completed"
    assert second.status.status_code is StatusCode.UNSET
    failed, succeeded = spans.named("POST")
    assert failed.kind is SpanKind.CLIENT
    assert failed.attributes == {
        "http.request.method": "POST",
        "server.address": "127.0.0.1",
        "server.port": receiver.port,
        "http.response.status_code": 503,
        "error.type": "503",
    }
    assert succeeded.status.status_code is StatusCode.UNSET
    text = "".join(span.to_json() for span in spans.all)
    assert "s3cret" not in text
    assert "/fail/1" not in text


def test_a_mail_is_a_call(exporter: InMemorySpanExporter) -> None:
    """The conversation with the mail server has a span, in which no address and no text is."""
    mail = EmailPayload(to="ada@example.com", subject="s3cret", body="s3cret")
    with SmtpSink() as sink:
        deliver(mail, job_id=1, settings=Settings(smtp_url=SecretStr(sink.url)))
        port = sink.port
    (span,) = exporter.get_finished_spans()
    assert (span.name, span.kind) == ("smtp", SpanKind.CLIENT)
    assert span.attributes == {
        "network.protocol.name": "smtp",
        "server.address": "127.0.0.1",
        "server.port": port,
    }
    with pytest.raises(DeliveryError):
        deliver(mail, job_id=1, settings=Settings(smtp_url=SecretStr(f"smtp://127.0.0.1:{port}")))
    failed = exporter.get_finished_spans()[-1]
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "DeliveryError"


def test_a_wait_begins_when_the_job_could_start(
    engine: Engine, client: testing.TestClient, exporter: InMemorySpanExporter
) -> None:
    """The span of a wait ends where the attempt begins, and begins at `available_at`, not at the create."""
    body = {"queue": "traced", "type": "note", "payload": {}, "delay_seconds": 0.3}
    job = engine.wait_for(create(client, body, TRACEPARENT)["id"])
    wait_until(lambda: Spans(exporter).named("process"), what="the span of the attempt")
    (wait,), (attempt,) = Spans(exporter).named("wait"), Spans(exporter).named("process")
    assert wait.end_time == attempt.start_time
    assert wait.start_time is not None
    began = datetime.fromtimestamp(wait.start_time / 1e9, UTC)
    assert abs((began - job.available_at).total_seconds()) < 0.01
    assert job.available_at > job.created_at


def test_without_a_tracer_the_context_of_the_client_is_handed_on(
    engine: Engine, client: testing.TestClient
) -> None:
    """Where GoQueue makes no spans, handler and webhook are told the client's own one."""
    with WebhookReceiver() as receiver:
        document = create(client, webhook_request(receiver, "/ok"), TRACEPARENT)
        engine.wait_for(document["id"])
        assert receiver.last is not None
        assert receiver.last.headers["traceparent"] == TRACEPARENT
    assert document["trace_id"] == TRACE
    note = create(client, {"queue": "traced", "type": "note", "payload": {}}, TRACEPARENT)
    engine.wait_for(note["id"])
    assert seen == [TRACEPARENT]
    assert options_seen == [None]


def test_a_job_of_no_trace_stays_one(engine: Engine, client: testing.TestClient) -> None:
    """Without a tracer and a client's trace nothing is stored, and nothing is sent."""
    with WebhookReceiver() as receiver:
        document = create(client, webhook_request(receiver, "/ok"), None)
        engine.wait_for(document["id"])
        assert receiver.last is not None
        assert "traceparent" not in receiver.last.headers
    assert document["trace_id"] is None
    assert engine.rows("SELECT options FROM jobs WHERE id = %(id)s", id=document["id"]) == [(None,)]


def test_a_webhook_keeps_the_trace_that_its_payload_names(engine: Engine, client: testing.TestClient) -> None:
    """A `traceparent` among the headers of the payload is sent as it is."""
    own = "00-11111111111111111111111111111111-2222222222222222-01"
    with WebhookReceiver() as receiver:
        body = webhook_request(receiver, "/ok")
        body["payload"]["headers"] = {"Traceparent": own}
        engine.wait_for(create(client, body, TRACEPARENT)["id"])
        assert receiver.last is not None
        assert receiver.last.headers["traceparent"] == own


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        TRACEPARENT.upper(),
        f"ff-{TRACE}-{CLIENT_SPAN}-01",
        f"00-{TRACE}-{CLIENT_SPAN}-01-more",
        f"00-{'0' * 32}-{CLIENT_SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{CLIENT_SPAN}",
        f"{TRACEPARENT},{TRACEPARENT}",
        "00-" + "4" * 5_000,
    ],
    ids=["empty", "no", "capitals", "version", "more", "no trace", "no span", "no flags", "two", "long"],
)
def test_a_wrong_traceparent_is_ignored(client: testing.TestClient, header: str) -> None:
    """What is no valid `traceparent` is never an error, and never stored."""
    body = {"queue": "traced", "type": "note", "payload": {}, "delay_seconds": 1000}
    assert create(client, body, header)["trace_id"] is None


def test_a_later_version_is_understood(client: testing.TestClient) -> None:
    """Of a version to come, the four fields of today are read."""
    body = {"queue": "traced", "type": "note", "payload": {}, "delay_seconds": 1000}
    assert create(client, body, f"cc-{TRACE}-{CLIENT_SPAN}-ff-what-will-be")["trace_id"] == TRACE


def test_a_batch_is_one_create(
    engine: Engine, client: testing.TestClient, exporter: InMemorySpanExporter
) -> None:
    """The jobs of a batch carry one context: that of a span which says how many they were."""
    jobs = [{"queue": "traced", "type": "note", "payload": {}} for _ in range(3)]
    answer = client.simulate_post("/jobs/batch", json={"jobs": jobs}, headers={"traceparent": TRACEPARENT})
    for job_id in answer.json["ids"]:
        engine.wait_for(job_id)
    wait_until(lambda: len(Spans(exporter).named("process")) == 3, what="the spans of the attempts")
    (created,) = Spans(exporter).named("create")
    assert created.attributes is not None
    assert created.attributes["messaging.batch.message_count"] == 3
    assert "messaging.message.id" not in created.attributes
    assert parents_of(Spans(exporter).named("process")) == {span_id_of(created)}


def test_a_chain_is_one_trace(
    engine: Engine, client: testing.TestClient, exporter: InMemorySpanExporter
) -> None:
    """The jobs of a chain carry the context of its create, also under an idempotency key."""
    body = {"queue": "traced", "type": "note", "payload": {}}
    headers = {"traceparent": TRACEPARENT, "Idempotency-Key": "chain-of-a-trace"}
    answer = client.simulate_post("/jobs/create", json=body | {"then": [body]}, headers=headers)
    engine.wait_for(answer.json["then"][0])
    wait_until(lambda: len(Spans(exporter).named("process")) == 2, what="the spans of both attempts")
    assert client.simulate_get(f"/jobs/{answer.json['then'][0]}").json["trace_id"] == TRACE
    again = client.simulate_post("/jobs/create", json=body | {"then": [body]}, headers=headers)
    assert again.json == answer.json
    assert len(Spans(exporter).named("create")) == 1


def test_a_create_links_to_the_traces_of_what_it_waits_for(
    engine: Engine, client: testing.TestClient, exporter: InMemorySpanExporter
) -> None:
    """A job that depends on one of another trace has a link to it in the span of its create."""
    body = {"queue": "traced", "type": "note", "payload": {}, "delay_seconds": 0.2}
    other = f"00-{'a' * 32}-{CLIENT_SPAN}-01"
    parent = create(client, body, other)
    waiting = {"queue": "traced", "type": "note", "payload": {}, "depends_on": [parent["id"]]}
    child = create(client, waiting, TRACEPARENT)
    engine.wait_for(child["id"])
    (of_parent,) = Spans(exporter, "a" * 32).named("create")
    (of_child,) = Spans(exporter).named("create")
    assert links_of(of_child) == {"depends_on": span_id_of(of_parent)}


def test_what_a_handler_creates_is_in_its_trace(
    client: testing.TestClient, exporter: InMemorySpanExporter
) -> None:
    """`enqueue` in a handler is a child of its attempt."""
    body = {"queue": "traced", "type": "create_another", "payload": {}}
    create(client, body, TRACEPARENT)
    wait_until(lambda: len(Spans(exporter).named("process")) == 2, what="the spans of both jobs")
    outer, inner = Spans(exporter).named("create")
    assert parents_of([inner]) <= {span_id_of(span) for span in Spans(exporter).named("process")}
    assert parents_of([outer]) == {int(CLIENT_SPAN, 16)}


def test_follow_ups_are_in_the_trace_of_their_job(engine: Engine, exporter: InMemorySpanExporter) -> None:
    """A callback and the next message of a pipe are created within the attempt that causes them."""
    broker = engine.broker
    first, then = broker.get_actor("note"), broker.get_actor("and_then")
    with trace.use_span(trace.NonRecordingSpan(context_of_client()), end_on_exit=False):
        broker.enqueue(first.message().copy(options={"on_success": then.actor_name}))
        dramatiq.pipeline([first.message(), then.message()], broker=broker).run()  # type: ignore[no-untyped-call]
    wait_until(lambda: len(Spans(exporter).named("process")) == 4, what="the spans of four attempts")
    spans = Spans(exporter)
    created = spans.named("create")
    attempts = {span_id_of(span) for span in spans.named("process")}
    assert len(created) == 4
    assert parents_of(created[:2]) == {int(CLIENT_SPAN, 16)}
    assert parents_of(created[2:]) < attempts
    assert len(parents_of(created[2:])) == 2


def context_of_client() -> trace.SpanContext:
    """A span of a client."""
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED)
    return trace.SpanContext(int(TRACE, 16), int(CLIENT_SPAN, 16), is_remote=True, trace_flags=flags)


def test_options_of_a_message_and_its_trace_live_together(engine: Engine) -> None:
    """The trace is kept beside Dramatiq's options of a message, and is none of those when the job runs."""
    broker = engine.broker
    job = new_job(broker, "note", {"fails": True}, options={"min_backoff": 1, "jitter": False})
    with trace.use_span(trace.NonRecordingSpan(context_of_client()), end_on_exit=False):
        job_id = default().creator.one(job).id
    engine.wait_for(job_id, attempts=2)
    ((options,),) = engine.rows("SELECT options FROM jobs WHERE id = %(id)s", id=job_id)
    assert options == {"min_backoff": 1, "jitter": False, "traceparent": TRACEPARENT}
    assert seen == [TRACEPARENT, TRACEPARENT]
    assert options_seen == [{"min_backoff": 1, "jitter": False}] * 2


def test_a_traceparent_among_the_options_of_a_message_is_no_option(engine: Engine) -> None:
    """What plain Dramatiq code says under the reserved name is not stored as it is."""
    sent = engine.broker.get_actor("note").send_with_options(kwargs={}, traceparent="nonsense")
    engine.wait_for(sent.options["job_id"])
    assert engine.job(sent.options["job_id"]).traceparent is None


def test_an_async_handler_runs_in_the_trace(engine: Engine, client: testing.TestClient) -> None:
    """The event loop's thread knows the trace of the job, too."""
    body = {"queue": "traced", "type": "note_async", "payload": {}}
    engine.wait_for(create(client, body, TRACEPARENT)["id"])
    assert seen == [TRACEPARENT]


@pytest.mark.parametrize("name", ["note_together", "note_together_async"])
def test_a_batch_has_a_span_of_its_own_that_its_jobs_link_to(
    engine: Engine, client: testing.TestClient, exporter: InMemorySpanExporter, name: str
) -> None:
    """Each job's attempt is in its own trace and ends as its own; the handler works in that of the batch."""
    body = {"queue": "traced_batches", "type": name}
    other = TRACEPARENT.replace(TRACE, "a" * 32)
    create(client, body | {"payload": {}}, TRACEPARENT)
    bad = create(client, body | {"payload": {"is": "bad"}}, other)
    engine.wait_for(bad["id"], "failed")
    wait_until(
        lambda: any(s.name.startswith("batch") for s in exporter.get_finished_spans()), what="the span"
    )
    (batch,) = [span for span in exporter.get_finished_spans() if span.name == "batch traced_batches"]
    attempts = [Spans(exporter, trace).named("process") for trace in (TRACE, "a" * 32)]
    assert [links_of(span)["batch"] for (span,) in attempts] == [span_id_of(batch)] * 2
    assert [span.status.status_code for (span,) in attempts] == [StatusCode.UNSET, StatusCode.ERROR]
    assert batch.attributes is not None
    assert batch.attributes["messaging.batch.message_count"] == 2
    assert batch.attributes["goqueue.batch.failed"] == 1
    assert {link.context.trace_id for link in batch.links} == {int(TRACE, 16), int("a" * 32, 16)}
    assert [str(traceparent)[:52] for traceparent in seen] == [
        f"00-{trace_id_of(batch)}-{span_id_of(batch):016x}"
    ]


@pytest.mark.parametrize("name", ["note_together", "note_together_async"])
def test_without_a_tracer_a_batch_is_in_no_trace(
    engine: Engine, client: testing.TestClient, name: str
) -> None:
    """Its jobs are of several: what it creates belongs to none of them."""
    body = {"queue": "traced_batches", "type": name, "payload": {}}
    create(client, body, TRACEPARENT)
    job = create(client, body, TRACEPARENT.replace(TRACE, "a" * 32))
    engine.wait_for(job["id"])
    assert seen == [None]


def test_a_snooze_is_no_error(
    engine: Engine, client: testing.TestClient, exporter: InMemorySpanExporter
) -> None:
    """The span of a snoozed attempt says so, and the next one links to it."""
    job = create(client, {"queue": "traced", "type": "snooze_once", "payload": {}}, TRACEPARENT)
    engine.wait_for(job["id"])
    wait_until(lambda: len(Spans(exporter).named("process")) == 2, what="the spans of both attempts")
    first, second = Spans(exporter).named("process")
    assert first.attributes is not None
    assert first.attributes["goqueue.attempt.outcome"] == "snoozed"
    assert first.status.status_code is StatusCode.UNSET
    assert links_of(second)["previous_attempt"] == span_id_of(first)


def test_a_trace_that_a_client_does_not_keep_is_not_kept_here(
    engine: Engine, client: testing.TestClient, exporter: InMemorySpanExporter
) -> None:
    """No span is exported, and the webhook is told the same decision."""
    with WebhookReceiver() as receiver:
        document = create(client, webhook_request(receiver, "/ok"), UNSAMPLED)
        engine.wait_for(document["id"])
        assert receiver.last is not None
        assert receiver.last.headers["traceparent"].startswith(f"00-{TRACE}-")
        assert receiver.last.headers["traceparent"].endswith("-00")
    assert exporter.get_finished_spans() == ()


def test_jobs_that_nobody_traces_get_a_trace_where_spans_are_made(
    engine: Engine, client: testing.TestClient, exporter: InMemorySpanExporter
) -> None:
    """The create begins a trace; that of a job from before begins with its attempt."""
    document = create(client, {"queue": "traced", "type": "note", "payload": {}}, None)
    engine.wait_for(document["id"])
    wait_until(lambda: Spans(exporter, document["trace_id"]).named("process"), what="the span of the attempt")
    assert Spans(exporter, document["trace_id"]).all[0].name == "create traced"
    tracing.use(None)
    with trace.use_span(trace.INVALID_SPAN, end_on_exit=False):
        before = default().creator.one(new_job(engine.broker, "note", {}, delay_seconds=0.2))
    use_again(engine, exporter)
    engine.wait_for(before.id)
    wait_until(lambda: spans_of_job(exporter, before.id), what="the span of the attempt")
    waited, attempted = spans_of_job(exporter, before.id)
    assert {waited.name, attempted.name} == {"wait traced", "process traced"}
    assert trace_id_of(waited) == trace_id_of(attempted)


def use_again(engine: Engine, exporter: InMemorySpanExporter) -> None:
    """Make spans again."""
    trace_with(make_provider(engine.settings, "test", SimpleSpanProcessor(exporter)))


def spans_of_job(exporter: InMemorySpanExporter, job_id: int) -> list[ReadableSpan]:
    """The spans of one job's attempts."""
    return [
        span
        for span in exporter.get_finished_spans()
        if span.attributes and span.attributes.get("messaging.message.id") == str(job_id)
    ]


def test_an_application_that_traces_itself_is_joined(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """`enqueue` makes the span of the create with the provider that the application has set up."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    try:
        with provider.get_tracer("shop").start_as_current_span("order") as order:
            job_id = goqueue.enqueue(engine.broker.get_actor("note"), {})
        trace_id = f"{order.get_span_context().trace_id:032x}"
        engine.wait_for(job_id)
        wait_until(lambda: Spans(exporter, trace_id).named("process"), what="the span of the attempt")
    finally:
        tracing.use(None)
        provider.shutdown()
    (created,) = Spans(exporter, trace_id).named("create")
    assert parents_of([created]) == {order.get_span_context().span_id}
    assert (engine.job(job_id).traceparent or "")[:-3] == f"00-{trace_id}-{span_id_of(created):016x}"


def test_a_create_that_fails_says_so(client: testing.TestClient, exporter: InMemorySpanExporter) -> None:
    """The span of a create that was refused ends with its error."""
    body = {"queue": "traced", "type": "note", "payload": {}, "depends_on": [10**15]}
    answer = client.simulate_post("/jobs/create", json=body, headers={"traceparent": TRACEPARENT})
    assert answer.status_code == 400
    (created,) = Spans(exporter).named("create")
    assert created.attributes is not None
    assert created.attributes["error.type"] == "InvalidJobError"
    assert created.status.status_code is StatusCode.ERROR


class BrokenTracer(trace.NoOpTracer):
    """A tracer whose spans cannot be started."""

    def start_span(self, *_args: Any, **_kwargs: Any) -> trace.Span:
        """Fail."""
        raise RuntimeError("broken")


def test_a_broken_tracer_costs_no_create(engine: Engine, client: testing.TestClient) -> None:
    """What a sampler or a processor raises at a create is logged, and the job keeps its client's trace."""
    tracing.use(BrokenTracer())
    try:
        document = create(client, {"queue": "traced", "type": "note", "payload": {}}, TRACEPARENT)
    finally:
        tracing.use(None)
    engine.wait_for(document["id"])
    assert document["trace_id"] == TRACE


def test_a_broken_tracer_costs_no_attempt(engine: Engine) -> None:
    """What a sampler or a processor raises is logged, and the job runs."""
    job = new_job(engine.broker, "note", {}, delay_seconds=0.1)
    with trace.use_span(trace.NonRecordingSpan(context_of_client()), end_on_exit=False):
        job_id = default().creator.one(job).id
    tracing.use(BrokenTracer())
    try:
        assert engine.wait_for(job_id).attempts == 1
    finally:
        tracing.use(None)
    assert seen == [TRACEPARENT]


@pytest.fixture
def log_lines(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What is logged, as JSON lines; afterwards everything is as it was."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    configuration = structlog.get_config()
    configure_logging(engine.settings.model_copy(update={"log_format": "json"}))
    structlog.configure(cache_logger_on_first_use=False)
    yield lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    root.handlers[:], root.level = before
    structlog.configure(**configuration)
    logging.captureWarnings(capture=False)


def test_log_lines_carry_the_trace(
    engine: Engine, client: testing.TestClient, log_lines: Callable[[], list[dict[str, Any]]]
) -> None:
    """What API and workers log of a request and a job names the trace; what is logged of none does not."""
    logger = logging.getLogger("probe")
    database = engine.broker.database
    connect = database.autocommit

    def connect_and_tell() -> Any:
        logger.info("in the request")
        return connect()

    body = {"queue": "traced", "type": "note", "payload": {"fails": True}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "autocommit", connect_and_tell)
        document = create(client, body, TRACEPARENT)
    logger.info("outside")
    engine.wait_for(document["id"], attempts=2)
    lines = log_lines()
    told = {line["event"]: line.get("trace_id") for line in lines}
    assert told["noted"] == TRACE
    assert told["attempt_failed"] == TRACE
    (of_request, *_) = [line for line in lines if line["event"] == "in the request" and "request_id" in line]
    assert of_request["trace_id"] == TRACE
    assert told["outside"] is None


def test_a_run_of_a_schedule_begins_a_trace(
    engine: Engine, client: testing.TestClient, exporter: InMemorySpanExporter
) -> None:
    """The job of a tick belongs to a trace of its own."""
    schedule = {"name": "traced", "cron": "0 0 1 1 *", "queue": "traced", "type": "note", "payload": {}}
    assert client.simulate_post("/schedules", json=schedule).status_code == 201
    job_id = client.simulate_post("/schedules/traced/run").json["id"]
    engine.wait_for(job_id)
    trace_id = client.simulate_get(f"/jobs/{job_id}").json["trace_id"]
    wait_until(lambda: Spans(exporter, trace_id).named("process"), what="the span of the attempt")
    assert Spans(exporter, trace_id).named("create")[0].parent is None
