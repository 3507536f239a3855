"""A job type: its name, its payload's schema, and how it is retried and limited."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import (
    BaseModel,
    ConfigDict,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
    create_model,
)
from typing_extensions import is_typeddict

from goqueue.errors import InvalidJobError
from goqueue.jobs import RetryPolicy
from goqueue.rules.known_types import schema_hash
from goqueue.rules.uniqueness import Unique

# An escaped NUL: a backslash that is not itself escaped, and u0000.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class CallPayload(BaseModel):
    """The payload of a plain Dramatiq actor: the arguments of the call."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    args: list[Any] = []
    kwargs: dict[str, Any] = {}


@dataclass(frozen=True)
class JobType:
    """What is known of a declared job type.

    Attributes:
        name: the type's name, which is the actor's.
        queue: where its jobs go when they do not say.
        schema: validates a payload; its JSON schema is the payload's description.
        style: how the handler is called: with the validated payload itself, with its fields as keywords, or
            with the arguments of a plain Dramatiq call.
        unique: which of its jobs are alike, where they do not say.
        signature: what a plain Dramatiq call may be; None where the payload's schema says it.
    """

    name: str
    queue: str
    schema: TypeAdapter[Any]
    style: typing.Literal["payload", "fields", "call"]
    retry: RetryPolicy
    time_limit_seconds: float
    unique: Unique | None = None
    signature: inspect.Signature | None = None

    def validated(self, payload: Any) -> str:
        """The payload as the JSON text that is stored, after it passed the schema.

        Raises:
            InvalidJobError: with the wrong fields, named `payload.…`.
        """
        try:
            text = orjson.dumps(payload).decode()
        except TypeError as error:
            raise InvalidJobError({"payload": f"it is not JSON: {error}"}) from None
        if holds_nul(text):
            raise InvalidJobError({"payload": "it holds a NUL character, which PostgreSQL cannot keep"})
        self.parse(text)
        return text

    def parse(self, text: str | bytes) -> Any:
        """The validated payload of a stored text.

        Raises:
            InvalidJobError: with the wrong fields, named `payload.…`.
        """
        try:
            return self.schema.validate_json(text)
        except ValidationError as error:
            raise InvalidJobError(_fields(error)) from None

    def arguments(self, text: str) -> Arguments:
        """The arguments that the handler is called with."""
        payload = self.parse(text)
        if self.style == "payload":
            return (payload,), {}
        if self.style == "fields":
            return (), {name: getattr(payload, name) for name in type(payload).model_fields}
        return tuple(payload.args), payload.kwargs

    def payload_of_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The payload of `actor.send(*args, **kwargs)`.

        Raises:
            InvalidJobError: the call does not fit a typed payload.
        """
        if self.style == "call":
            return {"args": list(args), "kwargs": dict(kwargs)}
        if len(args) == 1 and not kwargs and (self.style == "payload" or isinstance(plain(args[0]), Mapping)):
            return plain(args[0])
        if args and self.style == "payload":
            raise InvalidJobError({"payload": "expected one payload or its fields as keywords"})
        return self._fields_of_call(args, kwargs)

    def _fields_of_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that positional and keyword arguments stand for, as Python binds them."""
        names = list(self.json_schema().get("properties", {})) if args else []
        if len(args) > len(names) or not kwargs.keys().isdisjoint(names[: len(args)]):
            raise InvalidJobError({"payload": f"expected the arguments {', '.join(names)}, each once"})
        called = {**dict(zip(names, args, strict=False)), **kwargs}
        return {name: plain(value) for name, value in called.items()}

    def takes(self, text: str) -> bool:
        """Whether a plain Dramatiq call can be called with the arguments of a stored payload."""
        if self.signature is None:
            return True
        args, kwargs = self.arguments(text)
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError:
            return False
        return True

    def json_schema(self) -> dict[str, Any]:
        """The JSON schema of the payload."""
        return self.schema.json_schema()

    def schema_hash(self) -> str:
        """A hash that tells versions of this type apart by the payloads that they take.

        Where pydantic knows no JSON schema for a payload, only a handler's parameters tell them apart.
        """
        parameters = self.signature.parameters.values() if self.signature else ()
        called = [f"{p.name} {p.kind.name} {p.default is inspect.Parameter.empty}" for p in parameters]
        try:
            return schema_hash(self.name, {"schema": self.json_schema(), "prefixItems": called})
        except PydanticUserError:
            return schema_hash(self.name, {"prefixItems": called})

    def components(self) -> dict[str, dict[str, Any]]:
        """The same as schemas of the API's description, under names that no other type's schemas have."""
        name = f"payload_of_{self.name}"
        schema = self.schema.json_schema(ref_template=f"#/components/schemas/{name}.{{model}}")
        inner = {f"{name}.{model}": found for model, found in schema.pop("$defs", {}).items()}
        return {name: schema} | inner


def holds_nul(text: str) -> bool:
    """Whether a JSON text holds an escaped NUL, which PostgreSQL keeps in no text."""
    return "\\u0000" in text and _NUL.search(text) is not None


def without_nul(text: str) -> str:
    """A JSON text with its NULs made visible."""
    return _NUL.sub(lambda match: match[0].removesuffix("\\u0000") + "\N{SYMBOL FOR NULL}", text)


def plain(payload: Any) -> Any:
    """A payload as JSON values: models and dataclasses become objects."""
    if isinstance(payload, BaseModel):
        return payload.model_dump(mode="json")
    if dataclasses.is_dataclass(payload) and not isinstance(payload, type):
        return dataclasses.asdict(payload)
    return payload


def schema_of(
    function: Callable[..., Any],
) -> tuple[TypeAdapter[Any], typing.Literal["payload", "fields", "call"]]:
    """The payload's schema, read from the handler's annotations.

    One parameter annotated with a model, dataclass or TypedDict is the payload; several annotated ones are
    its fields; anything else is called as plain Dramatiq would.
    """
    parameters = list(inspect.signature(function).parameters.values())
    hints = typing.get_type_hints(function, include_extras=True)
    if len(parameters) == 1 and _is_object(hints.get(parameters[0].name)):
        return TypeAdapter(hints[parameters[0].name]), "payload"
    named = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    if all(p.kind in named and p.name in hints for p in parameters):
        return TypeAdapter(_model_of(function.__name__, parameters, hints)), "fields"
    return TypeAdapter(CallPayload), "call"


def _is_object(annotation: Any) -> bool:
    return isinstance(annotation, type) and (
        issubclass(annotation, BaseModel) or dataclasses.is_dataclass(annotation) or is_typeddict(annotation)
    )


def _model_of(name: str, parameters: list[inspect.Parameter], hints: dict[str, Any]) -> type[BaseModel]:
    fields: dict[str, Any] = {
        p.name: (hints[p.name], ... if p.default is inspect.Parameter.empty else p.default)
        for p in parameters
    }
    config = ConfigDict(extra="forbid", hide_input_in_errors=True)
    return create_model(f"{name}_payload", __config__=config, **fields)


def _fields(error: ValidationError) -> dict[str, str]:
    return {
        ".".join(["payload", *map(str, item["loc"])]): item["msg"]
        for item in error.errors(include_url=False, include_input=False, include_context=False)
    }
