"""Job types whose handlers take many jobs at once: how batches are collected, and of which payloads."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import TypeAdapter

from goqueue.config.bounds import is_number
from goqueue.engine.options.injection import payload_signature
from goqueue.engine.options.payload_schema import hints_of, is_object, usable_schema

__all__ = ["MAX_BATCH_BYTES", "MAX_BATCH_SIZE", "MAX_BATCH_WAIT_MS", "Batch", "batch_schema_of"]

MAX_BATCH_SIZE = 10_000
MAX_BATCH_BYTES = 1 << 30

#: A batch that fills keeps a thread of its worker: who wants to collect for longer lets the jobs do it, by
#: `Unique(mode="collect")`.
MAX_BATCH_WAIT_MS = 10_000

_OBJECTS = (dict, Mapping, typing.Any, object)


@dataclass(frozen=True)
class Batch:
    """Collects claimed jobs of a type, so that its handler is called once for all of them.

    Args:
        size: the most jobs of a batch.
        wait_ms: how long a batch waits for further jobs, from its first one on; 0: it takes what is there.
        key: the payload field whose value all jobs of a batch share, dotted where it lies deeper
            (`customer.id`). Jobs without it are of one key. It is read from the JSON, before the payload is
            validated: no code of a user runs in the thread that claims.
        bytes: the most bytes of payload of a batch, as JSON; a job that alone has more runs alone.
    """

    size: int = 100
    wait_ms: float = 50
    key: str | None = None
    bytes: int | None = None

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong with it, by option."""
        yield from _problems_of_count("size", self.size, MAX_BATCH_SIZE)
        if self.bytes is not None:
            yield from _problems_of_count("bytes", self.bytes, MAX_BATCH_BYTES)
        if not is_number(self.wait_ms, 0, MAX_BATCH_WAIT_MS):
            yield "wait_ms", f"expected 0 to {MAX_BATCH_WAIT_MS:,} milliseconds, got {self.wait_ms!r}"
        if self.key is not None and not (isinstance(self.key, str) and all(self.key.split("."))):
            yield "key", f"expected the name of a payload field, got {self.key!r}"

    def key_of(self, payload: str) -> str:
        """Return what the batches of a payload have in common, as canonical JSON; empty: it has no key."""
        if self.key is None:
            return ""
        try:
            value: Any = orjson.loads(payload)
        except ValueError:
            # A number beyond all bounds, written by SQL: the validation of its job says what is wrong.
            return ""
        for name in self.key.split("."):
            if not isinstance(value, dict) or name not in value:
                return ""
            value = value[name]
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()

    def expect_key_in(self, schema: Mapping[str, Any]) -> None:
        """Refuse a key that no payload of a schema has.

        Raises:
            ValueError: the schema's payloads have no such field.
        """
        fields = schema.get("properties")
        first = None if self.key is None else self.key.partition(".")[0]
        if first is not None and fields is not None and first not in fields:
            raise ValueError(f"batch: key: no payload has a field {first!r}: there are {', '.join(fields)}")


def _problems_of_count(name: str, value: Any, most: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        yield name, f"expected a whole number from 1 to {most:,}, got {value!r}"


def batch_schema_of(function: Callable[..., Any]) -> TypeAdapter[Any]:
    """Return the schema of a single payload, read from a handler that takes a list of them.

    Raises:
        ValueError: the handler does not take one list of objects beside what is injected.
    """
    parameters = list(payload_signature(function).parameters.values())
    by_position = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    wrong = f"{function.__qualname__}: a batch handler takes one list of payloads"
    if len(parameters) != 1 or parameters[0].kind not in by_position:
        raise ValueError(wrong)
    name = parameters[0].name
    annotated = inspect.get_annotations(function)
    annotation = hints_of(function, {name: annotated[name]})[name] if name in annotated else list
    payload = _payload_in(annotation)
    if payload is None:
        raise ValueError(f"{wrong}, each a model, a dataclass, a TypedDict or a dict; got {annotation!r}")
    return usable_schema(function, lambda: payload)


def _payload_in(annotation: Any) -> Any:
    """What the elements of an annotated list are; None: they are no objects, or it is no list."""
    origin = typing.get_origin(annotation) or annotation
    if origin is not list and (not isinstance(origin, type) or not issubclass(list, origin)):
        return None
    (payload,) = typing.get_args(annotation) or (typing.Any,)
    if is_object(payload):
        return payload
    of_payload = typing.get_origin(payload) or payload
    if of_payload not in _OBJECTS:
        return None
    return payload if typing.get_args(payload) else dict[str, Any]
