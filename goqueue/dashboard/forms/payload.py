"""The way from what was typed into the fields of a schema's form to a payload, and back. Pure.

Whether the payload fits its type is not decided here: that is said by the code that a create over REST runs.
Here is only found what no payload can be made of: a number that is none, JSON that is none.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from goqueue.api.frame.json_reader import read_json
from goqueue.dashboard.forms.fields import Field, FieldKind
from goqueue.errors import InvalidJobError

__all__ = ["payload_of", "texts_of"]

_INTEGER = re.compile(r"[+-]?[0-9]{1,40}", re.ASCII)
_NUMBER = re.compile(r"[+-]?([0-9]{1,40}(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,4})?", re.ASCII)

_INT64 = range(-(2**63), 2**63)

#: What a box sends that is checked.
CHECKED = "on"


class _Nothing:
    """The value of a field that is left out."""


_LEFT_OUT = _Nothing()


def payload_of(fields: Iterable[Field], typed: Mapping[str, str]) -> tuple[Any, dict[str, str]]:
    """Return the payload of what was typed, by the names of the fields, and what is wrong, by their keys.

    An empty field is left out where it may be. One that is wrong is in the payload as the text that it is.
    """
    wrong: dict[str, str] = {}
    fields = tuple(fields)
    if len(fields) == 1 and not fields[0].path:
        value = _value_of(fields[0], typed, wrong)
        return ({} if value is _LEFT_OUT else value), wrong
    return _object_of(fields, typed, wrong), wrong


def texts_of(fields: Iterable[Field], payload: Any = _LEFT_OUT) -> dict[str, str]:
    """Return what the fields show: of a payload, or, without one, of their defaults."""
    texts: dict[str, str] = {}
    for field in fields:
        value = _inside(payload, field.path)
        if value is _LEFT_OUT and payload is _LEFT_OUT and field.is_prefilled:
            value = field.default
        if field.kind is FieldKind.GROUP:
            texts |= texts_of(field.fields, payload)
        elif value is not _LEFT_OUT:
            texts[field.name] = _text_of(field, value)
    return texts


def _object_of(fields: Iterable[Field], typed: Mapping[str, str], wrong: dict[str, str]) -> dict[str, Any]:
    values = {field.path[-1]: _value_of(field, typed, wrong) for field in fields}
    return {name: value for name, value in values.items() if value is not _LEFT_OUT}


def _value_of(field: Field, typed: Mapping[str, str], wrong: dict[str, str]) -> Any:
    if field.kind is FieldKind.CHECK:
        return typed.get(field.name, "") == CHECKED
    if field.kind is FieldKind.GROUP:
        return _group_of(field, typed, wrong)
    text = typed.get(field.name, "").replace("\r\n", "\n")
    is_blank = not text if field.kind in {FieldKind.TEXT, FieldKind.LONG_TEXT} else not text.strip()
    if is_blank:
        return _empty(field, wrong)
    try:
        return _parsed(field, text)
    except ValueError as error:
        wrong[field.key] = str(error)
        return text


def _group_of(field: Field, typed: Mapping[str, str], wrong: dict[str, str]) -> Any:
    if (field.nullable or not field.required) and _is_blank(field, typed):
        return None if field.required else _LEFT_OUT
    return _object_of(field.fields, typed, wrong)


def _is_blank(field: Field, typed: Mapping[str, str]) -> bool:
    if field.kind is FieldKind.GROUP:
        return all(_is_blank(inner, typed) for inner in field.fields)
    return not typed.get(field.name, "").strip()


def _empty(field: Field, wrong: dict[str, str]) -> Any:
    """The value of a field in which nothing stands.

    One that began with its default was emptied on purpose: it is null, or a text without characters, where it
    can be. Any other text without characters was more likely forgotten; JSON can say it.
    """
    if not field.required and not field.is_prefilled:
        return _LEFT_OUT
    if field.nullable:
        return None
    if field.kind is FieldKind.LIST:
        return []
    if field.is_prefilled and field.kind in {FieldKind.TEXT, FieldKind.LONG_TEXT}:
        return ""
    if field.required:
        wrong[field.key] = "required"
    return _LEFT_OUT


def _parsed(field: Field, text: str) -> Any:
    """The value of a text.

    Raises:
        ValueError: what is expected.
    """
    if field.kind is FieldKind.LIST:
        assert field.item is not None
        return [_parsed(field.item, line.rstrip("\r")) for line in text.split("\n") if line.strip()]
    if field.kind is FieldKind.INTEGER:
        return _integer(text.strip())
    if field.kind is FieldKind.NUMBER:
        return _number(text.strip())
    if field.kind is FieldKind.CHOICE:
        if text not in field.choices:
            raise ValueError("expected one of the choices")
        return json.loads(text)
    return _json(text) if field.kind is FieldKind.JSON else text


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise ValueError("expected a whole number")
    if int(text) not in _INT64:
        raise ValueError("expected a whole number of at most 64 bits")
    return int(text)


def _number(text: str) -> int | float:
    if not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        raise ValueError("expected a number")
    return _integer(text) if _INTEGER.fullmatch(text) else float(text)


def _json(text: str) -> Any:
    try:
        return read_json(text.encode("utf-8", "surrogatepass"))
    except InvalidJobError as error:
        raise ValueError(
            "; ".join(wrong if path == "body" else f"{path}: {wrong}" for path, wrong in error.fields.items())
        ) from None


def _inside(payload: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        if not isinstance(payload, Mapping) or step not in payload:
            return _LEFT_OUT
        payload = payload[step]
    return payload


def _text_of(field: Field, value: Any) -> str:
    if field.kind is FieldKind.JSON:
        return json.dumps(value, ensure_ascii=False, indent=2)
    if value is None:
        return ""
    if field.kind is FieldKind.CHECK:
        return CHECKED if value is True else ""
    if field.kind is FieldKind.CHOICE:
        return json.dumps(value, ensure_ascii=False)
    if field.kind is FieldKind.LIST and isinstance(value, list):
        return "\n".join(one if isinstance(one, str) else json.dumps(one) for one in value)
    return value if isinstance(value, str) else json.dumps(value)
