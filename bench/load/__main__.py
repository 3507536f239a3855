"""`python -m bench.load`: jobs through the REST API, a live view, every number checked, and a report.

The exit code is 1 when a number is not as expected.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.load.report import print_load, write_report
from bench.load.run import ROOT, Load, run_load
from goqueue.ops.supervisor import StopRequest

PAGE = ROOT / "docs" / "load.md"
RESULTS = ROOT / "bench" / "results" / "load.json"

SIZES = (1_000, 100_000)

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the loads; the exit code: 0 when every number is as expected, 1 when one is not."""
    options = _parser().parse_args(arguments)
    loads: list[Load] = []
    with StopRequest().on_signals() as stop:
        for jobs in options.jobs or SIZES:
            load = _run(jobs, stop)
            if load is None:
                return EXIT_INTERRUPTED
            loads.append(load)
    if not all(load.is_right for load in loads):
        return EXIT_FAILED
    if not options.jobs:
        write_report(loads, PAGE, RESULTS)
        print(f"written to {PAGE.relative_to(ROOT)} and {RESULTS.relative_to(ROOT)}")
    return 0


def _run(jobs: int, stop: StopRequest) -> Load | None:
    """Run and print one load, in a folder that goes with it unless something is wrong."""
    folder = Path(tempfile.mkdtemp(prefix="goqueue-load-"))
    print(f"{jobs:,} jobs: starting PostgreSQL, Valkey, API, workers, counterparts…", flush=True)
    try:
        load = run_load(jobs, folder, stop)
        if load is not None:
            print_load(load)
    except BaseException:
        print(f"The processes' log is {folder / 'processes.log'}", file=sys.stderr)
        raise
    if load is not None and not load.is_right:
        print(f"The processes' log is {folder / 'processes.log'}", file=sys.stderr)
    else:
        shutil.rmtree(folder)
    return load


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("--jobs", nargs="+", type=int, metavar="N", help="run these loads; writes no report")
    return parser


if __name__ == "__main__":
    sys.exit(main())
