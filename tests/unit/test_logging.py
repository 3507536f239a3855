"""The log pipeline: what an operator reads."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import dramatiq
import pytest
import structlog
from dramatiq import Worker
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import Retries

from goqueue.config.settings import Settings
from goqueue.errors import Discard
from goqueue.observability.logging import configure_logging
from tests.support.waiting import wait_until

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., io.StringIO]]:
    """Configures the pipeline over a stream; afterwards everything is as it was."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    configuration = structlog.get_config()

    def run(**settings: Any) -> io.StringIO:
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        configure_logging(Settings(**settings))
        structlog.configure(cache_logger_on_first_use=False)
        return stream

    yield run
    root.handlers[:], root.level = before
    structlog.configure(**configuration)
    logging.captureWarnings(capture=False)


def lines_of(stream: io.StringIO) -> list[dict[str, Any]]:
    """The records of a stream of JSON lines."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def fail_in_dramatiq(exception: Exception, *, max_retries: int) -> None:
    """Let Dramatiq's own worker and Retries handle an actor that fails."""
    broker = StubBroker(middleware=[Retries(min_backoff=1, max_backoff=1)])
    broker.emit_after("process_boot")

    def fail() -> None:
        raise exception

    actor = dramatiq.actor(broker=broker, actor_name="fail", max_retries=max_retries, throws=Discard)(fail)
    worker = Worker(broker, worker_timeout=10, worker_threads=1)
    worker.start()
    actor.send()
    wait_until(lambda: broker.dead_letters, 10, "the dead letter")
    worker.stop()


def test_a_failed_attempt_is_one_line(configure: Callable[..., io.StringIO]) -> None:
    """Each failed attempt is one `attempt_failed` with error and verdict, and Dramatiq says nothing else."""
    stream = configure(log_format="json")
    fail_in_dramatiq(ValueError("two\nlines"), max_retries=1)
    lines = lines_of(stream)
    assert [line["event"] for line in lines] == ["attempt_failed", "attempt_failed"]
    assert [line["verdict"] for line in lines] == ["retry", "out_of_retries"]
    assert {line["error"] for line in lines} == {"ValueError: two lines"}
    assert {line["level"] for line in lines} == {"warning"}


def test_a_discarded_job_is_one_line(configure: Callable[..., io.StringIO]) -> None:
    """An exception that is not retried is one line, too."""
    stream = configure(log_format="json")
    fail_in_dramatiq(Discard("no"), max_retries=3)
    (line,) = lines_of(stream)
    assert (line["event"], line["verdict"], line["error"]) == ("attempt_failed", "discarded", "Discard: no")


def test_debug_shows_dramatiqs_own_words(configure: Callable[..., io.StringIO]) -> None:
    """At DEBUG the traceback and every record of Dramatiq are there."""
    stream = configure(log_format="json", log_level="DEBUG")
    fail_in_dramatiq(ValueError("no"), max_retries=0)
    assert any("Traceback" in line.get("exception", "") for line in lines_of(stream))


def test_foreign_and_own_records_share_the_pipeline(configure: Callable[..., io.StringIO]) -> None:
    """Records of the standard library and of structlog carry time, level and logger alike."""
    stream = configure(log_format="json")
    logging.getLogger("somebody").warning("said %s", "this")
    structlog.get_logger("goqueue.test").warning("event_name", answer=42)
    foreign, own = lines_of(stream)
    assert foreign["event"] == "said this"
    assert own["answer"] == 42
    assert foreign.keys() == own.keys() - {"answer"}


def test_console_without_a_terminal_has_no_colours(configure: Callable[..., io.StringIO]) -> None:
    """The console format in a file is plain text."""
    stream = configure(log_format="console")
    structlog.get_logger("goqueue.test").warning("event_name")
    assert "event_name" in stream.getvalue()
    assert "\033" not in stream.getvalue()


def test_auto_is_json_without_a_terminal(
    configure: Callable[..., io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a terminal the lines are for machines, with one for people."""
    monkeypatch.setattr(sys, "__stderr__", io.StringIO())
    stream = configure()
    structlog.get_logger("goqueue.test").warning("event_name")
    assert lines_of(stream)[0]["event"] == "event_name"
