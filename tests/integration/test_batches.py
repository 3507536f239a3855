"""Batch types: one call of the handler for many jobs, each of which keeps all that a job has."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Annotated, Any

import dramatiq
import pytest
from dramatiq.middleware import SkipMessage
from pydantic import BaseModel, field_validator

import goqueue
from goqueue.dev.embedded import EmbeddedPostgres, EmbeddedValkey
from goqueue.engine.transitions import cancel as cancel_store
from goqueue.instance import default
from goqueue.jobs import QUARANTINE_QUEUE, AttemptOutcome
from goqueue.observability.job_context import job_context
from tests.support.counted import counted
from tests.support.engine import Engine, running_engine
from tests.support.waiting import wait_until

THREADS = 2
SLOTS = 2
SIZE = 10
GRACE_SECONDS = 0.3

#: The calls of each type: the payloads' names.
calls: dict[str, list[list[str]]] = {}
#: The runs of each payload, by its name.
runs: Counter[str] = Counter()
#: What handlers found out about themselves.
seen: dict[str, Any] = {}
gate = threading.Event()


class Item(BaseModel):
    """One payload: a name, and what becomes of its job."""

    name: str
    deed: str = "returns"
    tenant: str = ""

    @field_validator("deed")
    @classmethod
    def _known(cls, deed: str) -> str:
        if deed == "no_such" and seen.get("strict"):
            raise ValueError("there is no such deed")
        if deed == "harmful" and seen.get("strict"):
            raise RuntimeError("a validator that does not behave")
        return deed


#: What becomes of a job in its first run: a deed, and the error that it gives its job.
ERRORS: dict[str, Callable[[], BaseException]] = {
    "fails_once": lambda: ValueError("the first time"),
    "fails": lambda: ZeroDivisionError("always"),
    "snoozes_once": lambda: goqueue.Snooze(0.01),
    "retries_once": lambda: goqueue.RetryAfter(0.01, "busy"),
    "discards": lambda: goqueue.Discard("no such account"),
    "throws": lambda: KeyError("expected"),
}
ONCE = {"fails_once", "snoozes_once", "retries_once"}


def act(kind: str, items: list[Item]) -> list[Any]:
    """Do what each payload says; name the jobs that failed."""
    calls.setdefault(kind, []).append([item.name for item in items])
    errors = {}
    for place, item in enumerate(items):
        runs[item.name] += 1
        if item.deed in ERRORS and not (item.deed in ONCE and runs[item.name] > 1):
            errors[place] = ERRORS[item.deed]()
    results = [object() if item.deed == "returns_an_object" else item.name for item in items]
    if errors:
        raise goqueue.BatchFailed(errors, results)
    return results


def misbehave(how: str, items: list[Item]) -> Any:
    """End as no batch should."""
    calls.setdefault(how, []).append([item.name for item in items])
    endings: dict[str, Callable[[], Any]] = {
        "too few": lambda: [1] * (len(items) - 1),
        "no list": lambda: "results",
        "a wrong place": lambda: _raise(goqueue.BatchFailed({len(items): ValueError("nobody's")})),
        "no exception": lambda: _raise(goqueue.BatchFailed({0: "text"})),  # type: ignore[dict-item]  # it is to be refused
        "raises": lambda: _raise(ValueError("all of them")),
        "exits": lambda: _raise(SystemExit(3)),
        "nothing": lambda: None,
        "asks for another time": lambda: _raise(goqueue.Snooze(600)),
        "none failed": lambda: _raise(goqueue.BatchFailed({})),
    }
    return endings[how]()


def _raise(error: BaseException) -> Any:
    raise error


def reports(items: list[Item]) -> list[Any]:
    """Say something of each job, and return what the handler knows of it."""
    batch = goqueue.current_batch()
    batch.progress(0.5, "half")
    batch.log("to all")
    batch[0].log("to the first")
    bound = job_context.get()
    seen["bound"] = {} if bound is None else dict(bound.log_fields)
    try:
        goqueue.current_job()
    except LookupError as error:
        seen["current_job"] = str(error)
    return [[job.id, job.attempt, item.name] for job, item in zip(batch, items, strict=True)]


async def opened() -> None:
    """Wait for the gate, as an async handler does."""
    while not gate.is_set():  # noqa: ASYNC110  (the gate is a thread's)
        await asyncio.sleep(0.005)


def held(kind: str, items: list[Item]) -> None:
    """Note that the jobs run, and who they are."""
    seen["batch"] = goqueue.current_batch()
    calls.setdefault(kind, []).append([item.name for item in items])


def make_number() -> int:
    """The number of values that were made."""
    runs["made"] += 1
    return runs["made"]


def declare() -> None:
    """Declare the actors of these tests on the present broker, one of each kind."""
    declare_threads()
    declare_tasks()


BATCH = goqueue.Batch(size=SIZE, wait_ms=150)
OPTIONS: dict[str, Any] = {
    "max_retries": 1,
    "min_backoff_seconds": 0.01,
    "jitter": False,
    "throws": (KeyError,),
}


def declare_threads() -> None:  # noqa: C901  (a list of actors, nothing is decided)
    """Those that run on threads."""

    @goqueue.actor(queue="acts", batch=BATCH, **OPTIONS)
    def acts(items: list[Item]) -> list[Any]:
        return act("acts", items)

    @goqueue.actor(queue="ends", batch=BATCH, max_retries=0)
    def ends(items: list[Item]) -> Any:
        return misbehave(items[0].deed, items)

    @goqueue.actor(queue="reports", batch=BATCH)
    def tells(items: list[Item]) -> Any:
        return reports(items)

    @goqueue.actor(queue="holds", batch=BATCH, max_retries=0)
    def holds(items: list[Item]) -> list[str]:
        held("holds", items)
        while not gate.is_set():
            gate.wait(0.005)
        return [item.name for item in items]

    @goqueue.actor(queue="keyed", batch=goqueue.Batch(size=3, wait_ms=150, key="tenant"))
    def keyed(items: list[Item]) -> list[Any]:
        return act("keyed", items)

    @goqueue.actor(queue="not_again", batch=BATCH, rerun_after_death=False)
    def not_again(items: list[dict[str, Any]]) -> list[Any]:
        return [item["name"] for item in items]

    @goqueue.actor(queue="scattered", batch=goqueue.Batch(size=100, wait_ms=20, key="name"))
    def scattered(items: list[Item]) -> list[Any]:
        gate.wait(0.04)
        return act("scattered", items)

    @goqueue.actor(queue="patient", batch=goqueue.Batch(size=SIZE, wait_ms=10_000))
    def patient(items: list[Item]) -> list[Any]:
        return act("patient", items)

    @goqueue.actor(queue="injected", batch=BATCH)
    def injected(items: list[Item], number: Annotated[int, goqueue.Depends(make_number)]) -> list[int]:
        return [number] * len(items)

    @goqueue.actor(queue="acts_async")
    def alone(name: str) -> str:
        return name


def declare_tasks() -> None:
    """Those that run on the event loop."""

    @goqueue.actor(queue="acts_async", batch=BATCH, **OPTIONS)
    async def acts_async(items: list[Item]) -> list[Any]:
        await asyncio.sleep(0)
        return act("acts_async", items)

    @goqueue.actor(queue="ends_async", batch=BATCH, max_retries=0)
    async def ends_async(items: list[Item]) -> Any:
        await asyncio.sleep(0)
        return misbehave(items[0].deed, items)

    @goqueue.actor(queue="reports_async", batch=BATCH)
    async def tells_async(items: list[Item]) -> Any:
        await asyncio.sleep(0)
        return reports(items)

    @goqueue.actor(queue="holds_async", batch=BATCH, max_retries=0)
    async def holds_async(items: list[Item]) -> list[str]:
        held("holds_async", items)
        await opened()
        return [item.name for item in items]

    @goqueue.actor(queue="keyed_async", batch=goqueue.Batch(size=3, wait_ms=150, key="tenant"))
    async def keyed_async(items: list[Item]) -> list[Any]:
        return act("keyed_async", items)

    @goqueue.actor(queue="not_again_async", batch=BATCH, rerun_after_death=False)
    async def not_again_async(items: list[dict[str, Any]]) -> list[Any]:
        return [item["name"] for item in items]

    @goqueue.actor(queue="patient_async", batch=goqueue.Batch(size=SIZE, wait_ms=10_000))
    async def patient_async(items: list[Item]) -> list[Any]:
        return act("patient_async", items)

    @goqueue.actor(queue="injected_async", batch=BATCH)
    async def injected_async(
        items: list[Item], number: Annotated[int, goqueue.Depends(make_number)]
    ) -> list[int]:
        return [number] * len(items)


@pytest.fixture(scope="module")
def engine(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> Iterator[Engine]:
    """An engine whose jobs run in batches, on a few threads and slots."""
    changes = {
        "worker_threads": THREADS,
        "worker_async_slots": SLOTS,
        "worker_async_grace_seconds": GRACE_SECONDS,
        "cancel_cooperation_seconds": 0.1,
    }
    with running_engine(postgres, valkey, "batches", declare, **changes) as running:
        yield running


@pytest.fixture(autouse=True)
def _from_the_start(engine: Engine) -> Iterator[None]:
    for noted in (calls, runs, seen):
        noted.clear()
    gate.clear()
    yield
    gate.set()
    slots = engine.broker.slots
    wait_until(lambda: (slots.held, slots.asynchronous.held) == (0, 0), what="free places")
    assert engine.broker.interrupts.running() == []


BOTH = pytest.mark.parametrize("kind", ["", "_async"], ids=["thread", "async"])


def create(name: str, payloads: list[dict[str, Any]], **settings: Any) -> list[int]:
    """Create jobs of a type by one call; their ids."""
    return goqueue.enqueue_many(default().broker.get_actor(name), payloads, **settings)


def named(count: int, **more: Any) -> list[dict[str, Any]]:
    """So many payloads, each with a name of its own."""
    return [{"name": f"item-{number}"} | more for number in range(count)]


def outcomes(engine: Engine, job_id: int) -> list[str]:
    """How the attempts of a job ended."""
    return [row[1] for row in engine.attempts(job_id)]


def has_ended(engine: Engine, job_id: int, outcome: str) -> bool:
    """Whether a job's only attempt ended like this."""
    return outcomes(engine, job_id) == [outcome]


