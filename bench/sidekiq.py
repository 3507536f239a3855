"""Sidekiq as the third system of the drain, where Ruby and its package are at hand; nothing is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from bench.processes import Child
from bench.stack import PROCESSES, THREADS, Stack

__all__ = ["ABSENT", "Sidekiq", "is_at_hand"]

#: What the table says instead of a figure.
ABSENT = "Sidekiq: not at hand (apt-get install ruby-sidekiq)"

_WORKERS = Path(__file__).with_name("sidekiq_workers.rb")
_QUEUE = "queue:bench"
_BATCH = 1_000
# What the workers' file needs: the package, and the mapped memory of Ruby 3.1.
_PROBE = 'require "sidekiq/cli"; IO::Buffer'


@cache
def is_at_hand() -> bool:
    """Return whether this machine has Ruby 3.1 or newer with Sidekiq."""
    ruby = shutil.which("ruby")
    if ruby is None:
        return False
    return subprocess.run([ruby, "-e", _PROBE], capture_output=True, check=False).returncode == 0


class Sidekiq:
    """Sidekiq with its stock fetch: a job is gone from Redis when a worker takes it, and leaves no record."""

    name = "sidekiq"

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def enqueue_many(self, job: str, count: int, payload: dict[str, Any]) -> None:
        """Create jobs by the batch, as `perform_bulk` does."""
        for start in range(0, count, _BATCH):
            jobs = [_message(job, payload) for _ in range(min(_BATCH, count - start))]
            self._stack.redis.lpush(_QUEUE, *jobs)

    def enqueue(self, job: str, payload: dict[str, Any]) -> None:
        """Create one job, as `perform_async` does."""
        self._stack.redis.lpush(_QUEUE, _message(job, payload))

    @contextmanager
    def running(self, *, processes: int = PROCESSES, threads: int = THREADS) -> Iterator[dict[str, Child]]:
        """Run the workers."""
        with self._stack.ruby(_WORKERS, str(processes), str(threads)) as workers:
            yield {"workers": workers}

    def all_recorded(self, count: int) -> bool:  # noqa: ARG002  (it keeps no count of what is done)
        """Whether no job waits; what has been taken is counted by its run."""
        return not self._stack.redis.llen(_QUEUE)


def _message(job: str, payload: dict[str, Any]) -> str:
    now = time.time()
    return json.dumps(
        {
            "class": job.capitalize(),
            "args": list(payload.values()),
            "retry": True,
            "queue": "bench",
            "jid": uuid4().hex[:24],
            "created_at": now,
            "enqueued_at": now,
        }
    )
