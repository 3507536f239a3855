"""How long short jobs wait that were created behind as many long ones as a process has threads."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from bench.processes import wait_until
from bench.stack import THREADS, Stack
from bench.systems import GoQueue

LONG_SECONDS = 3.0
SHORT_JOBS = 192

#: Before each trial the processes learn that jobs are short, and claim ahead.
BURST = 3_000

_UNFINISHED = "SELECT count(*) FROM jobs WHERE id > %s AND status <> 'completed'"
_LONGEST_WAIT = """
    SELECT max(extract(epoch FROM started_at - created_at))::float FROM jobs WHERE id > %s AND type = 'noop'
"""


def longest_waits(stack: Stack, *, trials: int) -> list[float]:
    """For each trial the longest wait of a short job, from its creation to its handler's begin, in seconds.

    One process may claim all of them, the long ones first; the other has nothing to do.
    """
    system, waits = GoQueue(stack), []
    stack.clear()
    with system.running():
        for _ in range(trials):
            system.enqueue_many("noop", BURST, {})
            _wait_until_done(stack, 0)
            last = int(stack.query("SELECT max(id) FROM jobs"))
            _create(LONG_SECONDS)
            _wait_until_done(stack, last)
            waits.append(float(stack.query(_LONGEST_WAIT, last)))
    return waits


def _create(long_seconds: float) -> None:
    creator = import_module("goqueue.instance").default().creator
    new_job = import_module("goqueue.engine.new_job").new_job
    broker = import_module("goqueue.actors").broker
    long = new_job(broker, "nap", {"seconds": long_seconds})
    short = new_job(broker, "noop", {})
    creator.many([long] * THREADS + [short] * SHORT_JOBS)


def _wait_until_done(stack: Stack, last: int) -> None:
    wait_until(lambda: cast("int", stack.query(_UNFINISHED, last)) == 0, seconds=60, what="all jobs ran")
