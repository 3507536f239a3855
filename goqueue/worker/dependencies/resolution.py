"""The values that one call of a handler asks for: made before it, tidied up after it."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Collection, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from enum import Enum, auto
from typing import Any, Protocol, TypeVar

from goqueue.engine.options.injection import Dependency, Depends, InjectedParameter, injected_parameters
from goqueue.middleware.loop_tasks import HeldContext, start_on_event_loop, wait_for
from goqueue.worker.dependencies.process_values import ProcessValues

__all__ = ["Resolution", "Sources", "run_at_once"]

R = TypeVar("R")


class Sources(Protocol):
    """Knows what the dependencies of a GoQueue stand for: its registry."""

    process_values: ProcessValues

    def target(self, dependency: Dependency) -> Dependency:
        """Return what stands for a dependency now: itself, or what overrides it."""

    def is_lifespan(self, dependency: Dependency) -> bool:
        """Tell whether a dependency is a declared lifespan."""

    def lifespan_of(self, wanted: type) -> Dependency:
        """Find the one lifespan that yielded an instance of a class."""


class _Makes(Enum):
    """How a dependency gives its value."""

    VALUE = auto()
    AWAITABLE = auto()
    CONTEXT = auto()
    ASYNC_CONTEXT = auto()


class Resolution:
    """Makes the values for one call, and leaves on its stack what is to be tidied up.

    Args:
        sources: what the dependencies stand for.
        stack: leaves what was entered, the last first.
        on_loop: the call is a coroutine on the event loop. Else it is a thread's, nothing is awaited, and
            what is asynchronous is run by the event loop while the thread waits.
    """

    def __init__(self, sources: Sources, stack: AsyncExitStack, *, on_loop: bool) -> None:
        self._sources = sources
        self._stack = stack
        self._on_loop = on_loop
        self._values: dict[Dependency, Any] = {}

    async def arguments_of(self, function: Callable[..., Any], given: Collection[str] = ()) -> dict[str, Any]:
        """Make what a function asks for, but what the caller gives."""
        return {
            parameter.name: await self._value_for(parameter)
            for parameter in injected_parameters(function)
            if parameter.name not in given
        }

    async def made(self, target: Dependency) -> Any:
        """Make the value of a dependency, after those that it asks for itself."""
        make, makes = _maker_of(target)
        made = make(**await self.arguments_of(target))
        if makes is _Makes.VALUE:
            return made
        if makes is _Makes.CONTEXT:
            return self._stack.enter_context(made)
        if makes is _Makes.AWAITABLE:
            return await made if self._on_loop else wait_for(start_on_event_loop(made))
        if self._on_loop:
            return await self._stack.enter_async_context(made)
        return self._stack.enter_context(HeldContext(made))

    async def _value_for(self, parameter: InjectedParameter) -> Any:
        depends = parameter.depends
        dependency = depends.dependency or self._sources.lifespan_of(parameter.wanted)
        target = self._sources.target(dependency)
        if depends.scope == "process" or self._sources.is_lifespan(dependency):
            return await self._value_of_process(target)
        return await self._value_of_job(target, depends)

    async def _value_of_job(self, target: Dependency, depends: Depends) -> Any:
        if depends.use_cache and target in self._values:
            return self._values[target]
        self._values[target] = value = await self.made(target)
        return value

    async def _value_of_process(self, target: Dependency) -> Any:
        """The value that the process has, or makes now in a thread of its own, whatever the job comes to."""
        opened = self._sources.process_values.opened(
            target, lambda stack: run_at_once(Resolution(self._sources, stack, on_loop=False).made(target))
        )
        if opened.done():
            return opened.result()
        if self._on_loop:
            return await asyncio.wrap_future(opened)
        return wait_for(opened)


def run_at_once(coroutine: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine that awaits nothing, and return what it returns."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: R = stop.value
        return result
    coroutine.close()
    raise RuntimeError("a dependency was awaited outside the event loop")


@functools.lru_cache(maxsize=4096)
def _maker_of(target: Dependency) -> tuple[Callable[..., Any], _Makes]:
    """What to call, and what to do with what it returns. A generator function is a context manager.

    So is a function that `contextlib` has made one of.
    """
    function: Any = target
    if not inspect.isroutine(function) and not isinstance(function, type | functools.partial):
        function = type(function).__call__
    if inspect.isgeneratorfunction(function):
        return contextmanager(target), _Makes.CONTEXT
    if inspect.isasyncgenfunction(function):
        return asynccontextmanager(target), _Makes.ASYNC_CONTEXT
    if inspect.iscoroutinefunction(function):
        return target, _Makes.AWAITABLE
    wrapped = getattr(function, "__wrapped__", None)
    if inspect.isgeneratorfunction(wrapped):
        return target, _Makes.CONTEXT
    if inspect.isasyncgenfunction(wrapped):
        return target, _Makes.ASYNC_CONTEXT
    return target, _Makes.VALUE