def cancel(engine: Engine, job_id: int) -> None:
    """Ask for the end of a running job, and wait until its worker knows."""
    with engine.broker.database.autocommit() as connection:
        assert cancel_store.cancel(connection, [job_id]) == ([], [job_id])
    held_jobs = engine.broker.claimed_jobs.snapshot().values()
    (current,) = [current for current in held_jobs if current.id == job_id]
    wait_until(lambda: current.cancel_requested, what="the worker to know")


# What becomes of each job


@BOTH
def test_a_batch_is_one_call_and_each_job_has_its_result(engine: Engine, kind: str) -> None:
    """Jobs that were created together run by one call of the handler, in their order."""
    before = counted("batch_size_count", type=f"acts{kind}")
    ids = create(f"acts{kind}", named(SIZE))
    assert [engine.wait_for(job_id).result for job_id in ids] == [f"item-{n}" for n in range(SIZE)]
    assert calls == {f"acts{kind}": [[f"item-{n}" for n in range(SIZE)]]}
    assert counted("batch_size_count", type=f"acts{kind}") == before + 1
    assert all(outcomes(engine, job_id) == ["completed"] for job_id in ids)


#: How a job ends, by what becomes of it: its status, attempts, reason, and a part of its error.
TABLE: dict[str, tuple[str, tuple[str, ...], str | None, str]] = {
    "returns": ("completed", ("completed",), None, ""),
    "fails_once": ("completed", ("failed", "completed"), None, ""),
    "fails": ("failed", ("failed", "failed"), "failed", "ZeroDivisionError: always"),
    "snoozes_once": ("completed", ("snoozed", "completed"), None, ""),
    "retries_once": ("completed", ("failed", "completed"), None, ""),
    "discards": ("failed", ("failed",), "discarded", "Discard: no such account"),
    "throws": ("failed", ("failed",), "failed", "KeyError: 'expected'"),
    "returns_an_object": ("failed", ("failed", "failed"), "failed", "the result is not JSON"),
}


