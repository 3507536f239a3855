"""Handlers that run in child processes: what stands for one in the worker, and what runs it in the child."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from dramatiq.asyncio import set_event_loop_thread

from goqueue.engine.options.injection import injected_parameters, name_of
from goqueue.engine.options.job_type import JobType
from goqueue.middleware.attempt import JobAttempt
from goqueue.middleware.event_loop import KeptEventLoop, kept_event_loop
from goqueue.middleware.lifecycle import look_at
from goqueue.observability.job_context import job_context
from goqueue.worker.children.declared import JobChannel, declare_handler
from goqueue.worker.children.documents import claimed_of, document_of_error
from goqueue.worker.children.pool import ChildPool
from goqueue.worker.dependencies.dependencies import Dependencies
from goqueue.worker.execution import JobFunction, attempt_here, working_on

__all__ = ["ProcessHandler"]

#: So long a child may take to start and import its modules.
START_SECONDS = 60.0


class ProcessHandler:
    """Stands for a handler that runs in a child process, in a worker thread that waits for it.

    Called outside a job it is the handler itself.

    Args:
        handler: the handler, injected with what it asks for.
        job_type: the type of its jobs.
        pool: the children of the worker.
        dependencies: what the handler may ask for, of which a child opens its own.

    Raises:
        ValueError: a child could not find the handler, or it is asynchronous.
    """

    def __init__(
        self,
        handler: Callable[..., Any],
        job_type: JobType,
        pool: ChildPool,
        dependencies: Dependencies,
    ) -> None:
        original = inspect.unwrap(handler)
        self.name = f"{name_of(original)} of {job_type.name}"
        if inspect.iscoroutinefunction(original):
            raise ValueError(f"{self.name}: process=True is for handlers that are not async")
        if "<locals>" in self.name or original.__module__ == "__main__":
            raise ValueError(
                f"{self.name}: with process=True it has to be at the top of a module that can be imported"
            )
        self.handler = handler
        self.module = original.__module__
        self._job_type = job_type
        self._pool = pool
        self._dependencies = dependencies
        self._function: JobFunction | None = None

    def declare(self, function: JobFunction) -> None:
        """Let children find the handler, with the function that runs its attempts."""
        self._function = function
        declare_handler(self.name, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Have the job of this thread run in a child, and return what it returned; else, call the handler."""
        current = attempt_here()
        if current is None:
            return self.handler(*args, **kwargs)
        assert self._function is not None
        restart = self._function.interrupts.restart
        limit = current.claimed.time_limit_seconds or self._job_type.time_limit_seconds
        # A child that is free, and started, is no work of the handler's.
        with self._pool.child(self.modules, partial(restart, START_SECONDS)) as child:
            return child.run(self.name, current, limit, partial(restart, limit))

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules that a child imports, in the order in which this process has."""
        loaded = "goqueue.actors" in sys.modules
        return ("goqueue.actors", self.module) if loaded else (self.module,)

    def open(self) -> None:
        """Prepare the child for its first job of this handler."""
        assert self._function is not None
        if not self._function.interrupts.is_alive:
            self._function.interrupts.start()
        if injected_parameters(self.handler):
            if kept_event_loop() is None:
                loop = KeptEventLoop(logging.getLogger(__name__))
                set_event_loop_thread(loop)
                loop.start(timeout=30)
            self._dependencies.open()

    def close(self) -> None:
        """Close what was opened in the child for its jobs."""
        self._dependencies.close()

    def run(self, document: dict[str, Any], channel: JobChannel) -> dict[str, Any]:
        """Run an attempt in the child, and return what it came to as a document."""
        assert self._function is not None
        current = JobAttempt(claimed_of(document), "", channel, channel.results_of_parents)
        function = _FunctionInChild(self._function, self.handler)
        channel.begin(current, function.interrupts)
        job_context.set(current.claimed)
        try:
            with working_on(current):
                function.attempt(current)
            ended: dict[str, Any] = {"result": current.result}
        except BaseException as error:  # noqa: BLE001  (told to the worker)
            failure = look_at(current.type, error) if current.failure is None else current.failure[1]
            ended = document_of_error(error, failure, function.throws)
        finally:
            job_context.set(None)
        return ended | {"knows_of_cancel": current.knows_of_cancel}


class _FunctionInChild(JobFunction):
    """The function of an actor, with the handler itself in place of what stands for it in the worker."""

    def __init__(self, declared: JobFunction, handler: Callable[..., Any]) -> None:
        super().__init__(
            handler,
            declared.job_type,
            declared.interrupts,
            result_max_bytes=declared.result_max_bytes,
            has_callback=declared.has_callback,
            throws=declared.throws,
        )

    def attempt(self, current: JobAttempt) -> None:
        """Run the handler within its limits; its result is noted, what it raises is read and raised."""
        current.begin()
        self._call_armed(current)
