"""Arguments of the functions that `goqueue` exports, where only a type checker would look otherwise."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from goqueue.jobs import MAX_JOB_ID

__all__ = ["expect_finite", "expect_id", "expect_whole_number"]


def expect_whole_number(name: str, value: Any) -> None:
    """Refuse what is no whole number.

    Raises:
        TypeError: it is none; the text says which argument it is.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name}: expected a whole number, got {type(value).__qualname__}")


def expect_id(name: str, value: Any, missing: Callable[[int], Exception]) -> None:
    """Refuse what no id of a row can be.

    Raises:
        TypeError: it is no whole number.
        Exception: what `missing` makes of it: there can be no such row.
    """
    expect_whole_number(name, value)
    if not 0 < value <= MAX_JOB_ID:
        raise missing(value)


def expect_finite(name: str, value: Any, *, least: float, most: float) -> None:
    """Refuse what is no number in this range.

    Raises:
        TypeError: it is no number.
        ValueError: it is out of the range.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name}: expected a number, got {type(value).__qualname__}")
    if not math.isfinite(value) or not least <= value <= most:
        raise ValueError(f"{name}: expected {least:g} to {most:,.12g}, got {value}")
