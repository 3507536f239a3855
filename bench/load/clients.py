"""The clients: threads that create jobs one by one and by the batch, and remember what they were told."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from bench.http_load import Client, request
from bench.load.mixture import Kind, LoadJob

CLIENTS = 8
BATCH = 100
CREATED = 201

#: The latest answers that the live view speaks of.
RECENT = 500


class Clients:
    """So many clients at once; half of the jobs are created one by one, half in batches.

    Attributes:
        told: job id → its kind, as the answers said.
        told_twice: ids that came in two answers.
        single_seconds, batch_seconds: how long each answer took.
    """

    def __init__(self, port: int, jobs: Sequence[LoadJob]) -> None:
        self._port = port
        half = len(jobs) // 2
        portions = [[job] for job in jobs[:half]]
        portions += [list(jobs[start : start + BATCH]) for start in range(half, len(jobs), BATCH)]
        random.Random(2).shuffle(portions)
        self._portions = deque(portions)
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(CLIENTS, thread_name_prefix="client")
        self._futures: list[Future[None]] = []
        self.told: dict[int, Kind] = {}
        self.told_twice: list[int] = []
        self.single_seconds: list[float] = []
        self.batch_seconds: list[float] = []

    def start(self) -> None:
        """Begin to create."""
        self._futures = [self._pool.submit(self._create) for _ in range(CLIENTS)]

    def close(self) -> None:
        """Create nothing more, and wait for the answers that are on their way."""
        self._portions.clear()
        self._pool.shutdown()

    def have_ended(self) -> bool:
        """Whether all is created.

        Raises:
            RuntimeError: an answer was not a success.
            OSError: an answer did not come.
        """
        ended = [future for future in self._futures if future.done()]
        for future in ended:
            future.result()
        return len(ended) == len(self._futures)

    def recent_seconds(self) -> list[float]:
        """How long the latest single creates took."""
        return self.single_seconds[-RECENT:]

    def _create(self) -> None:
        with Client(self._port) as client:
            while True:
                try:
                    portion = self._portions.popleft()
                except IndexError:
                    return
                self._create_portion(client, portion)

    def _create_portion(self, client: Client, portion: list[LoadJob]) -> None:
        single = len(portion) == 1
        requests = [job.request for job in portion]
        document = requests[0] if single else {"jobs": requests}
        message = request("/jobs/create" if single else "/jobs/batch", json.dumps(document).encode())
        began = time.perf_counter()
        status, body = client.post(message)
        seconds = time.perf_counter() - began
        if status != CREATED:
            raise RuntimeError(f"a create was answered {status}: {body[:500]!r}")
        answer = json.loads(body)
        with self._lock:
            self._note([answer["id"]] if single else answer["ids"], portion)
            (self.single_seconds if single else self.batch_seconds).append(seconds)

    def _note(self, ids: list[int], portion: list[LoadJob]) -> None:
        for job_id, job in zip(ids, portion, strict=True):
            if job_id in self.told:
                self.told_twice.append(job_id)
            self.told[job_id] = job.kind
