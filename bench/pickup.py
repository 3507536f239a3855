"""How soon an idle worker starts a job, from the answer to whoever created it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

from bench.processes import wait_until
from bench.stack import Stack
from bench.statistics import percentile

#: Longer than a job takes and no round number: the samples must not fall in step with a polling loop.
SPACING_SECONDS = (0.03, 0.08)


def pickup(stack: Stack, create: Callable[[int], None], *, samples: int) -> tuple[float, float]:
    """The median and the 99th percentile of the latency, in milliseconds.

    It is below zero where the handler began before the answer arrived; the clock is the machine's monotonic
    one, which its processes share.
    """
    stamps = stack.folder / "stamps"
    stamps.unlink(missing_ok=True)
    answered = []
    for number in range(-5, samples):
        create(number)
        answered.append((number, time.monotonic()))
        time.sleep(random.uniform(*SPACING_SECONDS))
    wait_until(lambda: len(_begun(stamps)) >= len(answered), seconds=30, what="every sample ran")
    begun = _begun(stamps)
    # The negative numbers warm up: connections, prepared statements, the consumer's first fetch.
    latencies = [(begun[number] - answer) * 1000 for number, answer in answered if number >= 0]
    return percentile(latencies, 50), percentile(latencies, 99)


def _begun(stamps: Path) -> dict[int, float]:
    lines = stamps.read_text().splitlines() if stamps.exists() else []
    return {int(number): float(began) for number, began in (line.split() for line in lines)}
