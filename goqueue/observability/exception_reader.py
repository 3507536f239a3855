"""Reading an exception whose own code may do anything: raise, exit, answer with what is no text.

Everything that an exception says of itself runs code of its class: `__str__`, `__class__`, `__notes__`, the
properties of its causes. An error in there must not become an error of whoever reports the exception.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

from goqueue.config.redaction import redact
from goqueue.observability.frame_texts import formatted

__all__ = ["NO_TEXT", "ExceptionReader", "frames_of", "text_of"]

NO_TEXT = "its text cannot be had"


class ExceptionReader:
    """Reads what an exception says of itself.

    Args:
        exception: the exception.
        let_through: what is raised while it is read and is not its doing: an interrupt of the thread.

    Attributes:
        name: of its class.
        qualified_name: the same with its module, unless that is `builtins`.
        text: what `str` says of it, without the secrets in it.
        is_harmful: reading it raised something: nobody else should look at it.
    """

    def __init__(self, exception: BaseException, let_through: tuple[type[BaseException], ...] = ()) -> None:
        self._exception = exception
        self._let_through = let_through
        self.is_harmful = False
        self._read(lambda: str(isinstance(exception, ExceptionReader)), "")
        self.name = self._read(lambda: type(exception).__name__, "Exception")
        self.qualified_name = self._read(lambda: _qualified_name(type(exception)), self.name)
        self.text = redact(self._read(lambda: str(exception), NO_TEXT))

    @property
    def line(self) -> str:
        """The class and the text of the exception in one line."""
        return f"{self.name}: {self.text}" if self.text else self.name

    @property
    def _long_line(self) -> str:
        """The same with the module, as Python prints it."""
        name = self.qualified_name.removeprefix("__main__.")
        return f"{name}: {self.text}" if self.text else name

    def traceback(self, frames: TracebackType | None) -> str:
        """The exception as Python prints it, with its causes, from these frames on, without secrets."""
        exception = self._exception
        told = self._read(lambda: formatted(exception, frames, line=self._long_line), "")
        if not told:
            told = "Traceback (most recent call last):\n" + "".join(traceback.format_tb(frames)) + self.line
            told = redact(told + "\n")
        return told

    def _read(self, read: Callable[[], str], otherwise: str) -> str:
        try:
            # The text itself may be of a class with methods of its own.
            return str.__str__(read())
        except BaseException as error:  # a user's code may raise anything
            if type(error) in self._let_through:
                raise
            self.is_harmful = True
            return otherwise


def frames_of(exception: BaseException) -> TracebackType | None:
    """The traceback of an exception, whatever its class says instead."""
    traceback_of: Any = BaseException.__dict__["__traceback__"]
    frames: TracebackType | None = traceback_of.__get__(exception)
    return frames


def text_of(value: object) -> str:
    """Tell what `str` says of a value, as a simple text; never raises."""
    try:
        return str.__str__(str(value))
    except BaseException:  # noqa: BLE001  (a user's code may raise anything)
        return NO_TEXT


def _qualified_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
