"""One load: a stack of its own, the clients, the watch until every job has ended, and then the count."""

from __future__ import annotations

import os
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.load.clients import CLIENTS, Clients
from bench.load.live import Glance, View, live_view
from bench.load.mixture import mixture
from bench.load.numbers import Effects, Number, numbers_of
from bench.load.record import JobRow, Record
from bench.run_counter import counts
from goqueue.dev.embedded_stack import EmbeddedStack
from goqueue.errors import StartupError
from goqueue.ops.supervisor import StopRequest

ROOT = Path(__file__).resolve().parents[2]
WORKER_PROCESSES, WORKER_THREADS = 2, 8
POLL_SECONDS = 0.25

#: Nothing ended for so long: something is broken.
STALL_SECONDS = 60.0

SETTINGS: dict[str, Any] = {
    "actors": ("bench.load.jobs",),
    "worker_processes": WORKER_PROCESSES,
    "worker_threads": WORKER_THREADS,
    "api_keys": (),
    "log_level": "WARNING",
}


@dataclass(frozen=True, slots=True)
class Load:
    """What a load came to.

    Attributes:
        numbers: every number beside what it must be.
        single_seconds, batch_seconds: how long each create took to be answered.
    """

    total: int
    numbers: list[Number]
    rows: list[JobRow]
    single_seconds: list[float]
    batch_seconds: list[float]

    @property
    def is_right(self) -> bool:
        """Whether every number is what it must be."""
        return all(number.is_right for number in self.numbers)


def run_load(total: int, folder: Path, stop: StopRequest) -> Load | None:
    """Run so many jobs; None when a stop was requested.

    Args:
        total: how many jobs.
        folder: for the servers' data and the processes' log; empty.
        stop: ends the load early.

    Raises:
        StartupError: something cannot start, or nothing ends any more.
        RuntimeError: a create was not answered with success.
    """
    runs = folder / "runs"
    runs.mkdir()
    os.environ |= {"BENCH_FOLDER": str(runs), "PYTHONPATH": str(ROOT)}
    with (folder / "processes.log").open("ab") as output:
        stack = EmbeddedStack(folder / "stack", output=output, opens_path=True, **SETTINGS)
        try:
            stack.start(stop)
            clients = Clients(stack.settings.api_port, mixture(total, stack.webhooks.url))
            rows = _work(stack, clients, total, stop)
        finally:
            ended_well = stack.stop(stop.forced)
    if stop.requested.is_set():
        return None
    effects = _effects(stack, runs, failed_processes=int(not ended_well))
    numbers = numbers_of(total, clients.told, clients.told_twice, rows, effects)
    return Load(total, numbers, rows, clients.single_seconds, clients.batch_seconds)


def _work(stack: EmbeddedStack, clients: Clients, total: int, stop: StopRequest) -> list[JobRow]:
    """Create and watch; then every row."""
    title = f"{total:,} jobs · {CLIENTS} clients · {WORKER_PROCESSES} x {WORKER_THREADS} worker threads"
    with closing(Record(stack.postgres.url)) as record:
        clients.start()
        try:
            with live_view(total, title) as show:
                _watch(stack, clients, record, show, total, stop)
        finally:
            clients.close()
        return record.rows()


def _watch(
    stack: EmbeddedStack, clients: Clients, record: Record, show: View, total: int, stop: StopRequest
) -> None:
    finished, changed_at = 0, time.monotonic()
    while not stop.requested.wait(POLL_SECONDS):
        all_created = clients.have_ended()
        created = len(clients.told)
        ended = record.ended()
        if ended.jobs > finished:
            finished, changed_at = ended.jobs, time.monotonic()
        # A job may end before its client is told of it.
        show(Glance(max(created, ended.jobs), ended.jobs, ended.waits, clients.recent_seconds()))
        if all_created and finished >= total:
            return
        if time.monotonic() - changed_at > STALL_SECONDS:
            raise StartupError(f"nothing ended for {STALL_SECONDS:g} s; {total - finished} jobs are open")
        stack.tend()


def _effects(stack: EmbeddedStack, runs: Path, *, failed_processes: int) -> Effects:
    return Effects(
        runs=sum(counts(runs)),
        mails=Counter(message.message_id for message in stack.mail.received),
        charges=Counter(stack.payments.charges),
        webhooks=Counter(stack.webhooks.accepted),
        failed_processes=failed_processes,
    )
