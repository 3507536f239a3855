"""How long `POST /jobs/create` takes beside open dashboards, beside as many small questions, and alone."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from bench import dashboard_rows as rows
from bench.dashboard_visitors import PHASES, POLL_SECONDS, phases_of
from bench.enqueue import CREATE, serving
from bench.http_load import Client, request
from bench.processes import Child, cpu_seconds
from bench.stack import GUNICORN, PROCESSES, THREADS, Stack
from goqueue.dev.embedded import free_port

#: Jobs in the table at first; those that are created and run come on top.
JOBS = 20_000

#: Requests a second, spread over so many kept-alive connections, so that every process of the API gets some.
PER_SECOND = 40
CONNECTIONS = 4

CREATED = 201

#: The first seconds of a phase do not count: in them every dashboard comes, one after the other.
WARM_UP_SECONDS = POLL_SECONDS

BOOT_SECONDS = 3.0


class Creates(NamedTuple):
    """What was measured in one phase: seconds of the requests, and what the API used, in cores."""

    seconds: list[float]
    api_cores: float


class Beside(NamedTuple):
    """The phases of each kind, and what those who ask used themselves, in cores; how they were answered."""

    phases: dict[str, list[Creates]]
    visitors_cores: float
    statuses: dict[str, dict[str, int]]


def creates_beside(stack: Stack, rounds: int, seconds: float) -> Beside:
    """Creates in phases of so many seconds, each kind of phase once a round; one round before warms up."""
    with _running(stack) as (port, api):
        begin = time.monotonic() + BOOT_SECONDS
        command = [sys.executable, "-m", "bench.dashboard_visitors"]
        command += [str(port), repr(begin), str(seconds), str(rounds + 1)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as visitors:
            found = _all_phases(port, api, begin, seconds, rounds + 1)
            said, wrong = visitors.communicate(timeout=60)
        if visitors.returncode:
            raise RuntimeError(f"the dashboards ended with {visitors.returncode}: {wrong[-500:]}")
    answer = json.loads(said)
    return Beside(found, answer["cores"], answer["statuses"])


def _all_phases(port: int, api: Child, begin: float, seconds: float, rounds: int) -> dict[str, list[Creates]]:
    found: dict[str, list[Creates]] = {phase: [] for phase in PHASES}
    phases = [(number, phase) for number in range(rounds) for phase in phases_of(number)]
    for place, (number, phase) in enumerate(phases):
        starts_at = begin + place * seconds
        _creates(port, starts_at, WARM_UP_SECONDS)
        cpu, at = cpu_seconds(api.pid), time.monotonic()
        took = _creates(port, starts_at + WARM_UP_SECONDS, seconds - WARM_UP_SECONDS)
        if number:
            cores = (cpu_seconds(api.pid) - cpu) / (time.monotonic() - at)
            found[phase].append(Creates(took, cores))
    return found


def _creates(port: int, begin: float, seconds: float) -> list[float]:
    """Requests at their times, whatever those before took; each is counted from when it was to be sent."""
    message = request("/jobs/create", json.dumps(CREATE).encode())
    took = []
    time.sleep(max(0.0, begin - time.monotonic()))
    with ExitStack() as opened:
        clients = [opened.enter_context(Client(port)) for _ in range(CONNECTIONS)]
        for number in range(round(seconds * PER_SECOND)):
            due = begin + number / PER_SECOND
            time.sleep(max(0.0, due - time.monotonic()))
            status, body = clients[number % CONNECTIONS].post(message)
            took.append(time.monotonic() - due)
            if status != CREATED:
                raise RuntimeError(f"POST /jobs/create answered {status}: {body[:500]!r}")
    return took


@contextmanager
def _running(stack: Stack) -> Iterator[tuple[int, Child]]:
    """API, workers and scheduler over a filled database: pages change all the time."""
    with rows.database(stack, "dashboard_open", JOBS) as (environment, _):
        port = free_port()
        serve = ["-m", "gunicorn", *GUNICORN, "-b", f"127.0.0.1:{port}", "goqueue.wsgi:app"]
        work = [
            "-m",
            "dramatiq",
            "goqueue.actors",
            "-p",
            str(PROCESSES),
            "-t",
            str(THREADS),
            "--skip-logging",
        ]
        api = Child(serve, environment=environment, log=stack.log)
        with (
            Child(["-m", "goqueue", "scheduler"], environment=environment, log=stack.log),
            Child(work, environment=environment, log=stack.log),
            serving(api, port),
        ):
            yield port, api
    stack.redis.flushall()
