"""Async jobs: all that a thread's job has, as tasks of one event loop that none of them may hold up."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import dramatiq
import pytest
from dramatiq.middleware import SkipMessage

import goqueue
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.engine.transitions import cancel as cancel_store
from goqueue.instance import default
from goqueue.jobs import AttemptOutcome
from goqueue.middleware.event_loop import kept_event_loop
from goqueue.observability.job_context import job_context
from tests.support.counted import counted
from tests.support.engine import Engine, running_engine
from tests.support.waiting import wait_until

THREADS = 2
SLOTS = 6
GRACE_SECONDS = 0.3

runs: Counter[str] = Counter()
seen: dict[str, Any] = {}
gate = threading.Event()


@dataclass
class Crowd:
    """How many handlers were in it at once."""

    now: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> None:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.now -= 1


crowd = Crowd()


async def opened() -> None:
    """Wait for the gate, as an async handler does."""
    while not gate.is_set():  # noqa: ASYNC110  (the gate is a thread's)
        await asyncio.sleep(0.005)


def fails_once(name: str) -> str:
    """Fail in the first run."""
    runs[name] += 1
    if runs[name] == 1:
        raise ValueError("the first time")
    return "the second time"


def snoozes_once(name: str) -> str:
    """Ask for another time in the first run."""
    runs[name] += 1
    if runs[name] == 1:
        raise goqueue.Snooze(0.01)
    return "awake"


def reports() -> dict[str, Any]:
    """Say something in every way, and return what the handler knows of its job."""
    job = goqueue.current_job()
    job.progress(0.5, "half")
    job.log("a line")
    bound = job_context.get()
    fields = {} if bound is None else bound.log_fields
    return {"id": job.id, "attempt": job.attempt, "type": job.type, "bound": fields.get("job_id")}


#: What a handler may do that does not wait: name → what it does, with the name of its own kind's type.
DEEDS: dict[str, Callable[[str], Any]] = {
    "returns": lambda _name: {"a": [1, None]},
    "fails": lambda _name: 1 / 0,
    "fails_once": fails_once,
    "snoozes_once": snoozes_once,
    "discards": lambda _name: _raise(goqueue.Discard("no such account")),
    "asks_to_retry": lambda _name: _raise(goqueue.RetryAfter(0.01, "busy")),
    "throws": lambda _name: _raise(KeyError("expected")),
    "exits": lambda _name: _raise(SystemExit(3)),
    "returns_an_object": lambda _name: object(),
    "reports": lambda _name: reports(),
}


def _raise(error: BaseException) -> Any:
    raise error


def declare_deed(name: str, deed: Callable[[str], Any]) -> None:
    """Declare a type of each kind that does this."""

    def act() -> Any:
        return deed(name)

    async def act_async() -> Any:
        await asyncio.sleep(0)
        return deed(f"{name}_async")

    options: dict[str, Any] = {"max_retries": 1, "min_backoff_seconds": 0.01, "throws": (KeyError,)}
    goqueue.actor(name=name, **options)(act)
    goqueue.actor(name=f"{name}_async", **options)(act_async)


def declare() -> None:  # noqa: C901, PLR0915  (a list of actors, nothing is decided)
    """Declare the actors of these tests on the present broker."""
    for name, deed in DEEDS.items():
        declare_deed(name, deed)

    @goqueue.actor(max_retries=1)
    def holds() -> str:
        runs["holds"] += 1
        with crowd:
            while not gate.is_set():
                gate.wait(0.005)
        return "done"

    @goqueue.actor(max_retries=1)
    async def holds_async() -> str:
        runs["holds_async"] += 1
        with crowd:
            await opened()
        return "done"

    @goqueue.actor(queue="pure", max_retries=1)
    async def alone_async() -> str:
        runs["alone_async"] += 1
        with crowd:
            await opened()
        return "done"

    @goqueue.actor(max_retries=0, rerun_after_death=False)
    def not_again() -> str:
        return "done"

    @goqueue.actor(max_retries=0, rerun_after_death=False)
    async def not_again_async() -> str:
        return "done"

    @goqueue.actor(queue="pure", max_retries=0)
    async def cleans_up(seconds: float) -> None:
        try:
            runs["cleans_up"] += 1
            await asyncio.sleep(600)
        finally:
            await asyncio.sleep(seconds)
            runs["cleaned_up"] += 1

    @goqueue.actor(queue="pure", max_retries=0)
    async def goes_on() -> str:
        runs["goes_on"] += 1
        while not gate.is_set():
            with suppress(asyncio.CancelledError):
                await opened()
        runs["went_on"] += 1
        return "too late"

    @goqueue.actor(queue="pure", max_retries=0)
    async def swallows() -> str:
        runs["swallows"] += 1
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(600)
        return "as if nothing had been"

    @goqueue.actor(queue="pure", max_retries=0)
    async def cancels_all() -> str:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        return "done"

    @goqueue.actor(queue="pure", max_retries=0)
    async def cancels_itself() -> None:
        task = asyncio.current_task()
        assert task is not None
        runs["cancels_itself"] += 1
        task.cancel()
        await asyncio.sleep(600)

    @goqueue.actor(queue="pure", max_retries=0)
    async def blocks(in_child: bool) -> str:
        async def held_up() -> None:
            runs["blocks"] += 1
            gate.wait(20)

        await (asyncio.create_task(held_up()) if in_child else held_up())
        return "done"

    @goqueue.actor(queue="pure", max_retries=0)
    async def steps() -> list[int]:
        found = []
        for _ in range(3):
            await asyncio.sleep(0.001)
            found.append(goqueue.current_job().id)
        return found + await asyncio.gather(*(_own_id() for _ in range(2)))

    async def _own_id() -> int:
        await asyncio.sleep(0)
        return goqueue.current_job().id


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def engine(
    request: pytest.FixtureRequest, postgres: EmbeddedPostgres, valkey: EmbeddedValkey
) -> Iterator[Engine]:
    """An engine that all tests of this module share, on each make of event loop."""
    changes = {
        "worker_threads": THREADS,
        "worker_async_slots": SLOTS,
        "worker_async_grace_seconds": GRACE_SECONDS,
        "worker_event_loop": request.param,
        "prefetch_seconds": 0.0,
    }
    with running_engine(postgres, valkey, f"async_{request.param}", declare, **changes) as engine:
        loop_thread = kept_event_loop()
        assert loop_thread is not None
        assert type(loop_thread.loop).__module__.startswith(request.param)
        yield engine


@pytest.fixture(autouse=True)
def _from_the_start(engine: Engine) -> Iterator[None]:
    runs.clear()
    gate.clear()
    crowd.most = 0
    yield
    gate.set()
    slots = engine.broker.slots
    wait_until(lambda: (slots.held, slots.asynchronous.held) == (0, 0), what="free places")
    assert engine.broker.interrupts.running() == []
    assert not engine.broker.async_jobs.has_work


def create(engine: Engine, name: str, payload: Any = None, **options: Any) -> int:
    """Create a job of a declared type."""
    return default().create(engine.broker.actors[name], payload or {}, **options)


def outcomes(engine: Engine, job_id: int) -> list[str]:
    """How the attempts of a job ended."""
    return [row[1] for row in engine.attempts(job_id)]


# What a job can have, of either kind


@dataclass(frozen=True)
class Expected:
    """How a job ends."""

    status: str
    outcomes: tuple[str, ...]
    reason: str | None = None
    error: str | None = None


FAILED_TWICE = ("failed", "failed")

TABLE = {
    "returns": Expected("completed", ("completed",)),
    "fails": Expected("failed", FAILED_TWICE, "failed", "ZeroDivisionError: division by zero"),
    "fails_once": Expected("completed", ("failed", "completed")),
    "snoozes_once": Expected("completed", ("snoozed", "completed")),
    "discards": Expected("failed", ("failed",), "discarded", "Discard: no such account"),
    "asks_to_retry": Expected("failed", FAILED_TWICE, "failed", "busy"),
    "throws": Expected("failed", ("failed",), "failed", "KeyError: 'expected'"),
    "exits": Expected("failed", FAILED_TWICE, "failed", "SystemExit: 3"),
    "returns_an_object": Expected("failed", FAILED_TWICE, "failed", "the result is not JSON"),
    "not_again": Expected("completed", ("completed",)),
}

BOTH = pytest.mark.parametrize("kind", ["", "_async"], ids=["thread", "async"])


@BOTH
@pytest.mark.parametrize("name", TABLE)
def test_a_job_ends_as_it_should(engine: Engine, name: str, kind: str) -> None:
    """Results, failures, retries and verdicts are the same on a thread and on the event loop."""
    expected = TABLE[name]
    job = engine.wait_for(create(engine, name + kind), expected.status)
    assert tuple(outcomes(engine, job.id)) == expected.outcomes
    assert job.reason == expected.reason
    assert (expected.error or "") in (job.error or "")
    refunded = expected.outcomes.count("snoozed")
    assert job.attempts == len(expected.outcomes) - refunded


@BOTH
def test_a_traceback_starts_with_the_handler(engine: Engine, kind: str) -> None:
    """The kept traceback begins where the user's code begins."""
    job = engine.wait_for(create(engine, f"fails{kind}"), "failed")
    trace = engine.attempts(job.id)[0][3]
    frames = [line for line in trace.splitlines() if line.lstrip().startswith("File ")]
    assert "test_async_jobs.py" in frames[0]


