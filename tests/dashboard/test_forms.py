"""From a schema to the fields of a form, and from what was typed to a payload."""

from __future__ import annotations

import json
from datetime import date
from enum import Enum
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter

from goqueue.dashboard.forms import schema as schema_form
from goqueue.dashboard.forms.create import settings_of, texts_of_document, wrong_beside
from goqueue.dashboard.forms.fields import FieldKind, all_fields
from goqueue.dashboard.forms.payload import payload_of, texts_of
from goqueue.dashboard.forms.schema import form_of
from goqueue.instance import default


class Colour(Enum):
    """A choice."""

    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    """Where."""

    street: str
    number: int | None = None
    is_home: bool = True


class Node(BaseModel):
    """A node contains nodes."""

    name: str
    children: list[Node] = []


class Order(BaseModel):
    """Something of everything."""

    name: str = Field(description="Who wants it", max_length=20)
    count: int = 1
    price: float | int
    is_gift: bool = False
    colour: Colour
    size: Literal["s", "m", 40] = "m"
    comment: str | None = None
    day: date | None = None
    address: Address
    second: Address | None = None
    labels: list[str] = []
    amounts: list[int]
    extras: dict[str, Any] = {}
    either: str | int = 3
    tree: Node | None = None


ORDER = form_of(Order.model_json_schema())
BY_LABEL = {field.label: field for field in ORDER}

TYPED = {
    "payload.name": "Ada",
    "payload.count": "2",
    "payload.price": "1.5",
    "payload.colour": '"red"',
    "payload.size": "40",
    "payload.address.street": "High Street",
    "payload.address.is_home": "on",
    "payload.amounts": "1\r\n2\r\n\r\n",
    "payload.either": '"text"',
}


def typed(**changes: str) -> tuple[Any, dict[str, str]]:
    """The payload of what is typed, some of it changed, and what is wrong."""
    return payload_of(ORDER, TYPED | {name.replace("__", "."): text for name, text in changes.items()})


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ("name", FieldKind.TEXT),
        ("count", FieldKind.INTEGER),
        ("price", FieldKind.NUMBER),
        ("is_gift", FieldKind.CHECK),
        ("colour", FieldKind.CHOICE),
        ("size", FieldKind.CHOICE),
        ("comment", FieldKind.LONG_TEXT),
        ("day", FieldKind.DATE),
        ("address", FieldKind.GROUP),
        ("second", FieldKind.GROUP),
        ("labels", FieldKind.LIST),
        ("amounts", FieldKind.LIST),
        ("extras", FieldKind.JSON),
        ("either", FieldKind.JSON),
    ],
)
def test_each_type_has_its_field(label: str, kind: FieldKind) -> None:
    """What a person can fill in is a field of that kind, and the rest is JSON."""
    assert BY_LABEL[label].kind is kind


def test_a_field_says_what_the_schema_says() -> None:
    """Description, limits, choices, and whether it may be left out or null."""
    name, size, comment = BY_LABEL["name"], BY_LABEL["size"], BY_LABEL["comment"]
    assert (name.description, name.limits, name.required) == ("Who wants it", "at most 20 characters", True)
    assert size.choices == ('"s"', '"m"', "40")
    assert (comment.required, comment.nullable) == (False, True)


def test_what_was_typed_becomes_a_payload() -> None:
    """Values have their types, lists have no empty lines, and what is empty and may be is left out."""
    payload, wrong = typed()
    assert wrong == {}
    assert payload == {
        "name": "Ada",
        "count": 2,
        "price": 1.5,
        "is_gift": False,
        "colour": "red",
        "size": 40,
        "address": {"street": "High Street", "is_home": True},
        "amounts": [1, 2],
        "either": "text",
    }
    Order.model_validate(payload)


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("payload.count", "two", "expected a whole number"),
        ("payload.count", "1.5", "expected a whole number"),
        ("payload.count", "9" * 30, "expected a whole number of at most 64 bits"),
        ("payload.price", "1e999", "expected a number"),
        ("payload.price", "nan", "expected a number"),
        ("payload.price", "", "required"),
        ("payload.address.street", "", "required"),
        ("payload.colour", '"green"', "expected one of the choices"),
        ("payload.colour", "", "required"),
        ("payload.amounts", "1\nx", "expected a whole number"),
        ("payload.extras", "{", "malformed JSON at line 1 column 2"),
        ("payload.extras", '{"a": 1, "a": 2}', "expected each name once"),
        ("payload.extras", '{"a": 1e999}', "expected a number that fits a double"),
        ("payload.address.number", "x", "expected a whole number"),
    ],
)
def test_what_is_no_value_is_said_beside_its_field(name: str, text: str, problem: str) -> None:
    """One field is wrong, by its key; the others are as they were typed."""
    payload, wrong = payload_of(ORDER, TYPED | {name: text})
    assert list(wrong) == [name]
    assert problem in wrong[name]
    assert payload["name"] == "Ada"


