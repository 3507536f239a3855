"""`python -m bench.faults`: do every fault to stock Dramatiq and to GoQueue, and show what it cost.

The exit code is 1 when GoQueue lost, stranded or doubled a job.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from bench.faults.scenarios import SCENARIOS, Tally
from bench.faults.stands import DramatiqStand, GoQueueStand, Stand
from goqueue.config.settings import load_settings
from goqueue.db.database import Database
from goqueue.dev.embedded import DATABASE, EmbeddedPostgres
from goqueue.migrations.upgrade import upgrade

RESULTS = Path(__file__).resolve().parent.parent / "results" / "faults.json"
SYSTEMS: tuple[type[Stand], ...] = (DramatiqStand, GoQueueStand)

#: Most of a scenario is waiting, so more of them run at once than there are cores.
AT_ONCE = 5


class Result(NamedTuple):
    """What one fault did to one system."""

    fault: str
    system: str
    tally: Tally


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen faults; 1 when GoQueue was harmed."""
    options = _parser().parse_args(arguments)
    started = time.monotonic()
    faults = [name for name in SCENARIOS if not options.only or any(part in name for part in options.only)]
    with tempfile.TemporaryDirectory(prefix="goqueue-faults-") as folder:
        results = _run(faults, Path(folder))
    print(f"\n{table(results)}\n\n{time.monotonic() - started:.0f} s")
    if not options.only:
        _write(options.output, results)
    return int(any(not tally.harmless for _, system, tally in results if system == GoQueueStand.system))


def table(results: Sequence[Result]) -> str:
    """The results as text for a person."""
    heading = ("fault", "system", "jobs", "lost", "stuck", "run twice", "")
    cells = [heading, *(_cells(result) for result in results)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(heading))]
    lines = [
        "  ".join(
            cell.ljust(w) if n in (0, 1, 6) else cell.rjust(w)
            for n, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    ]
    return "\n".join(line.rstrip() for line in [lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _run(faults: Sequence[str], folder: Path) -> list[Result]:
    with EmbeddedPostgres(folder / "postgres") as postgres:
        urls = _databases(postgres, len(faults))
        pairs = [(fault, stand, url) for fault, url in zip(faults, urls, strict=True) for stand in SYSTEMS]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            futures = [
                pool.submit(_run_one, fault, stand, folder / f"{number}", url)
                for number, (fault, stand, url) in enumerate(pairs)
            ]
            return [future.result() for future in futures]


def _run_one(fault: str, stand_class: type[Stand], folder: Path, database_url: str) -> Result:
    try:
        with stand_class(folder, database_url) as stand:
            tally = SCENARIOS[fault](stand)
    except Exception:
        log = folder / "processes.log"
        print(
            f"--- {fault}, {stand_class.system}: {log.read_text()[-4000:] if log.exists() else ''}",
            file=sys.stderr,
        )
        raise
    print(f"  {fault}: {stand_class.system} done", flush=True)
    return Result(fault, stand_class.system, tally)


def _databases(postgres: EmbeddedPostgres, count: int) -> list[str]:
    """Migrated databases, copies of one."""
    database = Database(load_settings(database_url=postgres.url))
    upgrade(database)
    database.close()
    names = [f"fault{number}" for number in range(count)]
    for name in names:
        postgres.create_database(name, template=DATABASE)
    return [postgres.url_for(name) for name in names]


def _cells(result: Result) -> tuple[str, ...]:
    tally = result.tally
    numbers = (tally.jobs, tally.lost, tally.stuck, tally.run_twice)
    return (result.fault, result.system, *map(str, numbers), tally.note)


def _write(path: Path, results: Sequence[Result]) -> None:
    content = [{"fault": fault, "system": system, **asdict(tally)} for fault, system, tally in results]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")
    print(f"written to {path}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.faults", description="Faults, done to both systems."
    )
    parser.add_argument("--only", nargs="+", metavar="PART", help="faults whose name contains this; no JSON")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the figures are kept")
    return parser


if __name__ == "__main__":
    sys.exit(main())
