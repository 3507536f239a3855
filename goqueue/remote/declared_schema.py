"""The JSON Schema of a type that is declared from outside: what it may be, and payloads checked by it.

Whoever declares a type hands in a program that every create of its jobs runs. So it may be no more than can
be run in bounded time and memory: draft 2020-12, references within the schema alone and none that leads back
to itself, so many parts when every reference is written out, and regular expressions that are matched in
linear time (by Rust's `regex`, which has no look-around and no references to groups).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any
from urllib.parse import unquote

import jsonschema_rs
import orjson

from goqueue.config.bounds import is_nested_deeper
from goqueue.engine.options.job_type import MAX_LISTED_PROBLEMS
from goqueue.engine.options.request_models import path_name
from goqueue.errors import InvalidJobError

__all__ = ["SCHEMA_DIALECT", "SCHEMA_MAX_BYTES", "DeclaredSchema"]

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_MAX_BYTES = 64 * 1024
SCHEMA_MAX_DEPTH = 50

#: Parts of a schema, with references written out: a value of a payload meets each of them at most once.
PARTS_MAX = 1_000
PATTERNS_MAX = 100
PATTERN_MAX_BYTES = 1_000_000

#: Problems of one payload that are told.
_PROBLEMS_MAX = 100

_OF_ONE = (
    "additionalProperties",
    "contains",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
)
_OF_MANY = ("allOf", "anyOf", "oneOf", "prefixItems")
_BY_NAME = ("dependentSchemas", "patternProperties", "properties")
#: Parts that count only where they are referred to.
_DEFINITIONS = ("$defs", "definitions")

#: Names that could lead a reference elsewhere than its text says.
_REFUSED = (
    "$anchor",
    "$dynamicAnchor",
    "$dynamicRef",
    "$id",
    "$recursiveAnchor",
    "$recursiveRef",
    "$vocabulary",
)

Path = tuple[str | int, ...]


class DeclaredSchema:
    """A JSON Schema that was looked at, by which payloads are checked.

    Args:
        schema: a JSON Schema of the draft 2020-12.

    Raises:
        InvalidJobError: it is none, or one that is not taken; fields are named `schema.…`.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = dict(schema)
        _expect_small(self._schema)
        _expect_valid(self._schema)
        _Bounds(self._schema).expect_bounded()
        try:
            self._validator = jsonschema_rs.Draft202012Validator(
                self._schema,
                offline=True,
                mask="the value",
                pattern_options=jsonschema_rs.RegexOptions(size_limit=PATTERN_MAX_BYTES),
            )
        except jsonschema_rs.ValidationError as error:
            # A regular expression that is none, or more than this engine takes.
            raise InvalidJobError({path_name(("schema", *error.instance_path)): error.message}) from None

    def validate_json(self, data: str | bytes, /) -> Any:
        """Read a payload, and return it.

        Raises:
            InvalidJobError: with the wrong fields, named `payload.…`.
        """
        payload = orjson.loads(data)
        if not isinstance(payload, dict):
            raise InvalidJobError({"payload": "expected an object"})
        if not self._validator.is_valid(payload):
            problems = islice(self._validator.iter_errors(payload), MAX_LISTED_PROBLEMS)
            raise InvalidJobError(dict(islice(_told(problems), _PROBLEMS_MAX)))
        return payload

    def json_schema(self, *, ref_template: str = "") -> dict[str, Any]:  # noqa: ARG002  (as pydantic's, of which a component of OpenAPI is made)
        """Return the schema as it was declared; one that names no type says that a payload is an object."""
        return self._schema if "type" in self._schema else {"type": "object", **self._schema}


def _told(problems: Iterator[jsonschema_rs.ValidationError]) -> Iterator[tuple[str, str]]:
    for problem in problems:
        path, kind = ("payload", *problem.instance_path), problem.kind
        if isinstance(kind, jsonschema_rs.ValidationErrorKind.Required):
            yield path_name((*path, str(kind.property))), "Field required"
        elif isinstance(kind, jsonschema_rs.ValidationErrorKind.AdditionalProperties):
            for name in kind.unexpected:
                yield path_name((*path, name)), "Extra inputs are not permitted"
        elif isinstance(kind, jsonschema_rs.ValidationErrorKind.FalseSchema):
            yield path_name(path), "Extra inputs are not permitted"
        else:
            yield path_name(path), problem.message