def test_a_part_that_may_be_missing_is_there_when_something_is_typed_in_it() -> None:
    """An optional group is left out while all of it is empty, and is complete otherwise."""
    assert "second" not in typed()[0]
    payload, wrong = typed(payload__second__number="7")
    assert (payload["second"], wrong) == ({"number": 7}, {"payload.second.street": "required"})


def test_defaults_fill_the_form_in() -> None:
    """The form begins with the defaults; unchanged, they are the payload that the schema means."""
    texts = texts_of(ORDER)
    assert texts["payload.count"] == "1"
    assert texts["payload.size"] == '"m"'
    assert texts["payload.address.is_home"] == "on"
    assert "payload.second.is_home" not in texts
    assert "payload.name" not in texts


def test_an_emptied_default_is_no_default() -> None:
    """Who empties a text that was filled in wants it empty."""
    form = form_of({"type": "object", "properties": {"greeting": {"type": "string", "default": "Hello"}}})
    assert payload_of(form, texts_of(form)) == ({"greeting": "Hello"}, {})
    assert payload_of(form, {"payload.greeting": ""}) == ({"greeting": ""}, {})


def test_a_truth_value_that_may_be_missing_is_a_choice() -> None:
    """A box cannot say: neither."""
    form = form_of({"type": "object", "properties": {"wanted": {"type": "boolean"}}})
    assert (form[0].kind, form[0].choices) == (FieldKind.CHOICE, ("true", "false"))
    assert payload_of(form, {"payload.wanted": ""}) == ({}, {})
    assert payload_of(form, {"payload.wanted": "false"}) == ({"wanted": False}, {})


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({}, id="anything"),
        pytest.param(True, id="true"),
        pytest.param({"type": "array", "items": {"type": "string"}}, id="no-object"),
        pytest.param({"type": "object"}, id="no-members"),
        pytest.param({"type": "object", "properties": {str(n): {} for n in range(201)}}, id="too-many"),
    ],
)
def test_what_is_no_form_is_one_field_of_json(schema: Any) -> None:
    """A payload without known members, or with too many, is typed as JSON."""
    (field,) = form_of(schema if isinstance(schema, dict) else {"$ref": "#/$defs/nothing"})
    assert field.path == ()
    if field.kind is FieldKind.JSON:
        assert payload_of((field,), {"payload": '{"a": [1]}'}) == ({"a": [1]}, {})


def test_a_schema_that_contains_itself_ends() -> None:
    """Its inner self is JSON."""
    tree = {field.path: field.kind for field in all_fields((BY_LABEL["tree"],))}
    assert tree[("tree", "name")] is FieldKind.TEXT
    assert tree[("tree", "children")] is FieldKind.JSON


def test_names_of_fields_are_told_apart() -> None:
    """A dot in a name is not a step."""
    inner = {"type": "object", "properties": {"b": {"type": "string"}}}
    form = form_of({"type": "object", "properties": {"a.b": {"type": "string"}, "a": inner}})
    names = [field.name for field in all_fields(form)]
    assert len(set(names)) == len(names) == 3


# Any schema, any payload


def schemas() -> st.SearchStrategy[dict[str, Any]]:
    """Schemas as types of payloads have them, and some that make no sense."""
    leaf = st.one_of(
        st.fixed_dictionaries(
            {
                "type": st.sampled_from(
                    ["string", "integer", "number", "boolean", "null", "array", "object", 7]
                )
            },
            optional={
                "default": st.one_of(st.none(), st.text(max_size=5), st.integers(), st.booleans()),
                "description": st.one_of(st.text(max_size=9), st.integers()),
                "maximum": st.integers(),
                "format": st.sampled_from(["date", "date-time", "email"]),
                "items": st.sampled_from([{"type": "string"}, {"type": "integer"}, {}, True, None]),
            },
        ),
        st.fixed_dictionaries({"enum": st.lists(st.one_of(st.integers(), st.text(max_size=3), st.none()))}),
        st.fixed_dictionaries({"const": st.integers()}),
        st.just({"$ref": "#/$defs/self"}),
        st.just({"type": ["string", "null"]}),
        st.just({}),
    )
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.fixed_dictionaries(
                {
                    "type": st.just("object"),
                    "properties": st.dictionaries(st.text(max_size=4), inner, max_size=3),
                },
                optional={"required": st.lists(st.text(max_size=4), max_size=2)},
            ),
            st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=3)}),
            st.fixed_dictionaries({"allOf": st.lists(inner, min_size=1, max_size=2)}),
            st.fixed_dictionaries({"type": st.just("array"), "items": inner}),
        ),
        max_leaves=8,
    )


