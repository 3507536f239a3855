"""Whoever a request comes from, and what it may do."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from goqueue.access.scopes import Scope
from goqueue.config.namespaces import DEFAULT_NAMESPACE

__all__ = ["ANYBODY", "NOBODY", "Principal", "User"]

_HASH_SHOWN = 8


@dataclass(frozen=True, slots=True)
class User:
    """A user who signed in to the dashboard at a provider of OpenID Connect.

    Attributes:
        issuer: the provider.
        subject: what the provider calls the user, now and for ever, and nobody else.
        name: what people call the user; others may have the same, and it may change.
    """

    issuer: str
    subject: str
    name: str

    @property
    def host(self) -> str:
        """The host of the provider."""
        return urlsplit(self.issuer).netloc


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever a request comes from: the key that it came with, or the user, and what that allows.

    Attributes:
        name: what the key or the user is called. Keys of one name are of one client; empty: it has no name.
        scopes: all that it may do.
        key_id: of a key that is a row; None: the key is one of the settings, or there is none.
        key_hash: SHA-256 of the key's secret, in hexadecimal; empty: it came without a key.
        queues: the only queues whose jobs exist for it; None: all do.
        types: the same of job types.
        user: who signed in; None: it is no user.
        namespace: the one that its key is of; `default` is the installation itself.
    """

    name: str
    scopes: frozenset[Scope]
    key_id: str | None = None
    key_hash: str = ""
    queues: frozenset[str] | None = None
    types: frozenset[str] | None = None
    user: User | None = None
    namespace: str = DEFAULT_NAMESPACE

    @property
    def is_known(self) -> bool:
        """Whether it has said who it is, by a key or at a provider."""
        return bool(self.key_hash) or self.user is not None

    @property
    def client(self) -> str:
        """The client whose unique keys and idempotency keys it meets; empty: that of all without a name.

        A user is a client alone: people choose their names, and must not become the key of somebody.
        """
        return self.name if self.user is None else f"{self.user.subject} @ {self.user.host}"

    @property
    def label(self) -> str:
        """The label that people know it by: its name, and its key's id or hash, or its provider."""
        if self.user is not None:
            return f"{self.name} ({self.user.host})"
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

    @property
    def governs_namespaces(self) -> bool:
        """Whether it makes, changes and deletes namespaces, and may act in all: an admin of `default`."""
        is_admin = Scope.ADMIN in self.scopes and not self.is_restricted
        return is_admin and self.namespace == DEFAULT_NAMESPACE

    def opens(self, namespace: str) -> bool:
        """Tell whether a namespace exists for it."""
        return self.namespace == namespace or self.governs_namespaces

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
