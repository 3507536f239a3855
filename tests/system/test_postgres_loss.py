"""PostgreSQL restarted under load, in order and by a crash."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from goqueue.dev.embedded import StopMode
from tests.support.jobs.chaos_jobs import QUEUE
from tests.support.processes.stack import Stack
from tests.support.waiting import wait_until

MODES: tuple[StopMode, ...] = ("fast", "immediate")


def test_restarts_of_postgresql_lose_nothing(data_folder: Path) -> None:
    """Clients get 503 problems with Retry-After, and workers record afterwards what they held, as one run."""
    with Stack(data_folder) as stack:
        stack.scheduler()
        stack.workers(2)
        stack.api()
        pids = stack.worker_pids()
        with _posting(stack) as client:
            for mode in MODES:
                _restart_while_jobs_run(stack, client, mode)
        stack.wait_until_finished(60)
        report = stack.report()
        assert client.wrong == []
        assert report.valid
        assert report.ok == len(stack.rows("SELECT FROM jobs"))
        assert report.duplicated == {}
        assert stack.worker_pids() == pids


def _restart_while_jobs_run(stack: Stack, client: _Client, mode: StopMode) -> None:
    held = stack.collector.submit("slow", 4, seconds=1.0)
    running = "SELECT FROM jobs WHERE status = 'running' AND id = ANY(%s)"
    wait_until(lambda: len(stack.rows(running, (held,))) == len(held), 20, "jobs to be held in the restart")
    refused, postponed = client.refused, stack.logged("recording_postponed")
    stack.collector.note_fault(f"postgresql {mode}")
    stack.postgres.stop(mode)
    wait_until(lambda: client.refused > refused, 20, "a client to be refused")
    wait_until(lambda: stack.logged("recording_postponed") > postponed, 20, "a result to be held back")
    stack.postgres.start()
    accepted = client.accepted
    wait_until(lambda: client.accepted > accepted, 20, "a client to be accepted again")


class _Client:
    """Creates jobs over HTTP, one after the other, and judges every answer."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._http = httpx.Client(base_url=stack.api_url, trust_env=False, timeout=30)
        self.accepted = 0
        self.refused = 0
        self.wrong: list[str] = []
        self.ended = threading.Event()

    def run(self) -> None:
        with self._http:
            while not self.ended.wait(0.02):
                self._post()

    def _post(self) -> None:
        token = self._stack.collector.new_token()
        body = {"queue": QUEUE, "type": "quick", "payload": {"token": token}}
        answer = self._http.post("/jobs/create", json=body)
        if answer.status_code == httpx.codes.CREATED:
            self._stack.collector.history.acknowledged[token] = answer.json()["id"]
            self.accepted += 1
        elif _is_refusal(answer):
            self.refused += 1
        else:
            self.wrong.append(f"{answer.status_code} {answer.text}")


def _is_refusal(answer: httpx.Response) -> bool:
    return (
        answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
        and answer.headers["content-type"] == "application/problem+json"
        and int(answer.headers["retry-after"]) >= 1
    )


@contextmanager
def _posting(stack: Stack) -> Iterator[_Client]:
    client = _Client(stack)
    thread = threading.Thread(target=client.run, name="client", daemon=True)
    thread.start()
    try:
        yield client
    finally:
        client.ended.set()
        thread.join(40)
