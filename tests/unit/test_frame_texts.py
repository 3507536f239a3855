"""Tracebacks whose frames are formatted once: the texts are Python's own."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from goqueue.config.redaction import MASK
from goqueue.observability import frame_texts
from goqueue.observability.exception_reader import ExceptionReader


class OwnError(Exception):
    """One that is qualified by its module."""


def inner(number: int) -> None:
    """Raise, at the end of some calls."""
    if number:
        return inner(number - 1)
    raise OwnError("inner")


def chained() -> None:
    """Raise with a cause."""
    try:
        inner(1)
    except OwnError as error:
        raise KeyError("outer") from error


def in_context() -> None:
    """Raise while another one is handled."""
    try:
        inner(1)
    except OwnError:
        raise KeyError("outer")  # noqa: B904


def without_context() -> None:
    """Raise instead of another one."""
    try:
        inner(1)
    except OwnError:
        raise KeyError("outer") from None


def with_a_note() -> None:
    """Raise with a note."""
    error = OwnError("noted")
    error.add_note("see there")
    raise error


def group() -> None:
    """Raise several at once."""
    raise ExceptionGroup("both", [ValueError("a"), OwnError("b")])


SHAPES: dict[str, Callable[[], Any]] = {
    "plain": lambda: inner(0),
    "two calls": lambda: inner(2),
    "three calls": lambda: inner(3),
    "four calls": lambda: inner(4),
    "many calls": lambda: inner(200),
    "no text": lambda: (_ for _ in ()).throw(OwnError()),
    "built in, on one of two operands": lambda: 1 / len(""),
    "many lines": lambda: (_ for _ in ()).throw(ValueError("one\ntwo")),
    "a name that is none": lambda: eval("nosuch", {}),
    "an attribute that is none": lambda: "".joim,  # type: ignore[attr-defined]
    "a module that is none": lambda: __import__("nosuch"),
    "no syntax": lambda: compile("1 +", "there", "exec"),
    "cause": chained,
    "context": in_context,
    "no context": without_context,
    "note": with_a_note,
    "group": group,
    "recursion without an end": lambda: inner(-1),
    "keyboard": lambda: (_ for _ in ()).throw(KeyboardInterrupt()),
}


def raised_by(act: Callable[[], Any]) -> BaseException:
    """What it raises."""
    try:
        act()
    except BaseException as error:  # noqa: BLE001  (whatever it is)
        return error
    raise AssertionError("it raised nothing")


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_what_python_prints(shape: str) -> None:
    """The first time and from then on, whatever was raised and however deep."""
    error = raised_by(SHAPES[shape])
    expected = "".join(traceback.format_exception(error))
    told = [ExceptionReader(error).traceback(error.__traceback__) for _ in range(3)]
    assert told == [expected] * 3


def test_frames_are_formatted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A place that was seen before costs no look at its source."""
    frame_texts.formatted(raised_by(SHAPES["two calls"]), None, line="")
    error = raised_by(SHAPES["two calls"])
    before = ExceptionReader(error).traceback(error.__traceback__)
    monkeypatch.setattr(traceback, "format_tb", None)
    again = raised_by(SHAPES["two calls"])
    assert ExceptionReader(again).traceback(again.__traceback__) == before


def shares(one: int, other: int) -> float:
    """Divide by each of both."""
    return (1 / one) + (1 / other)


def test_two_places_in_a_line_are_two() -> None:
    """What is underlined differs: the place is the instruction, not the line."""
    errors = [raised_by(lambda values=values: shares(*values)) for values in ((0, 1), (1, 0))]  # type: ignore[misc]
    told = [ExceptionReader(error).traceback(error.__traceback__) for error in errors]
    assert told[0] != told[1]


def test_the_kept_places_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that is made at run time does not fill the memory."""
    monkeypatch.setattr(frame_texts, "PLACES_MAX", 10)
    for number in range(50):
        error = raised_by(lambda number=number: exec(f"def f{number}(): 1 / 0\nf{number}()", {}))  # type: ignore[misc]
        ExceptionReader(error).traceback(error.__traceback__)
    assert len(frame_texts._texts) <= 10  # noqa: SLF001


def test_secrets_are_in_no_part() -> None:
    """Neither in a source line nor in the text."""
    error = raised_by(lambda: exec(compile("1 / 0", "there", "exec")) if "password=hunter22" else None)
    assert "hunter22" not in ExceptionReader(error).traceback(error.__traceback__)
    error = raised_by(lambda: (_ for _ in ()).throw(ValueError("password=hunter22")))
    told = ExceptionReader(error).traceback(error.__traceback__)
    assert "hunter22" not in told
    assert f"ValueError: password={MASK}\n" in told


def test_a_class_that_lies_about_itself_is_told_all_the_same() -> None:
    """Properties of an exception may raise; its own frames are told then."""

    class LiarError(Exception):
        @property
        def __notes__(self) -> Any:  # type: ignore[override]
            raise SystemExit(3)

    error = raised_by(lambda: (_ for _ in ()).throw(LiarError("x")))
    reader = ExceptionReader(error)
    told = reader.traceback(error.__traceback__)
    assert reader.is_harmful
    assert told.startswith("Traceback (most recent call last):\n")
    assert sys._getframe().f_code.co_filename in told  # noqa: SLF001
