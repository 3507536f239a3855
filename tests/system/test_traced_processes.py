"""Real processes hand their spans to a collector: they are set up after the fork, and flushed at the end."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from goqueue.ops.processes import ChildProcess
from tests.support.processes.stack import Stack
from tests.support.servers.trace_collector import TraceCollector
from tests.support.waiting import wait_until

#: Each starts on a machine that is busy with the other tests, too.
pytestmark = pytest.mark.timeout(300)

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CLIENT_SPAN = "00f067aa0ba902b7"

#: Where no collector listens.
NOWHERE = "http://127.0.0.1:9/v1/traces"

#: Dramatiq looks once a second, the last record and the last spans take their time.
END_SECONDS = 20.0


def test_spans_of_all_processes_arrive_in_one_trace(tmp_path: Path) -> None:
    """Create and attempt are handed on by the processes that made them, the last ones when those end.

    And where nobody takes the spans, jobs run all the same, and a worker ends in time.
    """
    with (
        TraceCollector() as collector,
        Stack(tmp_path, actors=("examples.jobs",), tracing_endpoint=f"{collector.url}/v1/traces") as stack,
    ):
        api = stack.api()
        (worker,) = stack.workers(1)
        run_a_job(stack)
        end(worker)
        (lonely,) = stack.workers(1, tracing_endpoint=NOWHERE)
        run_a_job(stack)
        end(api)
        end(lonely)
        spans = collector.of(TRACE)
    created, attempt = spans["create examples"], spans["process examples"]
    assert created.parent_id == CLIENT_SPAN
    assert attempt.parent_id == created.span_id
    assert spans["wait examples"].parent_id == created.span_id
    assert (created.service, attempt.service) == ("goqueue-api", "goqueue-worker")
    assert created.pid != attempt.pid


def run_a_job(stack: Stack) -> None:
    """Create a job in the client's trace, and wait until it has run."""
    body = {"queue": "examples", "type": "count_words", "payload": {"text": "one two"}}
    headers = {"traceparent": f"00-{TRACE}-{CLIENT_SPAN}-01"}
    answer = httpx.post(f"{stack.api_url}/jobs/create", json=body, headers=headers, trust_env=False)
    assert answer.json()["trace_id"] == TRACE
    stack.wait_until_finished(30)


def end(process: ChildProcess) -> None:
    """Tell a process to end, which it does within the seconds that a deployment gives it."""
    process.terminate()
    wait_until(process.has_ended, END_SECONDS, "the process to end")
    assert process.exit_code == 0
