"""A job type: its name, its payload's schema, and how it is retried and limited."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson
import structlog
from pydantic import BaseModel, ValidationError
from pydantic.errors import PydanticUserError

from goqueue.config.bounds import MAX_DEPTH, is_nested_deeper
from goqueue.contents.payload_keys import ENVELOPE
from goqueue.contents.redaction import REDACTED, marker_in
from goqueue.engine import fingerprints
from goqueue.engine.options.batch import Batch
from goqueue.engine.options.known_types import schema_hash
from goqueue.engine.options.payloads import (
    ConvertedPayload,
    PayloadSchema,
    argument_lost,
    difference,
    not_finite,
    payload_of,
    value_of,
)
from goqueue.engine.options.uniqueness import Unique
from goqueue.errors import InvalidJobError
from goqueue.jobs import RetryPolicy
from goqueue.observability.exception_reader import ExceptionReader, frames_of

# An escaped NUL: a backslash that is not itself escaped, and u0000.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")

log = structlog.get_logger(__name__)

#: Where more is wrong, only their number is told: each takes a kilobyte to say where it is.
MAX_LISTED_PROBLEMS = 5_000

#: The name under which a follow-up shows arguments that are no JSON: it is a dead letter to be.
UNSENDABLE = "goqueue_unsendable"

#: The name of the member that envelopes have, as JSON.
_ENVELOPE = f'"{ENVELOPE}"'

#: JSON and nothing that only orjson takes for it: what comes back is what went in.
_STRICT_JSON = json.JSONEncoder(allow_nan=True).encode
_AS_IT_IS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class JobType:
    """A declared job type, with all that a create and a worker need to know of it.

    Attributes:
        name: the type's name, which is the actor's.
        queue: where its jobs go when they do not say.
        schema: validates a payload; its JSON schema is the payload's description.
        style: how the handler is called: with the validated payload itself, with its fields as keywords, or
            with the arguments of a plain Dramatiq call.
        unique: which of its jobs are alike, where they do not say.
        rerun_after_death: a job whose worker process died in the middle of it runs again; else it is failed.
        signature: what a plain Dramatiq call may be; None where the payload's schema says it.
        injected: the parameters of the handler that a worker fills in: no payload may.
        requires: the labels that a worker of its jobs has to have, where they do not say, as `name=value`.
        slots: how many threads of its worker a job takes that does not say.
        batch: how its jobs are collected into batches; None: each runs by itself.
        encrypt: what its jobs hold is encrypted in their rows.
        redact: names of fields, in lower case, that nobody but the handler sees.
        fingerprint: a keyed hash of payloads of encrypted jobs, for unique keys; None: they are not.
        is_remote: it was declared from outside of Python code: its payloads are JSON values and no more.
    """

    name: str
    queue: str
    schema: PayloadSchema
    style: typing.Literal["payload", "fields", "call"]
    retry: RetryPolicy
    time_limit_seconds: float
    unique: Unique | None = None
    rerun_after_death: bool = True
    signature: inspect.Signature | None = None
    injected: frozenset[str] = frozenset()
    requires: tuple[str, ...] = ()
    slots: int = 1
    batch: Batch | None = None
    encrypt: bool = False
    redact: frozenset[str] = frozenset()
    fingerprint: Callable[[bytes], str] | None = None
    is_remote: bool = False

    def validated(self, payload: Any) -> str:
        """Return the payload as the JSON text that is stored, after it passed the schema.

        Raises:
            InvalidJobError: with the wrong fields, named `payload.…`.
        """
        text = self._written(payload)
        # A single character is looked for ten times as fast as a name.
        if "$" in text or self.redact:
            refuse_markers(text, self.redact)
        if holds_nul(text):
            raise InvalidJobError({"payload": "it holds a NUL character, which PostgreSQL cannot keep"})
        if is_nested_deeper(text.encode(), MAX_DEPTH):
            raise InvalidJobError({"payload": f"it is nested deeper than {MAX_DEPTH} levels"})
        # orjson writes what is no number as null.
        if "null" in text and (place := not_finite(payload)) is not None:
            raise InvalidJobError({place: "expected a finite number: JSON has no other"})
        read = self._parsed_at_create(text)
        given = payload.original if isinstance(payload, ConvertedPayload) and not self.is_remote else None
        if given is not None and (place := self._lost(given, read)) is not None:
            raise InvalidJobError({place: "expected a value that its type reads back from JSON as the same"})
        return text

    def _written(self, payload: Any) -> str:
        try:
            if self.style == "call":
                # Its handler has no type that would make a datetime of a text again.
                _STRICT_JSON(payload)
                return orjson.dumps(payload, option=_AS_IT_IS).decode()
            return orjson.dumps(payload, default=_nested).decode()
        except InvalidJobError:
            raise
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidJobError({"payload": f"it is not JSON: {error}"}) from None

    def _parsed_at_create(self, text: str) -> Any:
        """As `parse`; a validator of the model that raises anything else refuses the payload, too."""
        try:
            return self.parse(text)
        except InvalidJobError:
            raise
        except (Exception, SystemExit, GeneratorExit) as error:  # noqa: BLE001  (not an interrupt, not Ctrl-C)
            reader = ExceptionReader(error)
            place = fingerprints.own_frame(frames_of(error))
            log.warning("payload_validator_failed", type=self.name, error=reader.qualified_name, place=place)
            wrong = f"its validation failed with {reader.qualified_name}"
            raise InvalidJobError({"payload": wrong if place is None else f"{wrong} in {place}"}) from None

    def _lost(self, given: Any, read: Any) -> str | None:
        """The path at which the handler would not get what was given; None: there is none."""
        try:
            if self.style == "payload":
                return difference(given, read)
            if not isinstance(given, Mapping):
                return None
            values = [(name, value, _field(read, name)) for name, value in given.items()]
            lost = (argument_lost(value, got, f"payload.{name}") for name, value, got in values)
            return next((place for place in lost if place is not None), None)
        except Exception:  # noqa: BLE001  (equality of users' classes)
            return None

    def parse(self, text: str | bytes) -> Any:
        """Read and validate the payload of a stored text.

        Raises:
            InvalidJobError: with the wrong fields, named `payload.…`.
        """
        try:
            payload = self.schema.validate_json(text)
        except ValidationError as error:
            raise InvalidJobError(_fields(error)) from None
        if self.injected and self.style == "call" and (taken := self.injected & payload.kwargs.keys()):
            raise InvalidJobError({f"payload.kwargs.{name}": "a worker fills it in" for name in taken})
        return payload

    def arguments(self, text: str) -> Arguments:
        """Return the arguments that the handler is called with.

        Raises:
            InvalidJobError: the payload does not fit, or stands for one that could not be written.
        """
        if is_unsendable(text):
            raise InvalidJobError({"payload": "what was sent is not JSON"})
        payload = self.parse(text)
        if self.style == "payload":
            return (payload,), {}
        if self.style == "fields":
            return (), {name: getattr(payload, name) for name in type(payload).model_fields}
        return tuple(payload.args), payload.kwargs

    def payload_of_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return the payload of `actor.send(*args, **kwargs)`.

        Raises:
            InvalidJobError: the call does not fit a typed payload.
        """
        if self.style == "call":
            return {"args": list(args), "kwargs": dict(kwargs)}
        if len(args) == 1 and not kwargs:
            payload = payload_of(args[0])
            if self.style == "payload" or isinstance(payload, Mapping):
                return payload
        if args and self.style == "payload":
            raise InvalidJobError({"payload": "expected one payload or its fields as keywords"})
        return self._fields_of_call(args, kwargs)

    def _fields_of_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that positional and keyword arguments stand for, as Python binds them."""
        names = list(self.json_schema().get("properties", {})) if args else []
        if len(args) > len(names) or not kwargs.keys().isdisjoint(names[: len(args)]):
            raise InvalidJobError({"payload": f"expected the arguments {', '.join(names)}, each once"})
        called = {**dict(zip(names, args, strict=False)), **kwargs}
        payload = ConvertedPayload({name: value_of(value) for name, value in called.items()})
        if self.style == "fields":
            payload.original = called
        return payload

    def takes(self, text: str) -> bool:
        """Tell whether the handler can be called with the arguments of a stored payload.

        Only a plain Dramatiq call may refuse some; for the other styles the schema has decided.
        """
        if self.signature is None:
            return True
        args, kwargs = self.arguments(text)
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError:
            return False
        return True

    @cached_property
    def list_field(self) -> str | None:
        """The parameter of a handler that takes one list and nothing else; None: it takes something else."""
        if self.style != "fields":
            return None
        members = self.json_schema().get("properties", {})
        names = [name for name, member in members.items() if member.get("type") == "array"]
        return names[0] if len(members) == len(names) == 1 else None

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON schema of the payload."""
        return self.schema.json_schema()

    def schema_hash(self) -> str:
        """Return a hash that tells versions of this type apart by the payloads that they take.

        Where pydantic knows no JSON schema for a payload, only a handler's parameters tell them apart.
        """
        parameters = self.signature.parameters.values() if self.signature else ()
        called = [f"{p.name} {p.kind.name} {p.default is inspect.Parameter.empty}" for p in parameters]
        try:
            return schema_hash(self.name, {"schema": self.json_schema(), "prefixItems": called})
        except PydanticUserError:
            return schema_hash(self.name, {"prefixItems": called})

    def components(self) -> dict[str, dict[str, Any]]:
        """Return the payload's schema as components of an OpenAPI document, under names of its own."""
        name = f"payload_of_{self.name}"
        schema = self.schema.json_schema(ref_template=f"#/components/schemas/{name}.{{model}}")
        inner = {f"{name}.{model}": found for model, found in schema.pop("$defs", {}).items()}
        return {name: schema} | inner


