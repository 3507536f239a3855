"""Jobs leased over HTTP: how fast they are leased and completed, and how soon one that waits gets its job."""

from __future__ import annotations

import json
import random
import selectors
import socket
import threading
import time
from dataclasses import dataclass, field

from bench import enqueue
from bench.http_load import Client, answer_length, request, status_of
from bench.pickup import SPACING_SECONDS
from bench.processes import wait_until
from bench.report import Row
from bench.size import Size
from bench.stack import Stack
from bench.statistics import median, percentile

CONNECTIONS = 16
TIMEOUT_SECONDS = 30.0
WAIT_SECONDS = 20.0
QUEUE = "bench"

#: Jobs of one lease, where several are leased at once.
TOGETHER = 10


def leases(stack: Stack, size: Size) -> list[Row]:
    """Lease and complete jobs over HTTP, one by one and ten by ten; and wait for single ones."""
    creates, single, together, waits = [], [], [], []
    for _ in range(size.rounds):
        stack.clear()
        with enqueue.serving(*stack.web("goqueue.wsgi:app")) as port:
            creates.append(enqueue.create_requests(port, size.calls))
            stack.clear()
            with stack.scheduler():
                wait_until(lambda: _leads(stack), seconds=30, what="the scheduler leads")
                single.append(_lease_rate(stack, port, size.calls, limit=1))
                together.append(_lease_rate(stack, port, 2 * size.calls, limit=TOGETHER))
                waits += _waits(port, size.samples)
    title = f"lease and complete over HTTP, {CONNECTIONS} connections"
    rate, beside = median(creates), "POST /jobs/create"
    return [
        Row("lease_complete", title, "jobs/s", median(single), rate, beside, "ratio", target=0.5),
        Row(f"lease_{TOGETHER}", f"{title}, {TOGETHER} at once", "jobs/s", median(together), rate, beside),
        Row(
            "lease_wait_p50",
            "a long poll gets its job, after the answer to the POST, p50",
            "ms",
            percentile(waits, 50),
            target=5.0,
            at_most=True,
        ),
        Row("lease_wait_p99", "the same, p99", "ms", percentile(waits, 99)),
    ]


def _leads(stack: Stack) -> bool:
    return bool(stack.query("SELECT 1 FROM leadership WHERE holder IS NOT NULL AND now() < expires_at"))


def _lease_request(worker: str, *, limit: int, wait_seconds: float) -> bytes:
    wanted = {"worker": worker, "types": ["noop"], "limit": limit, "wait_seconds": wait_seconds}
    return request(f"/queues/{QUEUE}/lease", json.dumps(wanted).encode())


@dataclass(slots=True)
class _Worker:
    """A connection that leases and completes in turn.

    Attributes:
        tokens: of the jobs that it completes at the moment; none: it leases.
    """

    socket: socket.socket
    lease: bytes
    received: bytes = b""
    tokens: list[str] = field(default_factory=list)

    def answered(self, body: bytes) -> int:
        """Send what comes next; how many jobs were completed by what was answered."""
        if self.tokens:
            done, self.tokens = len(self.tokens), []
            self.socket.sendall(self.lease)
            return done
        self.tokens = [job["token"] for job in json.loads(body)["jobs"]]
        self.socket.sendall(self._completion() if self.tokens else self.lease)
        return 0

    def _completion(self) -> bytes:
        if len(self.tokens) == 1:
            return request(f"/leases/{self.tokens[0]}/complete", b"{}")
        said = {"leases": [{"token": token} for token in self.tokens]}
        return request("/leases/complete", json.dumps(said).encode())


def _lease_rate(stack: Stack, port: int, jobs: int, *, limit: int) -> float:
    """Jobs a second that are leased and completed, while there are some."""
    counted = "SELECT count(*) FROM jobs WHERE status = 'completed'"
    before = stack.query(counted)
    batch = {"jobs": [enqueue.CREATE] * jobs}
    with Client(port) as client:
        status, body = client.post(request("/jobs/batch", json.dumps(batch).encode()))
    if status != 201:
        raise RuntimeError(f"POST /jobs/batch answered {status}: {body[:500]!r}")
    started = time.perf_counter()
    _complete(port, jobs, limit)
    seconds = time.perf_counter() - started
    if (done := stack.query(counted) - before) != jobs:
        raise RuntimeError(f"{done} of {jobs} jobs are completed")
    return jobs / seconds


def _complete(port: int, jobs: int, limit: int) -> None:
    selector = selectors.DefaultSelector()
    for number in range(CONNECTIONS):
        opened = socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        worker = _Worker(opened, _lease_request(f"bench-{number}", limit=limit, wait_seconds=1.0))
        selector.register(opened, selectors.EVENT_READ, worker)
        opened.sendall(worker.lease)
    done = 0
    while done < jobs:
        for key, _ in selector.select(TIMEOUT_SECONDS):
            done += _take(key.data)
    for key in list(selector.get_map().values()):
        key.data.socket.close()


def _take(worker: _Worker) -> int:
    part = worker.socket.recv(262_144)
    if not part:
        raise ConnectionError("the server closed the connection")
    worker.received += part
    end = answer_length(worker.received)
    if end is None or len(worker.received) < end:
        return 0
    answer, worker.received = worker.received[:end], worker.received[end:]
    if status_of(answer) != 200:
        raise RuntimeError(f"answered {answer[:500]!r}")
    return worker.answered(answer.partition(b"\r\n\r\n")[2])


def _waits(port: int, samples: int) -> list[float]:
    """How long after the answer to a create a worker that waits has the job, in milliseconds."""
    arrived: dict[int, float] = {}
    ended = threading.Event()
    waiter = threading.Thread(target=_wait_on, args=(port, arrived, ended))
    waiter.start()
    answered: dict[int, float] = {}
    with Client(port) as client:
        for _ in range(samples):
            # Longer than a job takes: the worker waits again.
            time.sleep(random.uniform(*SPACING_SECONDS))
            status, body = client.post(request("/jobs/create", json.dumps(enqueue.CREATE).encode()))
            answered[json.loads(body)["id"]] = time.monotonic()
            if status != 201:
                raise RuntimeError(f"POST /jobs/create answered {status}")
        wait_until(lambda: len(arrived) >= samples, seconds=30, what="every job was leased")
        ended.set()
        client.post(request("/jobs/create", json.dumps(enqueue.CREATE).encode()))
    waiter.join()
    return [(arrived[job_id] - at) * 1000 for job_id, at in answered.items()]


def _wait_on(port: int, arrived: dict[int, float], ended: threading.Event) -> None:
    message = _lease_request("bench-waits", limit=1, wait_seconds=WAIT_SECONDS)
    with Client(port) as client:
        while not ended.is_set():
            _, body = client.post(message)
            for job in json.loads(body)["jobs"]:
                arrived[job["id"]] = time.monotonic()
                client.post(request(f"/leases/{job['token']}/complete", b"{}"))