@BOTH
def test_a_handler_knows_and_tells_of_its_job(engine: Engine, kind: str) -> None:
    """It finds its job, its progress and its log are kept, and its own log lines carry the job."""
    job_id = create(engine, f"reports{kind}")
    job = engine.wait_for(job_id)
    assert job.result == {"id": job_id, "attempt": 1, "type": f"reports{kind}", "bound": job_id}
    sql = "SELECT progress, message FROM attempt_progress WHERE job_id = %(id)s"
    assert engine.rows(sql, id=job_id) == [(0.5, "half")]
    lines = engine.rows("SELECT text FROM attempt_logs WHERE job_id = %(id)s", id=job_id)
    assert lines == [("a line",)]


@BOTH
def test_a_time_limit_ends_an_attempt(engine: Engine, kind: str) -> None:
    """The attempt fails, in time, and the error says why."""
    job_id = create(engine, f"holds{kind}", max_retries=0, time_limit_seconds=0.2)
    job = engine.wait_for(job_id, "failed")
    assert job.error is not None
    assert "TimeLimitExceeded" in job.error
    ((seconds,),) = engine.rows("SELECT run_seconds FROM attempts WHERE job_id = %(id)s", id=job_id)
    assert 0.2 <= seconds < 2


@BOTH
def test_a_deadline_ends_a_job(engine: Engine, kind: str) -> None:
    """Whatever is left of its retries."""
    job_id = create(engine, f"holds{kind}", deadline_seconds=0.5)
    job = engine.wait_for(job_id, "failed")
    assert (job.reason, outcomes(engine, job_id)) == ("deadline", ["failed"])


