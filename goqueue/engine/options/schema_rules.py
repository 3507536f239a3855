"""Rules about several members of an object, as JSON Schema says them: for descriptions of what is refused."""

from __future__ import annotations

from typing import Any

__all__ = ["UNIQUE_ITEMS", "alternatives", "one_kind", "some_of"]

UNIQUE_ITEMS = {"uniqueItems": True}


def some_of(*names: str) -> dict[str, Any]:
    """Require that at least one of the members is given, and not null."""
    return {"anyOf": [_given(name) for name in names]}


def alternatives(*pairs: tuple[str, str]) -> dict[str, Any]:
    """Require that of each pair at most one is given, and not null."""
    return {"allOf": [{"not": {"allOf": [_given(first), _given(second)]}} for first, second in pairs]}


def one_kind(first: tuple[str, ...], second: tuple[str, ...], *, optional: str) -> dict[str, Any]:
    """Require all of the first group and none of the second, or the other way round.

    Args:
        first: one group.
        second: the other.
        optional: a member that may come with the first group, and not with the second.
    """
    without_second = [{"not": _given(name)} for name in second]
    without_first = [{"not": _given(name)} for name in (*first, optional)]
    return {
        "anyOf": [
            {"allOf": [*map(_given, first), *without_second]},
            {"allOf": [*map(_given, second), *without_first]},
        ]
    }


def _given(name: str) -> dict[str, Any]:
    return {"required": [name], "properties": {name: {"not": {"type": "null"}}}}
