"""Fields that nobody but the handler of a job sees, by their names, at any depth of what the job holds."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

__all__ = [
    "REDACTED",
    "all_values",
    "hidden_values",
    "is_redacted_path",
    "marker_in",
    "merged",
    "redacted",
    "scrubbed",
    "with_markers",
]

#: What stands in the place of a value that is not shown.
REDACTED = "[redacted]"

#: A value of fewer characters is not looked for in texts: it would be found everywhere.
HIDDEN_MIN_CHARACTERS = 3

#: Of a payload of which all is hidden, shorter values are words of any text.
VALUE_MIN_CHARACTERS = 6

#: The most values of one job that are looked for in its texts.
HIDDEN_MAX = 1_000


def redacted(value: Any, names: Collection[str]) -> Any:
    """Return a JSON value with the marker in the place of each value under one of these names."""
    if isinstance(value, dict):
        return {
            name: REDACTED if name.lower() in names and item is not None else redacted(item, names)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [redacted(item, names) for item in value]
    return value


def merged(value: Any, stored: Any, names: Collection[str]) -> Any:
    """Return a new value with what is stored wherever it has the marker for a redacted field.

    Raises:
        LookupError: with the path of a marker for which nothing is stored.
    """
    return _merged(value, stored, names, "payload")


def _merged(value: Any, stored: Any, names: Collection[str], path: str) -> Any:
    if isinstance(value, Mapping):
        return {
            name: _kept(stored, name, f"{path}.{name}")
            if item == REDACTED and name.lower() in names
            else _merged(item, _member(stored, name), names, f"{path}.{name}")
            for name, item in value.items()
        }
    if isinstance(value, list):
        places = enumerate(value)
        return [_merged(item, _member(stored, place), names, f"{path}[{place}]") for place, item in places]
    return value


def _member(stored: Any, name: str | int) -> Any:
    if isinstance(stored, Mapping) and isinstance(name, str):
        return stored.get(name)
    if isinstance(stored, list) and isinstance(name, int) and name < len(stored):
        return stored[name]
    return None


def _kept(stored: Any, name: str, path: str) -> Any:
    if not isinstance(stored, Mapping) or name not in stored:
        raise LookupError(path)
    return stored[name]


def marker_in(value: Any, names: Collection[str], path: str = "payload") -> str | None:
    """Return the path at which a value has the marker for a redacted field; None: there is none."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            here = f"{path}.{name}"
            found = here if item == REDACTED and name.lower() in names else marker_in(item, names, here)
            if found is not None:
                return found
    elif isinstance(value, list):
        places = (marker_in(item, names, f"{path}.{place}") for place, item in enumerate(value))
        return next((found for found in places if found is not None), None)
    return None


def is_redacted_path(path: str, names: Collection[str]) -> bool:
    """Tell whether a path in a payload (`card.number`) leads to a redacted field, or through one."""
    return any(step.lower() in names for step in path.split("."))


def hidden_values(value: Any, names: Collection[str]) -> tuple[str, ...]:
    """Return the texts of all values under these names, the longest first: no text of a job may quote one."""
    found = {text for text in _texts(value, names, hidden=False) if len(text) >= HIDDEN_MIN_CHARACTERS}
    return tuple(sorted(found, key=len, reverse=True)[:HIDDEN_MAX])


def all_values(value: Any) -> tuple[str, ...]:
    """Return the texts of all values, the longest first, but for short ones, which are found everywhere."""
    found = {text for text in _texts(value, (), hidden=True) if len(text) >= VALUE_MIN_CHARACTERS}
    return tuple(sorted(found, key=len, reverse=True)[:HIDDEN_MAX])


def _texts(value: Any, names: Collection[str], *, hidden: bool) -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(item, names, hidden=hidden or name.lower() in names)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, names, hidden=hidden)
    elif hidden and isinstance(value, str):
        yield value
    elif hidden and isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)


def with_markers(value: Any, hidden: Collection[str]) -> Any:
    """Return a JSON value with the marker wherever one of these values is, or is quoted in a text."""
    if isinstance(value, dict):
        return {name: with_markers(item, hidden) for name, item in value.items()}
    if isinstance(value, list):
        return [with_markers(item, hidden) for item in value]
    if isinstance(value, str):
        return scrubbed(value, hidden)
    return REDACTED if type(value) in {int, float} and str(value) in hidden else value


def scrubbed(text: str, hidden: Collection[str]) -> str:
    """Return a text with the marker in the place of each of these values."""
    if not any(value in text for value in hidden):
        return text
    pattern = "|".join(_pattern_of(value) for value in hidden)
    return re.sub(pattern, REDACTED, text)


def _pattern_of(value: str) -> str:
    """A short value is one only where it stands alone: 123 is none in 41234."""
    escaped = re.escape(value)
    if value.isalnum() and len(value) < 2 * HIDDEN_MIN_CHARACTERS:
        return rf"(?<![A-Za-z0-9]){escaped}(?![A-Za-z0-9])"
    return escaped
