"""What encryption at rest and redaction cost a job: `python -m bench.encryption_cost`.

Microseconds of CPU, of what a job goes through that is not PostgreSQL: its payload is validated, written for
the INSERT, read from a claim, and its outcome written for the record. A plain job pays for none of both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import orjson
from pydantic import TypeAdapter

from goqueue.contents.contents import JobContents, of_payload
from goqueue.contents.payload_keys import keys_of, new_key
from goqueue.engine.options.job_type import JobType
from goqueue.engine.transitions.claim import claimed_job
from goqueue.engine.transitions.record import _encrypted, _outcome_text
from goqueue.jobs import AttemptOutcome, JobStatus, Outcome, RetryPolicy

ROUNDS = 7
#: Bytes of the value in the payload.
SIZES = (100, 10_000, 1_000_000)


def main() -> None:
    """Print a table: microseconds a job, by the size of its payload, and the bytes that it takes."""
    print("payload · validate · claim: plain · redacted · encrypt · claim: encrypted  (CPU µs) · at rest")
    for size in SIZES:
        print(_row(size))
    result = '{"charged":7}'
    outcome = Outcome(7, 1, JobStatus.COMPLETED, AttemptOutcome.COMPLETED, result, run_seconds=0.1, begun=1.0)
    hidden = Outcome(
        7,
        1,
        JobStatus.COMPLETED,
        AttemptOutcome.COMPLETED,
        result,
        run_seconds=0.1,
        begun=1.0,
        encrypted=True,
    )
    contents = JobContents(keys_of(new_key("k1")))
    plain = _cost(lambda: _outcome_text(outcome))
    closed = _cost(lambda: _outcome_text(_encrypted(contents, hidden)))
    print(f"an outcome is written in {plain:.2f} µs, an encrypted one in {closed:.2f} µs")


def _row(size: int) -> str:
    text = orjson.dumps({"card": "4" * size}).decode()
    contents, redacting = JobContents(keys_of(new_key("k1"))), JobContents()
    redacting.redacted["charge"] = frozenset({"card"})
    closed = contents.closed(text, of_payload("charge"))
    job_type = JobType("charge", "q", TypeAdapter(dict[str, str]), "payload", RetryPolicy(), 60.0)
    payload = orjson.loads(text)
    costs = (
        _cost(lambda: job_type.validated(payload)),
        _cost(lambda: claimed_job(_claimed(text), contents)),
        _cost(lambda: claimed_job(_claimed(text), redacting)),
        _cost(lambda: contents.closed(text, of_payload("charge"))),
        _cost(lambda: claimed_job(_claimed(closed), contents)),
    )
    return f"{len(text):9,} · {' · '.join(f'{cost:.2f}' for cost in costs)} · {len(closed):,}"


def _claimed(payload: str) -> tuple[Any, ...]:
    return (7, 1, "q", "charge", payload, 1, 3, False, None, None, 1.79e9, None, 0.0, None, None, 1)


def _cost(do: Callable[[], object]) -> float:
    started = time.perf_counter()
    do()
    times = max(3, min(20_000, int(0.05 / (time.perf_counter() - started + 1e-7))))
    rounds = []
    for _ in range(ROUNDS):
        started = time.thread_time()
        for _ in range(times):
            do()
        rounds.append((time.thread_time() - started) / times * 1e6)
    return min(rounds)


if __name__ == "__main__":
    main()
