# ruff: noqa: ANN001, ANN201  (plain Dramatiq code has no annotations)
"""Job types: the schema that annotations give, and payloads that do or do not fit it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from goqueue.engine.options.job_type import JobType, holds_nul, plain, without_nul
from goqueue.engine.options.payload_schema import schema_of
from goqueue.errors import InvalidJobError
from goqueue.jobs import RetryPolicy


class Model(BaseModel):
    """A payload as a model."""

    number: int
    text: str = "x"


@dataclass
class Data:
    """A payload as a dataclass."""

    number: int
    text: str = "x"


class Typed(TypedDict):
    """A payload as a TypedDict."""

    number: int
    text: str


def by_model(payload: Model) -> None: ...  # noqa: D103
def by_dataclass(payload: Data) -> None: ...  # noqa: D103
def by_typed_dict(payload: Typed) -> None: ...  # noqa: D103
def by_fields(number: int, text: Annotated[str, Field(max_length=3)] = "x") -> None: ...  # noqa: D103
def by_keywords(*, number: int) -> None: ...  # noqa: D103
def by_nothing() -> None: ...  # noqa: D103
def plain_call(number, text="x"): ...  # type: ignore[no-untyped-def]  # noqa: D103
def partly(number: int, text="x"): ...  # type: ignore[no-untyped-def]  # noqa: D103
def variadic(*numbers: int, **texts: str) -> None: ...  # noqa: D103


def type_of(function: Any) -> JobType:
    """The job type of a handler."""
    schema, style = schema_of(function)
    return JobType(function.__name__, "q", schema, style, RetryPolicy(), 60.0)


@pytest.mark.parametrize(
    ("function", "style"),
    [
        (by_model, "payload"),
        (by_dataclass, "payload"),
        (by_typed_dict, "payload"),
        (by_fields, "fields"),
        (by_keywords, "fields"),
        (by_nothing, "fields"),
        (plain_call, "call"),
        (partly, "call"),
        (variadic, "call"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_annotations_decide_the_style(function: Any, style: str) -> None:
    """One annotated object is the payload, annotated parameters are its fields, the rest is a plain call."""
    job_type = type_of(function)
    assert job_type.style == style
    assert job_type.json_schema()["type"] == "object"


@pytest.mark.parametrize(
    ("function", "payload", "arguments"),
    [
        (by_model, {"number": 1}, ((Model(number=1),), {})),
        (by_dataclass, {"number": 1, "text": "a"}, ((Data(1, "a"),), {})),
        (by_typed_dict, {"number": 1, "text": "a"}, (({"number": 1, "text": "a"},), {})),
        (by_fields, {"number": 1}, ((), {"number": 1, "text": "x"})),
        (by_keywords, {"number": 1}, ((), {"number": 1})),
        (by_nothing, {}, ((), {})),
        (plain_call, {"args": [1], "kwargs": {"text": "a"}}, ((1,), {"text": "a"})),
        (plain_call, {}, ((), {})),
    ],
)
def test_a_payload_becomes_the_arguments(function: Any, payload: Any, arguments: Any) -> None:
    """The stored text gives the handler its validated arguments."""
    job_type = type_of(function)
    assert job_type.arguments(job_type.validated(payload)) == arguments


@pytest.mark.parametrize(
    ("function", "payload", "fields"),
    [
        (by_model, {}, {"payload.number"}),
        (by_model, {"number": "a", "text": 1}, {"payload.number", "payload.text"}),
        (by_fields, {"number": 1, "text": "long"}, {"payload.text"}),
        (by_fields, {"number": 1, "other": 1}, {"payload.other"}),
        (by_nothing, {"a": 1}, {"payload.a"}),
        (plain_call, {"args": 1}, {"payload.args"}),
        (plain_call, {"other": 1}, {"payload.other"}),
        (by_model, [], {"payload"}),
        (by_model, {1, 2}, {"payload"}),
        (plain_call, {"args": ["a\0b"]}, {"payload"}),
        (plain_call, {"args": ["\udc00"]}, {"payload"}),
    ],
)
def test_what_does_not_fit_is_named(function: Any, payload: Any, fields: set[str]) -> None:
    """Each wrong field is named by its path, and nothing of the payload is repeated."""
    with pytest.raises(InvalidJobError) as caught:
        type_of(function).validated(payload)
    assert set(caught.value.fields) == fields


def test_an_error_does_not_repeat_the_payload() -> None:
    """The text of an invalid payload's error does not hold the payload's values."""
    with pytest.raises(InvalidJobError) as caught:
        type_of(by_model).validated({"number": "hunter2", "text": ["hunter2"]})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        (r'"\u0000"', True),
        (r'"a\\\u0000"', True),
        (r'"\\u0000"', False),
        (r'"\\\\u0000"', False),
        ('"0000"', False),
        ("{}", False),
    ],
)
def test_an_escaped_nul_is_told_from_its_likeness(text: str, holds: bool) -> None:
    """A NUL is found behind any number of escaped backslashes, and only where it is one."""
    import json  # noqa: PLC0415

    assert holds_nul(text) == holds == ("\0" in str(json.loads(text)))
    assert "\0" not in str(json.loads(without_nul(text)))


def test_models_and_dataclasses_become_plain_values() -> None:
    """What is stored is JSON, whatever object the caller had."""
    assert plain(Model(number=1)) == plain(Data(1)) == {"number": 1, "text": "x"}
    assert plain([1]) == [1]


def test_models_inside_a_payload_have_names_of_their_own() -> None:
    """In the API's description a model inside a payload is not taken for the API's, or for another type's."""

    class JobStatus(BaseModel):
        """A model whose name the API has as well."""

        word: str

    def handler(status: JobStatus) -> None: ...

    handler.__annotations__["status"] = list[JobStatus]
    schema, style = schema_of(handler)
    schemas = JobType("handler", "q", schema, style, RetryPolicy(), 60.0).components()
    assert set(schemas) == {"payload_of_handler", "payload_of_handler.JobStatus"}
    items = schemas["payload_of_handler"]["properties"]["status"]["items"]
    assert items == {"$ref": "#/components/schemas/payload_of_handler.JobStatus"}
