"""What a load is told as: tables on the terminal, a page with plots, and JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.load.clients import BATCH, CLIENTS
from bench.load.live import milliseconds
from bench.load.mixture import KINDS
from bench.load.run import WORKER_PROCESSES, WORKER_THREADS, Load
from bench.load.timeline import PERCENTS, span, timeline, waits_of
from bench.statistics import percentile

#: Where the plots of a page lie, beside it.
PLOTS = "load"


@dataclass(frozen=True, slots=True)
class Figures:
    """What is said of a load; times in seconds.

    Attributes:
        throughput: jobs a second, from the first create to the last end.
        waits: percent → from created to started.
        waits_by_priority: priority → the same.
        singles, batches: percent → the answer to one create, to a batch.
    """

    total: int
    seconds: float
    throughput: float
    waits: dict[int, float]
    waits_by_priority: dict[int, dict[int, float]]
    singles: dict[int, float]
    batches: dict[int, float]


def figures_of(load: Load) -> Figures:
    """Reduce a load to what is said of it.

    Raises:
        ValueError: it has no jobs.
    """
    begin, end = span(load.rows)
    priorities = sorted({row.priority for row in load.rows}, reverse=True)
    return Figures(
        load.total,
        end - begin,
        load.total / (end - begin),
        _percentiles(waits_of(load.rows)),
        {
            priority: _percentiles(waits_of([row for row in load.rows if row.priority == priority]))
            for priority in priorities
        },
        _percentiles(load.single_seconds),
        _percentiles(load.batch_seconds),
    )


def print_load(load: Load) -> None:
    """Every number beside what it must be, and how fast it went."""
    console = Console()
    table = Table("", "counted", "expected", "", title=f"{load.total:,} jobs", title_justify="left")
    for column in table.columns[1:3]:
        column.justify = "right"
    for number in load.numbers:
        mark = "[green]✓[/green]" if number.is_right else "[red]✗[/red]"
        table.add_row(number.what, f"{number.counted:,}", f"{number.expected:,}", mark)
    console.print(table)
    found = figures_of(load)
    for line in (
        f"{found.throughput:,.0f} jobs/s in {found.seconds:,.1f} s, creating included",
        f"wait from created to started: {_line(found.waits)}",
        f"answer to POST /jobs/create:  {_line(found.singles)}",
    ):
        console.print(line, highlight=False)
    for number in load.numbers:
        if not number.is_right:
            console.print(
                f"[red]wrong: {number.what}: expected {number.expected}, counted {number.counted}[/red]"
            )
    if load.is_right:
        console.print(f"[green]All {len(load.numbers)} numbers are as expected.[/green]")


def write_report(loads: Sequence[Load], page: Path, results: Path) -> None:
    """Write the page, its plots, and the figures as JSON."""
    from bench.load.plots import draw  # noqa: PLC0415  (matplotlib takes its time, and is not always wanted)

    for load in loads:
        draw(
            timeline(load.rows), f"{load.total:,} jobs through the REST API", page.parent / PLOTS, _name(load)
        )
    page.write_text(_page(loads))
    results.write_text(json.dumps(_document(loads), indent=2) + "\n")


def _page(loads: Sequence[Load]) -> str:
    return "\n".join([_introduction(), *(_section(load) for load in loads)])


def _introduction() -> str:
    kinds = "\n".join(f"| {kind.name} | `{kind.type}` | {kind.share / 10:g} % |" for kind in KINDS)
    return f"""# The load test

`make load` writes this page. It starts an embedded PostgreSQL and Valkey, the API,
{WORKER_PROCESSES} worker processes of {WORKER_THREADS} threads, the scheduler, and local mail, payment and
webhook servers; it creates jobs through the REST API and counts every one of them.
`python -m bench.load --jobs 1000` runs one load and writes nothing. A number that is not as expected is exit
code 1.

{CLIENTS} clients create at once, half of the jobs one by one (`POST /jobs/create`), half in batches of
{BATCH} (`POST /jobs/batch`), mixed at random, with the priorities 1, 0 and -1:

| jobs | type | share |
|---|---|---|
{kinds}

Nothing may be lost: every id that a client was told is looked for in PostgreSQL, every row must belong to
such an id and have ended as its kind does, and what the handlers did is counted where it was done.

Measured on {datetime.now(UTC):%Y-%m-%d} with {os.cpu_count()} cores that also ran both servers, the clients,
and the mail, payment and webhook servers. The machine is shared with others, so figures vary from run to run.
"""


def _section(load: Load) -> str:
    found = figures_of(load)
    numbers = "\n".join(
        f"| {what} | {counted:,} | {expected:,} | {'✓' if counted == expected else '✗'} |"
        for what, counted, expected in load.numbers
    )
    percents = " | ".join(f"p{percent}" for percent in PERCENTS)
    waits = "\n".join(
        f"| wait, priority {priority} | {_cells(waits)} |"
        for priority, waits in found.waits_by_priority.items()
    )
    name = f"{PLOTS}/{_name(load)}"
    return f"""## {load.total:,} jobs

**{found.throughput:,.0f} jobs a second**, from the first create to the last record: {found.seconds:,.1f} s.

| | {percents} |
|---|{"---|" * len(PERCENTS)}
| wait, from created to started | {_cells(found.waits)} |
{waits}
| answer to `POST /jobs/create` | {_cells(found.singles)} |
| answer to `POST /jobs/batch` of {BATCH} | {_cells(found.batches)} |

<picture>
  <source media="(prefers-color-scheme: dark)" srcset="{name}-dark.svg">
  <img alt="Throughput, open jobs and waits over time" src="{name}-light.svg">
</picture>

| | counted | expected | |
|---|---|---|---|
{numbers}
"""


def _document(loads: Sequence[Load]) -> dict[str, Any]:
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "system": platform.platform(),
        },
        "clients": CLIENTS,
        "batch": BATCH,
        "worker_processes": WORKER_PROCESSES,
        "worker_threads": WORKER_THREADS,
        "loads": [_load_document(load) for load in loads],
    }


def _load_document(load: Load) -> dict[str, Any]:
    found = figures_of(load)
    return {
        "jobs": found.total,
        "seconds": round(found.seconds, 3),
        "jobs_per_second": round(found.throughput, 1),
        "wait_seconds": _rounded(found.waits),
        "wait_seconds_by_priority": {
            priority: _rounded(percents) for priority, percents in found.waits_by_priority.items()
        },
        "create_seconds": _rounded(found.singles),
        "batch_seconds": _rounded(found.batches),
        "numbers": [number._asdict() for number in load.numbers],
    }


def _name(load: Load) -> str:
    return f"jobs-{load.total}"


def _percentiles(samples: Sequence[float]) -> dict[int, float]:
    return {percent: percentile(samples, percent) for percent in PERCENTS} if samples else {}


def _rounded(percents: dict[int, float]) -> dict[str, float]:
    return {f"p{percent}": round(seconds, 6) for percent, seconds in percents.items()}


def _line(percents: dict[int, float]) -> str:
    return " ".join(f"p{percent} {milliseconds(seconds)}" for percent, seconds in percents.items())


def _cells(percents: dict[int, float]) -> str:
    return " | ".join(milliseconds(seconds) for seconds in percents.values())
