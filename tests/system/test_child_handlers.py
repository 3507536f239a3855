"""Handlers with `process=True` run in child processes, and have all that those in threads have."""

from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import goqueue
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.engine import output_rows
from goqueue.jobs import FINAL_STATUSES, Job
from tests.support.engine import Engine, running_engine
from tests.support.jobs import child_jobs
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(300)

#: A child that is started imports everything, which takes its time on two busy cores.
START_SECONDS = 90

#: From the time limit to the kill: a look of the watch, a second for the clean-up, a look of the thread; and
#: what a busy machine adds.
KILL_SECONDS = 10.0


def declare() -> None:
    """Declare the job types on the present broker, as the children do that import them."""
    importlib.reload(child_jobs)


@pytest.fixture(scope="module")
def engine(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> Iterator[Engine]:
    """An engine with these types; no child outlives it."""
    with running_engine(
        postgres,
        valkey,
        "child_handlers",
        declare,
        worker_threads=3,
        lifespan_close_seconds=30.0,
        cancel_cooperation_seconds=0.5,
    ) as running:
        yield running
        pids = running.broker.children.pids
        assert len(pids) <= 3
    assert not any(map(psutil.pid_exists, pids))


def enqueue(engine: Engine, name: str, **payload: Any) -> int:
    """Create a job of a type."""
    return goqueue.enqueue(engine.broker.get_actor(name), payload)


def run(engine: Engine, name: str, status: str = "completed", **payload: Any) -> Job:
    """Run a job of a type to its end, with a child that may have to be started."""
    return wait_for(engine, enqueue(engine, name, **payload), status)


def wait_for(engine: Engine, job_id: int, status: str = "completed") -> Job:
    """Wait until a job has ended, and expect this end."""
    wait_until(lambda: engine.job(job_id).status in FINAL_STATUSES, START_SECONDS, f"job {job_id} to end")
    return engine.wait_for(job_id, status)


def test_a_handler_runs_in_a_child_that_is_kept(engine: Engine) -> None:
    """It gets its payload and its job, its result is that of the job, and the next job finds it warm."""
    first, second = (
        run(engine, "tells", text="Grüße \N{SNOWMAN}", number=1e300),
        run(engine, "tells", text="b"),
    )
    assert first.result["text"] == "Grüße \N{SNOWMAN}"
    assert (first.result["number"], first.result["job"]) == (1e300, first.id)
    assert first.result["pid"] != os.getpid()
    assert second.result["pid"] == first.result["pid"]


def test_the_current_job_reaches_the_worker(engine: Engine) -> None:
    """Progress, lines, the results of parents; and jobs are created on connections of the child."""
    parent = run(engine, "tells", text="parent")
    child = goqueue.enqueue(engine.broker.get_actor("reports"), {}, depends_on=[parent.id])
    assert wait_for(engine, child).result == {str(parent.id): parent.result}
    wait_until(lambda: len(goqueue.job_log(child)) == 2, what="the lines to be written")
    assert [line.text for line in goqueue.job_log(child)] == ["first line", "half a pair: ?"]
    assert goqueue.job_progress(child).progress == 0.25
    with engine.broker.database.autocommit() as connection:
        [streamed] = output_rows.output_behind(connection, [(child, (0, 0))], limit=10)
    assert [chunk.text for chunk in streamed.chunks] == ["a piece"]
    made = run(engine, "creates").result
    assert wait_for(engine, made).result["text"] == "made in a child"


def test_a_child_opens_lifespans_of_its_own(engine: Engine) -> None:
    """And makes the dependencies of its jobs."""
    assert run(engine, "given").result == ["Model", True]


def test_exceptions_cross_as_texts(engine: Engine) -> None:
    """The error, the traceback from the handler on, the kind of the failure, and the verdict of the type."""
    refused = run(engine, "raises", "failed", kind="refused")
    assert (refused.error, refused.attempts) == ("RefusedError: not like this", 2)
    trace = engine.attempts(refused.id)[0][3]
    assert trace.splitlines()[1].strip().startswith(f'File "{child_jobs.__file__}"')
    assert trace.count("\n  File ") == 1
    ((exception, frame),) = engine.rows(
        "SELECT exception, frame FROM failure_kinds WHERE fingerprint = %(one)s", one=refused.fingerprint
    )
    assert (exception, frame) == (
        "tests.support.jobs.child_jobs.RefusedError",
        "tests.support.jobs.child_jobs.raises",
    )
    final = run(engine, "raises", "failed", kind="final")
    assert (final.error, final.attempts) == ("FinalError: never", 1)
    assert run(engine, "raises", "failed", kind="exits").error == "SystemExit: 3"
    assert "not JSON" in (run(engine, "raises", "failed", kind="not json").error or "")


def test_verdicts_cross(engine: Engine) -> None:
    """A snooze costs no attempt, a retry comes when it was asked for, and a discard is final."""
    assert run(engine, "raises", kind="snooze").attempts == 1
    again = run(engine, "raises", kind="retry after")
    assert again.attempts == 2
    assert engine.attempts(again.id)[0][1:3] == ("failed", "RetryAfter: busy")
    discarded = run(engine, "raises", "failed", kind="discard")
    assert (discarded.reason, discarded.error) == ("discarded", "Discard: of no use")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        pytest.param("segfault", "was ended by SIGSEGV", id="segfault"),
        pytest.param("killed", "was ended by SIGKILL, as when memory runs out", id="killed"),
        pytest.param("exit", "ended with the exit code 0", id="exits"),
    ],
)
def test_a_child_that_dies_is_a_failed_attempt(engine: Engine, how: str, said: str) -> None:
    """It says of what; jobs beside it in the worker do not notice, and the next one runs."""
    beside = [enqueue(engine, "neighbour", seconds=0.5)]
    died = run(engine, "dies", "failed", how=how)
    assert died.error == f"ChildProcessDied: the process that ran the handler {said}"
    assert (died.attempts, died.deaths) == (1, 0)
    assert wait_for(engine, beside[0]).result == os.getpid()
    assert run(engine, "tells", text="after").attempts == 1


