"""Forms of schemas that no pydantic wrote: whatever is taken as a declaration has one."""

from __future__ import annotations

from typing import Any

import pytest

from goqueue.dashboard.forms.schema import form_of
from goqueue.dashboard.parts.json_tree import tree
from goqueue.remote.declared_schema import DeclaredSchema

SCHEMAS: list[dict[str, Any]] = [
    {},
    {"type": "object"},
    {"type": ["object", "null"], "properties": {"a": {}}},
    {"properties": {"a": True, "b": False, "c": {"type": ["string", "null"]}}},
    {"properties": {"a": {"enum": []}, "b": {"enum": [None, 1, "x", {}]}, "c": {"const": {"a": 1}}}},
    {"properties": {"a": {"$ref": "#/properties/b"}, "b": {"type": "integer"}}},
    {"properties": {"a": {"$ref": "#/$defs/x~1y"}}, "$defs": {"x/y": {"type": "string"}}},
    {"properties": {"a": {"$ref": "#/$defs/x/properties/y"}}, "$defs": {"x": {"properties": {"y": {}}}}},
    {"properties": {"a": {"$ref": "#/$defs/yes"}}, "$defs": {"yes": True}},
    {"properties": {"a": {"type": "array", "prefixItems": [{}], "items": False}, "b": {"type": "array"}}},
    {"properties": {"a": {"anyOf": [True, {"type": "null"}]}, "b": {"anyOf": [{"type": "null"}]}}},
    {"properties": {"a": {"allOf": [{"type": "string"}]}, "b": {"oneOf": [{}, {}]}, "c": {"not": {}}}},
    {"properties": {"a": {"type": "integer", "default": "x"}, "b": {"default": {"a": [1]}}}},
    {"properties": {"a": {"type": "boolean", "title": "t", "description": "d", "examples": [1]}}},
    {"properties": {"a": {"type": "number", "exclusiveMinimum": 1.5, "multipleOf": 0.5}}},
    {"properties": {"": {"type": "string"}, "a.b": {"type": "string"}, "a b": {}}},
    {"anyOf": [{"properties": {"a": {}}}, {"required": ["b"]}]},
    {"required": ["z"], "patternProperties": {"^x": {"type": "string"}}, "minProperties": 1},
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_every_schema_that_is_taken_has_a_form(schema: dict[str, Any]) -> None:
    """With fields where these are known, and else with one of JSON; and it is shown as a tree."""
    taken = DeclaredSchema(schema).json_schema()
    assert form_of(taken)
    assert tree(taken)
