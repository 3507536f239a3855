"""Labels of workers and their version, and what jobs require of them.

Labels are names and values, compared as texts.
As in Kubernetes, a label is a name with a value: `gpu=true`, `region=eu`. True is the text "true", and a
whole number its digits, so that it plays no part whether a value was written in JSON or in an environment.

The version of a worker, and the one that a job needs at least, stand among the labels as an entry of its own,
the first one, with so many digits that texts compare as numbers do. A release that knows of no versions finds
a label in it that none of its workers can have, and so never runs a job that needs one.
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
    "MAX_VERSION",
    "VERSION_MARK",
    "LabelValue",
    "by_name",
    "common_to",
    "entries_of",
    "labels_of",
    "labels_typed",
    "satisfies",
    "text_of_label",
    "version_of",
    "with_version",
    "without_version",
]

MAX_LABELS = 20

MAX_VERSION = 999_999_999

#: Begins the entry of a version; it sorts before every name of a label.
VERSION_MARK = "!version="

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
    """Return the labels of entries, by their names, without a version."""
    return dict(entry.split("=", 1) for entry in without_version(entries))


def with_version(entries: Iterable[str], version: int) -> tuple[str, ...]:
    """Return the entries with this version, instead of the one that they had; 0: none."""
    labels = sorted(without_version(entries))
    return (f"{VERSION_MARK}{version:010d}", *labels) if version else tuple(labels)


def without_version(entries: Iterable[str]) -> tuple[str, ...]:
    """Return the entries of labels alone."""
    return tuple(entry for entry in entries if not entry.startswith(VERSION_MARK))


def version_of(entries: Iterable[str]) -> int:
    """Return the version among entries; 0: there is none."""
    return max((int(entry.removeprefix(VERSION_MARK)) for entry in entries if entry[:1] == "!"), default=0)


def satisfies(labels: Iterable[str], requires: Iterable[str]) -> bool:
    """Tell whether a worker of these labels, and this version, may run what requires so much."""
    labels, requires = set(labels), set(requires)
    if requires <= labels:
        return True
    return version_of(requires) <= version_of(labels) and labels.issuperset(without_version(requires))


def common_to(those: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """Return the labels that all have, and the version that all have at least."""
    sets = [frozenset(labels) for labels in those]
    if not sets:
        return ()
    return with_version(frozenset.intersection(*sets), min(map(version_of, sets)))


def _read(text: str) -> Any:
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except ValueError:
            return None
    return labels_typed(text)
