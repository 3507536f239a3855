"""Exceptions whose own code does harm when somebody looks at them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import dramatiq

import goqueue

#: What the code of an exception may do instead of answering.
HARMS: dict[str, Callable[[], BaseException]] = {
    "error": lambda: RuntimeError("no answer"),
    "exit": lambda: SystemExit(3),
    "interrupt": KeyboardInterrupt,
    "recursion": lambda: RecursionError("deep"),
    "generator": GeneratorExit,
    "base": lambda: BaseException("base"),
}

#: What of an exception is looked at by whoever reports it.
PLACES = (
    "__str__",
    "__repr__",
    "__class__",
    "__cause__",
    "__context__",
    "__suppress_context__",
    "__notes__",
    "__traceback__",
    "__getattribute__",
    "__format__",
    "__eq__",
    "__hash__",
    "__bool__",
    "__del__",
    "delay",
    "args",
)


def _raising(make: Callable[[], BaseException]) -> Callable[..., Any]:
    def raise_it(*_: Any) -> Any:
        raise make()

    return raise_it


def with_harm(place: str, harm: str, base: type[BaseException] = Exception) -> BaseException:
    """An exception that does this harm at this place."""
    harmful = _raising(HARMS[harm])
    is_method = place in {"__str__", "__repr__", "__getattribute__", "__format__", "__eq__", "__hash__"} | {
        "__bool__",
        "__del__",
    }
    made: BaseException = type("Hostile", (base,), {place: harmful if is_method else property(harmful)})("x")
    return made


class _Harmful:
    """An attribute that ends the process of whoever reads it, and takes whatever it is set to."""

    def __get__(self, _instance: object, _owner: type) -> Any:
        raise SystemExit(3)

    def __set__(self, _instance: object, _value: Any) -> None:
        pass


class WrongText(str):
    """A text whose methods do harm."""

    __slots__ = ()

    def replace(self, *_: Any) -> str:
        """Do harm to whoever calls this."""
        raise SystemExit(3)

    encode = removesuffix = split = strip = __len__ = __getitem__ = __format__ = __add__ = replace  # type: ignore[assignment]


class SayingWrongText(Exception):  # noqa: N818  (an exception of a user)
    """An exception whose text is no simple text."""

    def __str__(self) -> str:
        return WrongText("text")


class SayingNoText(Exception):  # noqa: N818
    """An exception whose text is a number."""

    def __str__(self) -> str:
        return 5  # type: ignore[return-value]  # noqa: PLE0307


class EverySecondTime(Exception):  # noqa: N818
    """An exception whose text can be had every second time."""

    def __init__(self, first: int) -> None:
        super().__init__(first)
        self._count = itertools.count(first)

    def __str__(self) -> str:
        if next(self._count) % 2:
            raise SystemExit(3)
        return "text"


class _WrongName(type):
    """A class whose name cannot be had."""

    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise SystemExit(3)

    def __instancecheck__(cls, _instance: object) -> bool:
        raise SystemExit(3)


class Nameless(Exception, metaclass=_WrongName):  # noqa: N818
    """An exception whose class has no name."""


class WrongRetry(dramatiq.Retry):
    """A wish to be retried after nobody knows how long."""

    delay: Any = _Harmful()


class WrongRetryAfter(goqueue.RetryAfter):
    """A wait whose seconds do harm."""

    seconds: Any = _Harmful()


class WrongScope(goqueue.RetryAfter):
    """A wait whose scope does harm."""

    scope: Any = _Harmful()


class WrongSnooze(goqueue.Snooze):
    """A snooze that does not say for how long."""

    seconds: Any = _Harmful()


class WrongGroup(ExceptionGroup[Exception]):
    """A group whose members cannot be had."""

    @property
    def exceptions(self) -> Any:
        """Do harm to whoever calls this."""
        raise SystemExit(3)


def _nested_group(depth: int) -> Exception:
    group: Exception = ValueError("innermost")
    for _ in range(depth):
        group = ExceptionGroup("group", [group])
    return group


def _long_chain(length: int) -> Exception:
    first = error = ValueError("outermost")
    for number in range(length):
        error.__cause__ = cause = ValueError(number)
        error = cause
    return first


def _with(error: Exception, **attributes: Any) -> Exception:
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


def hostile() -> dict[str, Callable[[], BaseException]]:
    """Makers of exceptions, by name: a handler that raises one has failed, and nothing else happens."""
    table: dict[str, Callable[[], BaseException]] = {}
    for place in PLACES:
        for harm in HARMS if place == "__str__" else ("error", "exit"):
            table[f"{place} {harm}"] = lambda place=place, harm=harm: with_harm(place, harm)  # type: ignore[misc]
    for base in (SystemExit, KeyboardInterrupt, ValueError, OSError):
        name = f"{base.__name__} whose __str__ exits"
        table[name] = lambda base=base: with_harm("__str__", "exit", base)  # type: ignore[misc]
    table |= {
        "a text of its own kind": SayingWrongText,
        "no text": SayingNoText,
        "every second time, from the first": lambda: EverySecondTime(0),
        "every second time, from the second": lambda: EverySecondTime(1),
        "nameless": lambda: Nameless("x"),
        "a wrong retry": lambda: WrongRetry("x"),
        "a retry after a word": lambda: dramatiq.Retry("x", delay="soon"),  # type: ignore[arg-type]
        "a retry after infinity": lambda: dramatiq.Retry("x", delay=float("inf")),  # type: ignore[arg-type]
        "a retry after not a number": lambda: dramatiq.Retry("x", delay=float("nan")),  # type: ignore[arg-type]
        "a retry before": lambda: dramatiq.Retry("x", delay=-5),
        "a wrong retry-after": lambda: WrongRetryAfter(0.01),
        "a retry-after of a word": lambda: _with(goqueue.RetryAfter(0.01), seconds="soon"),
        "a wrong scope": lambda: WrongScope(0.01),
        "a scope that is a list": lambda: _with(goqueue.RetryAfter(0.01), scope=["queue"]),
        "a wrong snooze": lambda: WrongSnooze(0.01),
        "a snooze of a word": lambda: _with(goqueue.Snooze(0.01), seconds="soon"),
        "a wrong group": lambda: WrongGroup("group", [ValueError("member")]),
        "a group with a hostile member": lambda: BaseExceptionGroup("g", [with_harm("__str__", "exit")]),
        "a deep group": lambda: _nested_group(5_000),
        "a long chain": lambda: _long_chain(3_000),
        "notes that are a number": lambda: _with(ValueError("x"), __notes__=5),
        "a translation of its own": lambda: _with(ValueError("x"), goqueue_translated=True),
        "a hostile cause": lambda: _caused_by(with_harm("__str__", "exit")),
        "a delay that is text": lambda: _with(ValueError("x"), delay="soon"),
        "a delay": lambda: _with(ValueError("x"), delay=3_600_000),
    }
    return table


def _caused_by(cause: BaseException) -> Exception:
    error = ValueError("x")
    error.__cause__ = cause
    return error
