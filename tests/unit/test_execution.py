"""Wherever an interrupt is delivered to an attempt, its thread is disarmed after it."""

from __future__ import annotations

import gc
import itertools
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import FrameType
from typing import Any, TypeVar

from pydantic import TypeAdapter

from goqueue.engine.options.job_type import JobType
from goqueue.errors import BatchFailed
from goqueue.jobs import RetryPolicy
from goqueue.middleware.attempt import JobAttempt
from goqueue.worker import execution, verdicts
from goqueue.worker.batches import function as batch_function
from goqueue.worker.batches.function import BatchFunction
from goqueue.worker.execution import JobFunction
from goqueue.worker.interrupts import Interrupts, TimeLimitExceeded
from tests.support.factories import claimed_job

#: Where an interrupt may land.
TRACED = {execution.__file__, verdicts.__file__, batch_function.__file__}

Function = TypeVar("Function", bound=JobFunction)

JOB = claimed_job(payload='{"value":1}', time_limit_seconds=60.0)


def give(value: dict[str, int]) -> dict[str, int]:
    """A handler."""
    return value


class Delivery:
    """Delivers one interrupt to a thread, before the given instruction that it executes while it is armed.

    CPython delivers where a function begins, after calls and when a loop turns: all of these are among the
    instructions of the module `execution` and the beginnings of the functions that it calls.
    """

    def __init__(self, place: int) -> None:
        self.interrupts = Interrupts()
        self.place = place
        self.left = place
        self.delivered = False

    def during(self, call: Callable[[], Any]) -> None:
        """Call, and take what comes of it.

        In a thread of its own, which takes along what an exception in the middle of an instruction leaves: a
        context that was entered and not left, an exception that is handled for ever.
        """
        with ThreadPoolExecutor(1) as threads:
            threads.submit(self._call, call).result()

    def _call(self, call: Callable[[], Any]) -> None:
        gc.disable()  # a collection may call Python functions anywhere, which are no part of the attempt
        sys.settrace(self._trace)
        try:
            call()
        except TimeLimitExceeded:
            pass
        finally:
            sys.settrace(None)
            gc.enable()

    def _trace(self, frame: FrameType, event: str, _argument: object) -> Any:
        here = frame.f_code.co_filename in TRACED
        called = frame.f_back is not None and frame.f_back.f_code.co_filename in TRACED
        frame.f_trace_opcodes = here
        if not self.delivered and (here or called) and event in ("call", "opcode"):
            self._deliver_in_time()
        return self._trace if here else None

    def _deliver_in_time(self) -> None:
        # Read without the lock, which this very thread may hold.
        if not self.interrupts._armed:  # noqa: SLF001  (read without the lock on purpose)
            return
        self.left -= 1
        if self.left < 0:
            self.delivered = True
            raise TimeLimitExceeded


def deliveries() -> Iterator[Delivery]:
    """Deliver at each place at which an armed thread can be hit, up to one that there is not any more.

    None leaves it armed for its next job.
    """
    for place in itertools.count():
        delivery = Delivery(place)
        yield delivery
        assert delivery.interrupts.running() == [], f"armed after an interrupt at place {place}"
        if not delivery.delivered:
            return


def function_of(kind: type[Function], handler: Callable[..., Any], interrupts: Interrupts) -> Function:
    """The function of an actor of some kind."""
    job_type = JobType("give", "default", TypeAdapter(dict[str, int]), "payload", RetryPolicy(), 60.0)
    return kind(handler, job_type, interrupts, result_max_bytes=1000, has_callback=bool)


def test_a_thread_is_disarmed_wherever_its_interrupt_was_delivered() -> None:
    """Every place at which an armed thread can be hit is tried, and none leaves it armed for its next job."""
    for delivery in deliveries():
        function = function_of(JobFunction, give, delivery.interrupts)
        current = JobAttempt(JOB, "default")
        delivery.during(partial(function, current))
    assert delivery.place > 50
    assert current.result == JOB.payload


def give_some(values: list[dict[str, int]]) -> list[dict[str, int]]:
    """A batch handler of which one job fails."""
    raise BatchFailed({1: ValueError("the second")}, values)


def test_a_batch_has_an_end_for_each_job_wherever_its_interrupt_was_delivered() -> None:
    """Nothing is raised out of the run, the thread is disarmed, and no job is without an outcome."""
    for delivery in deliveries():
        function = function_of(BatchFunction, give_some, delivery.interrupts)
        jobs = [JobAttempt(JOB, "default") for _ in range(2)]
        ends: list[dict[JobAttempt, BaseException]] = []
        delivery.during(lambda f=function, j=jobs, e=ends: e.append(f.run_together(j)))  # type: ignore[misc]
        (errors,) = ends
        for current in jobs:
            ended = current in errors or current.result is not None or current.control is not None
            assert ended, f"no end after an interrupt at place {delivery.place}"
    assert delivery.place > 100
    assert (jobs[0].result, str(errors[jobs[1]])) == (JOB.payload, "the second")
