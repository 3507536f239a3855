"""What a transaction that is held open costs: `python -m bench.horizon`.

PostgreSQL cannot remove a row version, nor an index entry that leads to one, while some transaction could
still see it. So under a transaction that stays open everything that reads "the next jobs" by an index
finds the entries of all that are done in its way. This measures how soon jobs start and how fast they are
worked off before, during and after, at a steady rate of jobs that are created one by one.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

import psycopg

from bench.processes import cpu_seconds, wait_until
from bench.report import Row, table, write_json
from bench.run_counter import counts
from bench.stack import Stack
from bench.statistics import median
from bench.systems import GoQueue

RESULTS = Path(__file__).resolve().parent / "results" / "horizon.json"
QUEUE = "bench"

#: What the issue allows: so many times the latency, and the same share of the speed.
ALLOWED = 1.3

#: Threads that create jobs at the steady rate: one alone waits for the disk.
FEEDERS = 8

WARM_UP_JOBS = 2_000
SETTLE_SECONDS = 3.0

_PICKUP = """
    SELECT percentile_cont(ARRAY [0.5, 0.99])
           WITHIN GROUP (ORDER BY extract(epoch FROM started_at - created_at) * 1000)
    FROM jobs WHERE id > %s AND id <= %s
"""
_DRAIN = """
    SELECT count(*) / extract(epoch FROM max(finished_at) - min(started_at)) FROM jobs WHERE id > %s
"""
_OPEN = "SELECT count(*) FROM jobs WHERE id > %s AND status <> 'completed'"
_LAST_ID = "SELECT coalesce(max(id), 0) FROM jobs"
_PAGES = "SELECT blks_hit + blks_read FROM pg_stat_database WHERE datname = current_database()"


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, how much.

    Attributes:
        hold_seconds: how long the transaction has been open, at `rate`, when the drains under it begin.
        phase_seconds: how long is measured before and after, and how much of the end of the hold.
        rate: jobs a second, created one by one.
        burst, bursts: jobs of one drain, and how many drains; their median counts.
    """

    hold_seconds: float = 180.0
    phase_seconds: float = 30.0
    rate: int = 500
    burst: int = 10_000
    bursts: int = 3


@dataclass(frozen=True, slots=True)
class Phase:
    """What was measured in a phase.

    Attributes:
        rate: jobs a second that were really created at the steady rate.
        pickup_p50, pickup_p99: milliseconds from created to started, of these.
        drain: jobs a second.
        cpu: PostgreSQL's CPU seconds for 1,000 jobs, at the steady rate.
        pages: what it touched for each of them; other load on the machine does not change that.
    """

    rate: float
    pickup_p50: float
    pickup_p99: float
    drain: float
    cpu: float
    pages: float


def phases(stack: Stack, plan: Plan) -> dict[str, Phase]:
    """Measure before, during and after.

    Raises:
        TimeoutError: jobs stay open.
    """
    stack.clear()
    with GoQueue(stack).running():
        time.sleep(SETTLE_SECONDS)
        load = _SteadyLoad(stack, plan)
        load.drain_rate(WARM_UP_JOBS)
        found = {"before": load.measured()}
        with _held_transaction(stack):
            load.feed(max(0.0, plan.hold_seconds - plan.phase_seconds))
            found["during"] = load.measured()
        found["after"] = load.measured()
    return found


def rows_of(found: dict[str, Phase], plan: Plan) -> list[Row]:
    """The phases as rows: each of the later ones against the one before."""
    titles = {"during": f"transaction open for {plan.hold_seconds:g} s", "after": "transaction closed again"}
    return [
        row
        for name, title in titles.items()
        for row in _rows_of(name, title, found[name], found["before"], plan)
    ]


def _rows_of(name: str, title: str, phase: Phase, before: Phase, plan: Plan) -> list[Row]:
    p50 = Row(
        f"pickup_p50_{name}", f"{title}: created to started, p50", "ms", phase.pickup_p50, before.pickup_p50,
        "before", "ratio", ALLOWED, at_most=True,
    )  # fmt: skip
    drain = Row(
        f"drain_{name}", f"  drain of {plan.burst:,} no-op jobs", "jobs/s", phase.drain, before.drain,
        "before", "ratio", 1 / ALLOWED,
    )  # fmt: skip
    rate = Row(
        f"rate_{name}", "  jobs that were really created", "jobs/s", phase.rate, target=plan.rate * 0.95
    )
    p99 = Row(f"pickup_p99_{name}", "  p99", "ms", phase.pickup_p99, before.pickup_p99, "before")
    title = f"  PostgreSQL at {plan.rate} jobs/s"
    cpu = Row(f"cpu_{name}", title, "CPU s / 1,000", phase.cpu, before.cpu, "before")
    pages = Row(f"pages_{name}", "  pages it touches", "a job", phase.pages, before.pages, "before")
    return [p50, p99, drain, cpu, pages, rate]


