"""Histograms of durations, with the same buckets everywhere: they add up, and tell quantiles. Pure.

Each bucket is √2 times as wide as the one before it, from a millisecond to about a day; so a quantile is
never wrong by more than that factor, whatever was counted. Bucket `i` holds what is below `BOUNDS[i]` and not
below `BOUNDS[i - 1]`; one more holds what is not below the last. It is the numbering of PostgreSQL's
`width_bucket(seconds, thresholds)` with the bounds as thresholds. Trailing zeros are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

__all__ = ["BOUNDS", "added", "bounds_of", "quantile", "trimmed"]

_LOWEST_SECONDS = 0.001

#: The bounds between the buckets, in seconds.
BOUNDS: tuple[float, ...] = tuple(_LOWEST_SECONDS * 2 ** (step / 2) for step in range(54))


def bounds_of(bucket: int) -> tuple[float, float]:
    """Return the least and largest duration of a bucket; the last one ends a step above the last bound."""
    low = BOUNDS[bucket - 1] if bucket else 0.0
    high = BOUNDS[bucket] if bucket < len(BOUNDS) else BOUNDS[-1] * 2**0.5
    return low, high


def trimmed(counts: Sequence[int]) -> tuple[int, ...]:
    """Return the counts without trailing zeros."""
    length = len(counts)
    while length and not counts[length - 1]:
        length -= 1
    return tuple(counts[:length])


def added(*histograms: Sequence[int]) -> tuple[int, ...]:
    """Add histograms up: all at once is much faster than one by one."""
    return trimmed([sum(column) for column in zip_longest(*histograms, fillvalue=0)])


def quantile(counts: Sequence[int], part: float) -> float | None:
    """Return the duration in seconds that `part` (0 to 1) of all do not exceed; None: there are none.

    Inside its bucket, durations are taken to be spread evenly.
    """
    total = sum(counts)
    if not total:
        return None
    wanted = part * total
    below = 0
    for bucket, count in enumerate(counts):
        if count and below + count >= wanted:
            low, high = bounds_of(bucket)
            return low + (high - low) * max(0.0, wanted - below) / count
        below += count
    return bounds_of(len(counts) - 1)[1]