def refuse_markers(text: str, redact: Collection[str]) -> None:
    """Refuse a payload that looks like an encrypted one, or has a marker where a redacted value belongs.

    Raises:
        InvalidJobError: it does.
    """
    if _ENVELOPE in text and ENVELOPE in orjson.loads(text):
        raise InvalidJobError({f"payload.{ENVELOPE}": "this name is GoQueue's own"})
    if redact and REDACTED in text and (path := marker_in(orjson.loads(text), redact)) is not None:
        raise InvalidJobError({path: f"expected a value: {REDACTED} stands for one that is not shown"})


def is_unsendable(text: str) -> bool:
    """Tell whether a stored payload stands for arguments that could not be written, so nobody can read it."""
    return text.startswith(f'{{"{UNSENDABLE}":')


def holds_nul(text: str) -> bool:
    """Tell whether a JSON text holds an escaped NUL, which PostgreSQL keeps in no text."""
    return "\\u0000" in text and _NUL.search(text) is not None


def without_nul(text: str) -> str:
    """Return a JSON text with its NULs made visible."""
    return _NUL.sub(lambda match: match[0].removesuffix("\\u0000") + "\N{SYMBOL FOR NULL}", text)


def plain(payload: Any) -> Any:
    """Return a payload as JSON values: models and dataclasses become objects."""
    if isinstance(payload, BaseModel):
        return payload.model_dump(mode="json")
    if dataclasses.is_dataclass(payload) and not isinstance(payload, type):
        return dataclasses.asdict(payload)
    return payload


def _nested(value: Any) -> Any:
    """A model or dataclass somewhere in a mapping."""
    if isinstance(value, BaseModel) or dataclasses.is_dataclass(value):
        return value_of(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def _field(read: Any, name: str) -> Any:
    return read.get(name) if isinstance(read, Mapping) else getattr(read, name, None)


def _fields(error: ValidationError) -> dict[str, str]:
    if error.error_count() > MAX_LISTED_PROBLEMS:
        return {"payload": f"{error.error_count():,} values are wrong"}
    return {
        ".".join(["payload", *map(str, item["loc"])]): item["msg"]
        for item in error.errors(include_url=False, include_input=False, include_context=False)
    }