@BOTH
def test_each_job_of_a_batch_ends_as_its_own(engine: Engine, kind: str) -> None:
    """Failures, retries, snoozes, discards and results of one batch are those of single jobs."""
    ids = create(f"acts{kind}", [{"name": deed, "deed": deed} for deed in TABLE])
    for job_id, (deed, (status, ends, reason, error)) in zip(ids, TABLE.items(), strict=True):
        job = engine.wait_for(job_id, status)
        assert (tuple(outcomes(engine, job_id)), job.reason) == (ends, reason), deed
        assert error in (job.error or "")
        assert job.attempts == len(ends) - ends.count("snoozed")
        assert job.result == (deed if status == "completed" else None)
    assert calls[f"acts{kind}"][0] == list(TABLE)
    assert len({name for later in calls[f"acts{kind}"][1:] for name in later} & {"returns", "discards"}) == 0


@BOTH
@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("too few", "BatchResultError: expected 3 results, one for each job of the batch, got 2"),
        ("no list", "BatchResultError: expected a list of results, got str"),
        ("a wrong place", "BatchResultError: BatchFailed names 3: the jobs of the batch are 0 to 2"),
        ("no exception", "BatchResultError: BatchFailed gives the job 0 no exception, but 'text'"),
        ("raises", "ValueError: all of them"),
        ("exits", "SystemExit: 3"),
    ],
)
def test_an_error_of_the_batch_is_that_of_all(engine: Engine, kind: str, how: str, error: str) -> None:
    """Whatever else a handler raises, or returns that cannot be shared out, fails every job, and says why."""
    for job_id in create(f"ends{kind}", named(3, deed=how)):
        job = engine.wait_for(job_id, "failed")
        assert (job.error or "").endswith(error)
        assert outcomes(engine, job_id) == ["failed"]
    assert calls == {how: [["item-0", "item-1", "item-2"]]}


