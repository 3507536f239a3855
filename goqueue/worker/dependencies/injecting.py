"""The wrapper around a handler that asks for more than its payload."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

from dramatiq.asyncio import async_to_sync

from goqueue.engine.options.injection import injected_parameters
from goqueue.worker.dependencies.resolution import Resolution, Sources, run_at_once

__all__ = ["injecting"]


class _Call(NamedTuple):
    """How a handler is called with the arguments of its payload beside what is injected.

    Attributes:
        leading: so many positional arguments come before the first injected parameter.
        named: the parameters after it, which are given by their names.
    """

    handler: Callable[..., Any]
    leading: int
    named: tuple[str, ...]

    def __call__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], injected: Mapping[str, Any]) -> Any:
        if len(args) <= self.leading or len(args) > self.leading + len(self.named):
            return self.handler(*args, **kwargs, **injected)
        by_name = dict(zip(self.named, args[self.leading :], strict=False))
        return self.handler(*args[: self.leading], **by_name, **kwargs, **injected)


def injecting(sources: Sources, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a handler that is given what it asks for; one that asks for nothing is returned as it is.

    What the caller itself gives is not made: so a handler is called by hand with anything in its place.
    """
    handler = getattr(function, "__wrapped__", None)
    if inspect.iscoroutinefunction(handler):  # Dramatiq's wrapper around it is made anew
        return _injecting_on_loop(sources, handler, function)
    if not injected_parameters(function):
        return function
    call = _call_of(function)

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        return run_at_once(_run(sources, call, args, kwargs, on_loop=False))

    return run


def _injecting_on_loop(
    sources: Sources, handler: Callable[..., Any], function: Callable[..., Any]
) -> Callable[..., Any]:
    if not injected_parameters(handler):
        return function
    call = _call_of(handler)

    @functools.wraps(handler)
    async def run(*args: Any, **kwargs: Any) -> Any:
        return await _run(sources, call, args, kwargs, on_loop=True)

    return async_to_sync(run)


async def _run(
    sources: Sources, call: _Call, args: tuple[Any, ...], kwargs: dict[str, Any], *, on_loop: bool
) -> Any:
    """Make what the handler asks for, call it, and tidy up: an error in any of these is the attempt's."""
    result: Any = None
    raised: BaseException | None = None
    try:
        async with AsyncExitStack() as stack:
            injected = await Resolution(sources, stack, on_loop=on_loop).arguments_of(call.handler, kwargs)
            try:
                result = call(args, kwargs, injected)
                if on_loop:
                    result = await result
            except BaseException as error:
                raised = error
                raise
        if raised is not None:
            # A dependency that swallows it must not make a success of a failure.
            raise raised
        return result
    finally:
        raised = None  # it has this frame in its traceback


def _call_of(handler: Callable[..., Any]) -> _Call:
    injected = {parameter.name for parameter in injected_parameters(handler)}
    positional = [
        parameter.name
        for parameter in inspect.signature(handler).parameters.values()
        if parameter.kind in {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    ]
    leading = next((place for place, name in enumerate(positional) if name in injected), len(positional))
    named = tuple(name for name in positional[leading:] if name not in injected)
    return _Call(handler, leading, named)
