"""The jobs that a worker process can run: types, with hashes of their schemas, labels, and its threads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import orjson

from goqueue.config.labels import satisfies
from goqueue.jobs import MAX_SLOTS

__all__ = ["KnownTypes", "schema_hash"]

#: Lists whose order means something, by the key of the JSON schema that they stand under.
_ORDERED = frozenset({"prefixItems"})


class KnownTypes:
    """The names of the job types that a process can run, aliases among them, each with its schema's hash.

    Attributes:
        labels: what the process is, as `name=value`, and its version: it runs jobs that require no more.
        slots: how many threads it has: it can run the jobs that take no more.
        async_types: which of the types are async, sorted.
        async_slots: how many slots there are for jobs of these, instead of threads.
    """

    def __init__(
        self,
        schemas: Mapping[str, str],
        *,
        labels: Iterable[str] = (),
        slots: int = 1,
        async_types: Iterable[str] = (),
        async_slots: int = 0,
    ) -> None:
        self._schemas = dict(sorted(schemas.items()))
        self.labels = tuple(sorted(labels))
        self.slots = slots
        self.async_types = tuple(sorted(async_types))
        self.async_slots = async_slots if self.async_types else 0

    @cached_property
    def types(self) -> tuple[str, ...]:
        """The names of the types, sorted."""
        return tuple(self._schemas)

    @cached_property
    def schemas(self) -> tuple[str, ...]:
        """The hashes of the types' schemas, in the order of their names."""
        return tuple(self._schemas.values())

    @cached_property
    def signature(self) -> str:
        """A digest that two processes share exactly if they can run the same jobs."""
        of_async = [*self.async_types, self.async_slots] if self.async_types else []
        return _digest([*self.types, *self.schemas, *self.labels, self.slots, *of_async])

    @cached_property
    def alone(self) -> KnownTypes:
        """The jobs that the process can run alone: such a job has all of it, however many slots it takes."""
        return KnownTypes(self._schemas, labels=self.labels, slots=MAX_SLOTS)

    def slots_for(self, type_name: str) -> int:
        """The most slots that a job of a type may take: threads, or slots of the event loop."""
        return self.async_slots if type_name in self.async_types else self.slots

    @property
    def slots_for_any(self) -> int:
        """The most slots that a job may take whatever its type."""
        return min(self.slots, self.async_slots) if self.async_types else self.slots

    def holds(self, type_name: str, requires: Iterable[str] | None, slots: int) -> bool:
        """Tell whether the process has the labels that a job requires (None: any), and so many slots."""
        return requires is None or (slots <= self.slots_for(type_name) and satisfies(self.labels, requires))

    def __getitem__(self, type_name: str) -> str:
        """The hash of a type's schema.

        Raises:
            KeyError: the type is not known.
        """
        return self._schemas[type_name]

    def __contains__(self, type_name: object) -> bool:
        """Whether the type is known."""
        return type_name in self._schemas


def schema_hash(type_name: str, schema: Any) -> str:
    """Return a hash that tells versions of a type's JSON schema apart: the same in every process.

    The type's name is part of it, so a hash belongs to one type. The order of members, and of lists that are
    sets in truth (required fields, defaults that are sets), plays no part: it may differ by process.
    """
    return _digest([type_name, _canonical(schema)])


def _canonical(value: Any, *, ordered: bool = False) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _canonical(member, ordered=key in _ORDERED) for key, member in value.items()}
    if isinstance(value, list | tuple):
        members = [_canonical(member) for member in value]
        return members if ordered else sorted(members, key=_written)
    return value


def _written(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS, default=repr)


def _digest(value: Any) -> str:
    return hashlib.sha256(_written(value)).hexdigest()[:16]