def _expect_small(schema: dict[str, Any]) -> None:
    text = orjson.dumps(schema)
    if is_nested_deeper(text, SCHEMA_MAX_DEPTH):
        raise InvalidJobError({"schema": f"it is nested deeper than {SCHEMA_MAX_DEPTH} levels"})
    if len(text) > SCHEMA_MAX_BYTES:
        raise InvalidJobError({"schema": f"expected at most {SCHEMA_MAX_BYTES:,} bytes"})


def _expect_valid(schema: dict[str, Any]) -> None:
    dialect = schema.get("$schema", SCHEMA_DIALECT)
    if not isinstance(dialect, str) or dialect.rstrip("#") != SCHEMA_DIALECT:
        raise InvalidJobError({"schema.$schema": f"expected {SCHEMA_DIALECT}"})
    try:
        jsonschema_rs.meta.validate(schema)
    except jsonschema_rs.ValidationError as error:
        raise InvalidJobError({path_name(("schema", *error.instance_path)): error.message}) from None


class _Bounds:
    """The look at a schema that is valid: whether what it costs is bounded."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._root = schema
        self._patterns = 0
        #: The parts of each part, once every reference is written out; None while it is counted.
        self._counted: dict[int, int | None] = {}

    def expect_bounded(self) -> None:
        """Refuse what may cost without bounds.

        Raises:
            InvalidJobError: with the part that does, named `schema.…`.
        """
        self._look_at(self._root, ("schema",))
        self._count(self._root, ("schema",), depth=0)

    def _look_at(self, part: Any, path: Path) -> None:
        """Look at each part that is written, definitions that nothing refers to among them."""
        if not isinstance(part, dict):
            return
        for name in _REFUSED + (("$schema",) if len(path) > 1 else ()):
            if name in part:
                raise InvalidJobError({path_name((*path, name)): "it is not taken: refer by #/$defs/…"})
        self._patterns += ("pattern" in part) + len(part.get("patternProperties", ()))
        if self._patterns > PATTERNS_MAX:
            raise InvalidJobError({"schema": f"expected at most {PATTERNS_MAX} regular expressions"})
        for below, place in _parts(part, path):
            self._look_at(below, place)
        for name in _DEFINITIONS:
            for key, below in _members(part, name):
                self._look_at(below, (*path, name, key))

    def _count(self, part: Any, path: Path, *, depth: int) -> int:
        if not isinstance(part, dict):
            return 1
        if id(part) in self._counted:
            known = self._counted[id(part)]
            if known is None:
                raise InvalidJobError({path_name(path): "it leads back to itself, which is not taken"})
            return known
        if depth > 2 * SCHEMA_MAX_DEPTH:
            raise InvalidJobError({path_name(path): "references lead too deep"})
        self._counted[id(part)] = None
        total = 1 + sum(self._count(below, place, depth=depth + 1) for below, place in _parts(part, path))
        if "$ref" in part:
            place = (*path, "$ref")
            total += self._count(self._referred(part["$ref"], place), place, depth=depth + 1)
        # What was evaluated is found out by evaluating it once more.
        total *= 1 + ("unevaluatedItems" in part or "unevaluatedProperties" in part)
        if total > PARTS_MAX:
            raise InvalidJobError({"schema": f"it has more than {PARTS_MAX:,} parts, references written out"})
        self._counted[id(part)] = total
        return total

    def _referred(self, reference: str, path: Path) -> Any:
        if reference != "#" and not reference.startswith("#/"):
            raise InvalidJobError({path_name(path): "expected a reference within the schema: #/$defs/…"})
        found: Any = self._root
        for step in unquote(reference[2:]).split("/") if reference != "#" else ():
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and name.isdecimal() and int(name) < len(found):
                found = found[int(name)]
            elif isinstance(found, dict) and name in found:
                found = found[name]
            else:
                raise InvalidJobError({path_name(path): "it leads to nothing"})
        if not isinstance(found, dict | bool):
            raise InvalidJobError({path_name(path): "it leads to no schema"})
        return found


def _parts(part: dict[str, Any], path: Path) -> Iterator[tuple[Any, Path]]:
    """Find the schemas that a schema consists of, and their places."""
    for name in _OF_ONE:
        if name in part:
            yield part[name], (*path, name)
    for name in _OF_MANY:
        for place, below in enumerate(part.get(name, ())):
            yield below, (*path, name, place)
    for name in _BY_NAME:
        for key, below in _members(part, name):
            yield below, (*path, name, key)


def _members(part: dict[str, Any], name: str) -> Iterator[tuple[str, Any]]:
    members = part.get(name)
    yield from members.items() if isinstance(members, dict) else ()
