"""What counting costs a job in a worker process: `python -m bench.metrics_cost`.

Counts batches as the consumer and the recorder do, into the files that the processes of a group share, and,
for comparison, as it was before: a histogram observed job by job, in the memory of the process.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from goqueue.jobs import AttemptOutcome, ClaimedJob, JobStatus
from goqueue.middleware.attempt import JobAttempt
from goqueue.middleware.job_message import JobMessage
from goqueue.observability import metrics
from goqueue.observability.shared_metrics import SharedMetrics
from goqueue.worker.health import Heartbeats
from goqueue.worker.recording.outcomes import count_outcomes

JOBS = 100_000
ROUNDS = 9
BATCHES = (1, 4, 16, 100)


def main() -> None:
    """Print a table: microseconds a job, by the size of the batch."""
    print("batch · before, in memory · now, in memory · now, in shared files  (CPU µs a job)")
    plain = {size: (_cost(size, _count_as_before), _cost(size, _count)) for size in BATCHES}
    with tempfile.TemporaryDirectory() as folder:
        SharedMetrics(Path(folder)).join()
        shared = {size: _cost(size, _count) for size in BATCHES}
    for size in BATCHES:
        before, now = plain[size]
        print(f"{size:5} · {before:.2f} · {now:.2f} · {shared[size]:.2f}")
    heartbeats = Heartbeats()
    started = time.thread_time()
    for _ in range(JOBS):
        heartbeats.turn("email")
    print(f"a beat costs {(time.thread_time() - started) / JOBS * 1e6:.2f} µs")


def _cost(size: int, count: Callable[[Sequence[JobMessage]], None]) -> float:
    batch = [_message(number) for number in range(size)]
    rounds = []
    for _ in range(ROUNDS):
        started = time.thread_time()
        for _ in range(JOBS // size // 5):
            count(batch)
        rounds.append((time.thread_time() - started) / (JOBS // size // 5 * size) * 1e6)
    return min(rounds)


def _count(batch: Sequence[JobMessage]) -> None:
    metrics.CLAIM_DURATION.observe(0.001)
    recorded = {(message.current.id, message.current.fence) for message in batch}
    count_outcomes(batch, recorded, {}, 0.001)


def _count_as_before(batch: Sequence[JobMessage]) -> None:
    for message in batch:
        if message.outcome is not None:
            metrics.JOB_DURATION.labels(message.current.queue).observe(message.outcome.run_seconds)
    metrics.JOBS_PROCESSED.labels("email", "completed").inc(len(batch))


def _message(number: int) -> JobMessage:
    job = ClaimedJob(
        id=number + 1,
        fence=1,
        queue="email",
        type="noop",
        payload="{}",
        attempts=1,
        max_retries=3,
        quarantined=False,
        time_limit_seconds=None,
        options=None,
        claimed_at=time.time(),
        wait_seconds=0.002 * (number % 7),
    )
    message = JobMessage(JobAttempt(job, "email"), throws=())
    message.current.begin()
    message.current.run_seconds = 0.001 * (number % 5)
    message.conclude(JobStatus.COMPLETED, AttemptOutcome.COMPLETED)
    return message


if __name__ == "__main__":
    main()
