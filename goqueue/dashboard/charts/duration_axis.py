"""A logarithmic axis of durations: the buckets of `insight/histograms.py` as places, with labels. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from goqueue.dashboard.parts.presentation import duration
from goqueue.insight.histograms import BOUNDS

__all__ = ["DurationAxis", "Label", "label_of_bucket"]

#: Where labels may stand, the roundest first.
_ROUND = (
    (0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 86_400.0),
    (0.005, 0.05, 0.5, 5.0, 30.0, 300.0, 1800.0, 21_600.0),
    (0.002, 0.02, 0.2, 2.0, 20.0, 120.0, 1200.0, 7200.0, 43_200.0),
)

#: An axis has at least so many buckets, so that one bar does not fill it.
LEAST_BUCKETS = 10

#: Labels stand no nearer than this, as a part of the axis.
_NEAREST = 0.09


@dataclass(frozen=True, slots=True)
class Label:
    """A label of an axis, with its place.

    Attributes:
        place: 0 to 1, from its begin.
        is_major: it stays where there is little room.
    """

    place: float
    text: str
    is_major: bool


@dataclass(frozen=True, slots=True)
class DurationAxis:
    """An axis of some neighbouring buckets, each as wide as the others: the bounds grow by the same factor.

    Attributes:
        first: its first bucket.
        size: how many it has.
    """

    first: int
    size: int

    @classmethod
    def around(cls, first: int, last: int) -> DurationAxis:
        """Make an axis on which these buckets are, with one more on each side where there is one."""
        low, high = max(0, first - 1), min(len(BOUNDS), last + 1)
        while high - low + 1 < LEAST_BUCKETS:
            low, high = max(0, low - 1), min(len(BOUNDS), high + 1)
        return cls(low, high - low + 1)

    def place_of_bucket(self, bucket: float) -> float:
        """Return the place at which a bucket begins, 0 to 1."""
        return (bucket - self.first) / self.size

    def place_of(self, seconds: float) -> float:
        """Return the place of a duration; a shorter one is at the begin of the axis, a longer at its end."""
        shortest = BOUNDS[0]
        bucket = seconds / shortest if seconds < shortest else 1 + 2 * math.log2(seconds / shortest)
        return min(1.0, max(0.0, self.place_of_bucket(bucket)))

    def labels(self) -> list[Label]:
        """Choose round durations as labels, as many as have room."""
        found: list[Label] = []
        for roundness, candidates in enumerate(_ROUND):
            for seconds in candidates:
                place = self.place_of(seconds)
                if 0 < place < 1 and all(abs(place - other.place) >= _NEAREST for other in found):
                    found.append(Label(place, duration(seconds), is_major=roundness == 0))
        return sorted(found, key=lambda label: label.place)


def label_of_bucket(bucket: int) -> str:
    """Say which durations a bucket holds, in words."""
    if bucket == 0:
        return f"below {duration(BOUNDS[0])}"
    if bucket >= len(BOUNDS):
        return f"{duration(BOUNDS[-1])} or longer"
    return f"{duration(BOUNDS[bucket - 1])} to {duration(BOUNDS[bucket])}"
