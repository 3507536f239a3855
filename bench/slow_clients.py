"""What a thousand slow clients cost the others.

`python -m bench.slow_clients PORT COUNT READY` is these clients: half of them never end the header of a
request, half never its body, and each sends a byte a second. The file READY says that all are there.
"""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench.enqueue import CREATE, WARM_UP, serving
from bench.http_load import Client, request
from bench.processes import Child, wait_until
from bench.stack import Stack

COUNT = 1_000
HEAD = b"POST /jobs/create HTTP/1.1\r\nHost: localhost\r\nA: "
BODY = (
    b"POST /jobs/create HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: 900\r\n\r\n"
)
FILES = 4_096


def create_seconds(stack: Stack, requests: int, rounds: int) -> tuple[list[float], list[float]]:
    """The seconds of each create, alone and beside the slow clients, in turn."""
    alone: list[float] = []
    beside: list[float] = []
    with serving(*stack.web("goqueue.wsgi:app")) as port:
        _creates(port, WARM_UP)
        for _ in range(rounds):
            alone += _creates(port, requests)
            with _slow_clients(stack, port):
                beside += _creates(port, requests)
    return alone, beside


def _creates(port: int, count: int) -> list[float]:
    message = request("/jobs/create", json.dumps(CREATE).encode())
    seconds = []
    for _ in range(count):
        started = time.perf_counter()
        with Client(port) as client:
            status, body = client.post(message)
        seconds.append(time.perf_counter() - started)
        if status != 201:
            raise RuntimeError(f"POST /jobs/create answered {status}: {body[:500]!r}")
    return seconds


@contextmanager
def _slow_clients(stack: Stack, port: int) -> Iterator[None]:
    ready = stack.folder / "slow"
    ready.unlink(missing_ok=True)
    arguments = ["-m", "bench.slow_clients", str(port), str(COUNT), str(ready)]
    with Child(arguments, environment=stack.environment(), log=stack.log):
        wait_until(ready.exists, seconds=60, what="the slow clients are connected", poll=0.05)
        yield


def main(port: int, count: int, ready: str) -> None:
    """Be slow, and connect again where the server has lost its patience."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, hard), hard))
    opened = [_connected(port, number) for number in range(count)]
    with open(ready, "w"):  # noqa: PTH123  (it only has to exist)
        pass
    while True:
        began = time.monotonic()
        for number, client in enumerate(opened):
            try:
                client.send(b"x")
            except OSError:
                client.close()
                with contextlib.suppress(OSError):
                    opened[number] = _connected(port, number)
        time.sleep(max(0.0, began + 1 - time.monotonic()))


def _connected(port: int, number: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), 30)
    client.settimeout(0)
    client.send(HEAD if number % 2 else BODY)
    return client


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
