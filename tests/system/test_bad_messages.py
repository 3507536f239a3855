"""Poison pills, and garbage in Redis."""

from __future__ import annotations

from pathlib import Path

from goqueue.engine.runway.runway import Message
from goqueue.jobs import NewJob
from tests.support.jobs.chaos_jobs import QUEUE
from tests.support.processes.stack import FAST_LEASES, Stack
from tests.support.waiting import wait_until

PILLS = ("pill_sigkill", "pill_segfault", "pill_exit")


def test_poison_pills_fail_alone(data_folder: Path) -> None:
    """Three pills among 500 good jobs end as `worker_died`; every good job completes, hit at most twice."""
    with Stack(data_folder, **FAST_LEASES) as stack:
        stack.scheduler()
        stack.supervisor(2)
        # Two of them: none may leave the quarantine to the other.
        stack.supervisor(2, threads=1, worker_queues=("quarantine",))
        stack.collector.submit("slow", 150, seconds=0.02)
        pills = [job_id for pill in PILLS for job_id in stack.collector.submit(pill)]
        stack.collector.submit("slow", 350, seconds=0.02)
        stack.wait_until_finished(90)
        report = stack.report()
        assert report.valid
        assert report.ok == 500
        ends = stack.rows("SELECT status, reason FROM jobs WHERE id = ANY(%s)", (pills,))
        assert ends == [("failed", "worker_died")] * 3
        died = "SELECT job_id, count(*) FROM attempts WHERE outcome = 'worker_died' GROUP BY job_id"
        deaths = dict(stack.rows(died))
        assert max(deaths.pop(pill) for pill in pills) <= 2 + stack.settings.max_deaths
        assert max(deaths.values(), default=0) <= 2


def test_garbage_on_the_runway_is_counted_and_removed(data_folder: Path) -> None:
    """What is no message, names no job, or comes five times is dropped; its batch-mates run, once each."""
    with Stack(data_folder) as stack:
        done = stack.collector.submit("quick", 5)
        stack.scheduler()
        stack.workers(1)
        stack.wait_until_finished(20)
        stack.rows("UPDATE queues SET paused_at = now() RETURNING name")
        waiting = stack.collector.submit("quick", 20)
        _litter(stack, done, waiting)
        stack.rows("UPDATE queues SET paused_at = NULL RETURNING name")
        # A runway that is paused may be emptied meanwhile; this one is not.
        stack.redis.rpush(stack.redis_key("runway"), b"hello")
        stack.wait_until_finished(20)
        report = stack.report()
        assert report.valid
        assert report.ok == 25
        assert report.duplicated == {}
        assert stack.logged("garbage_dropped") >= 1
        wait_until(lambda: stack.runway_length() == 0, 10, "the runway to be empty")
        wait_until(lambda: stack.redis.hlen(stack.redis_key("messages")) == 0, 10, "no message to be left")


def test_a_job_of_an_unknown_type_waits_unspent(data_folder: Path) -> None:
    """A job of a type that no worker knows waits with no attempt counted, and holds up nobody."""
    with Stack(data_folder) as stack:
        stack.scheduler()
        stack.workers(1)
        unknown = NewJob(queue=QUEUE, type="nobody_knows_it", payload="{}", max_retries=0)
        (job_id,) = stack.submitter.many([unknown])
        stack.collector.submit("quick", 20)
        wait_until(lambda: stack.count("completed") == 20, 20, "the other jobs")
        found = stack.rows("SELECT status, attempts, error FROM jobs WHERE id = %s", (job_id,))
        assert found == [("queued", 0, None)]
        assert stack.rows("SELECT 1 FROM attempts WHERE job_id = %s", (job_id,)) == []


def _litter(stack: Stack, done: list[int], waiting: list[int]) -> None:
    """Everything that may lie on a runway and should not."""
    entries: list[str | bytes] = [b"\xff\xfe\x00", b"", b"hello", b"-1.0", b"1.x", b"9" * 40 + b".0"]
    entries += [Message(999_999 + number, 0).key for number in range(3)]
    entries += [Message(job_id, fence).key for job_id in done for fence in (0, 1, 7)]
    entries += [Message(job_id, 0).key for job_id in waiting] * 5
    runway, messages = stack.redis_key("runway"), stack.redis_key("messages")
    stack.redis.hset(messages, mapping=dict.fromkeys(entries, "0"))
    stack.redis.rpush(runway, *entries)
