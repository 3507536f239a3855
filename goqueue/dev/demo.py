"""`goqueue demo`: jobs of every kind through the REST API of a temporary stack, and every number checked."""

from __future__ import annotations

import random
import shutil
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from goqueue.dev.demo_jobs import kinds_of
from goqueue.dev.demo_report import DemoFacts, print_report, progress_bar
from goqueue.dev.embedded_stack import EmbeddedStack
from goqueue.errors import StartupError
from goqueue.ops.supervisor import StopRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from goqueue.dev.demo_jobs import DemoKind

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

CLIENTS = 4
BATCH = 100
POLL_SECONDS = 0.1
PAGE = 1000

#: Nothing ended for so long: something is broken.
STALL_SECONDS = 60.0

#: So many creates are sent again with the same Idempotency-Key.
REPEATS = 10

SETTINGS: dict[str, Any] = {
    "worker_processes": 2,
    "worker_threads": 8,
    "min_backoff_seconds": 0.2,
    "api_keys": (),
    "log_format": "console",
    "worker_metrics_port": 0,
    "scheduler_metrics_port": 0,
}


def run_demo(jobs: int, *, more_mails_expected: int = 0) -> int:
    """Run so many jobs; the exit code: 0 when every number is as expected, 1 when one is not.

    Args:
        jobs: at least 20, so that there is one of each kind.
        more_mails_expected: for the test that a wrong number is noticed.

    Raises:
        StartupError: something cannot start; one line.
        ConfigurationError: the environment is not usable.
    """
    folder = Path(tempfile.mkdtemp(prefix="goqueue-demo-"))
    log = folder / "processes.log"
    with StopRequest().on_signals() as stop:
        try:
            with log.open("ab") as output:
                passed = _run(
                    EmbeddedStack(folder, output=output, opens_path=True, **SETTINGS),
                    kinds_of(jobs),
                    stop,
                    more_mails_expected,
                )
        except BaseException:
            _say(f"The processes' log is {log}")
            raise
    if stop.requested.is_set():
        shutil.rmtree(folder)
        return EXIT_INTERRUPTED
    if not passed:
        _say(f"The processes' log is {log}")
        return EXIT_FAILED
    shutil.rmtree(folder)
    return 0


def _run(stack: EmbeddedStack, kinds: list[DemoKind], stop: StopRequest, more_mails_expected: int) -> bool:
    _say("Starting PostgreSQL, Valkey, the API, the workers, and local mail, webhook and payment servers…")
    started = time.monotonic()
    try:
        stack.start(stop)
        _say(f"Ready after {time.monotonic() - started:.1f} s: {stack.api_url}")
        with httpx.Client(base_url=stack.api_url, timeout=30, trust_env=False) as client:
            replays = _Demo(stack, client, kinds, stop).run()
            jobs = [] if stop.requested.is_set() else _all_jobs(client)
    finally:
        ended_well = stack.stop(stop.forced)
    if stop.requested.is_set():
        return False
    facts = DemoFacts(jobs, replays, stack.mail, stack.payments, stack.webhooks, ended_well=ended_well)
    return print_report(facts, kinds, more_mails_expected=more_mails_expected)


class _Demo:
    """Creates the jobs and watches until all have ended."""

    def __init__(
        self, stack: EmbeddedStack, client: httpx.Client, kinds: list[DemoKind], stop: StopRequest
    ) -> None:
        self._stack = stack
        self._client = client
        self._stop = stop
        requests = [request for kind in kinds for request in kind.requests(stack.webhooks.url)]
        random.Random(1).shuffle(requests)  # noqa: S311  (the same mixture every time)
        half = len(requests) // 2
        self._single, self._batched = requests[:half], requests[half:]
        self._total = len(requests)
        self._counting = threading.Lock()
        self._created = self._replays = 0

    def run(self) -> int:
        """Run the jobs; how many repeated creates were answered with the job of the first one."""
        singles = list(enumerate(self._single))
        with ThreadPoolExecutor(CLIENTS) as pool, progress_bar(self._total) as show:
            futures = [pool.submit(self._create_many, batch) for batch in _slices(self._batched, BATCH)]
            futures += [pool.submit(self._create_one, *item) for item in singles + singles[:REPEATS]]
            try:
                self._watch(futures, show)
            finally:
                for future in futures:
                    future.cancel()
        return self._replays

    def _watch(self, futures: list[Future[None]], show: Callable[[int, int], None]) -> None:
        finished, changed_at = 0, time.monotonic()
        while not self._stop.requested.wait(POLL_SECONDS):
            for future in futures:
                if future.done():
                    future.result()  # raises what went wrong
            created = self._created  # before the question: what is created meanwhile counts as unfinished
            now_finished = created - self._unfinished()
            if now_finished > finished:
                finished, changed_at = now_finished, time.monotonic()
            show(created, finished)
            if finished == self._total and all(future.done() for future in futures):
                return
            if time.monotonic() - changed_at > STALL_SECONDS:
                raise StartupError(
                    f"nothing ended for {STALL_SECONDS:g} s; {self._total - finished} are open"
                )
            self._stack.tend()

    def _create_one(self, number: int, request: dict[str, Any]) -> None:
        headers = {"Idempotency-Key": f"demo-{number}"}
        self._count(_expect_success(self._client.post("/jobs/create", json=request, headers=headers)), 1)

    def _create_many(self, requests: list[dict[str, Any]]) -> None:
        answer = _expect_success(self._client.post("/jobs/batch", json={"jobs": requests}))
        self._count(answer, answer.json()["count"])

    def _count(self, answer: httpx.Response, jobs: int) -> None:
        with self._counting:
            if "Idempotent-Replayed" in answer.headers:
                self._replays += 1
            else:
                self._created += jobs

    def _unfinished(self) -> int:
        counts = _expect_success(self._client.get("/stats")).json()["counts"]
        return sum(counts[name] for name in ("ready", "waiting", "quarantined", "blocked", "running"))


def _all_jobs(client: httpx.Client) -> list[dict[str, Any]]:
    """Every job as the API tells it, page by page."""
    jobs: list[dict[str, Any]] = []
    for queue in ("email", "payment", "webhooks"):
        page: str | None = f"/jobs?queue={queue}&limit={PAGE}"
        while page:
            answer = _expect_success(client.get(page))
            jobs += answer.json()
            page = answer.links.get("next", {}).get("url")
    return jobs


def _expect_success(answer: httpx.Response) -> httpx.Response:
    if not answer.is_success:
        request = answer.request
        raise StartupError(f"{request.method} {request.url} was answered {answer.status_code}: {answer.text}")
    return answer


def _slices(items: list[dict[str, Any]], size: int) -> list[list[dict[str, Any]]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  (a command prints)
