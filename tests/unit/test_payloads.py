"""Payloads from Python: the handler gets what was enqueued, or nothing is enqueued."""

from __future__ import annotations

import dataclasses
import enum
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
    computed_field,
    field_serializer,
    field_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

from goqueue.engine.options.job_type import JobType
from goqueue.engine.options.payload_schema import schema_of
from goqueue.errors import InvalidJobError
from goqueue.jobs import RetryPolicy

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]


class Colour(enum.Enum):
    """A choice."""

    RED = "red"
    TWO = 2


class Inner(BaseModel):
    """A model inside another, with an alias and a secret."""

    number: int = Field(alias="theNumber")
    password: SecretStr = SecretStr("inner")


@dataclasses.dataclass
class Data:
    """A dataclass inside a model."""

    amount: Decimal
    inner: Inner
    secret: SecretStr = dataclasses.field(default_factory=lambda: SecretStr("of data"))


@pydantic_dataclass
class Checked:
    """A dataclass of pydantic."""

    when: datetime
    number: int = Field(alias="theNumber", default=1)


class Listed(RootModel[list[Inner]]):
    """A model that is a list."""


class Camel(BaseModel):
    """A model all of whose fields have aliases."""

    model_config = ConfigDict(alias_generator=to_camel)

    first_name: str
    last_name: str = "x"

    @computed_field  # type: ignore[prop-decorator]
    @property
    def full_name(self) -> str:
        """Both names."""
        return f"{self.first_name} {self.last_name}"


class Everything(BaseModel):
    """A model of all that is not plain JSON."""

    model_config = ConfigDict(extra="allow")

    secret: SecretStr
    secret_bytes: SecretBytes
    secret_date: Secret[date]
    raw: bytes
    numbers: set[int]
    fixed: frozenset[str]
    pair: tuple[int, str]
    amount: Decimal
    moment: datetime
    local: datetime
    day: date
    hour: time
    span: timedelta
    colour: Colour
    path: PurePosixPath
    id: uuid.UUID
    inner: list[Inner]
    by_name: dict[str, Inner]
    by_number: dict[int, Colour]
    data: Data
    checked: Checked
    listed: Listed
    camel: Camel
    choice: int = Field(validation_alias=AliasChoices("either", "or"))
    deep: int = Field(validation_alias=AliasPath("a", "b"))
    told: int = Field(serialization_alias="toldOtherwise")
    kind: Literal["a", "b"] = "a"
    maybe: float | None = None


class Hidden(BaseModel):
    """A model with a field that is never written."""

    number: int = Field(default=1, exclude=True)


class Doubled(BaseModel):
    """A model whose serializer changes the value."""

    number: int

    @field_serializer("number")
    def _double(self, number: int) -> int:
        return number * 2


class Stripped(BaseModel):
    """A model whose validator changes the value again and again."""

    number: int

    @field_validator("number")
    @classmethod
    def _add(cls, number: int) -> int:
        return number + 1


class Loose(BaseModel):
    """A model with a field of any type."""

    value: Any = None


class Number(BaseModel):
    """A model with a number."""

    number: float


class Harmful(BaseModel):
    """A model whose validator raises what is no refusal."""

    how: str

    @field_validator("how")
    @classmethod
    def _do_harm(cls, how: str) -> str:
        made: BaseException = {
            "error": RuntimeError("hunter2"),
            "exit": SystemExit(3),
            "recursion": RecursionError(),
            "generator": GeneratorExit(),
            "type": TypeError("x"),
        }[how]
        raise made


class Keyed(TypedDict):
    """A payload that stays a mapping."""

    moment: datetime
    inner: Inner


