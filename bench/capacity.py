"""From the cost of a job to what a number of jobs a day needs: the arithmetic of docs/scaling.md."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

DAY_SECONDS = 86_400
JOBS_A_DAY = (1_000_000, 10_000_000, 100_000_000, 1_000_000_000)

#: The busiest moment of a day, in times of its mean.
PEAK = 3

#: How long a finished job is kept.
RETENTION_DAYS = 1

#: What one installation may use at the peak. The leading scheduler and Redis are one thread each.
POSTGRES_CORES = 8.0
WAL_MB = 100.0
DISK_TB = 2.0
SINGLE_THREAD_CORES = 0.6

CREATED = ("one by one", "in batches of 1,000")
DELETED = "deleted by the cleaner"

STATEMENTS = "PostgreSQL statements"
WAL = "WAL, bytes"
COMMANDS = "Redis commands"
API, WORKERS, SCHEDULER, POSTGRES, REDIS = (
    f"CPU of {role}, ms" for role in ("the API", "the workers", "the scheduler", "PostgreSQL", "Redis")
)
DISK = "bytes on disk while it is kept"

#: The costs of a job, in the order of the table.
COSTS = (STATEMENTS, WAL, COMMANDS, API, WORKERS, SCHEDULER, POSTGRES, REDIS, DISK)

#: Cost → what it is for a job that was created in this way, or deleted.
Costs = Mapping[str, Mapping[str, float]]

COST_HEADINGS = ("cost of one job", *CREATED, DELETED)
CAPACITY_HEADINGS = (
    "jobs a day",
    "created",
    "mean and peak, jobs/s",
    "statements/s",
    "WAL, MB/s",
    "Redis commands/s",
    "cores: API · workers · scheduler · PostgreSQL · Redis",
    "disk, GB",
    "installations",
)


def cost_table(costs: Costs) -> list[tuple[str, ...]]:
    """The rows of the table of costs, as they are printed."""
    return [(cost, *(_shown(costs[cost].get(way)) for way in (*CREATED, DELETED))) for cost in COSTS]


def read_cost_table(rows: Sequence[Sequence[str]]) -> dict[str, dict[str, float]]:
    """The costs that printed rows tell."""
    return {
        cost: {
            way: float(text.replace(",", ""))
            for way, text in zip((*CREATED, DELETED), texts, strict=True)
            if text
        }
        for cost, *texts in rows
    }


def capacity_table(costs: Costs) -> list[tuple[str, ...]]:
    """What each number of jobs a day needs at its peak, the deletion of as many old jobs included."""
    return [_capacity(costs, jobs, way) for jobs in JOBS_A_DAY for way in CREATED]


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of a document."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def read_markdown(text: str, headings: Sequence[str]) -> list[list[str]]:
    """The rows of the table with these headings in a document.

    Raises:
        ValueError: there is none.
    """
    _, found, rest = text.partition(markdown(headings, []) + "\n")
    if not found:
        raise ValueError(f"no table of {headings[0]}")
    rows = []
    for line in rest.splitlines():
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def put(text: str, name: str, content: str) -> str:
    """The document with new content between `<!-- begin: name -->` and the next `<!-- end -->`.

    Raises:
        ValueError: it has no such place.
    """
    begin = f"<!-- begin: {name} -->\n"
    start = text.index(begin) + len(begin)
    return text[:start] + content + "\n" + text[text.index("<!-- end -->", start) :]


def _capacity(costs: Costs, jobs: int, way: str) -> tuple[str, ...]:
    mean = jobs / DAY_SECONDS
    peak = PEAK * mean

    def a_second(cost: str) -> float:
        return peak * (costs[cost][way] + costs[cost].get(DELETED, 0.0))

    wal_mb = a_second(WAL) / 1e6
    cores = {role: a_second(role) / 1000 for role in (API, WORKERS, SCHEDULER, POSTGRES, REDIS)}
    disk_gb = jobs * RETENTION_DAYS * costs[DISK][way] / 1e9
    shares = (
        cores[POSTGRES] / POSTGRES_CORES,
        wal_mb / WAL_MB,
        disk_gb / 1000 / DISK_TB,
        cores[SCHEDULER] / SINGLE_THREAD_CORES,
        cores[REDIS] / SINGLE_THREAD_CORES,
    )
    return (
        f"{jobs:,}",
        way,
        f"{mean:,.0f} · {peak:,.0f}",
        f"{a_second(STATEMENTS):,.0f}",
        f"{wal_mb:,.1f}",
        f"{a_second(COMMANDS):,.0f}",
        " · ".join(f"{value:.2f}" for value in cores.values()),
        f"{disk_gb:,.0f}",
        str(math.ceil(max(shares))),
    )


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3f}"
