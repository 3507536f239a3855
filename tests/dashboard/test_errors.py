"""Tracebacks as blocks: the job's own frames, libraries, and the rest."""

from __future__ import annotations

import json
import traceback
from pathlib import Path

import pytest

import goqueue
from goqueue.dashboard.parts.errors import headline, parsed

PACKAGE = Path(goqueue.__file__).parent

TEXT = f"""\
Traceback (most recent call last):
  File "/srv/app/jobs.py", line 12, in send
    client.post(url)
    ~~~~~~~~~~~^^^^^
  File "/srv/venv/lib/python3.13/site-packages/httpx/_client.py", line 1, in post
    return self.request(
        url,
    )
  File "/usr/lib/python3.13/socket.py", line 7, in connect
    raise OSError
  File "{PACKAGE}/control/editing.py", line 3, in edit
OSError: gone

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/srv/app/mail.py", line 3, in deliver
    send()
  File "/srv/app/jobs.py", line 15, in send
    raise Refused from error
app.Refused: two lines
of text
"""


def test_own_frames_are_told_from_libraries() -> None:
    """Frames of the same kind stand together, in the order of the traceback."""
    found = [(block.kind, block.frames) for block in parsed(TEXT).blocks]
    assert found == [("text", 0), ("own", 1), ("library", 3), ("text", 0), ("own", 2), ("text", 0)]


def test_no_line_is_lost() -> None:
    """The blocks are the text."""
    assert "\n".join(block.text for block in parsed(TEXT).blocks) + "\n" == TEXT


def test_where_it_was_raised_is_the_innermost_own_frame() -> None:
    """Of the last exception of a chain."""
    assert parsed(TEXT).raised_in == "jobs.py:15, in send"


def test_the_own_frame_has_its_source() -> None:
    """With what marks a place in it."""
    assert parsed(TEXT).blocks[1].text.endswith("    ~~~~~~~~~~~^^^^^")


def test_the_actors_that_goqueue_brings_along_are_own_code() -> None:
    """A built-in handler is somebody's handler; the rest of the package is not."""
    places = f"{PACKAGE}/broker/execution.py", f"{PACKAGE}/actors/send_email.py"
    text = "\n".join(f'  File "{place}", line 1, in send' for place in places)
    assert [block.kind for block in parsed(text).blocks] == ["library", "own"]


def test_a_handler_that_is_installed_like_a_library_is_own_code() -> None:
    """Without any frame that is no library's, Dramatiq called the first."""
    text = '  File "/v/lib/python3.12/site-packages/shop/jobs.py", line 1, in sell\n' * 2
    assert [(block.kind, block.frames) for block in parsed(text).blocks] == [("own", 1), ("library", 1)]


def test_a_real_traceback_is_understood() -> None:
    """As Python writes it, with a frame of the standard library in it."""
    try:
        json.loads("{")
    except ValueError:
        found = parsed(traceback.format_exc())
    assert [block.kind for block in found.blocks] == ["text", "own", "library", "text"]
    assert found.raised_in is not None
    assert found.raised_in.startswith("test_errors.py:")


def test_groups_of_exceptions_are_understood() -> None:
    """Their lines begin with bars."""

    def fail() -> None:
        raise ExceptionGroup("several", [ValueError("one")])

    try:
        fail()
    except ExceptionGroup:
        found = parsed(traceback.format_exc())
    assert found.raised_in is not None
    assert found.raised_in.endswith(", in fail")


@pytest.mark.parametrize("text", ["", "no traceback", "\n\n", '  File "x', " " * 32_000, "|+" * 16_000])
def test_any_text_is_taken(text: str) -> None:
    """What is no traceback is shown as it is."""
    found = parsed(text)
    assert {block.kind for block in found.blocks} <= {"text"}
    assert found.raised_in is None


@pytest.mark.parametrize(
    ("error", "exception", "message"),
    [
        ("ValueError: no: way", "ValueError", "no: way"),
        ("app.errors.Refused: no", "app.errors.Refused", "no"),
        ("KeyboardInterrupt", "KeyboardInterrupt", ""),
        ("TimeLimitExceeded", "TimeLimitExceeded", ""),
        ("the attempt was rejected", None, "the attempt was rejected"),
        ("Sorry, no: it is late", None, "Sorry, no: it is late"),
        ("gone", None, "gone"),
    ],
)
def test_an_error_is_a_class_and_a_message(error: str, exception: str | None, message: str) -> None:
    """Where it begins like one."""
    found = headline(error)
    assert (found.exception, found.message) == (exception, message)
