"""How many threads a queue needs, from what was measured."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goqueue.insight import erlang
from goqueue.insight.autoscale import (
    RUN_SECONDS_MIN,
    Autoscale,
    Demand,
    LimitedBy,
    Objective,
    RunTimes,
    autoscale,
)

OBJECTIVE = Objective(wait_seconds=10.0, part=0.95, is_default=False)

#: 10 jobs a second of 2 s each: 20 threads are busy on average.
BUSY: dict[str, Any] = {"arrivals": 3_000, "ended": 100, "ended_seconds": 200.0}


def decided(objective: Objective = OBJECTIVE, assumed: float = 1.0, **measured: Any) -> Autoscale:
    """The answer about a queue of which this was measured."""
    return autoscale(Demand(**measured), objective, assumed_run_seconds=assumed)


def test_nothing_needs_no_thread() -> None:
    """A queue without jobs needs no worker, and keeps its objective."""
    answer = decided()
    assert (answer.threads_needed, answer.kept_now, answer.limited_by) == (0, 1.0, None)


def test_arrivals_need_what_erlang_says() -> None:
    """Without a backlog the number is that of Erlang C, and the expectation is that of the formula."""
    answer = decided(**BUSY, threads=20)
    needed = erlang.servers_needed(arrivals=10, service=0.5, seconds=10, objective=0.95)
    assert answer.threads_needed == answer.threads_for_arrivals == needed > 20
    assert answer.kept_now == 0
    assert answer.kept_then >= 0.95


def test_a_shorter_wait_needs_more() -> None:
    """The wait and the part both cost threads."""
    generous = decided(**BUSY).threads_needed
    short = decided(Objective(0.1, 0.95, is_default=False), **BUSY).threads_needed
    strict = decided(Objective(0.1, 0.9999, is_default=False), **BUSY).threads_needed
    assert generous < short < strict


def test_a_backlog_is_gone_within_the_wait() -> None:
    """400 jobs of 2 s within 10 s are 80 threads, beside the 20 that arrivals keep busy."""
    assert decided(**BUSY, backlog=400).threads_for_backlog == 100
    assert decided(**BUSY, backlog=400).threads_needed == 100


def test_a_backlog_needs_no_more_threads_than_it_has_jobs() -> None:
    """Three jobs that take longer than the wait get a thread each."""
    answer = decided(backlog=3, ended=1, ended_seconds=3600.0)
    assert answer.threads_needed == 3


def test_a_running_job_keeps_its_thread() -> None:
    """Nothing arrives, but what runs is not taken its worker away."""
    assert decided(running=7, running_seconds=70.0).threads_needed == 7


def test_jobs_that_will_be_due_arrive() -> None:
    """Run-ats and retries of the next minutes count as much as jobs that came in the last."""
    came = decided(arrivals=600, ended=1, ended_seconds=2.0)
    due = decided(due=600, ended=1, ended_seconds=2.0)
    assert came.threads_needed == due.threads_needed > 4


@pytest.mark.parametrize(
    ("measured", "source", "seconds"),
    [
        pytest.param({}, RunTimes.ASSUMED, 1.5, id="nothing is known"),
        pytest.param({"running": 2, "running_seconds": 1.0}, RunTimes.RUNNING, 1.5, id="just begun"),
        pytest.param({"running": 2, "running_seconds": 600.0}, RunTimes.RUNNING, 300.0, id="runs for long"),
        pytest.param({"ended": 4, "ended_seconds": 2.0}, RunTimes.ENDED, 0.5, id="ended"),
        pytest.param(
            {"ended": 4, "ended_seconds": 2.0, "running": 1, "running_seconds": 198.0},
            RunTimes.ENDED,
            50.0,
            id="short ones ended, a long one runs",
        ),
        pytest.param(
            {"ended": 9, "ended_seconds": 0.0}, RunTimes.ENDED, RUN_SECONDS_MIN, id="no time at all"
        ),
    ],
)
def test_the_mean_run_is_what_is_known(measured: dict[str, Any], source: RunTimes, seconds: float) -> None:
    """From what ended and what runs; assumed where there is neither; never shorter than a start takes."""
    answer = decided(assumed=1.5, **measured)
    assert answer.demand.run_times is source
    assert answer.run_seconds == pytest.approx(seconds)


def test_a_paused_queue_needs_only_what_runs() -> None:
    """Nothing of it starts, so no thread helps its backlog."""
    answer = decided(**BUSY, backlog=400, running=3, closed=True)
    assert (answer.threads_needed, answer.limited_by) == (3, LimitedBy.PAUSED)


def test_no_more_threads_than_a_limit_lets_run() -> None:
    """A concurrency limit is the most that helps; what runs above it keeps its threads."""
    answer = decided(**BUSY, backlog=400, concurrency=5)
    assert (answer.threads_needed, answer.limited_by) == (5, LimitedBy.CONCURRENCY)
    assert decided(**BUSY, running=8, concurrency=5).threads_needed == 8
    assert decided(**BUSY, concurrency=500).limited_by is None


@given(
    st.builds(
        Demand,
        backlog=st.integers(0, 100_000),
        running=st.integers(0, 1_000),
        running_seconds=st.floats(0, 1e6),
        arrivals=st.integers(0, 5_000),
        arrivals_seconds=st.floats(1e-3, 3_600),
        due=st.integers(0, 5_000),
        due_seconds=st.floats(10, 3_600),
        ended=st.integers(0, 1_000),
        ended_seconds=st.floats(0, 1e7),
        threads=st.integers(0, 10_000),
        closed=st.booleans(),
        concurrency=st.none() | st.integers(1, 1_000_000),
    ),
    st.builds(Objective, st.floats(0.01, 604_800), st.floats(0.5, 0.9999), st.booleans()),
    st.floats(1e-6, 86_400),
)
def test_whatever_was_measured_has_an_answer(demand: Demand, objective: Objective, assumed: float) -> None:
    """No measurement breaks the arithmetic, and a queue with work that may start gets a thread."""
    answer = autoscale(demand, objective, assumed_run_seconds=assumed)
    assert demand.running <= answer.threads_needed <= max(erlang.SERVERS_MAX, demand.running)
    assert 0 <= answer.kept_now <= 1
    assert 0 <= answer.kept_then <= 1
    if demand.backlog and not demand.closed:
        assert answer.threads_needed >= 1
