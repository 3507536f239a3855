"""Parameters that a handler has besides its payload, which a worker fills in: `Depends`."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

__all__ = [
    "Depends",
    "InjectedParameter",
    "injected_parameters",
    "name_of",
    "payload_signature",
    "refuse_dependencies",
    "refuse_dependency",
]

Dependency = Callable[..., Any]


@dataclass(frozen=True)
class Depends:
    """Marks a parameter that a worker fills in: `pool: Annotated[Pool, goqueue.Depends(make_pool)]`.

    A dependency is a function, a coroutine function, a class, or a generator function that yields once: what
    follows its `yield` is run after the handler, and is told what that raised. Its own parameters are
    dependencies as well, or have defaults. In the words of FastAPI and taskiq, which mean the same.

    Args:
        dependency: makes the value. Without one it is what a lifespan yields that is an instance of the
            annotated class.
        scope: `job` makes a value for each attempt; `process` makes one at its first use, and keeps it until
            the worker process ends. The value of a lifespan is always that of the process.
        use_cache: within an attempt, a dependency that is asked for twice is made once.

    Raises:
        TypeError: `dependency` cannot be called.
        ValueError: there is no such scope.
    """

    dependency: Dependency | None = None
    _: KW_ONLY
    scope: typing.Literal["job", "process"] = "job"
    use_cache: bool = True

    def __post_init__(self) -> None:
        if self.dependency is not None and not callable(self.dependency):
            raise TypeError(f"Depends: expected a function or a class, got {self.dependency!r}")
        if self.scope not in {"job", "process"}:
            raise ValueError(f"Depends: scope: expected 'job' or 'process', got {self.scope!r}")


class InjectedParameter(NamedTuple):
    """A parameter that a worker fills in.

    Attributes:
        name: of the parameter.
        wanted: the annotated type.
        depends: what makes the value.
    """

    name: str
    wanted: Any
    depends: Depends


@functools.lru_cache(maxsize=4096)
def injected_parameters(function: Callable[..., Any]) -> tuple[InjectedParameter, ...]:
    """Read the parameters of a function or a class that are annotated with `Depends`.

    Raises:
        ValueError: one cannot be injected, or its annotation cannot be read; it says which.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # built into C without a signature
        return ()
    names = _global_names_of(function)
    found = (_injected(function, parameter, names) for parameter in parameters)
    return tuple(parameter for parameter in found if parameter is not None)


def _injected(
    function: Callable[..., Any], parameter: inspect.Parameter, names: dict[str, Any]
) -> InjectedParameter | None:
    place = f"{name_of(function)}: the parameter {parameter.name!r}"
    if isinstance(parameter.default, Depends):
        raise ValueError(f"{place}: expected Annotated[…, Depends(…)] instead of a default")  # noqa: TRY004  (as every declaration that is wrong)
    annotation = _evaluated(place, parameter.annotation, names)
    if typing.get_origin(annotation) is not typing.Annotated:
        return None
    marks = [mark for mark in annotation.__metadata__ if isinstance(mark, Depends)]
    if not marks:
        return None
    if len(marks) > 1 or parameter.kind not in _BY_KEYWORD:
        raise ValueError(f"{place}: expected one Depends, and a parameter that takes a keyword")
    wanted = typing.get_origin(annotation.__origin__) or annotation.__origin__
    if marks[0].dependency is None and (not isinstance(wanted, type) or wanted in {Any, object}):
        raise ValueError(f"{place}: Depends() finds a lifespan's value by a class, and {wanted!r} is none")
    return InjectedParameter(parameter.name, wanted, marks[0])


def _evaluated(place: str, annotation: Any, names: dict[str, Any]) -> Any:
    """The annotation; one that is text is read, unless it has nothing to do with dependencies."""
    if not isinstance(annotation, str):
        return annotation
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, names, include_extras=True)["it"]
    except Exception as error:
        if "Depends" not in annotation:
            return None
        raise ValueError(
            f"{place}: its annotation cannot be read: {error}; import it where the module runs, not under "
            "`if TYPE_CHECKING:`"
        ) from error


def _global_names_of(function: Callable[..., Any]) -> dict[str, Any]:
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, type):
        function = function.__init__  # type: ignore[misc]  # its signature is the class's
    elif not inspect.isroutine(function):
        function = type(function).__call__
    return getattr(inspect.unwrap(function), "__globals__", {})


def payload_signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of a handler without what is injected: what its payload can say.

    Raises:
        ValueError: `*args` would take the place of an injected parameter.
    """
    signature = inspect.signature(function)
    injected = {parameter.name for parameter in injected_parameters(function)}
    kinds = {parameter.kind for parameter in signature.parameters.values() if parameter.name in injected}
    own = [parameter for parameter in signature.parameters.values() if parameter.name not in injected]
    takes_more = any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in own)
    if takes_more and inspect.Parameter.POSITIONAL_OR_KEYWORD in kinds:
        raise ValueError(f"{name_of(function)}: an injected parameter has to follow *args")
    return signature.replace(parameters=own)


def refuse_dependencies(function: Callable[..., Any], is_lifespan: Callable[[Dependency], bool]) -> None:
    """Check all that a handler asks for, and what that asks for in turn.

    Raises:
        ValueError: a dependency asks for what nobody gives it, for something shorter-lived, or for itself.
    """
    for parameter in injected_parameters(function):
        _refuse(parameter.depends, (function,), is_lifespan, of_process=False)


def refuse_dependency(dependency: Dependency, is_lifespan: Callable[[Dependency], bool]) -> None:
    """Check a dependency or a lifespan by itself: all of its parameters are injected or have defaults.

    Raises:
        ValueError: as `refuse_dependencies`.
    """
    _refuse(Depends(dependency), (), is_lifespan, of_process=False)


def _refuse(
    depends: Depends,
    path: tuple[Callable[..., Any], ...],
    is_lifespan: Callable[[Dependency], bool],
    *,
    of_process: bool,
) -> None:
    dependency = depends.dependency
    if dependency is None:
        return
    name = name_of(dependency)
    if dependency in path:
        raise ValueError(f"{name}: it depends on itself: {' → '.join(map(name_of, (*path, dependency)))}")
    is_of_process = depends.scope == "process" or is_lifespan(dependency)
    if of_process and not is_of_process:
        raise ValueError(
            f"{name_of(path[-1])}: it lives as long as the process, and {name} only as long as a job: "
            "expected scope='process'"
        )
    injected = injected_parameters(dependency)
    for missing in _missing(dependency, {parameter.name for parameter in injected}):
        raise ValueError(f"{name}: the parameter {missing!r} has neither a Depends nor a default")
    for parameter in injected:
        _refuse(parameter.depends, (*path, dependency), is_lifespan, of_process=is_of_process)


def _missing(function: Callable[..., Any], injected: set[str]) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    several = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    return [
        parameter.name
        for parameter in parameters
        if parameter.default is inspect.Parameter.empty
        and parameter.kind not in several
        and parameter.name not in injected
    ]


def name_of(function: Callable[..., Any]) -> str:
    """Return the dotted name of a function or a class, for messages."""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{getattr(function, '__module__', '?')}.{name}"


_BY_KEYWORD = frozenset({inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY})
