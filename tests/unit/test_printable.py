"""Nothing that a client wrote steers the terminal of whoever reads it."""

from __future__ import annotations

import json
import logging
import unicodedata
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from goqueue.config.settings import Settings
from goqueue.insight.explain.reasons import Explanation, Reason, ReasonCode
from goqueue.jobs import JobStatus
from goqueue.observability.alert_rules import QueueObjective, written
from goqueue.observability.logging import configure_logging
from goqueue.observability.printable import printable

HOSTILE = "a\x1b]0;owned\x07\x9b2J\r\nb\N{RIGHT-TO-LEFT OVERRIDE}c\x7f\N{LINE SEPARATOR}\x00d"


def steers(text: str) -> bool:
    """Whether a character of the text is more than something to see."""
    return any(unicodedata.category(letter) in {"Cc", "Cf", "Zl", "Zp", "Cs"} for letter in text)


@given(text=st.text())
def test_only_what_is_seen_is_left(text: str) -> None:
    """Every character that steers is an escape; what is seen stays as it is."""
    shown = printable(text)
    assert not steers(shown)
    if (
        not steers(text)
        and "Cn" not in map(unicodedata.category, text)
        and "Co" not in map(unicodedata.category, text)
    ):
        assert shown == text


def test_an_explanation_is_as_many_lines_as_it_says() -> None:
    """Names and errors inside of an explanation neither steer nor make lines."""
    reasons = (Reason(ReasonCode.QUEUE_PAUSED, HOSTILE), Reason(ReasonCode.NO_WORKER, HOSTILE))
    lines = Explanation(1, JobStatus.QUEUED, HOSTILE, reasons).as_text().split("\n")
    assert len(lines) == 3
    assert not steers("".join(lines))
    assert "\\x1b" in lines[0]


def test_alert_rules_hold_the_name_and_do_not_steer() -> None:
    """The file of alert rules shows no control, and means the same."""
    text = written([QueueObjective(HOSTILE, 1.0, 0.9)])
    assert not steers(text.replace("\n", ""))
    assert HOSTILE in str(json.loads(text)["groups"][0]["name"])


@pytest.fixture
def _for_people() -> Iterator[None]:
    """The log pipeline writes for people; afterwards everything is as it was."""
    root = logging.getLogger()
    before, configuration = (root.handlers[:], root.level), structlog.get_config()
    configure_logging(Settings(log_format="console"))
    structlog.configure(cache_logger_on_first_use=False)
    yield
    root.handlers[:], root.level = before
    structlog.configure(**configuration)
    logging.captureWarnings(capture=False)


@pytest.mark.usefixtures("_for_people")
def test_a_log_for_people_does_not_steer(capsys: pytest.CaptureFixture[str]) -> None:
    """What a record says of a client's text, also in an exception, is shown and not obeyed."""
    structlog.get_logger("a").warning("failed", error=HOSTILE, exc_info=ValueError(HOSTILE))
    logging.getLogger("b").warning("said %s", HOSTILE)
    shown = capsys.readouterr().err
    assert "\\x1b]0;owned" in shown
    assert not steers(shown.replace("\n", "").replace("\t", ""))
