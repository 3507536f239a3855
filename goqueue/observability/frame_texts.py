"""Tracebacks as Python prints them, at the price of their frames the first time alone.

A type that fails does so at the same few places. Python looks up the source line of each frame anew, asks the
file system whether the file has changed, and parses the line to find out which part of it to underline: that
was most of what a failed attempt cost. Here the text of a place is made once.
"""

from __future__ import annotations

import traceback
from types import CodeType, TracebackType

from goqueue.config.redaction import redact

__all__ = ["formatted"]

#: Exceptions of which Python tells more than their text: the place in a source, what may have been meant.
_TELL_MORE = (SyntaxError, NameError, AttributeError, ImportError)

#: The texts of so many places are kept.
PLACES_MAX = 1_024

#: As in `traceback`: of a place that follows on itself so many are shown.
REPEATED_MAX = 3

#: Code and the instruction in it → what is printed of a frame that stands there, without secrets.
_texts: dict[tuple[CodeType, int], str] = {}


def formatted(exception: BaseException, frames: TracebackType | None, *, line: str) -> str:
    """Write an exception as `traceback.format_exception` does, from these frames on, without secrets in them.

    Args:
        exception: the exception.
        frames: where it was raised.
        line: its class, with the module, and its text, as read and redacted already.

    Raises:
        BaseException: what the exception's own code raises.
    """
    if not _is_simple(exception):
        return redact("".join(traceback.format_exception(type(exception), exception, frames)))
    told = f"{line}\n"
    if isinstance(exception, _TELL_MORE) or getattr(exception, "__notes__", None) is not None:
        told = redact("".join(traceback.format_exception_only(type(exception), exception)))
    return told if frames is None else f"Traceback (most recent call last):\n{_text_of(frames)}{told}"


def _is_simple(exception: BaseException) -> bool:
    """Whether nothing but its own frames and its text belongs to it: no cause, no group."""
    return (
        exception.__cause__ is None
        and (exception.__context__ is None or exception.__suppress_context__)
        and not isinstance(exception, BaseExceptionGroup)
    )


def _text_of(frames: TracebackType | None) -> str:
    texts: list[str] = []
    last, repeated = None, 0
    while frames is not None:
        code = frames.tb_frame.f_code
        place = (code.co_filename, frames.tb_lineno, code.co_name)
        if place != last:
            texts += _repetition(repeated)
            last, repeated = place, 0
        repeated += 1
        if repeated <= REPEATED_MAX:
            texts.append(_text_of_place(code, frames))
        frames = frames.tb_next
    texts += _repetition(repeated)
    return "".join(texts)


def _repetition(repeated: int) -> list[str]:
    more = repeated - REPEATED_MAX
    return [f"  [Previous line repeated {more} more time{'s' if more > 1 else ''}]\n"] if more > 0 else []


def _text_of_place(code: CodeType, frame: TracebackType) -> str:
    place = (code, frame.tb_lasti)
    text = _texts.get(place)
    if text is None:
        text = redact("".join(traceback.format_tb(frame, limit=1)))
        if len(_texts) >= PLACES_MAX:
            _texts.clear()
        _texts[place] = text
    return text