@BOTH
@pytest.mark.parametrize("how", ["nothing", "none failed"])
def test_a_handler_need_not_return_results(engine: Engine, kind: str, how: str) -> None:
    """Without any, its jobs have completed."""
    for job_id in create(f"ends{kind}", named(3, deed=how)):
        assert engine.wait_for(job_id).result is None


@BOTH
def test_a_batch_may_ask_for_another_time(engine: Engine, kind: str) -> None:
    """A Snooze of the handler is that of every job; no attempt is spent."""
    ids = create(f"ends{kind}", named(3, deed="asks for another time"))
    for job_id in ids:
        wait_until(partial(has_ended, engine, job_id, "snoozed"), what="the snooze")
        job = engine.job(job_id)
        assert (job.status, job.attempts) == ("queued", 0)
        assert job.available_at > datetime.now(UTC) + timedelta(seconds=500)


@BOTH
@pytest.mark.parametrize("deed", ["no_such", "harmful"])
def test_a_payload_that_cannot_be_read_fails_its_job_alone(engine: Engine, kind: str, deed: str) -> None:
    """It never enters the batch, and the others run."""
    payloads = [{"name": "good"}, {"name": "bad", "deed": deed}, {"name": "good too"}]
    later = datetime.now(UTC) + timedelta(hours=1)
    ids = create(f"acts{kind}", payloads, available_at=later)
    seen["strict"] = True
    sql = "UPDATE jobs SET available_at = now() WHERE id = ANY (%(ids)s) RETURNING 1"
    engine.rows(sql, ids=ids)
    job = engine.wait_for(ids[1], "failed")
    assert [engine.wait_for(job_id).result for job_id in (ids[0], ids[2])] == ["good", "good too"]
    assert ("no such deed" if deed == "no_such" else "does not behave") in (job.error or "")
    assert all("bad" not in names for names in calls[f"acts{kind}"])


