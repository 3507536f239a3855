"""Questions of a resource about the key of its request, where the table of operations cannot ask them."""

from __future__ import annotations

import falcon

from goqueue.access.principal import Principal
from goqueue.access.scopes import Scope
from goqueue.api.frame.security import principal_of
from goqueue.engine.listing.filters import JobFilter
from goqueue.errors import ForbiddenError

__all__ = ["expect_scope", "expect_sees", "narrowed"]


def expect_scope(principal: Principal, scope: Scope) -> None:
    """Refuse what a key does not allow.

    Raises:
        ForbiddenError: it has not the scope.
    """
    if not principal.may(scope):
        raise ForbiddenError(f"this key has not the scope {scope}")


def expect_sees(principal: Principal, queue: str, type_name: str) -> None:
    """Refuse a job that a key may not create.

    Raises:
        ForbiddenError: the key is restricted to other queues or types.
    """
    if not principal.sees(queue, type_name):
        raise ForbiddenError(f"this key is not for jobs of the type {type_name!r} in the queue {queue!r}")


def narrowed(request: falcon.Request, wanted: JobFilter) -> JobFilter:
    """Return a filter that finds only what exists for the key of a request.

    Raises:
        ForbiddenError: it searches what jobs hold, and the key may not read that.
    """
    principal = principal_of(request)
    if wanted.searches:
        expect_scope(principal, Scope.PAYLOADS_READ)
    if not principal.is_restricted:
        return wanted
    return wanted.within(principal.queues, principal.types)