@BOTH
def test_a_cancel_ends_a_job(engine: Engine, kind: str) -> None:
    """A handler that does not notice is interrupted, and nothing is retried."""
    job_id = create(engine, f"holds{kind}")
    wait_until(lambda: runs[f"holds{kind}"] == 1, what="the handler")
    with engine.broker.database.autocommit() as connection:
        assert cancel_store.cancel(connection, [job_id]) == ([], [job_id])
    job = engine.wait_for(job_id, "cancelled")
    assert (job.reason, outcomes(engine, job_id)) == ("cancelled", ["cancelled"])


@BOTH
def test_what_is_interrupted_from_outside_goes_back_unspent(engine: Engine, kind: str) -> None:
    """As a lost lease or a shutdown does it: the job runs again, and no attempt is counted."""
    job_id = create(engine, f"holds{kind}")
    wait_until(engine.broker.interrupts.running, what="the handler")
    (current,) = engine.broker.interrupts.running()
    engine.broker.interrupts.interrupt(current, AttemptOutcome.INTERRUPTED)
    wait_until(lambda: runs[f"holds{kind}"] == 2, what="the second run")
    gate.set()
    job = engine.wait_for(job_id)
    assert (job.attempts, outcomes(engine, job_id)) == (1, ["interrupted", "completed"])


