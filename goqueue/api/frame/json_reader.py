"""Strict JSON: what a request may contain, and nothing that some later reader would take differently.

Refused, with the path of the value: repeated names, NaN and Infinity, numbers that overflow a 64-bit integer
or a double, NUL characters and lone surrogates (PostgreSQL stores neither), nesting deeper than 32, and more
than 500,000 values and names.

What a text costs is decided by its values and names, not by its bytes: a value takes up to a hundred bytes
where two of the text say it. They are counted before anything is made of them.

The fast reader only knows that something is wrong; a second, slower reading of the same text finds where.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterator
from typing import Any

from goqueue.config.bounds import is_structure_deeper
from goqueue.engine.options.request_models import UNSTORABLE, path_name
from goqueue.errors import InvalidJobError

__all__ = ["MAX_DEPTH", "MAX_VALUES", "read_json"]

MAX_DEPTH = 32
MAX_VALUES = 500_000
MAX_STRING_BYTES = 16 * 1024 * 1024
#: No message about a body lists more.
MAX_PROBLEMS = 100

_INT64 = range(-(2**63), 2**63)
# A text of this size is not made wider than it has to be.
_LARGE_BYTES = 4 * 1024 * 1024
_WINDOW_BYTES = 1024 * 1024
# Every integer of fewer characters fits.
_INT64_CHARACTERS = 19
_NOT_STRUCTURE = bytes(byte for byte in range(256) if byte not in b'[]{},:"\\')
_OPENING_AND_BETWEEN = (b"{", b"[", b",", b":")
# A character outside the first plane makes every character of a text four bytes wide; its escape does not.
_WIDE_LEADS = bytes(range(0xF0, 0xF5))
_CONTINUATION = (0x80, 0xBF)
_WIDE = re.compile(rb"[\xf0-\xf4][\x80-\xbf]{3}")
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_PAIR = rb"u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
# Possessive: what was read is not kept to be read otherwise.
_STORABLE = re.compile(rb"(?:[^\\]++|\\(?:[^u]|u(?!0000|[dD][89a-fA-F])|" + _PAIR + rb"))*+")

Path = tuple[str | int, ...]


def read_json(body: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        InvalidJobError: it is not strict JSON; each field is the path of a wrong value, or `body`.
    """
    # What is made of the text is large: nothing is, before it is known how much.
    structure = _structure(body)
    if sum(map(structure.count, _OPENING_AND_BETWEEN)) >= MAX_VALUES:
        raise _too_many_values()
    if len(body) > MAX_STRING_BYTES:
        _expect_short_strings(body)
    try:
        text = _decoded(body)
    except UnicodeDecodeError as error:
        raise _invalid({"body": f"expected UTF-8, got something else at byte {error.start}"}) from None
    if is_structure_deeper(structure, MAX_DEPTH):
        raise _invalid(_problems(text) or {"body": f"nested deeper than {MAX_DEPTH} levels"})
    try:
        value = _strict.decode(text)
    except json.JSONDecodeError as error:
        raise _invalid({"body": f"malformed JSON at {_place(error)}: {error.msg}"}) from None
    except ValueError:
        raise _invalid(_problems(text)) from None
    # Only an escape can make a character that a valid UTF-8 text does not hold already.
    if b"\\u" in body and _may_hold_no_character(body) and (problems := _problems(text)):
        raise _invalid(problems)
    return value


def _decoded(body: bytes) -> str:
    """The text, or one that means the same and takes less memory.

    Raises:
        UnicodeDecodeError: it is not UTF-8.
    """
    wide = len(body) - len(body.translate(None, _WIDE_LEADS)) if len(body) > _LARGE_BYTES else 0
    if not 0 < wide < len(body) // 8:
        return body.decode()
    try:
        return b"".join(_narrower(body)).decode()
    except UnicodeDecodeError:
        return body.decode()  # the place is told of the text as it was sent


