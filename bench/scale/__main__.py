"""`python -m bench.scale`: everything with ten million jobs in the table beside ten thousand, in one run.

It needs about a kilobyte of disk a job while it runs. Figures are kept in bench/results/scale.json.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.dashboard_pages import PageTime, Served, measure, served
from bench.report import Row, table, write_json
from bench.scale import jobs as job_measurements
from bench.scale.questions import questions
from bench.scale.rows import bytes_a_job, fill
from bench.stack import Stack

RESULTS = Path(__file__).resolve().parent.parent / "results" / "scale.json"
MANY, FEW = 10_000_000, 10_000

#: What many jobs may cost beside few.
TARGET = 1.2

#: So many questions are asked again, and more often: those with the worst ratios.
ASKED_AGAIN = 25


def main(arguments: Sequence[str] | None = None) -> int:
    """Make both databases, measure in turn, print the table."""
    options = _parser().parse_args(arguments)
    with Stack() as stack:
        started = time.monotonic()
        with (
            served(stack, options.jobs, fill) as large,
            served(stack, FEW, fill) as small,
        ):
            print(f"{options.jobs:,} jobs and {FEW:,} made in {time.monotonic() - started:.0f} s", flush=True)
            for name, size in bytes_a_job(large.sql, options.jobs).items():
                if size >= 1:
                    print(f"  {name:30} {size:7.1f} bytes a job")
            rows: list[Row] = []
            if options.only != "jobs":
                rows += sorted(asked(large, small, options), key=lambda row: -(row.ratio or 0.0))
                print(f"\n{table(rows)}\n", flush=True)
            if options.only != "questions":
                of_jobs = job_measurements.measured(stack, large, small, options.rounds)
                print(f"\n{table(of_jobs)}\n", flush=True)
                rows += of_jobs
    if options.output:
        write_json(options.output, rows, jobs=options.jobs, few=FEW, rounds=options.rounds)
    return 0


def asked(large: Served, small: Served, options: argparse.Namespace) -> list[Row]:
    """Every question in turn; the worst again, because of so many one is always disturbed."""

    def of(names: set[str] | None) -> list[PageTime]:
        return measure(
            large,
            small,
            options.rounds * (1 if names is None else 3),
            lambda sql: [
                one
                for one in questions(sql)
                if (names is None or one.name in names) and (options.match or "") in one.name
            ],
            pause_seconds=options.pause,
            before_round=job_measurements.keep_counts,
        )

    found = of(None)
    worst = {one.name for one in sorted(found, key=lambda one: one.ratio)[-ASKED_AGAIN:]}
    final = [one for one in found if one.name not in worst] + of(worst)
    return [
        Row(one.name, one.name, "ms", one.many, one.few, f"with {FEW:,}", "ratio", TARGET, at_most=True)
        for one in final
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--jobs", type=int, default=MANY, help="jobs of the large table")
    parser.add_argument("--rounds", type=int, default=7, help="rounds; medians are shown")
    parser.add_argument("--pause", type=float, default=2.1, help="least seconds between two rounds")
    parser.add_argument("--match", help="ask only what has this in its name")
    parser.add_argument("--only", choices=("questions", "jobs"), help="leave the others out")
    parser.add_argument("--output", type=Path, default=None, help=f"where to keep the figures ({RESULTS})")
    return parser


if __name__ == "__main__":
    sys.exit(main())