@BOTH
def test_a_handler_knows_and_tells_of_its_jobs(engine: Engine, kind: str) -> None:
    """Progress and lines of the log are those of each job; there is no single job that it works on."""
    ids = create(f"tells{kind}", named(3))
    for number, job_id in enumerate(ids):
        assert engine.wait_for(job_id).result == [job_id, 1, f"item-{number}"]
    sql = "SELECT job_id, progress, message FROM attempt_progress WHERE job_id = ANY (%(ids)s) ORDER BY 1"
    assert engine.rows(sql, ids=ids) == [(job_id, 0.5, "half") for job_id in ids]
    sql = "SELECT text FROM attempt_logs WHERE job_id = %(id)s ORDER BY line"
    assert engine.rows(sql, id=ids[0]) == [("to all",), ("to the first",)]
    assert engine.rows(sql, id=ids[2]) == [("to all",)]
    assert seen["bound"] == {
        "job_ids": ids,
        "batch_size": 3,
        "type": f"tells{kind}",
        "queue": f"reports{kind}",
    }
    assert "goqueue.current_batch()" in seen["current_job"]


@BOTH
def test_a_dependency_is_made_once_for_a_batch(engine: Engine, kind: str) -> None:
    """A handler is given what it asks for, beside its payloads."""
    ids = create(f"injected{kind}", named(4))
    assert [engine.wait_for(job_id).result for job_id in ids] == [1] * 4


@BOTH
def test_jobs_that_must_not_be_repeated_are_batched_too(engine: Engine, kind: str) -> None:
    """It is noted of each of them that it begins."""
    ids = create(f"not_again{kind}", named(4))
    assert [engine.wait_for(job_id).result for job_id in ids] == [f"item-{n}" for n in range(4)]
    rows = engine.rows("SELECT unrepeatable_fence FROM jobs WHERE id = ANY (%(ids)s)", ids=ids)
    assert rows == [(1,)] * 4


def test_a_handler_can_be_called_by_hand() -> None:
    """In a test it is the function that it was."""
    assert default().broker.get_actor("acts").fn([Item(name="a")]) == ["a"]


# What comes into a batch


@BOTH
def test_a_batch_is_never_larger_than_its_size(engine: Engine, kind: str) -> None:
    """A backlog is worked off in full batches, in PostgreSQL's order."""
    ids = create(f"acts{kind}", named(4 * SIZE))
    for job_id in ids:
        engine.wait_for(job_id)
    batches = calls[f"acts{kind}"]
    assert max(map(len, batches)) == SIZE
    places = {f"item-{number}": number for number in range(4 * SIZE)}
    assert all(places[one] < places[two] for batch in batches for one, two in pairwise(batch))


@BOTH
def test_a_batch_has_one_key(engine: Engine, kind: str) -> None:
    """Jobs of several tenants that were created in turn are in batches of their own."""
    payloads = [{"name": f"{tenant}-{n}", "tenant": tenant} for n in range(6) for tenant in "abcd"]
    for job_id in create(f"keyed{kind}", payloads):
        engine.wait_for(job_id)
    batches = calls[f"keyed{kind}"]
    assert all(len({name[0] for name in batch}) == 1 for batch in batches)
    assert sorted(name for batch in batches for name in batch) == sorted(one["name"] for one in payloads)
    assert sum(map(len, batches)) / len(batches) > 1
    for tenant in "abcd":
        order = [name for batch in batches for name in batch if name[0] == tenant]
        assert sorted(order) == order or len(order) == 6


def test_little_is_claimed_in_vain_where_each_job_has_a_key_of_its_own(engine: Engine) -> None:
    """What finds no place goes back: at first nearly all of a large claim, then no more than it is worth."""
    before = counted("jobs_given_back_total", reason="busy")
    count = 80
    for job_id in create("scattered", named(count)):
        assert engine.wait_for(job_id).attempts == 1
    assert [len(names) for names in calls["scattered"]] == [1] * count
    given_back = counted("jobs_given_back_total", reason="busy") - before
    assert 0 < given_back < 10 * count
    assert engine.broker.batches.claim_scales["scattered"] < 1


