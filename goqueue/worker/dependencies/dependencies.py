"""The lifespans and dependencies of one GoQueue: what is declared, what overrides it, what is open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any, TypeVar

import structlog

from goqueue.config.settings import Settings
from goqueue.engine.options.injection import (
    Dependency,
    InjectedParameter,
    injected_parameters,
    name_of,
    refuse_dependencies,
    refuse_dependency,
)
from goqueue.errors import DependencyError
from goqueue.middleware.loop_tasks import wait_for
from goqueue.observability.exception_reader import ExceptionReader, frames_of
from goqueue.worker.dependencies.injecting import injecting
from goqueue.worker.dependencies.process_values import ProcessValues
from goqueue.worker.dependencies.resolution import Resolution, run_at_once

__all__ = ["Dependencies"]

Lifespan = TypeVar("Lifespan", bound=Callable[..., Any])

log = structlog.get_logger(__name__)


class Dependencies:
    """The registry of all that the handlers of one GoQueue can ask for.

    Attributes:
        process_values: what is open in this process.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lifespans: list[Dependency] = []
        self._overrides: dict[Dependency, Dependency] = {}
        #: What types ask for by a class, to be looked at when the lifespans are open.
        self._by_class: list[tuple[str, InjectedParameter]] = []
        self.process_values = ProcessValues()

    def add_lifespan(self, function: Lifespan) -> Lifespan:
        """Declare a lifespan, and return its function.

        Raises:
            TypeError: it cannot be called.
            ValueError: it asks for what nobody gives it, or is declared twice.
        """
        if not callable(function):
            raise TypeError(f"lifespan: expected a function, got {function!r}")
        if function in self._lifespans:
            raise ValueError(f"lifespan: {name_of(function)} is declared twice")
        self._lifespans.append(function)
        try:
            refuse_dependency(function, self.is_lifespan)
        except ValueError:
            self._lifespans.remove(function)
            raise
        return function

    @contextmanager
    def override(self, dependency: Dependency, replacement: Dependency) -> Iterator[None]:
        """Let another function stand for a dependency or a lifespan inside the block.

        Raises:
            TypeError: the replacement cannot be called.
            ValueError: it asks for what nobody gives it.
        """
        if not callable(replacement):
            raise TypeError(f"override_dependency: expected a function, got {replacement!r}")
        refuse_dependency(replacement, self.is_lifespan)
        before = self._overrides.get(dependency)
        self._overrides[dependency] = replacement
        try:
            yield
        finally:
            if before is None:
                del self._overrides[dependency]
            else:
                self._overrides[dependency] = before

    def injected(self, type_name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a handler that is given what it asks for; the same where it asks for nothing.

        Raises:
            ValueError: it asks for what cannot be given.
        """
        handler = getattr(function, "__wrapped__", function)
        refuse_dependencies(handler, self.is_lifespan)
        wanted = [(type_name, one) for one in injected_parameters(handler) if one.depends.dependency is None]
        self._by_class += wanted
        return injecting(self, function)

    def target(self, dependency: Dependency) -> Dependency:
        """Return what stands for a dependency now: itself, or what overrides it."""
        return self._overrides.get(dependency, dependency)

    def is_lifespan(self, dependency: Dependency) -> bool:
        """Tell whether a dependency is a declared lifespan."""
        return dependency in self._lifespans

    def lifespan_of(self, wanted: type) -> Dependency:
        """Find the one lifespan that yielded an instance of a class.

        Raises:
            DependencyError: there is none, or several.
        """
        values = self.process_values.values()
        found = [
            lifespan
            for lifespan in self._lifespans
            if (target := self.target(lifespan)) in values and isinstance(values[target], wanted)
        ]
        if len(found) == 1:
            return found[0]
        if not found:
            raise DependencyError(f"no lifespan that is open here yields a {wanted.__qualname__}")
        names = ", ".join(map(name_of, found))
        raise DependencyError(f"several lifespans yield a {wanted.__qualname__} ({names}): say which")

    def open(self) -> None:
        """Open the lifespans of this process, in the order of their declaration.

        Raises:
            DependencyError: one cannot be opened, or a type asks for what none yields; it says which. What
                was opened before is closed again.
        """
        try:
            for lifespan in self._lifespans:
                self._open(lifespan)
            for type_name, parameter in self._by_class:
                self._expect_value(type_name, parameter)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the lifespans and all that lives as long as the process, the last first."""
        self.process_values.close(self._settings.lifespan_close_seconds)

    def _open(self, lifespan: Dependency) -> None:
        target = self.target(lifespan)

        def make(stack: AsyncExitStack) -> Any:
            return run_at_once(Resolution(self, stack, on_loop=False).made(target))

        try:
            wait_for(self.process_values.opened(target, make))
        except BaseException as error:
            reader = ExceptionReader(error)
            log.error(  # noqa: TRY400  (the reader meets what the exception does)
                "lifespan_failed",
                lifespan=name_of(lifespan),
                error=reader.line,
                traceback=reader.traceback(frames_of(error)),
            )
            raise DependencyError(
                f"the lifespan {name_of(lifespan)} cannot be opened: {reader.line}"
            ) from error

    def _expect_value(self, type_name: str, parameter: InjectedParameter) -> None:
        try:
            self.lifespan_of(parameter.wanted)
        except DependencyError as error:
            raise DependencyError(
                f"the type {type_name!r} cannot run: its parameter {parameter.name!r}: {error}"
            ) from None
