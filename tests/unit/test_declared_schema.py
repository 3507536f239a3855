"""Schemas that are declared from outside: which are taken, and what they say of payloads."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from goqueue.errors import InvalidJobError
from goqueue.remote.declared_schema import PARTS_MAX, SCHEMA_DIALECT, SCHEMA_MAX_BYTES, DeclaredSchema

OBJECT = {
    "$schema": SCHEMA_DIALECT,
    "type": "object",
    "required": ["to"],
    "additionalProperties": False,
    "properties": {
        "to": {"type": "string", "pattern": "^[a-z]+$"},
        "pages": {"type": "array", "items": {"$ref": "#/$defs/page"}},
    },
    "$defs": {"page": {"type": "integer", "minimum": 1}},
}


def doubled(levels: int) -> dict[str, Any]:
    """A schema of few bytes that has 2 to the power of its levels parts, references written out."""
    definitions: dict[str, Any] = {"d0": {"type": "integer"}}
    for level in range(1, levels + 1):
        reference = {"$ref": f"#/$defs/d{level - 1}"}
        definitions[f"d{level}"] = {"anyOf": [reference, reference]}
    return {"$ref": f"#/$defs/d{levels}", "$defs": definitions}


def nested(levels: int) -> dict[str, Any]:
    """A schema that is so deep."""
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"not": schema}
    return schema


WRONG = [
    pytest.param({"type": "strin"}, "schema.type", id="a type that there is not"),
    pytest.param({"properties": {"a": {"minimum": "1"}}}, "schema.properties.a.minimum", id="a wrong bound"),
    pytest.param(
        {"$schema": "http://json-schema.org/draft-07/schema#"}, "schema.$schema", id="another draft"
    ),
    pytest.param({"$schema": 7}, "schema.$schema", id="a draft that is no text"),
    pytest.param({"not": {"$schema": SCHEMA_DIALECT}}, "schema.not.$schema", id="a dialect inside"),
    pytest.param({"$ref": "https://example.com/schema"}, "schema.$ref", id="a reference to the web"),
    pytest.param({"$ref": "file:///etc/passwd"}, "schema.$ref", id="a reference to a file"),
    pytest.param({"$ref": "other.json"}, "schema.$ref", id="a reference to a neighbour"),
    pytest.param({"$ref": "#/$defs/none"}, "schema.$ref", id="a reference to nothing"),
    pytest.param({"$ref": "#/title", "title": "text"}, "schema.$ref", id="a reference to a text"),
    pytest.param({"$ref": "#"}, "schema.$ref", id="itself"),
    pytest.param({"items": {"$ref": "#"}}, "schema.items.$ref", id="a list of itself"),
    pytest.param(
        {"anyOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"not": {"$ref": "#/anyOf/0"}}}},
        "schema.anyOf[0].$ref.not.$ref",
        id="a circle of two",
    ),
    pytest.param({"$id": "https://example.com/"}, "schema.$id", id="a name of its own"),
    pytest.param(
        {"$defs": {"a": {"$anchor": "b"}}}, "schema.$defs.a.$anchor", id="an anchor in a definition"
    ),
    pytest.param({"$dynamicRef": "#a"}, "schema.$dynamicRef", id="a dynamic reference"),
    pytest.param({"pattern": "("}, "schema.pattern", id="no regular expression"),
    pytest.param({"pattern": "(?=a)b"}, "schema.pattern", id="a look ahead"),
    pytest.param({"pattern": r"(a)\1"}, "schema.pattern", id="a reference to a group"),
    pytest.param({"pattern": "(a{1000}){1000}"}, "schema.pattern", id="a pattern of a million states"),
    pytest.param({"allOf": [{"pattern": "a"}] * 101}, "schema", id="many patterns"),
    pytest.param({"patternProperties": {f"a{n}": {} for n in range(101)}}, "schema", id="patterns of names"),
    pytest.param({"description": "x" * SCHEMA_MAX_BYTES}, "schema", id="many bytes"),
    pytest.param(nested(60), "schema", id="a deep one"),
    pytest.param({"allOf": [{}] * PARTS_MAX}, "schema", id="many parts"),
    pytest.param(doubled(30), "schema", id="a thousand million parts, written out"),
    pytest.param({"allOf": [{"unevaluatedItems": True}] * (PARTS_MAX // 2)}, "schema", id="looked at twice"),
]


def problems_of(schema: dict[str, Any], payload: Any) -> dict[str, str]:
    """What a schema finds wrong with a payload."""
    try:
        assert DeclaredSchema(schema).validate_json(orjson.dumps(payload)) == payload
    except InvalidJobError as error:
        return dict(error.fields)
    return {}


def test_wrong_fields_are_named_as_those_of_a_model() -> None:
    """Each wrong value has its path below `payload`, and no value is quoted."""
    assert problems_of(OBJECT, {"to": "anna", "pages": [1, 2]}) == {}
    assert problems_of(OBJECT, {"pages": [1, 0, "secret"], "cc": "secret"}) == {
        "payload.cc": "Extra inputs are not permitted",
        "payload.pages[1]": "the value is less than the minimum of 1",
        "payload.pages[2]": 'the value is not of type "integer"',
        "payload.to": "Field required",
    }
    assert "SECRET" not in str(problems_of(OBJECT, {"to": "SECRET"}))


@pytest.mark.parametrize("payload", [[], "text", 7, None, True])
def test_a_payload_is_an_object(payload: Any) -> None:
    """Whatever the schema takes."""
    assert problems_of({}, payload) == {"payload": "expected an object"}


def test_formats_are_descriptions() -> None:
    """As the draft has it: a format says what a text is, and refuses none."""
    assert problems_of({"properties": {"to": {"format": "email"}}}, {"to": "nobody"}) == {}


def test_a_pattern_is_matched_in_linear_time() -> None:
    """One that takes others a number of steps with as many digits as the text has letters."""
    assert problems_of({"properties": {"a": {"pattern": "^(a+)+$"}}}, {"a": "a" * 100_000 + "!"})


def test_a_definition_may_be_used_as_often_as_it_likes_to() -> None:
    """References may meet in one definition, as long as what they come to is small."""
    assert problems_of(doubled(6), {}) == {
        "payload": "the value is not valid under any of the schemas listed in the 'anyOf' keyword"
    }


def test_of_many_problems_the_first_are_told() -> None:
    """A payload of a thousand wrong values has a hundred of them named."""
    schema = {"additionalProperties": {"type": "integer"}}
    assert len(problems_of(schema, {f"n{n}": "x" for n in range(1_000)})) == 100


@pytest.mark.parametrize(("schema", "field"), WRONG)
def test_what_cannot_be_bounded_is_refused(schema: dict[str, Any], field: str) -> None:
    """Each schema that is wrong, or that could cost without bounds, is refused, and the part is named."""
    with pytest.raises(InvalidJobError) as refused:
        DeclaredSchema(schema)
    assert list(refused.value.fields) == [field]
