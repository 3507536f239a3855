"""The few figures that samples are reduced to, and the order in which rivals are measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def percentile(samples: Sequence[float], percent: float) -> float:
    """The smallest sample that is not below `percent` of them.

    Raises:
        ValueError: there are no samples.
    """
    if not samples:
        raise ValueError("a percentile of no samples")
    rank = math.ceil(len(samples) * percent / 100)
    return sorted(samples)[max(0, rank - 1)]


def median(samples: Sequence[float]) -> float:
    """The middle sample; of two middle ones their mean.

    Raises:
        ValueError: there are no samples.
    """
    if not samples:
        raise ValueError("a median of no samples")
    ordered = sorted(samples)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def rotated(items: Sequence[T], number: int) -> list[T]:
    """The items, each in turn the first from one number to the next."""
    start = number % len(items)
    return [*items[start:], *items[:start]]
