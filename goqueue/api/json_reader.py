"""Strict JSON: what a request may contain, and nothing that some later reader would take differently.

Refused, with the path of the value: repeated names, NaN and Infinity, numbers that overflow a 64-bit integer
or a double, NUL characters and lone surrogates (PostgreSQL stores neither), nesting deeper than 32.

The fast reader only knows that something is wrong; a second, slower reading of the same text finds where.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from goqueue.errors import InvalidJobError

__all__ = ["MAX_DEPTH", "path_name", "read_json"]

MAX_DEPTH = 32
#: No message about a body lists more.
MAX_PROBLEMS = 100
PATH_MAX_LENGTH = 200

_INT64 = range(-(2**63), 2**63)
# Every integer of fewer characters fits.
_INT64_CHARACTERS = 19
# A string, or the rest of the text after a quotation mark that is never closed.
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

Path = tuple[str | int, ...]


def read_json(body: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        InvalidJobError: it is not strict JSON; each field is the path of a wrong value, or `body`.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise _invalid({"body": f"expected UTF-8, got something else at byte {error.start}"}) from None
    if _is_deeper(body, MAX_DEPTH):
        raise _invalid(_problems(text) or {"body": f"nested deeper than {MAX_DEPTH} levels"})
    try:
        value = _strict.decode(text)
    except json.JSONDecodeError as error:
        raise _invalid({"body": f"malformed JSON at {_place(error)}: {error.msg}"}) from None
    except ValueError:
        raise _invalid(_problems(text)) from None
    # Only an escape can make a character that a valid UTF-8 text does not hold already.
    if b"\\u" in body and (problems := _problems(text)):
        raise _invalid(problems)
    return value


def path_name(path: Path) -> str:
    """A path as people write it: `jobs[3].payload.to`; `body` for the whole."""
    name = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
    # A name that the client chose may hold a lone surrogate, and our answer is UTF-8.
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", name[:PATH_MAX_LENGTH]) or "body"


def _is_deeper(body: bytes, levels: int) -> bool:
    if body.count(b"{") + body.count(b"[") <= levels:
        return False
    brackets = _without_strings(body).translate(_BRACKETS, _NOT_BRACKETS)
    # Each round takes away the innermost level, at the speed of C.
    rest = brackets
    for _ in range(levels):
        rest = rest.replace(b"[]", b"")
        if not rest:
            return False
    return any(depth > levels for depth in accumulate(1 if byte == ord("[") else -1 for byte in brackets))


def _without_strings(body: bytes) -> bytes:
    # Without escapes every second piece between quotation marks is a string.
    return _STRING.sub(b"", body) if b"\\" in body else b"".join(body.split(b'"')[::2])


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
    todo: list[tuple[Path, Any]] = [((), root)]
    while todo:
        path, value = todo.pop()
        if problem := _problem_of(value):
            yield path, problem
        if not isinstance(value, dict | list):
            continue
        if len(path) == MAX_DEPTH:
            yield path[:4], f"nested deeper than {MAX_DEPTH} levels"
            continue
        children = value.items() if isinstance(value, dict) else enumerate(value)
        todo.extend(((*path, step), child) for step, child in reversed(list(children)))


def _problem_of(value: Any) -> str | None:
    if isinstance(value, _Wrong):
        return value.problem
    if isinstance(value, str):
        return "expected no NUL and no lone surrogate" if _UNSTORABLE.search(value) else None
    if isinstance(value, _RepeatedNames):
        return "expected each name once"
    if isinstance(value, dict) and any(_UNSTORABLE.search(name) for name in value):
        return "expected names without NUL and lone surrogates"
    return None


def _place(error: json.JSONDecodeError) -> str:
    return f"line {error.lineno} column {error.colno}"


def _invalid(fields: dict[str, str]) -> InvalidJobError:
    return InvalidJobError(fields)
