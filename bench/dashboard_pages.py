"""The server time of every page of the dashboard, with many jobs in the table beside the same with few."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import md5
from typing import Any, NamedTuple
from urllib.parse import urlencode

import psycopg

from bench import dashboard_rows as rows
from bench.dashboard_requests import get
from bench.dashboard_visitors import POLL_SECONDS
from bench.enqueue import serving
from bench.http_load import Client, request
from bench.processes import Child
from bench.stack import GUNICORN, Stack
from bench.statistics import median
from goqueue.dev.embedded import free_port
from goqueue.engine.listing.walk_rows import LOOK_MAX

FEW = 1_000

APPLICATION = "goqueue.wsgi:app"

OK = 200

RANGES = ("15m", "1h", "6h", "24h", "7d", "30d")
STATUSES = ("queued", "blocked", "running", "completed", "failed", "cancelled", "expired")

#: Jobs of these are looked at.
OF_A_JOB = ("queued", "blocked", "running", "completed", "failed")

#: So many of the pages are measured again, and longer: those with the worst ratios.
MEASURED_AGAIN = 12

#: Pages without a live part.
STILL = frozenset({"jobs by payload", "jobs by error", "edit a job", "edit a schedule", "create"})


class PageTime(NamedTuple):
    """Milliseconds of a page, with many jobs and with few."""

    name: str
    many: float
    few: float

    @property
    def ratio(self) -> float:
        """How they stand to each other."""
        return self.many / self.few


class Request(NamedTuple):
    """A page to ask for (`is_live`: only its live part, as its poll does), or, with a `body`, a POST."""

    name: str
    path: str
    is_live: bool = False
    body: bytes | None = None


def page_times(stack: Stack, many: int, rounds: int) -> tuple[list[PageTime], list[PageTime]]:
    """Of every page the median with many jobs and with few, in turn; and of what is asked to look at more.

    Each page is asked for again after two seconds or more, as by somebody who looks at it.
    """
    with served(stack, many) as large, served(stack, FEW) as small:
        found = measure(large, small, rounds, pages)
        # Of so many pages the worst is one that something disturbed: those that may be it are measured again.
        worst = sorted(found, key=lambda page: page.ratio)[-MEASURED_AGAIN:]
        names = {page.name for page in worst}
        again = measure(
            large, small, 3 * rounds, lambda sql: [page for page in pages(sql) if page.name in names]
        )
        ordinary = [page for page in found if page.name not in names] + again
        return ordinary, measure(large, small, rounds, _unbounded_by_the_page)


class Served(NamedTuple):
    """A database, the port of the API that serves it, and the environment of what else works on it."""

    sql: psycopg.Connection[Any]
    port: int
    environment: dict[str, str]


@contextmanager
def served(
    stack: Stack, jobs: int, fill: Callable[[psycopg.Connection[Any], int], None] = rows.fill
) -> Iterator[Served]:
    """A database with so many jobs, and an API of its own; its one process has all that is kept."""
    with rows.database(stack, f"dashboard_{jobs}", jobs, fill) as (environment, sql):
        # Two databases give their jobs the same ids: they share no key in Redis.
        environment["GOQUEUE_NAMESPACE"] = f"jobs_{jobs}"
        port = free_port()
        serve = [
            "-m",
            "gunicorn",
            *GUNICORN,
            "-w",
            "1",
            "--keep-alive",
            "600",
            "-b",
            f"127.0.0.1:{port}",
            APPLICATION,
        ]
        with serving(Child(serve, environment=environment, log=stack.log), port):
            yield Served(sql, port, environment)


def measure(
    large: Served,
    small: Served,
    rounds: int,
    ask: Callable[[psycopg.Connection[Any]], list[Request]],
    *,
    pause_seconds: float = POLL_SECONDS,
    before_round: Callable[[Served], None] | None = None,
) -> list[PageTime]:
    """Each page in turn with many and with few jobs; the first round warms up."""
    pairs = list(zip(ask(large.sql), ask(small.sql), strict=True))
    times: list[tuple[list[float], list[float]]] = [([], []) for _ in pairs]
    for number in range(rounds + 1):
        began = time.monotonic()
        for one in (large, small):
            rows.keep_counted(one.sql)
            if before_round is not None:
                before_round(one)
        # Connections of this round: the server closes those that nobody has used for a while.
        with Client(large.port) as to_large, Client(small.port) as to_small:
            for (many, few), (with_many, with_few) in zip(pairs, times, strict=True):
                took, took_few = _milliseconds(to_large, many), _milliseconds(to_small, few)
                if number:
                    with_many.append(took)
                    with_few.append(took_few)
        # Sooner, pages would be answered with what was made for the round before.
        time.sleep(max(0.0, began + pause_seconds - time.monotonic()))
    return [
        PageTime(many.name, median(with_many), median(with_few))
        for (many, _), (with_many, with_few) in zip(pairs, times, strict=True)
    ]


def _milliseconds(client: Client, wanted: Request) -> float:
    """How long one answer takes.

    Raises:
        RuntimeError: it is no page.
    """
    message = get(wanted.path, is_live=wanted.is_live)
    if wanted.body is not None:
        message = request(wanted.path, wanted.body)
    started = time.perf_counter()
    status, body = client.post(message)
    took = time.perf_counter() - started
    if status != OK:
        raise RuntimeError(f"{wanted.path} answered {status}: {body[:500]!r}")
    return took * 1000


def pages(sql: psycopg.Connection[Any]) -> list[Request]:
    """Every page, and the live part of each that has one."""
    whole = [Request(name, f"/dashboard{path}") for name, path in _places(sql).items()]
    live = [
        Request(f"{one.name}, live part", one.path, is_live=True) for one in whole if one.name not in STILL
    ]
    return whole + live


def _places(sql: psycopg.Connection[Any]) -> dict[str, str]:
    """Every page of goqueue/dashboard/site.py, without `/dashboard`, by what it is called in the report."""
    half = f"{datetime.now(UTC) - timedelta(hours=rows.HOURS / 2):%Y-%m-%dT%H:%M:%S}"
    kind = md5(b"kind 0", usedforsecurity=False).hexdigest()[:16]
    filters: dict[str, str] = {"queue": rows.QUEUE, "type": rows.TYPE, "tag": rows.TAG, "fingerprint": kind}
    filters |= {"created_after": half, "created_before": half}
    filters |= {"payload": rows.COMMON.removeprefix("payload."), "error": rows.COMMON_ERROR}
    newest = {status: rows.newest_of(sql, status) for status in OF_A_JOB}
    return {
        **{f"overview {name}": f"?range={name}" for name in RANGES},
        "jobs": "/jobs",
        **{f"jobs by status {status}": f"/jobs?status={status}" for status in STATUSES},
        **{f"jobs by {name}": f"/jobs?{urlencode({name: value})}" for name, value in filters.items()},
        "jobs, second page": f"/jobs?before={newest['completed'] - 100}",
        **{f"a {status} job": f"/jobs/{newest[status]}" for status in OF_A_JOB},
        "edit a job": f"/jobs/{newest['queued']}/edit",
        "queues": "/queues",
        "a queue": f"/queues/{rows.QUEUE}",
        "a queue, 24h": f"/queues/{rows.QUEUE}?range=24h",
        "a queue with advice": f"/queues/{rows.QUEUE}?advice=1",
        "types": "/types",
        "a type": f"/types/{rows.TYPE}",
        "a type, 24h": f"/types/{rows.TYPE}?range=24h",
        "failures": "/failures",
        "failures of a queue": f"/failures?queue={rows.QUEUE}",
        "failures of an hour": "/failures?since=1h",
        "a group of failures": f"/failures/{kind}",
        "schedules": "/schedules",
        "a schedule": "/schedules/schedule-20",
        "edit a schedule": "/schedules-edit?name=schedule-20",
        "workers": "/workers",
        "operations": "/operations",
        "an operation": "/operations/30",
        "create": f"/create?type={rows.TYPE}",
    }


def _unbounded_by_the_page(_sql: psycopg.Connection[Any]) -> list[Request]:
    """What looks at more jobs than it shows, because that is what was asked for."""
    nowhere = urlencode({"payload": rows.ABSENT.removeprefix("payload.")})
    dry_run = urlencode({"action": "retry", "status": "failed", "queue": rows.QUEUE})
    return [
        Request(
            f"a search that finds nothing and stops after {LOOK_MAX:,} jobs", f"/dashboard/jobs?{nowhere}"
        ),
        Request("a dry run, which counts all its jobs", f"/dashboard/operations/new?{dry_run}"),
    ]
