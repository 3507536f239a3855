"""The settings in the form of a new job, and the request of a create over REST that they make. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from goqueue.config.labels import entries_of, labels_typed

__all__ = ["SETTINGS", "document_of", "settings_of", "texts_of_document", "wrong_beside"]

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{1,15})?", re.ASCII)
#: What a browser makes of a date and a time, without a zone.
_LOCAL = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d)(:\d\d(\.\d+)?)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting in the form of a new job.

    Attributes:
        name: in the form, and in the request.
        kind: text, integer, number, moment, tags, or labels.
        key: of what is wrong with it in an answer.
    """

    name: str
    label: str
    kind: str
    hint: str

    @property
    def key(self) -> str:
        """The name of the setting in the request."""
        return "unique.key" if self.name == "unique_key" else self.name


SETTINGS = (
    Setting("queue", "Queue", "text", ""),
    Setting("priority", "Priority", "integer", "-100 to 100; a step is a head start of a minute"),
    Setting("delay_seconds", "Delay in seconds", "number", "from now"),
    Setting("available_at", "Or not before (UTC)", "moment", "instead of a delay"),
    Setting("concurrency_key", "Key", "text", "whose turn it is in the queue: a tenant, an account"),
    Setting("tags", "Tags", "tags", "separated by commas"),
    Setting("max_retries", "Retries", "integer", "0 to 20"),
    Setting("requires", "Requires", "labels", "labels of its worker: gpu=true, region=eu"),
    Setting("slots", "Slots", "integer", "how many threads of its worker it takes"),
    Setting("min_version", "Worker version", "integer", "that its worker has to have at least"),
    Setting("unique_key", "Unique key", "text", "at most one unfinished job has it"),
)

_BY_NAME = {setting.name: setting for setting in SETTINGS}


def settings_of(typed: Mapping[str, str]) -> dict[str, Any]:
    """Read the settings that were filled in. What is no number stays a text, and is refused there."""
    said: dict[str, Any] = {}
    for setting in SETTINGS:
        text = typed.get(setting.name, "").strip()
        if text and setting.name == "unique_key":
            said["unique"] = {"key": text}
        elif text:
            said[setting.name] = _value_of(setting.kind, text)
    return said


def document_of(type_name: str, payload: Any, typed: Mapping[str, str]) -> dict[str, Any]:
    """Return the request that the form stands for."""
    return {"type": type_name, "payload": payload, **settings_of(typed)}


def texts_of_document(document: Mapping[str, Any]) -> dict[str, str] | None:
    """Return what the form would show of a request; None where it cannot say all of it."""
    unique = document.get("unique")
    if document.keys() - _BY_NAME.keys() - {"type", "payload", "unique"} or "unique_key" in document:
        return None
    if unique is not None and not (isinstance(unique, dict) and unique.keys() == {"key"}):
        return None
    values = {name: document[name] for name in document.keys() & _BY_NAME.keys()}
    if unique is not None:
        values["unique_key"] = unique["key"]
    tags = values.pop("tags", None)
    if tags is not None and not (isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)):
        return None
    requires = values.pop("requires", None)
    if requires is not None and not isinstance(requires, dict):
        return None
    texts = {name: "" if value is None else str(value) for name, value in values.items()}
    texts |= {} if requires is None else {"requires": ", ".join(entries_of(requires))}
    return texts | ({} if tags is None else {"tags": ", ".join(tags)})


def wrong_beside(keys: Iterable[str], wrong: Mapping[str, str]) -> dict[str, str]:
    """Sort what is wrong by the field that it stands beside; under "" what stands beside none.

    A problem within a value (one tag, a part of a union) stands beside the field of the value.
    """
    known = sorted(keys, key=len, reverse=True)
    beside: dict[str, list[str]] = {}
    for path, problem in wrong.items():
        key = next((key for key in known if path == key or path.startswith((f"{key}.", f"{key}["))), "")
        within = path.removeprefix(key).strip(".")
        beside.setdefault(key, []).append(f"{within}: {problem}" if within else problem)
    return {key: "; ".join(dict.fromkeys(problems)) for key, problems in beside.items()}


def _value_of(kind: str, text: str) -> Any:
    if kind == "tags":
        return [tag for part in text.split(",") if (tag := part.strip())]
    if kind == "labels":
        return labels_typed(text)
    if kind == "moment" and (local := _LOCAL.fullmatch(text)):
        return f"{local[1]}{local[2] or ':00'}Z"
    if kind == "integer" and _INTEGER.fullmatch(text):
        return int(text)
    if kind == "number" and _NUMBER.fullmatch(text):
        return float(text)
    return text
