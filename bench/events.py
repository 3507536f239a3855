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
from bench.statistics import median, percentile, rotated
from bench.systems import GoQueue

COUNT = 1_000
FILES = 4_096
STREAM_TRIES = 10

#: Streams that hear nothing of the creates, and streams that hear each of them.
SILENT, BUSY = "queue=nothing-{number}", "event=job.created"


def event_rows(stack: Stack, size: Size) -> list[Row]:
    """Measure drains and creates beside those who listen, and how soon what a job streams is read."""
    return [*_drain_rows(stack, size), *_create_rows(stack, size), *_output_rows(stack, size)]


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
    for number in range(3 * size.rounds):
        # A server of its own for each: where nobody listens, no events are written either.
        query = rotated(list(seconds), number // 3)[number % 3]
        stack.clear()
        with _unheard(stack), serving(*stack.web("goqueue.wsgi:app")) as port:
            _creates(port, WARM_UP)
            with _streams(stack, port, query) if query else contextlib.nullcontext():
                seconds[query] += _creates(port, size.samples)
    p95 = {query: percentile(found, 95) * 1000 for query, found in seconds.items()}
    title = f"POST /jobs/create beside {COUNT:,} open streams of events, p95"
    beside = ("beside none", "ratio")
    return [
        Row("create_beside_streams", title, "ms", p95[SILENT], p95[""], *beside, 1.2, at_most=True),
        Row("create_beside_busy", "  each of which hears of it", "ms", p95[BUSY], p95[""], *beside),
    ]


def _output_rows(stack: Stack, size: Size) -> list[Row]:
    """Measure from the call of a handler until its piece has come to a client."""
    from goqueue.config.settings import get_settings  # noqa: PLC0415  (it reads the environment)
    from goqueue.db.database import Database  # noqa: PLC0415
    from goqueue.jobs import ClaimedJob  # noqa: PLC0415
    from goqueue.middleware.attempt import JobAttempt  # noqa: PLC0415
    from goqueue.worker.recording.reporter import Reporter  # noqa: PLC0415

    stack.clear()
    settings = get_settings()
    reporter = Reporter(settings, Database(settings))
    reporter.start()
    job_id = stack.query(
        "INSERT INTO jobs (queue, type, payload, status, started_at) "
        "VALUES ('bench', 'noop', '{}', 'running', now()) RETURNING id"
    )
    job = ClaimedJob(job_id, 0, "bench", "noop", "{}", 1, 0, False, None, None, time.time())  # noqa: FBT003
    current = JobAttempt(job, "bench", reporter)
    seconds = []
    with serving(*stack.web("goqueue.wsgi:app")) as port:
        client = socket.create_connection(("127.0.0.1", port), 30)
        client.sendall(f"GET /jobs/{job_id}/stream HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        received = client.recv(65536)
        for number in range(size.samples):
            piece = f"piece {number}."
            started = time.perf_counter()
            current.stream(piece)
            while piece.encode() not in received:
                received = client.recv(65536)
            seconds.append(time.perf_counter() - started)
        client.close()
    reporter.stop(10)
    milliseconds = [percentile(seconds, part) * 1000 for part in (50, 95)]
    title = "from a handler's stream() to a client of the API"
    return [
        Row("output_p50", f"{title}, p50", "ms", milliseconds[0]),
        Row("output_p95", f"{title}, p95", "ms", milliseconds[1], target=100.0, at_most=True),
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
        client = _stream(port, f"/events?{query.format(number=number)}")
        client.settimeout(0)
        selector.register(client, selectors.EVENT_READ)
    Path(ready).touch()
    while True:
        for key, _ in selector.select():
            assert isinstance(key.fileobj, socket.socket)
            if not key.fileobj.recv(65536):
                selector.unregister(key.fileobj)


def _stream(port: int, path: str) -> socket.socket:
    """Open a stream, as often as the server asks to come again."""
    for _ in range(STREAM_TRIES):
        client = socket.create_connection(("127.0.0.1", port), 30)
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        answer = client.recv(65536)
        if b"200 OK" in answer:
            return client
        client.close()
        if b" 503 " not in answer:
            break
        time.sleep(1)
    raise RuntimeError(f"a stream was refused: {answer!r}")


if __name__ == "__main__":
    if sys.argv[1] == "hear":
        hear(sys.argv[2])
    else:
        read_streams(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
