"""The average of how long jobs run at present, by which it is decided how much is claimed ahead."""

from __future__ import annotations

import math

#: A shorter run than seen so far lowers the average by this much of the difference; a longer one counts at
#: once, because claiming ahead of a long job holds jobs back that another process could start.
SMOOTHING = 0.1


def average_with(average: float, run_seconds: float) -> float:
    """Compute the average after another run; an infinite one is unknown."""
    if run_seconds > average or average == math.inf:
        return max(run_seconds, 1e-6)
    return average + (run_seconds - average) * SMOOTHING