@BOTH
def test_its_begin_is_noted_while_it_runs(engine: Engine, kind: str) -> None:
    """The row says when the handler began, though it has not ended."""
    job_id = create(engine, f"holds{kind}")
    wait_until(lambda: engine.job(job_id).begun_at is not None, what="the begin")
    assert engine.job(job_id).status == "running"


class Notes(dramatiq.Middleware):
    """Notes what it is told, and refuses what it should."""

    def __init__(self, name: str, told: list[str], *, skips: bool = False) -> None:
        self.name = name
        self.told = told
        self.skips = skips

    def before_process_message(self, _broker: Any, message: Any) -> None:
        """Note the call."""
        self.told.append(f"before {self.name} {message.args}")
        if self.skips:
            raise SkipMessage

    def after_process_message(
        self, _broker: Any, _message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """Note the end."""
        self.told.append(f"after {self.name} {result} {type(exception).__name__}")

    def after_skip_message(self, _broker: Any, _message: Any) -> None:
        """Note the skip."""
        self.told.append(f"skipped {self.name}")

    def after_ack(self, _broker: Any, _message: Any) -> None:
        """Note the acknowledgement."""
        self.told.append(f"ack {self.name}")

    def after_nack(self, _broker: Any, _message: Any) -> None:
        """Note the rejection."""
        self.told.append(f"nack {self.name}")


def test_hooks_are_called_in_dramatiqs_order(engine: Engine) -> None:
    """Before in the order of the list, after in reverse, with the call and the result: the same for both."""
    told: dict[str, list[str]] = {}
    for kind in ("", "_async"):
        lines: list[str] = []
        with engine.with_middleware(Notes("a", lines), Notes("b", lines)):
            for name, status in (("returns", "completed"), ("throws", "failed"), ("fails_once", "completed")):
                engine.wait_for(create(engine, name + kind), status)
        told[kind] = lines
    assert told[""] == told["_async"]
    assert told[""][:6] == [
        "before a ()",
        "before b ()",
        "after b {'a': [1, None]} NoneType",
        "after a {'a': [1, None]} NoneType",
        "ack b",
        "ack a",
    ]
    assert "nack a" in told[""]


@BOTH
def test_a_middleware_may_skip_a_job(engine: Engine, kind: str) -> None:
    """Its handler never runs."""
    lines: list[str] = []
    with engine.with_middleware(Notes("a", lines, skips=True)):
        job = engine.wait_for(create(engine, f"holds{kind}"), "failed")
    assert (job.reason, runs[f"holds{kind}"]) == ("skipped", 0)
    assert "skipped a" in lines


# Steps and tasks of one handler


def test_every_step_of_a_handler_knows_its_job(engine: Engine) -> None:
    """Between the steps of others, and in the tasks that it makes."""
    ids = [create(engine, "steps") for _ in range(30)]
    for job_id in ids:
        assert engine.wait_for(job_id).result == [job_id] * 5


# Slots


def test_async_jobs_hold_no_thread(engine: Engine) -> None:
    """As many as there are slots run at once, beside as many on threads; never more."""
    ids = [create(engine, "alone_async") for _ in range(3 * SLOTS)]
    wait_until(lambda: runs["alone_async"] == SLOTS, what="every slot")
    ids += [create(engine, "holds") for _ in range(2 * THREADS)]
    wait_until(lambda: runs["holds"] == THREADS, what="every thread")
    assert engine.rows("SELECT count(*) FROM jobs WHERE status = 'running'") == [(SLOTS + THREADS,)]
    gate.set()
    for job_id in ids:
        assert engine.wait_for(job_id).attempts == 1
    assert crowd.most == SLOTS + THREADS


@pytest.mark.parametrize(
    ("full", "other", "places"),
    [
        pytest.param("holds", "returns_async", THREADS, id="all threads are busy"),
        pytest.param("holds_async", "returns", SLOTS, id="all slots are taken"),
    ],
)
def test_a_mixed_queue_starts_what_there_is_room_for(
    engine: Engine, full: str, other: str, places: int
) -> None:
    """Behind more jobs of a kind than there are places for, those of the other kind run; none is claimed."""
    held = [create(engine, full) for _ in range(places + 5)]
    wait_until(lambda: runs[full] == places, what="every place")
    for _ in range(5):
        assert engine.wait_for(create(engine, other)).attempts == 1
    assert engine.rows("SELECT count(*) FROM jobs WHERE status = 'running'") == [(places,)]
    assert runs[full] == places
    gate.set()
    for job_id in held:
        job = engine.wait_for(job_id)
        assert (job.attempts, job.fence) == (1, 1)


def test_a_kind_that_was_not_expected_in_a_queue_finds_its_place(engine: Engine) -> None:
    """A queue for which only async types were declared may be given others, and the other way round."""
    names = ["returns", "alone_async", "holds_async"] * 5
    ids = [create(engine, name, queue="pure") for name in names]
    gate.set()
    for job_id in ids:
        assert engine.wait_for(job_id).attempts == 1
    assert crowd.most <= SLOTS


def test_a_suspect_runs_beside_others_and_alone_in_its_process(engine: Engine) -> None:
    """Of two async suspects one runs at a time; in the quarantine one has the process for itself."""
    later = datetime.now(UTC) + timedelta(hours=1)
    ids = [create(engine, "alone_async", available_at=later) for _ in range(2)]
    engine.rows(
        "UPDATE jobs SET quarantined = true, suspicion = 1, available_at = now() "
        "WHERE id = ANY (%(ids)s) RETURNING 1",
        ids=ids,
    )
    wait_until(lambda: runs["alone_async"] == 1, what="the first suspect")
    assert engine.broker.slots.has_suspect
    assert engine.wait_for(create(engine, "returns_async")).attempts == 1
    assert runs["alone_async"] == 1
    gate.set()
    for job_id in ids:
        assert engine.wait_for(job_id).attempts == 1
    wait_until(lambda: not engine.broker.slots.has_suspect, what="no suspect")


# Interrupts


def test_a_cancelled_handler_may_clean_up(engine: Engine) -> None:
    """Within the grace it may even wait; the attempt ends when it has."""
    job_id = create(engine, "cleans_up", {"seconds": GRACE_SECONDS / 2}, time_limit_seconds=0.2)
    job = engine.wait_for(job_id, "failed")
    assert runs["cleaned_up"] == 1
    assert job.error is not None
    assert "TimeLimitExceeded" in job.error


def test_a_handler_that_cleans_up_for_too_long_is_cancelled_again(engine: Engine) -> None:
    """After the grace it is interrupted in its clean-up."""
    job_id = create(engine, "cleans_up", {"seconds": 600}, time_limit_seconds=0.2)
    engine.wait_for(job_id, "failed")
    assert (runs["cleans_up"], runs["cleaned_up"]) == (1, 0)


def test_a_handler_that_swallows_its_interrupt_and_returns_has_completed(engine: Engine) -> None:
    """As on a thread: it had its effect."""
    job = engine.wait_for(create(engine, "swallows", time_limit_seconds=0.2))
    assert job.result == "as if nothing had been"


def test_a_handler_that_goes_on_is_given_up(engine: Engine) -> None:
    """Its attempt ends all the same, its slot is free, and what it does later changes nothing."""
    before = counted("async_handlers_given_up_total", type="goes_on")
    job_id = create(engine, "goes_on", time_limit_seconds=0.2)
    job = engine.wait_for(job_id, "failed")
    assert job.error is not None
    assert "the handler goes on although it was cancelled" in job.error
    assert counted("async_handlers_given_up_total", type="goes_on") == before + 1
    wait_until(lambda: engine.broker.slots.asynchronous.held == 0, what="its slot")
    gate.set()
    wait_until(lambda: runs["went_on"] == 1, what="its end")
    assert engine.job(job_id) == job
    assert outcomes(engine, job_id) == ["failed"]


def test_a_handler_that_cancels_all_tasks_costs_the_others_nothing(engine: Engine) -> None:
    """What ran on the loop runs again, and no attempt is counted."""
    ids = [create(engine, "alone_async") for _ in range(3)]
    wait_until(lambda: runs["alone_async"] == 3, what="the handlers")
    engine.wait_for(create(engine, "cancels_all"))
    wait_until(lambda: runs["alone_async"] == 6, what="the second runs")
    gate.set()
    for job_id in ids:
        assert engine.wait_for(job_id).attempts == 1
        assert outcomes(engine, job_id) == ["interrupted", "completed"]


def test_a_handler_that_cancels_itself_is_not_run_for_ever(engine: Engine) -> None:
    """After some runs that were not counted, one is."""
    job = engine.wait_for(create(engine, "cancels_itself"), "failed")
    assert outcomes(engine, job.id) == ["interrupted"] * 10 + ["failed"]
    assert runs["cancels_itself"] == 11


# A handler that blocks the loop


@pytest.mark.parametrize("in_child", [False, True], ids=["itself", "in a task of its own"])
def test_a_handler_that_blocks_the_loop_is_named(
    engine: Engine, in_child: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    """In the log, as a metric, and in the log of its job, with its stack; and again when the loop turns."""
    before = counted("event_loop_blocks_total", type="blocks")
    job_id = create(engine, "blocks", {"in_child": in_child})
    wait_until(lambda: counted("event_loop_blocks_total", type="blocks") == before + 1, what="the count")
    gate.set()
    engine.wait_for(job_id)
    ((text,),) = engine.rows("SELECT text FROM attempt_logs WHERE job_id = %(id)s", id=job_id)
    assert text.startswith("blocks the event loop of its process for more than 2")
    assert "in held_up" in text
    assert "gate.wait(20)" in text
    said = capfd.readouterr()
    (line,) = [line for line in (said.out + said.err).splitlines() if "event_loop_held_up" in line]
    # As a line for people or as JSON, whatever the test before left.
    assert re.search(rf"job_id\W+(\x1b\[\d+m)*{job_id}\b", line)
    assert "held_up (" in line


def test_what_the_loop_does_not_take_goes_back(engine: Engine) -> None:
    """While a handler blocks it, no job waits claimed, and no other is claimed for it."""
    blocking = create(engine, "blocks", {"in_child": False})
    wait_until(lambda: runs["blocks"] == 1, what="the block")
    waiting = [create(engine, "alone_async") for _ in range(3)]
    wait_until(lambda: engine.broker.slots.asynchronous.is_stuck, what="the watch")

    def nothing_is_claimed() -> bool:
        return engine.rows("SELECT count(*) FROM jobs WHERE status = 'running'") == [(1,)]

    wait_until(nothing_is_claimed, what="the return of what was claimed")
    gate.set()
    for job_id in (blocking, *waiting):
        job = engine.wait_for(job_id)
        assert (job.attempts, outcomes(engine, job_id)) == (1, ["completed"])


def test_thousands_wait_at_once(engine: Engine) -> None:
    """Two thousand jobs that sleep for a second run beside each other."""
    slots = engine.broker.slots.asynchronous
    slots.size = 2_000
    try:
        ids = [create(engine, "alone_async") for _ in range(2_000)]
        wait_until(lambda: crowd.now == 2_000, 60, "all of them")
        began = time.monotonic()
        gate.set()
        for job_id in ids:
            assert engine.wait_for(job_id).attempts == 1
        assert time.monotonic() - began < 60
    finally:
        slots.size = SLOTS


# Claimed ahead of slots


def test_short_async_jobs_are_claimed_ahead_and_go_back_behind_long_ones(engine: Engine) -> None:
    """What no slot begins within the bounds goes back unspent, and is claimed again when one is free."""
    slots = engine.broker.slots.asynchronous
    before = counted("jobs_given_back_total", reason="busy")
    slots._ahead_seconds, slots._ahead_max = 0.025, 64  # noqa: SLF001  (this engine claims nothing ahead)
    slots._average_run_seconds = 1e-4  # noqa: SLF001  (as after many short jobs)
    try:
        ids = [create(engine, "alone_async") for _ in range(SLOTS + 20)]
        wait_until(lambda: runs["alone_async"] == SLOTS, what="every slot")
        wait_until(lambda: counted("jobs_given_back_total", reason="busy") > before, what="the return")
        wait_until(lambda: slots.held == SLOTS, what="no job that waits")
        gate.set()
        for job_id in ids:
            assert engine.wait_for(job_id).attempts == 1
        assert crowd.most == SLOTS
    finally:
        slots._ahead_seconds = 0.0  # noqa: SLF001
