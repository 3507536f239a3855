"""Redis wiped, stopped, or losing answers; the API killed before it could push: every job completes, once."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import httpx

from tests.support.jobs.chaos_jobs import QUEUE
from tests.support.processes.stack import Stack, load
from tests.support.waiting import wait_until

OUTAGE_SECONDS = 10.0
COMMANDS = ("BLMPOP", "EVALSHA", "HDEL")


def test_a_wiped_redis_loses_nothing(data_folder: Path) -> None:
    """FLUSHALL, twice, with 2,000 jobs queued: every job completes once, by the same workers."""
    with Stack(data_folder) as stack:
        stack.scheduler()
        stack.workers(2)
        pids = stack.worker_pids()
        stack.collector.submit("slow", 2000, seconds=0.005)
        for done in (200, 900):
            wait_until(lambda: stack.count("completed") >= done, 30, f"{done} completed jobs")  # noqa: B023
            stack.collector.note_fault("flushall")
            stack.redis.flushall()
        _assert_all_completed_once(stack, 2000, pids)


def test_an_outage_of_redis_loses_nothing(data_folder: Path) -> None:
    """Valkey is away for 10 s under load, and jobs fail meanwhile: all complete, by the same workers."""
    with Stack(data_folder) as stack:
        stack.scheduler()
        stack.workers(2)
        pids = stack.worker_pids()
        with load(stack, "fails_once", batch=5):
            wait_until(lambda: stack.count("completed") >= 10, 30, "ten completed jobs")
            stack.collector.submit("fails_once", 8, seconds=2.0, priority=10)
            wait_until(lambda: _running(stack, "2.0") >= 4, 10, "jobs that will fail in the outage")
            stack.collector.note_fault("valkey stopped")
            stack.valkey.stop()
            back_at = time.monotonic() + OUTAGE_SECONDS
            wait_until(lambda: time.monotonic() >= back_at, 2 * OUTAGE_SECONDS, "the end of the outage")
            stack.valkey.start()
        _assert_all_completed_once(stack, len(stack.collector.history.acknowledged), pids)


def test_lost_answers_of_redis_lose_nothing(data_folder: Path) -> None:
    """Answers of fetch, push and acknowledge are cut after the fact: each job completes once."""
    with Stack(data_folder, proxied=True) as stack:
        assert stack.proxy is not None
        stack.scheduler()
        stack.workers(2)
        pids = stack.worker_pids()
        with load(stack, batch=1, pause_seconds=0.01):
            for command in COMMANDS * 2:
                done = stack.proxy.cuts_done(command)
                stack.collector.note_fault(f"cut {command}")
                stack.proxy.cut(command, times=2)
                wait_until(lambda: stack.proxy.cuts_done(command) >= done + 2, 15, f"cuts of {command}")  # type: ignore[union-attr]  # noqa: B023
        _assert_all_completed_once(stack, len(stack.collector.history.acknowledged), pids)


def test_a_redis_that_hangs_loses_nothing(data_folder: Path) -> None:
    """Connections stay open and nothing passes for some seconds: every job completes once."""
    with Stack(data_folder, proxied=True, redis_timeout_seconds=0.5) as stack:
        assert stack.proxy is not None
        stack.scheduler()
        stack.workers(1)
        pids = stack.worker_pids()
        stack.collector.submit("slow", 400, seconds=0.01)
        wait_until(lambda: stack.count("completed") >= 50, 20, "some completed jobs")
        stack.collector.note_fault("black hole")
        stack.proxy.black_hole()
        wait_until(lambda: stack.logged("fetching_paused") >= 1, 15, "the outage to be noticed")
        stack.proxy.heal()
        _assert_all_completed_once(stack, 400, pids)


def test_an_api_killed_between_commit_and_push_loses_nothing(data_folder: Path) -> None:
    """Rows that were committed and never pushed, answered or not, all run."""
    with Stack(data_folder) as stack:
        stack.scheduler()
        stack.workers(1)
        stack.api(failpoints="after_commit_before_push:kill:0.1")
        pids = stack.worker_pids()
        wait_until(lambda: _post(stack) and _unanswered(stack) >= 2, 40, "an API killed twice after a commit")
        _assert_all_completed_once(stack, stack.count("queued", "running", "completed"), pids)


def _assert_all_completed_once(stack: Stack, count: int, pids: list[int]) -> None:
    stack.wait_until_finished(60)
    report = stack.report()
    assert report.valid
    assert report.ok == count
    assert report.duplicated == {}
    assert stack.worker_pids() == pids


def _running(stack: Stack, seconds: str) -> int:
    sql = "SELECT count(*) FROM jobs WHERE status = 'running' AND payload->>'seconds' = %s"
    return int(stack.rows(sql, (seconds,))[0][0])


def _post(stack: Stack) -> bool:
    """Create a job over HTTP; an API that dies on the way answers nothing."""
    token = stack.collector.new_token()
    body = {"queue": QUEUE, "type": "quick", "payload": {"token": token}}
    with suppress(httpx.TransportError):
        answer = httpx.post(f"{stack.api_url}/jobs/create", json=body, trust_env=False)
        assert answer.status_code == httpx.codes.CREATED
        stack.collector.history.acknowledged[token] = answer.json()["id"]
    return True


def _unanswered(stack: Stack) -> int:
    return int(stack.rows("SELECT count(*) FROM jobs")[0][0]) - len(stack.collector.history.acknowledged)
