"""How much a run measures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Size:
    """The rounds of a run, and how many jobs, calls and seconds each measurement takes."""

    rounds: int
    drain_jobs: int
    nap_jobs: int
    samples: int
    calls: int
    batch: int = 10_000
    backlog: int = 200_000
    keys: int = 100_000
    hold_seconds: float = 30.0
    table: int = 200_000
    page_rounds: int = 9
    open_rounds: int = 5
    open_seconds: float = 12.0
