"""Whoever a request comes from, and what it may do."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from goqueue.access.scopes import Scope

__all__ = ["ANYBODY", "NOBODY", "Principal"]

_HASH_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever a request comes from: the key that it came with, and what that allows.

    Attributes:
        name: what the key is called. Keys of one name are of one client; empty: it has no name.
        scopes: all that it may do.
        key_id: of a key that is a row; None: the key is one of the settings, or there is none.
        key_hash: SHA-256 of the key's secret, in hexadecimal; empty: it came without a key.
        queues: the only queues whose jobs exist for it; None: all do.
        types: the same of job types.
    """

    name: str
    scopes: frozenset[Scope]
    key_id: str | None = None
    key_hash: str = ""
    queues: frozenset[str] | None = None
    types: frozenset[str] | None = None

    @property
    def label(self) -> str:
        """The label that people know it by: its name and the id of its key, or how its hash begins."""
        if self.key_id is not None:
            return f"{self.name} ({self.key_id})"
        return self.name or (f"{self.key_hash[:_HASH_SHOWN]}…" if self.key_hash else "anybody")

    @property
    def is_restricted(self) -> bool:
        """Whether only jobs of some queues or types exist for it."""
        return self.queues is not None or self.types is not None

    @property
    def reads_contents(self) -> bool:
        """Whether it may read what jobs hold: payloads, results, texts of errors, logs.

        The one answer to that question, for API, dashboard, events and search alike.
        """
        return Scope.PAYLOADS_READ in self.scopes

    def may(self, scope: Scope) -> bool:
        """Tell whether it has a scope."""
        return scope in self.scopes

    def sees(self, queue: str | None, type_name: str | None) -> bool:
        """Tell whether a job of this queue and type exists for it; None is any that there is."""
        return _has(self.queues, queue) and _has(self.types, type_name)


def _has(allowed: Collection[str] | None, name: str | None) -> bool:
    return allowed is None or (name is not None and name in allowed)


#: Whoever reaches a service that needs no keys.
ANYBODY = Principal("", frozenset(Scope))

#: Whoever has not said who it is, to a service that needs a key.
NOBODY = Principal("", frozenset())