@BOTH
def test_what_comes_while_a_batch_fills_joins_it(engine: Engine, kind: str) -> None:
    """Also where every thread is busy but for the one that the batch has."""
    for _ in range(THREADS - 1):
        create(f"holds{kind}", named(SIZE))
    wait_until(lambda: len(calls.get(f"holds{kind}", [])) == THREADS - 1, what="the busy threads")
    first = create(f"acts{kind}", [{"name": "first"}])
    wait_until(lambda: engine.job(first[0]).status == "running", what="the claim")
    more = create(f"acts{kind}", named(SIZE - 1))
    for job_id in first + more:
        engine.wait_for(job_id)
    assert calls[f"acts{kind}"] == [["first", *(f"item-{n}" for n in range(SIZE - 1))]]


def test_other_types_in_the_queue_of_a_batch_type_run_as_ever(engine: Engine) -> None:
    """Also such as were not declared for it."""
    actor = default().broker.get_actor("alone")
    ids = goqueue.enqueue_many(actor, [{"name": str(n)} for n in range(30)], queue="acts")
    ids += create("acts", named(30))
    ids += goqueue.enqueue_many(actor, [{"name": str(n)} for n in range(30)], queue="keyed_async")
    ids += create("acts_async", named(30), queue="acts")
    for job_id in ids:
        job = engine.wait_for(job_id)
        assert (job.attempts, outcomes(engine, job_id)) == (1, ["completed"])


# From outside


@BOTH
def test_one_cancelled_job_of_a_running_batch_ends_cancelled(engine: Engine, kind: str) -> None:
    """The handler may know; the others complete; the cancelled job ends when the batch does."""
    ids = create(f"holds{kind}", named(3))
    wait_until(lambda: "batch" in seen, what="the handler")
    cancel(engine, ids[1])
    assert seen["batch"].cancelled == [1]
    assert engine.job(ids[1]).status == "running"
    gate.set()
    assert engine.wait_for(ids[1], "cancelled").result is None
    assert [engine.wait_for(job_id).result for job_id in (ids[0], ids[2])] == ["item-0", "item-2"]
    assert outcomes(engine, ids[1]) == ["cancelled"]


@BOTH
def test_a_batch_whose_jobs_are_all_cancelled_is_interrupted(engine: Engine, kind: str) -> None:
    """After the time for cooperation, as a single job is."""
    ids = create(f"holds{kind}", named(2))
    wait_until(lambda: "batch" in seen, what="the handler")
    for job_id in ids:
        cancel(engine, job_id)
    for job_id in ids:
        engine.wait_for(job_id, "cancelled")
    assert not gate.is_set()


@BOTH
def test_the_time_limit_is_the_smallest(engine: Engine, kind: str) -> None:
    """The job whose time is over fails; the others go back unspent, and run again without it."""
    actor = default().broker.get_actor(f"holds{kind}")
    long = goqueue.enqueue(actor, {"name": "long"}, time_limit_seconds=600)
    short = goqueue.enqueue(actor, {"name": "short"}, time_limit_seconds=0.3)
    assert "TimeLimitExceeded" in (engine.wait_for(short, "failed").error or "")
    wait_until(lambda: len(calls[f"holds{kind}"]) == 2, what="the other job to run again")
    gate.set()
    job = engine.wait_for(long)
    assert (job.attempts, outcomes(engine, long)) == (1, ["interrupted", "completed"])
    assert calls[f"holds{kind}"] == [["long", "short"], ["long"]]


@BOTH
def test_a_deadline_ends_its_job_in_time(engine: Engine, kind: str) -> None:
    """It is kept although the batch runs on: the others go back unspent, and run again."""
    actor = default().broker.get_actor(f"holds{kind}")
    other = goqueue.enqueue(actor, {"name": "other"})
    pressing = goqueue.enqueue(actor, {"name": "pressing"}, deadline_seconds=0.6)
    assert engine.wait_for(pressing, "failed").reason == "deadline"
    wait_until(lambda: calls[f"holds{kind}"][-1] == ["other"], what="the other job to run again")
    gate.set()
    job = engine.wait_for(other)
    assert (job.attempts, outcomes(engine, other)) == (1, ["interrupted", "completed"])


