"""The few figures that samples are reduced to."""

from __future__ import annotations

import math
from collections.abc import Sequence


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
