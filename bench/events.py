"""What events cost: a drain that somebody listens to, and creates beside a thousand open streams.

`python -m bench.events hear READY` is one who listens to everything; `python -m bench.events streams PORT
COUNT READY QUERY` are so many streams of the API, which are read and thrown away. The file READY says that
they listen.
"""

from __future__ import annotations

import contextlib
import json
import resource
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.drain import Drain, drain
from bench.enqueue import CREATE, WARM_UP, serving
from bench.http_load import Client, request
from bench.processes import Child, wait_until
from bench.report import Row
from bench.size import Size
from bench.stack import Stack
from bench.statistics import median, percentile
from bench.systems import GoQueue

COUNT = 1_000
FILES = 4_096

#: Streams that hear nothing of the creates, and streams that hear each of them.
SILENT, BUSY = "queue=nothing-{number}", "event=job.created"


def event_rows(stack: Stack, size: Size) -> list[Row]:
    """Measure a drain with one who listens to everything beside one without, and creates beside streams."""
    return [*_drain_rows(stack, size), *_create_rows(stack, size)]


def _drain_rows(stack: Stack, size: Size) -> list[Row]:
    drains: dict[bool, list[Drain]] = {True: [], False: []}
    for number in range(2 * size.rounds):
        # Heard, unheard, unheard, heard: whatever drifts meets both.
        is_heard = number % 4 in {0, 3}
        with _heard(stack) if is_heard else _unheard(stack):
            drains[is_heard].append(
                drain(stack, GoQueue(stack), job="noop", count=size.drain_jobs, payload={})
            )
    heard, unheard = drains[True], drains[False]
    title = f"drain of {size.drain_jobs:,} no-op jobs, one listens to every event"
    cost, cost_alone = (median([sum(one.cpu.values()) for one in found]) for found in (heard, unheard))
    rate, rate_alone = (median([one.jobs_per_second for one in found]) for found in (heard, unheard))
    beside = ("nobody listens", "ratio")
    return [
        Row("events_cpu", title, "CPU s / 1,000", cost, cost_alone, *beside, 1.25, at_most=True),
        Row("events_drain", "  the same", "jobs/s", rate, rate_alone, *beside),
    ]


def _create_rows(stack: Stack, size: Size) -> list[Row]:
    seconds: dict[str, list[float]] = {"": [], SILENT: [], BUSY: []}
    stack.clear()
    with serving(*stack.web("goqueue.wsgi:app")) as port:
        _creates(port, WARM_UP)
        for _ in range(size.rounds):
            for query in (SILENT, "", BUSY, ""):
                with _streams(stack, port, query) if query else contextlib.nullcontext():
                    seconds[query] += _creates(port, size.samples)
    p95 = {query: percentile(found, 95) * 1000 for query, found in seconds.items()}
    title = f"POST /jobs/create beside {COUNT:,} open streams of events, p95"
    beside = ("beside none", "ratio")
    return [
        Row("create_beside_streams", title, "ms", p95[SILENT], p95[""], *beside, 1.2, at_most=True),
        Row("create_beside_busy", "  each of which hears of it", "ms", p95[BUSY], p95[""], *beside),
    ]


def _creates(port: int, count: int) -> list[float]:
    message = request("/jobs/create", json.dumps(CREATE).encode())
    seconds = []
    with Client(port) as client:
        for _ in range(count):
            started = time.perf_counter()
            status, body = client.post(message)
            seconds.append(time.perf_counter() - started)
            if status != 201:
                raise RuntimeError(f"POST /jobs/create answered {status}: {body[:500]!r}")
    return seconds


@contextmanager
def _heard(stack: Stack) -> Iterator[None]:
    with _child(stack, "hear"):
        yield


@contextmanager
def _unheard(stack: Stack) -> Iterator[None]:
    stack.sql.execute("DELETE FROM event_subscriptions")
    stack.sql.execute("SELECT goqueue_events_off('0')")
    if stack.query("SELECT goqueue_events_are_on()"):
        raise RuntimeError("events are still written")
    yield


@contextmanager
def _streams(stack: Stack, port: int, query: str) -> Iterator[None]:
    with _child(stack, "streams", str(port), str(COUNT), query):
        yield


@contextmanager
def _child(stack: Stack, what: str, *arguments: str) -> Iterator[None]:
    ready = stack.folder / "listening"
    ready.unlink(missing_ok=True)
    command = ["-m", "bench.events", what, str(ready), *arguments]
    with Child(command, environment=stack.environment(), log=stack.log):
        wait_until(ready.exists, seconds=60, what="somebody listens", poll=0.05)
        yield


def hear(ready: str) -> None:
    """Listen to every event, and throw it away."""
    import goqueue  # noqa: PLC0415  (its modules read the environment)

    events = goqueue.listen()
    Path(ready).touch()
    for _ in events:
        pass


def read_streams(ready: str, port: int, count: int, query: str) -> None:
    """Open so many streams, and throw away what comes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, hard), hard))
    selector = selectors.DefaultSelector()
    for number in range(count):
        client = socket.create_connection(("127.0.0.1", port), 30)
        path = f"/events?{query.format(number=number)}"
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        if b"200 OK" not in client.recv(65536):
            raise RuntimeError("a stream was refused")
        client.settimeout(0)
        selector.register(client, selectors.EVENT_READ)
    Path(ready).touch()
    while True:
        for key, _ in selector.select():
            assert isinstance(key.fileobj, socket.socket)
            if not key.fileobj.recv(65536):
                selector.unregister(key.fileobj)


if __name__ == "__main__":
    if sys.argv[1] == "hear":
        hear(sys.argv[2])
    else:
        read_streams(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
