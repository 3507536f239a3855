"""Whoever makes a change: a key or a user over HTTP, somebody at a terminal, a program, or the service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Actor", "ActorKind", "acting_as", "current_actor", "set_actor_of_process"]


class ActorKind(StrEnum):
    """The kinds of those who change something."""

    #: An API key, over REST or on the dashboard.
    KEY = "key"
    #: Somebody who signed in to the dashboard at a provider of OpenID Connect.
    USER = "user"
    #: Whoever reaches a service that needs no key.
    ANYBODY = "anybody"
    #: The command line.
    TERMINAL = "terminal"
    #: A program that uses GoQueue from Python, a handler among them.
    PROGRAM = "program"
    #: The background roles: a breaker that opens, a pause that is over.
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Actor:
    """Whoever makes a change.

    Attributes:
        name: of the key, of the user, of the program.
        key_id: of a key that is a row.
        address: the address that a request came from, or the host of a terminal or a program.
        request_id: as the log lines and the answer of the request have it.
        issuer: of a user: the provider that said who that is.
        subject: of a user: what the provider calls that one, for ever.
    """

    kind: ActorKind
    name: str
    key_id: str | None = None
    address: str | None = None
    request_id: str | None = None
    issuer: str | None = None
    subject: str | None = None


class _Process:
    """Who acts in this process, where nobody else is said to."""

    actor = Actor(ActorKind.PROGRAM, "python")


_acting: ContextVar[Actor | None] = ContextVar("goqueue_actor", default=None)


def current_actor() -> Actor:
    """Return who makes the changes that are made here and now."""
    return _acting.get() or _Process.actor


def set_actor_of_process(actor: Actor) -> None:
    """Say who makes the changes of this process, where nobody else is said to."""
    _Process.actor = actor


@contextmanager
def acting_as(actor: Actor) -> Iterator[None]:
    """Let the changes inside of the block be somebody's; of this thread, or of this task, alone."""
    token = _acting.set(actor)
    try:
        yield
    finally:
        _acting.reset(token)
