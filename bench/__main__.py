"""`python -m bench`: measure, print the table, and keep the figures in bench/results/latest.json.

A benchmark is no test: a missed target is shown, and the exit code stays 0.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.measurements import MEASUREMENTS
from bench.profile import profile_drain
from bench.report import Row, table, write_json
from bench.size import Size
from bench.stack import PROCESSES, THREADS, Stack

RESULTS = Path(__file__).resolve().parent / "results" / "latest.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen measurements."""
    options = _parser().parse_args(arguments)
    size = _size(options)
    with Stack() as stack:
        if options.profile:
            print(profile_drain(stack, seconds=options.profile_seconds))
            return 0
        rows = _measure(stack, size, options.only or list(MEASUREMENTS))
    print(f"\n{table(rows)}\n")
    if not options.only:
        write_json(options.output, rows, rounds=size.rounds, processes=PROCESSES, threads=THREADS)
        print(f"written to {options.output}")
    return 0


def _measure(stack: Stack, size: Size, names: Sequence[str]) -> list[Row]:
    print(f"{PROCESSES} worker processes x {THREADS} threads, {size.rounds} rounds, {os.cpu_count()} cores")
    rows: list[Row] = []
    for name in names:
        started = time.monotonic()
        print(f"  measuring {name} …", end=" ", flush=True)
        rows += MEASUREMENTS[name](stack, size)
        print(f"{time.monotonic() - started:.0f} s", flush=True)
    return rows


def _size(options: argparse.Namespace) -> Size:
    if options.quick:
        return Size(
            rounds=1,
            drain_jobs=3_000,
            nap_jobs=800,
            samples=30,
            calls=500,
            backlog=20_000,
            keys=5_000,
            hold_seconds=6.0,
            table=20_000,
            page_rounds=2,
            open_rounds=1,
            open_seconds=6.0,
        )
    return Size(rounds=options.rounds, drain_jobs=20_000, nap_jobs=12_800, samples=200, calls=5_000)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="GoQueue beside bare Dramatiq and Sidekiq."
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each measurement; medians are shown")
    parser.add_argument("--quick", action="store_true", help="one small round: shows that it works, no more")
    parser.add_argument("--only", nargs="+", choices=list(MEASUREMENTS), help="measure these; writes no JSON")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the figures are kept")
    parser.add_argument(
        "--profile", action="store_true", help="profile the no-op drain instead (needs py-spy)"
    )
    parser.add_argument("--profile-seconds", type=int, default=5, help="how long to profile")
    return parser


if __name__ == "__main__":
    sys.exit(main())