@BOTH
def test_what_is_interrupted_from_outside_goes_back_unspent(engine: Engine, kind: str) -> None:
    """A batch is stopped when all of its jobs are lost; one that is lost alone does not stop the others."""
    ids = create(f"holds{kind}", named(3))
    wait_until(lambda: len(engine.broker.interrupts.running()) == 3, what="the handler")
    first, *others = engine.broker.interrupts.running()
    assert engine.broker.interrupts.interrupt(first, AttemptOutcome.INTERRUPTED)
    assert [current.interruption for current in others] == [None, None]
    for current in others:
        engine.broker.interrupts.interrupt(current, AttemptOutcome.INTERRUPTED)
    wait_until(lambda: sum(map(len, calls[f"holds{kind}"])) == 6, what="the second runs")
    gate.set()
    for job_id in ids:
        job = engine.wait_for(job_id)
        assert (job.attempts, outcomes(engine, job_id)) == (1, ["interrupted", "completed"])


@BOTH
def test_the_begin_of_each_job_is_noted_while_the_batch_runs(engine: Engine, kind: str) -> None:
    """The rows say when the handler began, though it has not ended."""
    ids = create(f"holds{kind}", named(3))
    wait_until(lambda: all(engine.job(job_id).begun_at for job_id in ids), what="the begins")
    assert {engine.job(job_id).status for job_id in ids} == {"running"}


def collected(engine: Engine, name: str, payloads: list[dict[str, Any]]) -> list[int]:
    """Create jobs and wait until they are in a batch that fills; their ids."""
    ids = create(name, payloads)
    wait_until(lambda: {engine.job(job_id).status for job_id in ids} == {"running"}, what="the claim")
    return ids


@BOTH
def test_a_pause_gives_back_what_is_collected(engine: Engine, kind: str) -> None:
    """What was claimed and has not begun goes back soon, unspent, however long its batch would wait."""
    ids = collected(engine, f"patient{kind}", named(3))
    goqueue.pause_queue(f"patient{kind}")
    try:
        wait_until(lambda: {engine.job(job_id).status for job_id in ids} == {"queued"}, 2, "the return")
        assert {engine.job(job_id).attempts for job_id in ids} == {0}
        assert calls == {}
    finally:
        goqueue.resume_queue(f"patient{kind}")
    more = create(f"patient{kind}", named(SIZE - 3))
    for job_id in ids + more:
        assert engine.wait_for(job_id).attempts == 1


@BOTH
def test_a_cancel_takes_a_job_out_of_a_batch_that_fills(engine: Engine, kind: str) -> None:
    """It never begins; the others go on waiting, and it makes room for another."""
    ids = collected(engine, f"patient{kind}", named(3))
    goqueue.cancel_job(ids[1])
    engine.wait_for(ids[1], "cancelled")
    more = create(f"patient{kind}", [{"name": f"more-{number}"} for number in range(SIZE - 2)])
    for job_id in [ids[0], ids[2], *more]:
        engine.wait_for(job_id)
    (names,) = calls[f"patient{kind}"]
    assert names[:2] == ["item-0", "item-2"]
    assert len(names) == SIZE
    assert outcomes(engine, ids[1]) == []


def test_explain_says_that_a_batch_fills(engine: Engine) -> None:
    """And for how long at most."""
    ids = collected(engine, "patient", named(1))
    (reason,) = goqueue.explain(ids[0]).reasons
    assert reason.code == "claimed"
    assert "waits for its batch to fill, at most 10000 ms" in reason.message
    assert reason.evidence["batch_wait_ms"] == 10_000
    for job_id in create("patient", named(SIZE - 1)) + ids:
        engine.wait_for(job_id)


@BOTH
def test_a_batch_does_not_wait_until_a_job_expires(engine: Engine, kind: str) -> None:
    """It begins before, with what there is."""
    actor = default().broker.get_actor(f"patient{kind}")
    job_id = goqueue.enqueue(actor, {"name": "short-lived"}, ttl_seconds=1.0)
    assert engine.wait_for(job_id).result == "short-lived"


