"""The job types of the load test (`GOQUEUE_ACTORS=bench.load.jobs`), beside those that GoQueue has."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import goqueue
from bench.load.mixture import QUEUE
from bench.run_counter import RunCounter

_DIGEST_BYTES = 50_000

_counter = RunCounter(Path(os.environ["BENCH_FOLDER"]))


@goqueue.actor(queue=QUEUE)
def count(number: int) -> None:  # noqa: ARG001  (what a client says about its job)
    """Do nothing, and be counted."""
    _counter.add()


@goqueue.actor(queue=QUEUE)
def nap(number: int, seconds: float) -> None:  # noqa: ARG001
    """Wait as for an answer from elsewhere."""
    time.sleep(seconds)
    _counter.add()


@goqueue.actor(queue=QUEUE)
def digest(number: int) -> dict[str, str]:
    """Compute something, and keep the result."""
    found = hashlib.sha256(str(number).encode() * (_DIGEST_BYTES // len(str(number)))).hexdigest()
    _counter.add()
    return {"sha256": found}


@goqueue.actor(queue=QUEUE, max_retries=3, min_backoff_seconds=0.2)
def stumble(number: int) -> None:
    """Fail the first time."""
    _counter.add()
    if goqueue.current_job().attempt == 1:
        raise ConnectionError(f"the other side did not answer number {number}")


@goqueue.actor(queue=QUEUE)
def refuse(number: int) -> None:
    """Fail for good."""
    _counter.add()
    raise goqueue.Discard(f"number {number} is not wanted")
