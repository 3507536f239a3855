"""The changes between two JSON documents, by JSON Pointer (RFC 6901)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

__all__ = ["ABSENT", "Change", "differences"]


class _Absent:
    """There is no such value; not even null."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()


class Change(NamedTuple):
    """One value that differs.

    Attributes:
        path: where; the empty path is the whole document.
        before, after: the values; `ABSENT` where there was none, or is none any more.
    """

    path: str
    before: Any
    after: Any


def differences(before: Any, after: Any, path: str = "") -> Iterator[Change]:
    """The innermost values that differ, in the order of the paths of each object or array.

    Objects are compared by name and arrays by position. `1`, `1.0` and `true` are different values.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted(before.keys() | after.keys()):
            was, is_now = before.get(name, ABSENT), after.get(name, ABSENT)
            yield from differences(was, is_now, f"{path}/{_escaped(name)}")
    elif isinstance(before, list) and isinstance(after, list):
        for position in range(max(len(before), len(after))):
            yield from differences(_at(before, position), _at(after, position), f"{path}/{position}")
    elif type(before) is not type(after) or before != after:
        yield Change(path, before, after)


def _at(items: list[Any], position: int) -> Any:
    return items[position] if position < len(items) else ABSENT


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
