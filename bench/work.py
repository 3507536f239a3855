"""What the jobs of both systems do."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from bench.run_counter import RunCounter

_FOLDER = Path(os.environ["BENCH_FOLDER"])
_counter = RunCounter(_FOLDER / "runs")


def noop() -> None:
    """Count a run."""
    _counter.add()


def noops(count: int) -> None:
    """Count the runs of a batch."""
    _counter.add(count)


def nap(seconds: float) -> None:
    """Sleep, then count a run."""
    time.sleep(seconds)
    _counter.add()


async def nap_async(number: int, seconds: float) -> None:
    """Write down when this began, sleep on the event loop, then count a run."""
    stamp(number)
    await asyncio.sleep(seconds)
    _counter.add()


def stamp(number: int) -> None:
    """Append the number and the moment of its start; one write, so that lines of two processes never mix."""
    began = time.monotonic()
    stamps = os.open(_FOLDER / "stamps", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(stamps, f"{number} {began!r}\n".encode())
    finally:
        os.close(stamps)
