"""The bounds of moments, durations, numbers and nested values that every reader of GoQueue can read. Pure.

They hold at every door (REST, Python, handlers, schedules), and, as far as a constraint can say it, in the
database. What is beyond them all the same (a row of an older release, a statement typed by hand) is read as
the nearest value within them, so that no reader fails.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any

import orjson
from pydantic_core import PydanticCustomError

from goqueue.jobs import MAX_DELAY_SECONDS

__all__ = [
    "EXPECTED_NEAR",
    "FIRST_MOMENT",
    "LAST_MOMENT",
    "MAX_DEPTH",
    "TOO_DEEP",
    "is_near",
    "is_nested_deeper",
    "is_number",
    "is_structure_deeper",
    "near_moment",
    "problem_of_value",
    "pruned",
    "read_stored_json",
    "readable",
]

#: No stored moment lies outside: far enough from both ends of Python's and PostgreSQL's years that adding or
#: subtracting any duration that GoQueue accepts stays within what both can hold.
FIRST_MOMENT = datetime(1900, 1, 1, tzinfo=UTC)
LAST_MOMENT = datetime(3000, 1, 1, tzinfo=UTC)

#: A moment that somebody asks for lies so far from now at most, as a delay does.
NEAR = timedelta(seconds=MAX_DELAY_SECONDS)
EXPECTED_NEAR = "expected a time within ten years of now"

#: Integers that every reader of JSON reads exactly.
_MIN_INT64, _MAX_INT64 = -(2**63), 2**63 - 1

#: The deepest JSON value that is kept: writers of JSON, and the pages that show it, follow so far.
MAX_DEPTH = 100
#: What stands in the place of what is nested deeper, in a value that was kept by an older release.
TOO_DEEP = "(nested too deep to be shown)"

_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


def is_near(moment: datetime) -> bool:
    """Tell whether a moment, which has a zone, lies within ten years of now."""
    return abs(moment - datetime.now(UTC)) <= NEAR


def near_moment(moment: datetime) -> datetime:
    """Return a moment unchanged if it lies within ten years of now: a validator for pydantic.

    Raises:
        PydanticCustomError: it lies further away.
    """
    if not is_near(moment):
        raise PydanticCustomError("near", EXPECTED_NEAR)
    return moment


def readable(moment: datetime) -> datetime:
    """Return the moment, or the nearest one that can be stored."""
    if FIRST_MOMENT.year <= moment.year < LAST_MOMENT.year:
        return moment
    return FIRST_MOMENT if moment.year < FIRST_MOMENT.year else LAST_MOMENT


def is_number(value: Any, least: float, most: float) -> bool:
    """Tell whether a value is a finite number (no boolean, no text) of this range, both ends included."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    # Comparing is exact for integers of any length; making a float of them is not, or raises.
    return (isinstance(value, int) or math.isfinite(value)) and least <= value <= most


def is_nested_deeper(text: bytes, levels: int) -> bool:
    """Tell whether a JSON text has arrays and objects in more than so many levels."""
    if text.count(b"{") + text.count(b"[") <= levels:
        return False
    return is_structure_deeper(_without_strings(text), levels)


def is_structure_deeper(structure: bytes, levels: int) -> bool:
    """Tell whether a JSON text without its strings has arrays and objects in more than so many levels.

    A malformed text counts as deeper when a reader would come deeper before it noticed.
    """
    brackets = structure.translate(_BRACKETS, _NOT_BRACKETS)
    # Each round takes away the innermost level, at the speed of C.
    rest = brackets
    for _ in range(levels):
        if not rest:
            return False
        rest = rest.replace(b"[]", b"")
    return bool(rest) and max(accumulate(1 if byte == ord("[") else -1 for byte in brackets)) > levels


def problem_of_value(value: Any, text: str) -> str | None:
    """Say why a JSON value, which is written as this text, cannot be kept; None when it can be.

    Args:
        value: dictionaries, lists and plain values.
        text: the same as JSON.
    """
    if is_nested_deeper(text.encode("utf-8", "surrogatepass"), MAX_DEPTH):
        return f"it is nested deeper than {MAX_DEPTH} levels"
    if _may_hold_long_integers(text) and _holds(value, _is_long_integer):
        return "it holds an integer of more than 64 bits, which readers of JSON round: keep it as a text"
    return None


def pruned(value: Any, levels: int = MAX_DEPTH) -> Any:
    """Return a JSON value with a short text in the place of all that lies deeper than so many levels."""
    if isinstance(value, dict):
        return {name: pruned(item, levels - 1) for name, item in value.items()} if levels > 0 else TOO_DEEP
    if isinstance(value, list):
        return [pruned(item, levels - 1) for item in value] if levels > 0 else TOO_DEEP
    return value


def read_stored_json(text: bytes | str) -> Any:
    """Return the value of a stored JSON text: never deeper than `MAX_DEPTH`, and never an exception.

    What an older release kept may be nested deeper than any writer of an answer follows.
    """
    data = text.encode() if isinstance(text, str) else bytes(text)
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return _read_with_patience(data)
    return pruned(value) if is_nested_deeper(data, MAX_DEPTH) else value


def _read_with_patience(data: bytes) -> Any:
    """What PostgreSQL takes for JSON and orjson does not; an object that says so where no answer can."""
    try:
        value = pruned(json.loads(data, parse_int=_read_integer))
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return {"unreadable": "this JSON cannot be read"}
    return value


def _read_integer(text: str) -> int | float:
    """An integer as orjson reads it: one that it could not write again is a double."""
    if len(text) > _INT64_DIGITS + 1:
        return float(text)
    value = int(text)
    return value if _MIN_INT64 <= value <= _MAX_INT64 else float(value)


def _without_strings(text: bytes) -> bytes:
    """The text without its strings; without escapes every second piece between quotation marks is one."""
    if b"\\" not in text:
        return b"".join(text.split(b'"')[::2])
    return b"".join(text.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])


#: Every integer of fewer digits fits into 64 bits.
_INT64_DIGITS = 19
_DIGITS_TO_ZERO = str.maketrans("123456789", "000000000")


def _may_hold_long_integers(text: str) -> bool:
    return "0" * _INT64_DIGITS in text.translate(_DIGITS_TO_ZERO)


def _is_long_integer(value: Any) -> bool:
    # Compared, not looked for in a range: that walks over all of it for a subclass of int, such as an enum.
    return isinstance(value, int) and not _MIN_INT64 <= value <= _MAX_INT64


def _holds(root: Any, is_wanted: Callable[[Any], bool]) -> bool:
    todo = [root]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            todo.extend(value.values())
        elif isinstance(value, list | tuple):
            todo.extend(value)
        elif is_wanted(value):
            return True
    return False
