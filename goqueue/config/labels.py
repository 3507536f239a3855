"""Labels of workers, and what jobs require of them: names and values, compared as texts.

As in Kubernetes, a label is a name with a value: `gpu=true`, `region=eu`. True is the text "true", and a
whole number its digits, so that it plays no part whether a value was written in JSON or in an environment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = [
    "LABEL_NAME",
    "LABEL_VALUE",
    "MAX_LABELS",
    "LabelValue",
    "by_name",
    "entries_of",
    "labels_of",
    "labels_typed",
    "text_of_label",
]

MAX_LABELS = 20

#: A value as callers give it.
LabelValue = str | bool | int

#: As names and values of Kubernetes' labels, and a little more: no equals sign, no comma, no space.
LABEL_NAME = r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$"
LABEL_VALUE = r"^[A-Za-z0-9][A-Za-z0-9._/:+-]{0,62}$"


def text_of_label(value: Any) -> Any:
    """Return the text of a value of a label; what is none stays as it is, and is refused elsewhere."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else value


def labels_of(said: Any) -> dict[str, str]:
    """Read the labels of a worker: a mapping, a JSON object, or `gpu=true,region=eu`; `gpu` is `gpu=true`.

    Raises:
        ValueError: they are something else, too many, or a name or a value is none.
    """
    if isinstance(said, str):
        said = _read(said)
    if not isinstance(said, Mapping) or len(said) > MAX_LABELS:
        raise ValueError(f"expected at most {MAX_LABELS} labels, as gpu=true,region=eu or as a JSON object")
    labels = {name: text_of_label(value) for name, value in said.items()}
    for name, value in labels.items():
        if not isinstance(name, str) or not re.fullmatch(LABEL_NAME, name):
            raise ValueError(f"expected names of 1 to 63 letters, digits, and . _ / -, got {name!r}")
        if not isinstance(value, str) or not re.fullmatch(LABEL_VALUE, value):
            raise ValueError(
                f"{name}: expected true, false, a whole number, or 1 to 63 letters, digits, and . _ / : + -, "
                f"got {value!r}"
            )
    return labels


def labels_typed(text: str) -> dict[str, str]:
    """Read labels as people type them: `gpu, region=eu`. Whether they are any is not looked at."""
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    return {name.strip(): value.strip() if equals else "true" for name, equals, value in pairs}


def entries_of(labels: Mapping[str, Any]) -> tuple[str, ...]:
    """Write labels as they are kept and compared: `name=value`, sorted."""
    return tuple(sorted(f"{name}={text_of_label(value)}" for name, value in labels.items()))


def by_name(entries: Iterable[str]) -> dict[str, str]:
    """Return the labels of entries, by their names."""
    return dict(entry.split("=", 1) for entry in entries)


def _read(text: str) -> Any:
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except ValueError:
            return None
    return labels_typed(text)