@given(schemas(), st.data())
def test_any_schema_has_a_form_that_takes_any_text(schema: dict[str, Any], data: st.DataObject) -> None:
    """Nothing that a schema says or a person types is an error of ours; what comes out is JSON."""
    form = form_of({"type": "object", "properties": {"value": schema}, "$defs": {"self": schema}})
    names = [field.name for field in all_fields(form)]
    assert len(set(names)) == len(names)
    texts = texts_of(form) | {
        name: data.draw(st.one_of(st.text(max_size=6), st.sampled_from(["1", "true", "on", '"a"', "null"])))
        for name in names
    }
    payload, wrong = payload_of(form, texts)
    assert isinstance(payload, dict)
    json.dumps(payload)
    assert wrong.keys() <= {field.key for field in all_fields(form)}


OF_64_BITS = st.integers(-(2**63), 2**63 - 1)
FILLED = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)
AN_ADDRESS = st.fixed_dictionaries(
    {"street": FILLED, "is_home": st.booleans()}, optional={"number": st.integers(0, 99)}
)


@given(
    st.fixed_dictionaries(
        {
            "name": FILLED,
            "count": st.integers(-(2**62), 2**62),
            "price": st.one_of(st.integers(0, 99), st.floats(0, 1e6)),
            "is_gift": st.booleans(),
            "colour": st.sampled_from(["red", "blue"]),
            "size": st.sampled_from(["s", "m", 40]),
            "address": AN_ADDRESS,
            "amounts": st.lists(st.integers(0, 9)),
            "either": st.one_of(FILLED, OF_64_BITS),
        },
        optional={
            "comment": FILLED,
            "day": st.dates().map(date.isoformat),
            "second": AN_ADDRESS,
            "labels": st.lists(FILLED, min_size=1),
            "extras": st.dictionaries(FILLED, st.one_of(OF_64_BITS, FILLED), min_size=1),
        },
    )
)
def test_a_payload_that_the_form_shows_is_the_one_that_it_sends(payload: dict[str, Any]) -> None:
    """To the form and back nothing of a payload changes, and it is the model's."""
    Order.model_validate(payload)
    assert payload_of(ORDER, texts_of(ORDER, payload)) == (payload, {})


@pytest.mark.parametrize("name", ["send_email", "process_payment", "send_webhook"])
def test_the_built_in_types_have_forms(name: str) -> None:
    """Each has a field for every member of its payload."""
    __import__("goqueue.actors")
    schema = default().broker.job_types[name].json_schema()
    assert [field.label for field in form_of(schema)] == list(schema["properties"])


def test_parameters_of_a_call_have_a_form() -> None:
    """A schema that was made of a handler's parameters is one as well."""
    schema = TypeAdapter(dict[str, int]).json_schema()
    (field,) = form_of(schema)
    assert (field.kind, schema_form.FIELDS_MAX) == (FieldKind.JSON, 200)


# What stands beside the payload


def test_settings_become_members_of_the_request() -> None:
    """Numbers and times are what they are; what is none stays a text, for the request to refuse."""
    typed = {
        "queue": " email ",
        "priority": "5",
        "delay_seconds": "1.5",
        "available_at": "2031-02-03T04:05",
        "tags": "a, b,,",
        "max_retries": "many",
        "unique_key": "k",
        "concurrency_key": "",
    }
    assert settings_of(typed) == {
        "queue": "email",
        "priority": 5,
        "delay_seconds": 1.5,
        "available_at": "2031-02-03T04:05:00Z",
        "tags": ["a", "b"],
        "max_retries": "many",
        "unique": {"key": "k"},
    }


def test_a_request_is_shown_as_a_form_where_that_can_say_it() -> None:
    """All of it, or none: nothing of a request is lost on the way into the form."""
    document = {
        "type": "t",
        "payload": {},
        "queue": "q",
        "priority": 5,
        "tags": ["a", "b"],
        "unique": {"key": "k"},
    }
    assert texts_of_document(document) == {"queue": "q", "priority": "5", "tags": "a, b", "unique_key": "k"}
    assert texts_of_document(document | {"depends_on": [1]}) is None
    assert texts_of_document(document | {"unique": {"fields": ["a"]}}) is None


def test_a_problem_stands_beside_the_field_that_it_is_about() -> None:
    """Also one within its value; one that is about no field stands on top."""
    wrong = {
        "payload.amount.int": "x",
        "payload.amount.float": "x",
        "tags[1]": "too long",
        "deadline_at": "y",
    }
    assert wrong_beside(["payload.amount", "payload", "tags"], wrong) == {
        "payload.amount": "int: x; float: x",
        "tags": "[1]: too long",
        "": "deadline_at: y",
    }