class _SteadyLoad:
    """Creates jobs, measures what becomes of them, and looks that all complete."""

    def __init__(self, stack: Stack, plan: Plan) -> None:
        submit = import_module("goqueue.submit")
        self._stack = stack
        self._plan = plan
        self._submitter = submit.current_submitter()
        self._job = submit.new_job(import_module("goqueue.actors").broker, "noop", {})

    def measured(self) -> Phase:
        """A phase at the steady rate, and then the drains."""
        first, runs, cpu, pages = self._last_id(), self._runs(), self._cpu(), self._pages()
        began = time.monotonic()
        jobs = self.feed(self._plan.phase_seconds)
        rate = jobs / (time.monotonic() - began)
        cpu, pages = (self._cpu() - cpu) / jobs * 1000, (self._pages() - pages) / jobs
        self._wait_until_done(first, runs + jobs)
        p50, p99 = self._stack.query(_PICKUP, first, self._last_id())
        drains = [self.drain_rate(self._plan.burst) for _ in range(self._plan.bursts)]
        return Phase(rate, p50, p99, median(drains), cpu, pages)

    def feed(self, seconds: float) -> int:
        """Create jobs at the steady rate, one by one, and catch up with what was late; how many."""
        rate, began = self._plan.rate, time.monotonic()
        jobs = int(rate * seconds)

        def create(first: int) -> None:
            for number in range(first, jobs, FEEDERS):
                time.sleep(max(0.0, began + number / rate - time.monotonic()))
                self._submitter.one(self._job)

        with ThreadPoolExecutor(FEEDERS) as pool:
            list(pool.map(create, range(FEEDERS)))
        return jobs

    def drain_rate(self, jobs: int) -> float:
        """Jobs a second from the first start to the last record; they are created in a paused queue."""
        control = import_module("goqueue")
        last, runs = self._last_id(), self._runs()
        self._stack.sql.execute("INSERT INTO queues (name) VALUES (%s) ON CONFLICT DO NOTHING", (QUEUE,))
        control.pause_queue(QUEUE, reason="a burst is created")
        GoQueue(self._stack).enqueue_many("noop", jobs, {})
        control.resume_queue(QUEUE)
        self._wait_until_done(last, runs + jobs)
        return float(self._stack.query(_DRAIN, last))

    def _wait_until_done(self, after_id: int, runs: int) -> None:
        """Wait for the handlers, at no cost for the servers, and then for the records."""
        wait_until(lambda: self._runs() >= runs, seconds=120, what=f"{runs} runs")
        wait_until(lambda: not self._stack.query(_OPEN, after_id), seconds=60, what="all completed", poll=0.1)

    def _runs(self) -> int:
        return sum(counts(self._stack.runs))

    def _last_id(self) -> int:
        return int(self._stack.query(_LAST_ID))

    def _cpu(self) -> float:
        return cpu_seconds(self._stack.postgres.pid)

    def _pages(self) -> float:
        return float(self._stack.query(_PAGES))


@contextmanager
def _held_transaction(stack: Stack) -> Iterator[None]:
    """A transaction that looks once and then stays open."""
    with psycopg.connect(stack.postgres.url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("SELECT FROM jobs LIMIT 1")
        yield
        connection.rollback()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and keep the figures."""
    options = _parser().parse_args(arguments)
    plan = Plan(options.hold_seconds, options.phase_seconds, options.rate)
    with Stack() as stack:
        try:
            rows = rows_of(phases(stack, plan), plan)
        except Exception:
            print(f"--- the end of {stack.log}:\n{stack.log_tail()}", file=sys.stderr)
            raise
    print(f"\n{table(rows)}\n")
    write_json(options.output, rows, **asdict(plan))
    print(f"written to {options.output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.horizon", description=__doc__)
    parser.add_argument("--hold-seconds", type=float, default=180.0, help="how long the transaction is open")
    parser.add_argument("--phase-seconds", type=float, default=30.0, help="how long each phase is measured")
    parser.add_argument("--rate", type=int, default=500, help="jobs created a second")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the figures are kept")
    return parser


if __name__ == "__main__":
    sys.exit(main())