def _narrower(body: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(body):
        end = min(start + _WINDOW_BYTES, len(body))
        # Not inside of a character.
        while end < len(body) and _CONTINUATION[0] <= body[end] <= _CONTINUATION[1]:
            end += 1
        yield _WIDE.sub(lambda match: _escaped(match[0]), body[start:end])
        start = end


@functools.lru_cache(maxsize=4096)
def _escaped(character: bytes) -> bytes:
    return json.dumps(character.decode()).strip('"').encode()


def _structure(body: bytes) -> bytes:
    """What encloses and separates values, without what strings hold of it; nothing where it is harmless."""
    opened = body.count(b"{") + body.count(b"[")
    if opened <= MAX_DEPTH and opened + body.count(b",") + body.count(b":") < MAX_VALUES:
        return b""
    rest = body.translate(None, _NOT_STRUCTURE)
    if b"\\" in rest:
        # Escapes are read from the left: after the pairs of backslashes are gone, what is left escapes.
        rest = rest.replace(b"\\\\", b"").replace(b'\\"', b"").replace(b"\\", b"")
    if rest.count(b'"') > 2 * MAX_VALUES:
        raise _too_many_values()
    # Without escapes every second piece between quotation marks is a string.
    return b"".join(rest.split(b'"')[::2])


def _too_many_values() -> InvalidJobError:
    return _invalid({"body": f"expected at most {MAX_VALUES:,} values and names"})


def _expect_short_strings(body: bytes) -> None:
    # While one is read it takes up to five times its size.
    if any(found.end() - found.start() > MAX_STRING_BYTES for found in _STRING.finditer(body)):
        raise _invalid({"body": f"expected strings of at most {MAX_STRING_BYTES:,} bytes"})


def _may_hold_no_character(body: bytes) -> bool:
    """Whether an escape in a JSON text is a NUL, or half of a pair."""
    storable = _STORABLE.match(body)
    return storable is None or storable.end() < len(body)


def _strict_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name is repeated")
    return value


def _strict_integer(text: str) -> int:
    value = int(text)
    if len(text) >= _INT64_CHARACTERS and value not in _INT64:
        raise ValueError("not a 64-bit integer")
    return value


def _strict_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("not a finite number")
    return value


def _strict_constant(text: str) -> Any:
    raise ValueError(text)


_strict = json.JSONDecoder(
    object_pairs_hook=_strict_object,
    parse_int=_strict_integer,
    parse_float=_strict_float,
    parse_constant=_strict_constant,
)


class _RepeatedNames(dict[str, Any]):
    """An object in which names are repeated."""


class _Wrong:
    """A number that cannot be kept."""

    def __init__(self, problem: str) -> None:
        self.problem = problem


def _tolerant_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    return value if len(value) == len(pairs) else _RepeatedNames(value)


def _tolerant_integer(text: str) -> Any:
    try:
        return _strict_integer(text)
    except ValueError:
        return _Wrong("expected an integer of 64 bits")


def _tolerant_float(text: str) -> Any:
    value = float(text)
    return _Wrong("expected a number that fits a double") if math.isinf(value) else value


_tolerant = json.JSONDecoder(
    object_pairs_hook=_tolerant_object,
    parse_int=_tolerant_integer,
    parse_float=_tolerant_float,
    parse_constant=lambda text: _Wrong(f"{text} is not JSON"),
)


def _problems(text: str) -> dict[str, str]:
    """Where the text breaks our rules; empty where it is no JSON at all or breaks none."""
    problems: dict[str, str] = {}
    try:
        value = _tolerant.decode(text)
    except (json.JSONDecodeError, RecursionError):
        return problems
    for path, problem in _walk(value):
        problems.setdefault(path_name(path), problem)
        if len(problems) == MAX_PROBLEMS:
            break
    return problems


def _walk(root: Any) -> Iterator[tuple[Path, str]]:
    if problem := _problem_of(root):
        yield (), problem
    steps: list[str | int] = []
    todo = [_children_of(root)]
    while todo:
        step, value = next(todo[-1], _END)
        if step is None:
            todo.pop()
            if steps:
                steps.pop()
            continue
        if problem := _problem_of(value):
            yield (*steps, step), problem
        if not isinstance(value, dict | list):
            continue
        if len(steps) + 1 == MAX_DEPTH:
            yield (*steps, step)[:4], f"nested deeper than {MAX_DEPTH} levels"
            continue
        steps.append(step)
        todo.append(_children_of(value))


_END: tuple[None, None] = (None, None)


def _children_of(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        return iter(value.items())
    return enumerate(value) if isinstance(value, list) else iter(())


def _problem_of(value: Any) -> str | None:
    if isinstance(value, _Wrong):
        return value.problem
    if isinstance(value, str):
        return "expected no NUL and no lone surrogate" if UNSTORABLE.search(value) else None
    if isinstance(value, _RepeatedNames):
        return "expected each name once"
    if isinstance(value, dict) and any(UNSTORABLE.search(name) for name in value):
        return "expected names without NUL and lone surrogates"
    return None


def _place(error: json.JSONDecodeError) -> str:
    return f"line {error.lineno} column {error.colno}"


def _invalid(fields: dict[str, str]) -> InvalidJobError:
    return InvalidJobError(fields)