@BOTH
@pytest.mark.parametrize("suspicion", [1, 2], ids=["beside others", "alone in its process"])
def test_a_suspect_is_a_batch_of_one(engine: Engine, kind: str, suspicion: int) -> None:
    """Whoever may take the process along has no neighbours in its batch, and waits for none."""
    later = datetime.now(UTC) + timedelta(hours=1)
    ids = create(f"patient{kind}", named(3), available_at=later)
    others = collected(engine, f"patient{kind}", [{"name": "other"}])
    engine.rows(
        "UPDATE jobs SET quarantined = true, suspicion = %(suspicion)s, available_at = now() "
        "WHERE id = ANY (%(ids)s) RETURNING 1",
        ids=ids,
        suspicion=suspicion,
    )
    if suspicion == 1:
        for job_id in ids:
            assert engine.wait_for(job_id).attempts == 1
    others += create(f"patient{kind}", [{"name": f"other-{number}"} for number in range(SIZE - 1)])
    for job_id in ids + others:
        assert engine.wait_for(job_id).attempts == 1
    alone = [names for names in calls[f"patient{kind}"] if names[0].startswith("item")]
    assert sorted(alone) == [["item-0"], ["item-1"], ["item-2"]]
    assert QUARANTINE_QUEUE in engine.broker.get_declared_queues()


class Notes(dramatiq.Middleware):
    """Notes what it is told of each message, and refuses those that it should."""

    def __init__(self, told: list[str]) -> None:
        self.told = told

    def before_process_message(self, _broker: Any, message: Any) -> None:
        """Note the call; skip, or fail, what is named so."""
        name = message.args[0]["name"]
        self.told.append(f"before {name}")
        if name == "skipped":
            raise SkipMessage
        if name == "refused":
            raise PermissionError("not this one")

    def after_process_message(
        self, _broker: Any, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """Note the end."""
        self.told.append(f"after {message.args[0]['name']} {result} {type(exception).__name__}")

    def after_skip_message(self, _broker: Any, _message: Any) -> None:
        """Note the skip."""
        self.told.append("skipped")

    def after_ack(self, _broker: Any, _message: Any) -> None:
        """Note the acknowledgement."""
        self.told.append("ack")


@BOTH
def test_hooks_are_called_for_each_job(engine: Engine, kind: str) -> None:
    """Before the handler in their order, and after it; one that a hook refuses is not in the batch."""
    told: list[str] = []
    payloads = [
        {"name": "good"},
        {"name": "skipped"},
        {"name": "refused"},
        {"name": "bad", "deed": "throws"},
        {"name": "good too"},
    ]
    with engine.with_middleware(Notes(told)):
        ids = create(f"acts{kind}", payloads, max_retries=0)
        reasons = [
            engine.wait_for(job_id, status).reason
            for job_id, status in zip(
                ids, ["completed", "failed", "failed", "failed", "completed"], strict=True
            )
        ]
    assert reasons == [None, "skipped", "failed", "failed", None]
    assert calls[f"acts{kind}"] == [["good", "bad", "good too"]]
    befores = [line for line in told if line.startswith("before")]
    assert befores == [f"before {payload['name']}" for payload in payloads]
    assert [line for line in told if line.startswith("after")] == [
        "after refused None PermissionError",
        "after good good NoneType",
        "after bad None KeyError",
        "after good too good too NoneType",
    ]
    assert told.count("skipped") == 1


@BOTH
def test_places_come_back(engine: Engine, kind: str) -> None:
    """However often batches of every kind and outcome have run, the process is as free as before."""
    ids = []
    for number in range(5):
        ids += create(f"acts{kind}", named(7, deed="fails_once" if number % 2 else "returns"))
        ids += create(f"keyed{kind}", [{"name": str(n), "tenant": str(n % 5)} for n in range(23)])
    for job_id in ids:
        engine.wait_for(job_id)
    slots = engine.broker.slots
    wait_until(lambda: (slots.held, slots.asynchronous.held) == (0, 0), what="free places")
    assert len(engine.broker.claimed_jobs) == 0
