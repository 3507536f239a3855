"""Payloads of callers from Python as JSON values that their type reads back as what they were."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from pydantic import AliasChoices, AliasPath, BaseModel, RootModel, Secret, SecretBytes, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from goqueue.errors import InvalidJobError

__all__ = ["ConvertedPayload", "PayloadSchema", "argument_lost", "difference", "not_finite", "payload_of"]

_ABSENT = object()
_LISTS = (list, tuple, set, frozenset, deque)


class PayloadSchema(Protocol):
    """Reads payloads: pydantic's reader of annotations, or a JSON schema that was declared from outside."""

    def validate_json(self, data: str | bytes, /) -> Any:
        """Read and validate a payload.

        Raises:
            ValidationError: pydantic says what is wrong.
            InvalidJobError: with the wrong fields, named `payload.…`.
        """

    def json_schema(self, *, ref_template: str = ...) -> dict[str, Any]:
        """Return the JSON schema of the payload."""


class ConvertedPayload(dict[str, Any]):
    """A payload as JSON values that remembers what it was made of: the handler has to get the same.

    Attributes:
        original: the model, the dataclass, or the arguments by their names.
    """

    original: Any = None


def payload_of(given: Any) -> Any:
    """Turn a model or a dataclass into JSON values, by the names by which they are read; keep all else.

    Raises:
        InvalidJobError: it cannot be written as JSON.
    """
    if not isinstance(given, BaseModel) and (isinstance(given, type) or not dataclasses.is_dataclass(given)):
        return given
    written = value_of(given)
    if not isinstance(written, dict):
        return written
    payload = ConvertedPayload(written)
    payload.original = given
    return payload


def value_of(given: Any) -> Any:
    """Turn a value into JSON values as its type reads them: by alias, without what is computed, with secrets.

    Raises:
        InvalidJobError: it cannot be written as JSON.
    """
    try:
        if isinstance(given, BaseModel):
            written = given.model_dump(mode="json", by_alias=False, round_trip=True, warnings=False)
        else:
            written = to_jsonable_python(given, by_alias=False, round_trip=True)
    except Exception as error:  # noqa: BLE001  (serializers of users)
        raise InvalidJobError({"payload": f"it is not JSON: {type(error).__name__}: {error}"}) from None
    return _as_read(given, written)


def _as_read(given: Any, written: Any) -> Any:
    """What was written of a value, with the names that validation wants, and with its secrets."""
    if isinstance(given, RootModel):
        return _as_read(given.root, written)
    if isinstance(given, SecretStr | SecretBytes | Secret):
        return to_jsonable_python(given.get_secret_value())
    if isinstance(given, Mapping) and isinstance(written, dict) and len(given) == len(written):
        pairs = zip(given.values(), written.items(), strict=True)
        return {name: _as_read(value, item) for value, (name, item) in pairs}
    if isinstance(given, _LISTS) and isinstance(written, list) and len(given) == len(written):
        return [_as_read(value, item) for value, item in zip(given, written, strict=True)]
    fields = _fields_of(given)
    if fields is None or not isinstance(written, dict):
        return written
    read: dict[str, Any] = {}
    for name, item in written.items():
        if name in fields:
            _put(read, fields[name], name, _as_read(getattr(given, name), item))
        else:
            read[name] = item
    return read


def _fields_of(given: Any) -> Mapping[str, FieldInfo | None] | None:
    if isinstance(given, BaseModel):
        return type(given).model_fields
    if isinstance(given, type) or not dataclasses.is_dataclass(given):
        return None
    known: Mapping[str, FieldInfo] = getattr(type(given), "__pydantic_fields__", {})
    return {field.name: known.get(field.name) for field in dataclasses.fields(given)}


def _put(read: dict[str, Any], field: FieldInfo | None, name: str, value: Any) -> None:
    """Put a value where the validation of its field looks for it first."""
    alias = None if field is None else field.validation_alias
    if isinstance(alias, AliasChoices):
        alias = alias.choices[0]
    if isinstance(alias, AliasPath):
        names = [part for part in alias.path if isinstance(part, str)]
        if len(names) < len(alias.path):
            raise InvalidJobError(
                {f"payload.{name}": "its alias leads through a list: give a mapping instead"}
            )
        for part in names[:-1]:
            read = read.setdefault(part, {})
        alias = names[-1]
    read[name if alias is None else alias] = value


def argument_lost(given: Any, read: Any, path: str) -> str | None:
    """Return the path of an argument that its handler would not get as it was given; None: it gets it.

    JSON values are not compared: they become what the handler's annotation says.
    """
    if _fields_of(given) is not None:
        return difference(given, read, path)
    is_json = given is None or isinstance(given, (str, int, float, list, tuple, dict))
    return None if is_json or type(given) is type(read) else path


def difference(given: Any, read: Any, path: str = "payload") -> str | None:
    """Return the path at which a handler would not get what was given; None: there is none.

    An object may be read as one of another class that has its fields.
    """
    fields = _fields_of(given)
    if type(given) is not type(read) and (fields is None or isinstance(given, RootModel)):
        return path
    if isinstance(given, Mapping) and given.keys() == read.keys():
        return _first((difference(value, read[key], f"{path}.{key}") for key, value in given.items()))
    if isinstance(given, list | tuple | deque) and len(given) == len(read):
        pairs = enumerate(zip(given, read, strict=True))
        return _first(difference(one, other, f"{path}[{place}]") for place, (one, other) in pairs)
    if fields is not None:
        names = [*fields, *(getattr(given, "__pydantic_extra__", None) or ())]
        return _first(difference(getattr(given, n), _field_of(read, n), f"{path}.{n}") for n in names)
    # What has no equality of its own is never equal to what was read.
    has_no_equality: Any = type(given).__eq__ is object.__eq__  # type: ignore[comparison-overlap]
    return None if has_no_equality or given == read else path


def _field_of(read: Any, name: str) -> Any:
    return read.get(name, _ABSENT) if isinstance(read, Mapping) else getattr(read, name, _ABSENT)


def not_finite(value: Any, path: str = "payload") -> str | None:
    """Return the path of a number that is NaN or infinite, which JSON has no word for; None without one."""
    if isinstance(value, float):
        return None if math.isfinite(value) else path
    if isinstance(value, Mapping):
        return _first(not_finite(item, f"{path}.{name}") for name, item in value.items())
    if isinstance(value, list | tuple):
        return _first(not_finite(item, f"{path}[{place}]") for place, item in enumerate(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return _first(not_finite(getattr(value, field.name), f"{path}.{field.name}") for field in fields)
    return None


def _first(found: Iterator[str | None]) -> str | None:
    return next((path for path in found if path is not None), None)
