"""What a transaction that is held open costs: `python -m bench.horizon`.

PostgreSQL cannot remove a row version, nor an index entry that leads to one, while some transaction could
still see it. So under a transaction that stays open everything that reads "the next jobs" by an index
finds the entries of all that are done in its way. Two stacks with the same history are measured in turn, in
short slices: on one the transaction has been open all along, on the other there is none. Before and after on
one stack would not do: on a shared machine both differ by more than what is allowed without any transaction.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from bench.report import Row, table, write_json
from bench.stack import ROOT
from bench.statistics import median, percentile

RESULTS = Path(__file__).resolve().parent / "results" / "horizon.json"

#: What the issue allows: so many times the latency, and the same share of the speed.
ALLOWED = 1.1

MILLISECONDS = 1000


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, how much.

    Attributes:
        hold_seconds: how long the transaction has been open, at `rate`, when measuring begins.
        slice_seconds, slices: each side is fed for so long, so many times, in turn.
        rate: jobs a second, created one by one.
        burst, bursts: jobs of one drain, and how many drains of each side, in turn.
    """

    hold_seconds: float = 180.0
    slice_seconds: float = 6.0
    slices: int = 8
    rate: int = 500
    burst: int = 10_000
    bursts: int = 5


@dataclass(slots=True)
class Figures:
    """What was measured of one side: of every slice and every drain."""

    rates: list[float] = field(default_factory=list)
    pickups: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    pages: list[float] = field(default_factory=list)
    drains: list[float] = field(default_factory=list)

    def add(self, found: dict[str, Any]) -> None:
        """Take the figures of a slice."""
        self.rates.append(found["rate"])
        self.pickups += found["pickups"]
        self.cpu.append(found["cpu"])
        self.pages.append(found["pages"])


class RemoteSide:
    """A stack in a process of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.horizon_side"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.figures = Figures()

    def __enter__(self) -> Self:
        self._read()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def ask(self, *command: object) -> Any:
        """Let it do something, and wait for what it says."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a side of the measurement ended; its log is above")
        return json.loads(line)


def compare(plan: Plan) -> list[Row]:
    """The side with the transaction against the side without, in turn."""
    with RemoteSide() as held, RemoteSide() as free:
        held.ask("hold")
        history = held.ask("feed", plan.rate, plan.hold_seconds)["jobs"]
        free.ask("drain", history)
        for number in range(plan.slices):
            for side in _in_turn(number, held, free):
                side.figures.add(side.ask("feed", plan.rate, plan.slice_seconds))
        for number in range(plan.bursts):
            for side in _in_turn(number, held, free):
                side.figures.drains.append(side.ask("drain", plan.burst))
        held.ask("release")
    return horizon_rows(held.figures, free.figures, plan)


def _in_turn(number: int, held: RemoteSide, free: RemoteSide) -> tuple[RemoteSide, RemoteSide]:
    return (held, free) if number % 2 == 0 else (free, held)


def horizon_rows(held: Figures, free: Figures, plan: Plan) -> list[Row]:
    """The figures of both sides as rows of the table."""

    def row(key: str, title: str, unit: str, mine: float, other: float, target: float | None = None) -> Row:
        slower = key != "horizon_drain"
        return Row(key, title, unit, mine, other, "without", "ratio", target, at_most=slower)

    def wait(side: Figures, percent: float) -> float:
        return percentile(side.pickups, percent) * MILLISECONDS

    title = f"transaction open for {plan.hold_seconds:g} s: created to started, p50"
    cpu = f"  PostgreSQL at {plan.rate} jobs/s"
    drains = median(held.drains), median(free.drains)
    return [
        row("horizon_pickup_p50", title, "ms", wait(held, 50), wait(free, 50), ALLOWED),
        row("horizon_pickup_p99", "  p99", "ms", wait(held, 99), wait(free, 99), ALLOWED),
        row("horizon_drain", f"  drain of {plan.burst:,}", "jobs/s", *drains, round(1 / ALLOWED, 2)),
        row("horizon_cpu", cpu, "CPU s / 1,000", median(held.cpu), median(free.cpu)),
        row("horizon_pages", "  pages it touches", "a job", median(held.pages), median(free.pages)),
        Row("horizon_rate", "  jobs really created", "jobs/s", median(held.rates), target=plan.rate * 0.95),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and keep the figures."""
    options = _parser().parse_args(arguments)
    plan = Plan(options.hold_seconds, options.slice_seconds, rate=options.rate)
    rows = compare(plan)
    print(f"\n{table(rows)}\n")
    write_json(options.output, rows, **asdict(plan))
    print(f"written to {options.output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.horizon", description=__doc__)
    parser.add_argument("--hold-seconds", type=float, default=180.0, help="how long the transaction is open")
    parser.add_argument("--slice-seconds", type=float, default=6.0, help="how long a side is fed at a time")
    parser.add_argument("--rate", type=int, default=500, help="jobs created a second")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the figures are kept")
    return parser


if __name__ == "__main__":
    sys.exit(main())
