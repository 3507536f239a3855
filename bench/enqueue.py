"""How fast jobs are created: by the library, one after the other, and over HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.types.json import Json

from bench.bare_api import CREATE_TABLE, INSERT
from bench.http_load import Client, load, request
from bench.processes import Child, wait_until
from bench.stack import PROCESSES, THREADS, Stack

CREATE = {"queue": "bench", "type": "noop", "payload": {}}
WARM_UP = 200


def prepare_bare(stack: Stack) -> None:
    """Make the table of the yardsticks."""
    stack.sql.execute(CREATE_TABLE)


def bare_inserts(stack: Stack, count: int) -> float:
    """Rows a second of a bare INSERT … RETURNING in a loop on one connection."""
    with psycopg.connect(stack.postgres.url, autocommit=True) as connection:
        for _ in range(WARM_UP):
            connection.execute(INSERT, ("bench", Json({}))).fetchone()
        started = time.perf_counter()
        for _ in range(count):
            connection.execute(INSERT, ("bench", Json({}))).fetchone()
        return count / (time.perf_counter() - started)


def goqueue_enqueues(stack: Stack, count: int) -> float:
    """Jobs a second of `goqueue.enqueue` in a loop, each committed, and pushed when the clock stops."""
    import goqueue  # noqa: PLC0415  (its modules read the environment that the stack has set)
    import goqueue.actors  # noqa: PLC0415
    from bench.goqueue_jobs import noop  # noqa: PLC0415
    from goqueue.instance import default  # noqa: PLC0415

    stack.clear()
    for _ in range(WARM_UP):
        goqueue.enqueue(noop, {})
    started = time.perf_counter()
    for _ in range(count):
        goqueue.enqueue(noop, {})
    default().creator.flush()
    return count / (time.perf_counter() - started)


def goqueue_bulk(stack: Stack, count: int) -> float:
    """Jobs a second of one call for so many: each validated, inserted in one transaction, and pushed."""
    from goqueue.actors import broker  # noqa: PLC0415  (as above)
    from goqueue.engine.new_job import new_job  # noqa: PLC0415
    from goqueue.instance import default  # noqa: PLC0415

    stack.clear()
    creator = default().creator
    creator.many([new_job(broker, "noop", {}) for _ in range(WARM_UP)])
    started = time.perf_counter()
    creator.many([new_job(broker, "noop", {}) for _ in range(count)])
    creator.flush()
    return count / (time.perf_counter() - started)


def dramatiq_sends(stack: Stack, count: int) -> float:
    """Jobs a second of bare Dramatiq's `actor.send` in a loop."""
    from bench.dramatiq_jobs import noop  # noqa: PLC0415  (as above)

    stack.clear()
    for _ in range(WARM_UP):
        noop.send()
    started = time.perf_counter()
    for _ in range(count):
        noop.send()
    return count / (time.perf_counter() - started)


@contextmanager
def serving(child: Child, port: int) -> Iterator[int]:
    """An application that answers; its port."""
    with child:
        wait_until(lambda: _answers(port), seconds=60, what="the application answers", poll=0.05)
        yield port


def create_requests(port: int, count: int) -> float:
    """`POST /jobs/create` requests a second, over as many connections as the server has threads."""
    message = request("/jobs/create", json.dumps(CREATE).encode())
    connections = PROCESSES * THREADS
    load(port, message, connections=connections, requests=WARM_UP)
    return load(port, message, connections=connections, requests=count)


def batch_creates(port: int, size: int) -> float:
    """Jobs a second of one `POST /jobs/batch`."""
    message = request("/jobs/batch", json.dumps({"jobs": [CREATE] * size}).encode())
    with Client(port) as client:
        started = time.perf_counter()
        status, body = client.post(message)
        elapsed = time.perf_counter() - started
    if status != 201:
        raise RuntimeError(f"POST /jobs/batch answered {status}: {body[:500]!r}")
    return size / elapsed


def _answers(port: int) -> bool:
    try:
        with Client(port) as client:
            return client.post(request("/jobs/create", json.dumps(CREATE).encode()))[0] == 201
    except OSError:
        return False