@pytest.mark.parametrize("how", ["python", "c", "stubborn"])
def test_the_time_limit_is_hard(engine: Engine, how: str) -> None:
    """Python is interrupted where it stands; what does not end then is killed a second later."""
    run(engine, "tells", text="warm")
    failed = run(engine, "spins", "failed", how=how)
    assert failed.error == "TimeLimitExceeded"
    ((seconds,),) = engine.rows(
        "SELECT extract(epoch FROM finished_at - started_at)::float FROM attempts WHERE job_id = %(id)s",
        id=failed.id,
    )
    assert 1.0 <= seconds < 1.0 + KILL_SECONDS
    if how == "python":
        assert "in spins" in engine.attempts(failed.id)[0][3]


def test_the_start_of_a_child_costs_its_job_nothing(engine: Engine) -> None:
    """The time limit counts from when it is ready."""
    engine.broker.children.stop()
    assert run(engine, "hurries").result == "in time"


@pytest.mark.parametrize("how", ["python", "c", "cooperates"])
def test_a_cancel_ends_the_handler(engine: Engine, how: str, tmp_path: Path) -> None:
    """It is asked first; then it is interrupted, then killed."""
    started = tmp_path / "started"
    job_id = enqueue(engine, "works", seconds=60.0, started=str(started), how=how)
    wait_until(lambda: started.exists() and started.read_text(), START_SECONDS, "the handler")
    pid = int(started.read_text())
    goqueue.cancel_job(job_id)
    cancelled = wait_for(engine, job_id, "cancelled")
    assert (cancelled.reason, cancelled.result) == ("cancelled", None)
    assert psutil.pid_exists(pid) == (how != "c")


def test_a_program_of_a_handler_hears_sigterm(engine: Engine) -> None:
    """Children stay when their service is told to stop; what they start does as ever."""
    assert run(engine, "starts_program").result == -signal.SIGTERM


def test_called_by_hand_it_runs_here(engine: Engine) -> None:
    """As every actor that is called as a function."""
    with pytest.raises(LookupError, match="no job"):
        engine.broker.get_actor("reports")()
    assert engine.broker.get_actor("neighbour")(0.0) == os.getpid()


async def asynchronous() -> None:
    """A handler that is async."""


def test_what_no_child_could_run_is_refused(engine: Engine) -> None:
    """At the declaration: an async handler, one inside a function, an option that is no flag."""
    with goqueue.GoQueue(engine.settings) as other:
        with pytest.raises(ValueError, match="not async"):
            other.actor(process=True)(asynchronous)

        def inside() -> None: ...

        with pytest.raises(ValueError, match="at the top of a module"):
            other.actor(process=True)(inside)
        with pytest.raises(ValueError, match="True or False"):
            other.actor(process="yes")(declare)  # type: ignore[call-overload]
