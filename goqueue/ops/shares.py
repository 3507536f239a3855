"""The division of worker threads between namespaces, by their shares. Pure Python."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["WorkerSize", "divided"]


class WorkerSize(NamedTuple):
    """The worker processes of a namespace, and the threads of each."""

    processes: int
    threads: int


def divided(size: WorkerSize, shares: Mapping[str, int]) -> dict[str, WorkerSize]:
    """Divide the threads of so many processes between namespaces.

    Each has one thread at least, however many namespaces there are; what does not divide evenly goes to those
    that miss the most of theirs. No process has more threads than those that are divided.

    Args:
        size: all processes, and the threads of each.
        shares: namespace → its weight.
    """
    every, weights = size.processes * size.threads, sum(shares.values())
    due = {name: every * share / weights for name, share in shares.items()}
    threads = {name: max(1, math.floor(exact)) for name, exact in due.items()}
    left = every - sum(threads.values())
    for name in sorted(due, key=lambda name: (threads[name] - due[name], name))[: max(0, left)]:
        threads[name] += 1
    return {name: _sized(count, size.threads) for name, count in threads.items()}


def _sized(threads: int, most: int) -> WorkerSize:
    processes = math.ceil(threads / most)
    return WorkerSize(processes, math.ceil(threads / processes))