def by_everything(payload: Everything) -> Unknown: ...  # noqa: D103
def by_camel(payload: Camel) -> None: ...  # noqa: D103
def by_data(payload: Data) -> None: ...  # noqa: D103
def by_checked(payload: Checked) -> None: ...  # noqa: D103
def by_listed(payload: Listed) -> None: ...  # noqa: D103
def by_hidden(payload: Hidden) -> None: ...  # noqa: D103
def by_doubled(payload: Doubled) -> None: ...  # noqa: D103
def by_stripped(payload: Stripped) -> None: ...  # noqa: D103
def by_loose(payload: Loose) -> None: ...  # noqa: D103
def by_number(payload: Number) -> None: ...  # noqa: D103
def by_harmful(payload: Harmful) -> None: ...  # noqa: D103
def by_keyed(payload: Keyed) -> None: ...  # noqa: D103
def by_fields(amount: Decimal, moment: datetime, inner: Inner, raw: bytes = b"") -> None: ...  # noqa: D103
def plain_call(value, other=None): ...  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, D103


def type_of(function: Callable[..., Any]) -> JobType:
    """The job type of a handler."""
    schema, style = schema_of(function)
    return JobType(function.__name__, "q", schema, style, RetryPolicy(), 60.0)


def sent(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the handler gets of what was enqueued."""
    job_type = type_of(function)
    return job_type.arguments(job_type.validated(job_type.payload_of_call(args, kwargs)))


INNER = Inner(theNumber=3, password=SecretStr("pass"))


def everything(**values: Any) -> Everything:
    """A model of everything."""
    return Everything(
        **{
            "secret": "s",
            "secret_bytes": b"sb",
            "secret_date": date(2026, 1, 1),
            "raw": b"raw",
            "numbers": {1, 2, 3},
            "fixed": ["a", "b"],
            "pair": (1, "x"),
            "amount": "1.10",
            "moment": datetime(2026, 1, 1, 1, 2, 3, 4, UTC),
            "local": datetime(2026, 1, 1),  # noqa: DTZ001  (without a zone it is)
            "day": date(2026, 1, 1),
            "hour": time(1, 2),
            "span": timedelta(days=1, microseconds=3),
            "colour": "red",
            "path": "/a/b",
            "id": uuid.UUID(int=5),
            "inner": [INNER],
            "by_name": {"k": INNER},
            "by_number": {7: 2},
            "data": Data(Decimal("2.50"), INNER),
            "checked": Checked(datetime(2026, 1, 1, tzinfo=UTC), theNumber=5),
            "listed": [INNER],
            "camel": Camel(firstName="Ada"),
            "either": 1,
            "a": {"b": 2},
            "told": 3,
            "extra": {"x": [1]},
            **values,
        }
    )


@pytest.mark.parametrize(
    ("function", "payload"),
    [
        (by_everything, everything()),
        (by_everything, everything(maybe=1.5, kind="b")),
        (by_camel, Camel(firstName="Ada", lastName="L")),
        (by_data, Data(Decimal("1.10"), INNER, SecretStr("x"))),
        (by_checked, Checked(datetime(2026, 1, 1, tzinfo=UTC), theNumber=2)),
        (by_listed, Listed([INNER])),
        (by_hidden, Hidden()),
        (by_loose, Loose(value={"a": [1, None, "x"]})),
    ],
    ids=lambda value: type(value).__name__ if not callable(value) else "",
)
def test_the_handler_gets_an_equal_model(function: Callable[..., Any], payload: Any) -> None:
    """Aliases, computed fields, secrets and types that JSON has not come back as they were."""
    assert sent(function, payload) == ((payload,), {})


@given(
    st.builds(
        everything,
        secret=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
        raw=st.binary().filter(lambda raw: not raw.strip(bytes(range(1, 128)))),
        numbers=st.sets(st.integers(-(2**63), 2**63 - 1)),
        amount=st.decimals(allow_nan=False, allow_infinity=False),
        moment=st.datetimes(min_value=datetime(1900, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
        local=st.datetimes(),
        span=st.timedeltas(timedelta(days=-99999), timedelta(days=99999)),
        maybe=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        id=st.uuids(),
    )
)
def test_any_model_comes_back_or_is_refused(payload: Everything) -> None:
    """There is no value that is enqueued and comes back as another."""
    try:
        arguments = sent(by_everything, payload)
    except InvalidJobError:
        return
    assert arguments == ((payload,), {})


def test_arguments_come_back_as_they_were() -> None:
    """Annotated parameters are kept as models are."""
    called = {"amount": Decimal("1.10"), "moment": datetime.now(UTC), "inner": INNER, "raw": b"x"}
    assert sent(by_fields, **called) == ((), called)
    assert sent(by_fields, *called.values()) == ((), called)


def test_a_mapping_may_hold_models() -> None:
    """What is not JSON in a mapping is written as its own type reads it."""
    moment = datetime.now(UTC)
    assert sent(by_keyed, {"moment": moment, "inner": INNER}) == (({"moment": moment, "inner": INNER},), {})


@pytest.mark.parametrize(
    ("function", "args", "field"),
    [
        (by_hidden, (Hidden(number=5),), "payload.number"),
        (by_doubled, (Doubled(number=2),), "payload.number"),
        (by_stripped, (Stripped(number=2),), "payload.number"),
        (by_loose, (Loose(value={1, 2}),), "payload.value"),
        (by_loose, (Loose(value=SecretStr("x")),), "payload.value"),
        (by_loose, (Loose(value=Decimal(1)),), "payload.value"),
        (by_loose, (Loose(value=object()),), "payload"),
        (by_loose, (Loose(value=float("nan")),), "payload.value"),
        (by_number, (Number(number=float("nan")),), "payload.number"),
        (by_number, (Number(number=float("inf")),), "payload.number"),
        (by_number, ({"number": float("-inf")},), "payload.number"),
        (by_everything, (everything(raw=b"\xff"),), "payload"),
        (plain_call, (float("nan"),), "payload.args[0]"),
        (plain_call, ({"a": [float("inf")]},), "payload.args[0].a[0]"),
        (plain_call, (datetime.now(UTC),), "payload"),
        (plain_call, (uuid.uuid4(),), "payload"),
        (plain_call, (Colour.RED,), "payload"),
        (plain_call, (Data(Decimal(1), INNER),), "payload"),
        (plain_call, (INNER,), "payload"),
        (plain_call, (SecretStr("x"),), "payload"),
        (plain_call, (Decimal(1),), "payload"),
        (plain_call, ({1: 2},), "payload"),
    ],
    ids=lambda value: "" if callable(value) else None,
)
def test_what_would_come_back_as_another_is_refused(
    function: Callable[..., Any], args: tuple[Any, ...], field: str
) -> None:
    """A value that JSON or its type changes is an error that names its place."""
    with pytest.raises(InvalidJobError) as caught:
        sent(function, *args)
    assert set(caught.value.fields) == {field}


@pytest.mark.parametrize("how", ["error", "exit", "recursion", "generator", "type"])
def test_a_validator_that_raises_anything_refuses_the_payload(how: str) -> None:
    """The error names the exception and its place, and repeats nothing of its text."""
    with pytest.raises(InvalidJobError) as caught:
        type_of(by_harmful).validated({"how": how})
    assert "its validation failed with " in caught.value.fields["payload"]
    assert "_do_harm" in caught.value.fields["payload"]
    assert "hunter2" not in str(caught.value)


def test_ctrl_c_in_a_validator_is_ctrl_c() -> None:
    """Whoever stops the program stops it."""

    def interrupted(_: Any) -> None:
        raise KeyboardInterrupt

    job_type = type_of(by_number)
    schema: Any = job_type.schema
    schema.validate_json = interrupted
    with pytest.raises(KeyboardInterrupt):
        job_type.validated({"number": 1})


def declared(source: str) -> Any:
    """A function of this source, in a module of its own."""
    names: dict[str, Any] = {"__name__": "shop"}
    exec(source, names)
    return names["handle"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def handle(_x: int): ...", "'_x'"),
        ("def handle(__x__: int, y: int): ...", "'__x__'"),
        ("def handle(model_config: int): ...", "'model_config'"),
        ("def handle(model_fields: int, model_dump: int): ...", "'model_dump', 'model_fields'"),
        ("def handle(x: 'Unknown'): ...", "parameter 'x'"),
        ("from __future__ import annotations\ndef handle(y: int, x: list[Unknown]): ...", "parameter 'x'"),
        ("class Own: ...\ndef handle(x: Own): ...", "no schema"),
        ("class Own: ...\ndef handle(x: Own, y: int): ...", "no schema"),
        ("from typing import Callable\ndef handle(x: Callable, y: int): ...", "no schema"),
        (
            "from pydantic import BaseModel\nclass M(BaseModel):\n x: 'Gone'\ndef handle(m: M): ...",
            "no schema",
        ),
        ("def handle(x: 1): ...", "no schema"),
    ],
    ids=lambda text: text.splitlines()[-1],
)
def test_a_parameter_that_no_payload_can_give_is_refused_at_its_declaration(source: str, said: str) -> None:
    """One error says which parameter it is."""
    with pytest.raises(ValueError, match="handle: ") as caught:
        schema_of(declared(source))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("source", "style"),
    [
        ("def handle(x: int) -> 'Unknown': ...", "fields"),
        ("from __future__ import annotations\ndef handle(x: int) -> list[Unknown]: ...", "fields"),
        ("def handle(x: 'Unknown', y): ...", "call"),
        ("def handle(*x: 'Unknown'): ...", "call"),
        ("def handle(json: int, copy: int, schema: int, dict: int): ...", "fields"),
        ("def handle(self: int, cls: int, args: int, kwargs: int): ...", "fields"),
        ("def handle(model_x: int): ...", "fields"),
    ],
    ids=lambda text: text.splitlines()[-1],
)
def test_a_parameter_that_a_payload_can_give_is_given(source: str, style: str) -> None:
    """What a type checker alone knows hinders nothing, nor does a name that models have as well."""
    job_type = type_of(declared(source))
    assert job_type.style == style
    if style == "fields":
        payload = dict.fromkeys(job_type.json_schema()["properties"], 1)
        assert job_type.arguments(job_type.validated(payload)) == ((), payload)


class Told(Number):
    """A model that is no payload of a handler here, but has its fields."""


class Longer(Number):
    """One that has more than the handler's."""

    more: str


def by_coerced(  # noqa: D103
    seconds: float, colour: Colour, moment: datetime, numbers: set[int], text: str = "x"
) -> None: ...


def test_json_arguments_become_what_the_annotations_say() -> None:
    """What is JSON may be sent where the annotation makes something else of it."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    got = {"seconds": 60.0, "colour": Colour.RED, "moment": moment, "numbers": {1, 2}, "text": "x"}
    assert sent(by_coerced, 60, "red", moment.isoformat(), [1, 2]) == ((), got)
    assert sent(by_coerced, 60, Colour.RED, moment, {1, 2}) == ((), got)
    with pytest.raises(InvalidJobError, match=r"payload\.text"):
        sent(by_coerced, 60, "red", moment, {1, 2}, text=moment)


def test_a_model_of_another_class_is_taken_with_all_of_its_fields() -> None:
    """An object is read as the handler's class where that has its fields, and refused where it lacks one."""
    assert sent(by_number, Told(number=1)) == ((Number(number=1),), {})
    with pytest.raises(InvalidJobError, match=r"payload\.more"):
        sent(by_number, Longer(number=1, more="lost"))


def test_the_fields_of_a_payload_may_be_given_as_arguments() -> None:
    """`actor.send(number=1.5)` is the same as sending the model."""
    assert sent(by_number, number=1.5) == ((Number(number=1.5),), {})
    assert sent(by_camel, firstName="Ada") == ((Camel(firstName="Ada"),), {})
