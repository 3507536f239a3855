"""The translation of a payload's JSON schema into the fields of a form. Pure.

What a person can fill in becomes a field of its own; what does not fit a form (free objects, lists of
objects, unions, a schema that contains itself) becomes a field that takes JSON. `payload` turns what was
typed into a payload, and back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from goqueue.dashboard.forms.fields import Field, FieldKind, all_fields

__all__ = ["form_of"]

#: Groups in groups, and fields altogether: what lies deeper, or beyond, is JSON.
DEPTH_MAX = 4
FIELDS_MAX = 200

#: Texts that people write in lines.
LONG_NAMES = frozenset(
    {
        "body",
        "comment",
        "content",
        "html",
        "message",
        "note",
        "notes",
        "query",
        "script",
        "sql",
        "template",
        "text",
    }
)

_NUMBERS = ("integer", "number")


def form_of(schema: Mapping[str, Any]) -> tuple[Field, ...]:
    """Return the fields of a payload; a schema that is no object with known members is one field of JSON."""
    root = _Reader(schema.get("$defs") or {}).field((), schema, required=True, present=True, within=())
    if root.kind is FieldKind.GROUP and sum(1 for _ in all_fields(root.fields)) <= FIELDS_MAX:
        return root.fields
    return (replace(root, kind=FieldKind.JSON, fields=()),)


class _Reader:
    """Reads one schema."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions

    def field(
        self, path: tuple[str, ...], schema: Any, *, required: bool, present: bool, within: tuple[str, ...]
    ) -> Field:
        """Return the field of a value.

        `required`: what it lies in has to have it. `present`: all that it lies in is always there. `within`:
        the definitions that it lies in: one that contains itself ends in JSON.
        """
        schema, nullable, within = self._resolved(schema, within)
        kind = _kind_of(path, schema)
        made = Field(
            path=path,
            kind=kind,
            required=required,
            nullable=nullable,
            description=_text(schema.get("description")),
            default=schema.get("default"),
            has_default="default" in schema,
            limits=_limits(schema),
        )
        if kind is FieldKind.GROUP and len(path) < DEPTH_MAX:
            is_there = present and required and not nullable
            return replace(made, fields=self._members(path, schema, present=is_there, within=within))
        if kind is FieldKind.GROUP:
            made = replace(made, kind=FieldKind.JSON)
        return self._prefilled(self._detailed(made, schema, within), present=present)

    def _members(
        self, path: tuple[str, ...], schema: Mapping[str, Any], *, present: bool, within: tuple[str, ...]
    ) -> tuple[Field, ...]:
        wanted = schema.get("required") or ()
        return tuple(
            self.field((*path, name), member, required=name in wanted, present=present, within=within)
            for name, member in schema["properties"].items()
        )

    def _detailed(self, made: Field, schema: Mapping[str, Any], within: tuple[str, ...]) -> Field:
        """With the values of a choice, and the lines of a list."""
        if made.kind is FieldKind.CHOICE:
            return replace(made, choices=_choices(schema))
        if made.kind is FieldKind.CHECK and (made.nullable or not (made.required or made.has_default)):
            return replace(made, kind=FieldKind.CHOICE, choices=("true", "false"))
        if made.kind is FieldKind.LIST:
            item = self.field(made.path, schema.get("items"), required=True, present=False, within=within)
            is_simple = item.kind in {
                FieldKind.TEXT,
                FieldKind.LONG_TEXT,
                FieldKind.DATE,
                FieldKind.INTEGER,
                FieldKind.NUMBER,
            }
            if is_simple and not item.nullable:
                return replace(made, item=item)
            return replace(made, kind=FieldKind.JSON)
        return made

    @staticmethod
    def _prefilled(made: Field, *, present: bool) -> Field:
        """A part that may be missing as a whole begins empty: with defaults in it, it would be there."""
        if present:
            # A default that shows nothing cannot be told from a field that was emptied.
            return replace(made, is_prefilled=made.has_default and made.default not in (None, "", []))
        if made.kind is FieldKind.CHECK:
            return replace(made, kind=FieldKind.CHOICE, choices=("true", "false"))
        return made

    def _resolved(
        self, schema: Any, within: tuple[str, ...]
    ) -> tuple[Mapping[str, Any], bool, tuple[str, ...]]:
        """The schema with its references followed and null taken out of its types."""
        nullable = False
        while isinstance(schema, Mapping):
            reference = schema.get("$ref")
            if isinstance(reference, str):
                name = reference.removeprefix("#/$defs/")
                if name in within or not isinstance(self._definitions.get(name), Mapping):
                    return _without(schema, "$ref"), nullable, within
                within = (*within, name)
                schema = {**self._definitions[name], **_without(schema, "$ref")}
                continue
            parts = _parts(schema)
            if parts is None:
                return schema, nullable, within
            others = [part for part in parts if part != {"type": "null"}]
            nullable = nullable or len(others) < len(parts)
            if len(others) != 1:
                return _merged(schema, others), nullable, within
            schema = {**others[0], **_without(schema, "anyOf", "oneOf", "allOf", "type")}
        return {}, nullable, within


def _parts(schema: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """What the value is one of; None where there is nothing to choose."""
    for word in ("anyOf", "oneOf", "allOf"):
        parts = schema.get(word)
        if isinstance(parts, list) and parts and (word != "allOf" or len(parts) == 1):
            return [part if isinstance(part, Mapping) else {} for part in parts]
    types = schema.get("type")
    if isinstance(types, list):
        # A union of types: each has what is said beside them.
        return [{**_without(schema, "type", "default", "description"), "type": one} if one != "null"
                else {"type": "null"} for one in types]  # fmt: skip
    return None


def _merged(schema: Mapping[str, Any], parts: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Numbers of both sorts are numbers; any other union has no type that a form knows."""
    rest = _without(schema, "anyOf", "oneOf", "allOf", "type")
    if parts and all(part.get("type") in _NUMBERS for part in parts):
        return {**rest, "type": "number"}
    return rest


def _kind_of(path: tuple[str, ...], schema: Mapping[str, Any]) -> FieldKind:
    if _choices(schema):
        return FieldKind.CHOICE
    kind = schema.get("type")
    if kind == "string":
        return _kind_of_text(path, schema)
    members = schema.get("properties")
    if kind == "object" and isinstance(members, Mapping) and members:
        return FieldKind.GROUP
    simple = {
        "integer": FieldKind.INTEGER,
        "number": FieldKind.NUMBER,
        "boolean": FieldKind.CHECK,
        "array": FieldKind.LIST,
    }
    return simple.get(kind, FieldKind.JSON) if isinstance(kind, str) else FieldKind.JSON


def _kind_of_text(path: tuple[str, ...], schema: Mapping[str, Any]) -> FieldKind:
    if schema.get("format") == "date":
        return FieldKind.DATE
    is_long = bool(path) and path[-1].lower() in LONG_NAMES and "pattern" not in schema
    return FieldKind.LONG_TEXT if is_long or "\n" in str(schema.get("default", "")) else FieldKind.TEXT


def _choices(schema: Mapping[str, Any]) -> tuple[str, ...]:
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if not isinstance(values, list):
        return ()
    return tuple(json.dumps(value, ensure_ascii=False) for value in values if value is not None)


_WORDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} lines",
    "maxItems": "at most {} lines",
    "format": "a {}",
    "pattern": "of the form {}",
}


def _limits(schema: Mapping[str, Any]) -> str:
    """What is expected of a value, in words."""
    return ", ".join(
        words.format(schema[name])
        for name, words in _WORDS.items()
        if isinstance(schema.get(name), str | int | float)
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _without(schema: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name not in names}
