"""Secrets that handlers raise are kept nowhere: not in rows, tracebacks, kinds of failures, logs or spans."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import SecretStr

import goqueue
from goqueue.config.redaction import MASK
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.instance import default
from goqueue.observability.logging import configure_logging
from goqueue.observability.tracing import spans
from tests.support.engine import Engine, running_engine

SECRET = "hunter2-0123456789"
OWN = "the secret of these settings"

#: What handlers raise, and the secret in it.
RAISED = {
    "url": f"cannot connect to postgresql://app:{SECRET}@db/shop",
    "unencoded": f"cannot connect to redis://:{SECRET}/#?@db/0",
    "bearer": f"refused Authorization: Bearer {SECRET}",
    "webhook": f"bad signature by whsec_{SECRET}",
    "key": f"no such key gq_{SECRET}",
    "pem": f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----",
    "assignment": f"login failed: password={SECRET}",
    "setting": f"signed with {OWN}!",
}


def declare() -> None:
    """Declare the actors of these tests on the present broker."""

    @goqueue.actor(max_retries=0)
    def fail(how: str) -> None:
        raise ValueError(RAISED[how])

    @goqueue.actor(max_retries=0)
    def fail_by_cause(how: str) -> None:
        try:
            raise KeyError(RAISED[how])  # noqa: TRY301  (the cause of another)
        except KeyError as error:
            error.add_note(RAISED[how])
            raise RuntimeError("it failed") from error

    @goqueue.actor(max_retries=1, min_backoff_seconds=0.01, jitter=False)
    def ask_again(how: str) -> None:
        if goqueue.current_job().attempt == 1:
            raise goqueue.RetryAfter(0.01, RAISED[how])


@pytest.fixture(scope="module")
def engine(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> Iterator[Engine]:
    """An engine that all tests of this module share."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    with running_engine(postgres, valkey, "redacted", declare, webhook_secret=SecretStr(OWN)) as engine:
        configure_logging(engine.settings)
        yield engine
    root.handlers[:], root.level = before


@pytest.fixture
def told(engine: Engine) -> Iterator[InMemorySpanExporter]:
    """The spans that this process makes."""
    assert engine
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    spans.use(provider.get_tracer("tests"))
    yield exporter
    spans.use(None)


@pytest.mark.parametrize("how", RAISED)
@pytest.mark.parametrize("name", ["fail", "fail_by_cause", "ask_again"])
def test_no_secret_of_an_exception_is_kept(
    engine: Engine, told: InMemorySpanExporter, capsys: pytest.CaptureFixture[str], name: str, how: str
) -> None:
    """Its row, attempts, kind, log lines and spans have a mask where the secret was, and say the rest."""
    job_id = default().create(engine.broker.actors[name], {"how": how})
    job = engine.wait_for(job_id, "completed" if name == "ask_again" else "failed")
    kept = [
        str(job),
        str(engine.attempts(job_id)),
        str(engine.rows("SELECT * FROM failure_kinds")),
        capsys.readouterr().err,
        str([span.to_json() for span in told.get_finished_spans()]),
    ]
    assert [text for text in kept if SECRET in text or OWN in text] == []
    assert any(MASK in text for text in kept[:2])
