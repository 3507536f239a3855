"""Rules of partitions: how large they are, when a further one is due, and which are put together."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["PARTITIONS_A_RETENTION", "first_upper", "joined", "size_of", "wants_another"]

#: So many partitions cover the time for which completed jobs are kept. Every statement looks at each of them,
#: so many small ones cost more than they free early.
PARTITIONS_A_RETENTION = 8

SMALLEST, LARGEST = 10_000, 50_000_000

#: The first partition that is made by switching begins so many ids further on, at a round number: a bound
#: that is set while jobs are created must lie where none comes for days.
JUMP, ROUND = 10_000_000, 1_000_000

#: What is kept of old partitions is put together while the next one has at most so many times the rows of
#: those before, so that their number grows with the logarithm of the rows; small ones always.
JOIN_RATIO, SMALL = 2, 10_000


def size_of(ids_per_second: float, retention_seconds: float) -> int:
    """Say how many ids a partition takes, where so many are given a second and kept for so long."""
    size = int(ids_per_second * retention_seconds / PARTITIONS_A_RETENTION)
    return max(SMALLEST, min(LARGEST, size))


def first_upper(last_id: int) -> int:
    """Say where the table of before ends, and the first partition of new jobs begins."""
    return (last_id + JUMP + ROUND) // ROUND * ROUND


def wants_another(ids_ahead: int, size: int) -> bool:
    """Say whether the partition without an upper bound is too near: less than half of another one away."""
    return ids_ahead < size // 2


def joined(rows: int, before: Sequence[int]) -> int:
    """Say how many of the kept partitions before one are put together with it, the nearest first.

    Args:
        rows: that are kept of the new one.
        before: the rows of those before it, the nearest first.
    """
    number = 0
    for others in before:
        if others > max(SMALL, JOIN_RATIO * rows):
            break
        rows += others
        number += 1
    return number
