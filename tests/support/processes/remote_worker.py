"""A worker outside of GoQueue in a few lines of Python: it runs chaos jobs by the lease protocol."""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from typing import Any

import httpx

HEARTBEATS_A_LEASE = 4
TYPES = ["quick", "slow", "slow_at_first", "fails_once"]


class Worker:
    """Leases chaos jobs, and runs each on a thread of its own."""

    def __init__(self, url: str, slots: int) -> None:
        self._client = httpx.Client(base_url=url, timeout=10, trust_env=False)
        self._name = f"python:{os.getpid()}:{time.monotonic_ns()}"
        self._slots = slots
        self._held: dict[str, threading.Event] = {}
        self._free: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._log = os.open(os.environ["CHAOS_SIDE_EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def run(self) -> None:
        """Lease jobs for ever."""
        for _ in range(self._slots):
            self._free.put(None)
        while True:
            self._free.get()
            job = self._lease()
            if job is None:
                self._free.put(None)
                continue
            threading.Thread(target=self._run, args=(job,)).start()

    def _lease(self) -> dict[str, Any] | None:
        wanted = {"worker": self._name, "types": TYPES, "slots": self._slots, "wait_seconds": 5}
        try:
            answer = self._client.post("/queues/chaos/lease", json=wanted | {"language": "Python"})
            jobs: list[dict[str, Any]] = answer.json()["jobs"]
        except (httpx.HTTPError, KeyError):
            time.sleep(0.1)
            return None
        return jobs[0] if jobs else None

    def _run(self, job: dict[str, Any]) -> None:
        lost = self._held[job["token"]] = threading.Event()
        beats = threading.Thread(target=self._beat, args=(job, lost))
        beats.start()
        self._note(job, "start")
        payload = job["payload"]
        seconds = payload.get("seconds", 0) if job["fence"] == 1 else payload.get("again_seconds", 0)
        fails = job["type"] == "fails_once" and job["attempt"] == 1
        if not lost.wait(seconds) and not fails:
            self._note(job, "end")
            self._say(job, "complete", {"result": payload["token"]})
        elif not lost.is_set():
            self._say(job, "fail", {"error": "the first attempt fails"})
        lost.set()
        self._free.put(None)

    def _beat(self, job: dict[str, Any], lost: threading.Event) -> None:
        while not lost.wait(0.4):
            try:
                answer = self._client.post(f"/leases/{job['token']}/heartbeat")
            except httpx.HTTPError:
                continue
            if answer.status_code in {404, 409}:
                lost.set()

    def _say(self, job: dict[str, Any], what: str, said: dict[str, Any]) -> None:
        """Until there is an answer: saying it twice is as good as once."""
        while True:
            try:
                if self._client.post(f"/leases/{job['token']}/{what}", json=said).status_code < 500:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.1)

    def _note(self, job: dict[str, Any], what: str) -> None:
        line = f"{job['id']} {job['fence']} {job['attempt']} {os.getpid()} {what} {time.time():.6f}\n"
        os.write(self._log, line.encode())


if __name__ == "__main__":
    Worker(os.environ["GOQUEUE_URL"], int(sys.argv[1])).run()
